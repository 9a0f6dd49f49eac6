/**
 * The process of the bare server: `node:http`, frames made before, a set of responses, and nothing else; over a file, the
 * rows of a run from `node:sqlite`.
 */
import * as Cursor from "@throughline/core/Cursor"
import * as Envelope from "@throughline/core/Envelope"
import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { DatabaseSync, type StatementSync } from "node:sqlite"
import { setImmediate } from "node:timers/promises"
import { makeFrames } from "./Frames.ts"
import {
  answer,
  type Apart,
  collectedBytes,
  cpuMillis,
  makeClockwork,
  now,
  type Pace,
  residentBytes,
  textAt,
} from "./sse-process.ts"

const [filename] = process.argv.slice(2)

const streams = new Set<ServerResponse>()

const frameOf = (cursor: string, json: string): string => `id: ${cursor}\ndata: ${json}\n\n`

const frames = (count: number): ReadonlyArray<Uint8Array> =>
  makeFrames(count, () => "progress").map(({ cursor, envelope }) =>
    Buffer.from(frameOf(cursor, Envelope.toJson(envelope))),
  )

/** Writes to every stream; where sockets are full, returns once they have drained. */
const writeAll = async (bytes: Uint8Array): Promise<void> => {
  const full: Array<Promise<unknown>> = []
  for (const response of streams) if (!response.write(bytes)) full.push(once(response, "drain"))
  if (full.length > 0) await Promise.all(full)
}

interface Row {
  readonly seq: number
  readonly event_id: string
  readonly kind: string
  readonly delivery: string
  readonly ends_run: string | null
  readonly emitted_at: string
  readonly event: string
}

const stored = (() => {
  if (filename === undefined) return undefined
  const database = new DatabaseSync(filename, { readOnly: true })
  return database.prepare(
    "SELECT seq, event_id, kind, delivery, ends_run, emitted_at, event FROM throughline_events WHERE run_key = 1 ORDER BY seq",
  )
})()

/** Characters of a write. */
const pieceLength = 64 * 1024

/** Writes a stored run, one cursor from its start to its end. */
const replay = async (response: ServerResponse, statement: StatementSync): Promise<void> => {
  let text = ""
  for (const row of statement.iterate()) {
    const { delivery, emitted_at, ends_run, event, event_id, kind, seq } = row as unknown as Row
    const routing = JSON.stringify({
      eventId: event_id,
      seq,
      runId: "catchup",
      kind,
      delivery,
      endsRun: ends_run ?? undefined,
      emittedAt: emitted_at,
      tags: [],
      correlation: {},
      schemaVersion: 1,
    })
    text += frameOf(Cursor.run(seq, "00000000"), `${routing.slice(0, -1)},"event":${event}}`)
    if (text.length < pieceLength) continue
    if (!response.write(Buffer.from(text))) await once(response, "drain")
    text = ""
  }
  response.end(text)
}

const server = createServer((_, response) => {
  response.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "private, no-store",
    "x-accel-buffering": "no",
  })
  response.write("retry: 2000\n\n")
  if (stored !== undefined) return void replay(response, stored)
  // As the routes begin a stream of an unknown run.
  response.write('event: caught-up\ndata: {"head":0}\n\n')
  streams.add(response)
  response.on("close", () => streams.delete(response))
})

const clockwork = makeClockwork()

const commands = {
  listen: async () => {
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    return (server.address() as AddressInfo).port
  },
  /** Writes frames to all readers. */
  publish: async (count: number, pace: Pace) => {
    for (const frame of frames(count)) {
      await writeAll(frame)
      if (pace === "turns") await setImmediate()
    }
  },
  clockPort: async () => (await clockwork).port,
  /** Writes frames, each with the time of its write in its text. */
  tick: async (count: number, apart: Apart) => {
    const { next } = await clockwork
    let turn = next(apart)
    for (const { cursor, envelope } of makeFrames(count, () => "progress")) {
      await turn
      turn = next(apart)
      await writeAll(Buffer.from(frameOf(cursor, Envelope.toJson({ ...envelope, event: textAt(now()) }))))
    }
  },
  cpu: async () => cpuMillis(),
  resident: residentBytes,
  collected: collectedBytes,
}

export type BareCommands = typeof commands

answer(commands)
