/** Frames for the benches of the bus, made without a store. */
import * as Cursor from "@throughline/core/Cursor"
import type { Delivery, EventId, EventJson, Frame, RunId, SessionId } from "@throughline/core/Envelope"

const event = JSON.stringify({ _tag: "OutputLine", stream: "stdout", line: "a line of forty characters, more or less" })

/** The frame at `position`, the `seq`th of run number `run`. */
export const frameOf = (position: number, run: number, seq: number, delivery: Delivery = "normal"): Frame => ({
  _tag: "Frame",
  envelope: {
    eventId: `00000000-0000-7000-8000-${position.toString(16).padStart(12, "0")}` as EventId,
    seq,
    runId: `run-${run}` as RunId,
    sessionId: `session-${run}` as SessionId,
    kind: "OutputLine",
    delivery,
    emittedAt: "2026-01-31T09:30:00.000Z",
    tags: [],
    correlation: {},
    schemaVersion: 1,
    event: event as EventJson,
  },
  cursor: Cursor.run(seq, "k3v9x1q0"),
  position,
})
