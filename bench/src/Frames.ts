/** Frames for benches of the live side: encoded once, of one run. */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Cursor from "@throughline/core/Cursor"
import * as Envelope from "@throughline/core/Envelope"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Result from "effect/Result"

const eventId = Envelope.EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")

const eventOf = (delivery: Envelope.Delivery, index: number): AgentEvents.AgentEvent => {
  switch (delivery) {
    case "progress":
      return { _tag: "TextDelta", messageId: "m1", text: `token ${index} ` }
    case "normal":
      return { _tag: "ToolCallStarted", messageId: "m1", toolCallId: `call ${index}`, name: "read" }
    case "terminal":
      return { _tag: "ApprovalResolved", approvalId: `approval ${index}`, decision: "approved" }
  }
}

/** As many frames of a run, with seqs from 1. */
export const makeFrames = (
  count: number,
  deliveryOf: (index: number) => Envelope.Delivery,
  runId = Envelope.RunId.make("bench"),
): ReadonlyArray<Envelope.Frame> =>
  Array.from({ length: count }, (_, index) => {
    const event = Result.getOrThrow(
      Vocabulary.encodeWith(
        AgentEvents.vocabulary,
        { event: eventOf(deliveryOf(index), index) },
        eventId,
        "2026-01-31T09:30:00.000Z",
      ),
    )
    return {
      _tag: "Frame",
      envelope: { ...event, seq: index + 1, runId, schemaVersion: 1 },
      cursor: Cursor.run(index + 1, "00000000"),
    }
  })
