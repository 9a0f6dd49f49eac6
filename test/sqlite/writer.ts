/**
 * Appends to a run until it is killed: `node writer.ts FILE RUN EPOCH`.
 *
 * After each acknowledged append it says `ack EPOCH.NUMBER FIRST LAST`, in a write that is done before the next append.
 * Each event says of which append it is, and how many it has.
 */
import type { EncodedEvent, EventId, RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { writeSync } from "node:fs"
import { flushCompileCache } from "node:module"

const [filename, run, epochText] = process.argv.slice(2) as [string, string, string]
const runId = run as RunId
const epoch = Number(epochText)

const eventOf = (eventId: EventId, content: object): EncodedEvent => ({
  eventId,
  kind: "Line",
  delivery: "normal",
  emittedAt: "2026-01-01T00:00:00.000Z",
  tags: [],
  correlation: {},
  event: JSON.stringify(content) as EncodedEvent["event"],
})

const appends = Effect.gen(function* () {
  const store = yield* EventStore
  const random = yield* SecureRandom.SecureRandom
  for (let number = 1; ; number++) {
    const batch = `${epoch}.${number}`
    const size = 1 + ((number * 7 + epoch * 3) % 40)
    const events = yield* Effect.forEach(Array.from({ length: size }).keys(), (index) =>
      Effect.map(random.uuidV7(), (id) => eventOf(id as EventId, { batch, index, size, text: "x".repeat(index * 20) })),
    )
    const producer = { id: "writer", epoch, number }
    const { frames } = yield* store.append({ runId, vocabulary: { name: "lines", version: 1 }, events, producer })
    const [first, last] = [frames[0]!, frames[frames.length - 1]!].map((frame) => frame.envelope.seq)
    yield* Effect.sync(() => writeSync(1, `ack ${batch} ${first} ${last}\n`))
  }
})

const layer = SqlEventStore.layer().pipe(
  Layer.provide(SqliteClient.layer({ filename })),
  Layer.provideMerge(SecureRandom.layerWebCrypto),
)

// A process that ends by a kill leaves its successors nothing it compiled, unless it does so before.
flushCompileCache()

await Effect.runPromise(Effect.provide(appends, layer))
