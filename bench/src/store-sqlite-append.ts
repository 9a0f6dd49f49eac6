/**
 * `store-sqlite-append`: store append in batches of 100 (`synchronous: normal`), against bare `node:sqlite` doing the
 * same inserts into the same tables in the same transactions.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { DatabaseSync } from "node:sqlite"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import { encodedLines, layerStore, temporaryFile } from "./Sqlite.ts"

const batches = 400
const batchSize = 100
const events = batches * batchSize
const runId = Envelope.RunId.make("append")

/** Batches of events; ids differ between rounds only by the run they are in. */
const makeBatches = Effect.map(encodedLines(events), (encoded) =>
  Array.from({ length: batches }, (_, index) => encoded.slice(index * batchSize, (index + 1) * batchSize)),
)

const ours = Effect.gen(function* () {
  const input = yield* makeBatches
  const filename = yield* temporaryFile
  return yield* Effect.gen(function* () {
    const store = yield* EventStore
    const [millis] = yield* timed(
      Effect.forEach(
        input,
        (batch, index) =>
          store.append({
            runId,
            vocabulary: AgentEvents.vocabulary.id,
            events: batch,
            producer: { id: "bench", epoch: 1, number: index + 1 },
          }),
        { discard: true },
      ),
    )
    const { lastSeq } = yield* store.head(runId)
    if (lastSeq !== events) return yield* Effect.fail(`the store has ${lastSeq} of ${events} events`)
    return events / (millis / 1000)
  }).pipe(Effect.provide(layerStore(filename)))
}).pipe(Effect.scoped)

const insert = `INSERT INTO throughline_events
(position, run_key, seq, event_id, agent_id, provider, turn_id, kind, delivery, ends_run, emitted_at, tags, correlation, event)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

const theirs = Effect.gen(function* () {
  const input = yield* makeBatches
  const filename = yield* temporaryFile
  // The store makes the tables, so that both sides write the same columns and indexes.
  yield* Effect.provide(Effect.void, layerStore(filename))
  const database = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(filename)),
    (open) => Effect.sync(() => open.close()),
  )
  database.exec("PRAGMA journal_mode = wal; PRAGMA synchronous = normal")
  const statement = database.prepare(insert)
  const [millis] = yield* timed(
    Effect.sync(() => {
      let seq = 0
      for (const batch of input) {
        database.exec("BEGIN IMMEDIATE")
        for (const event of batch) {
          seq++
          statement.run(
            seq,
            1,
            seq,
            event.eventId,
            null,
            null,
            null,
            event.kind,
            event.delivery,
            null,
            event.emittedAt,
            null,
            null,
            event.event,
          )
        }
        database.exec("COMMIT")
      }
    }),
  )
  return events / (millis / 1000)
}).pipe(Effect.scoped)

export const storeSqliteAppend: Bench = {
  name: "store-sqlite-append",
  run: Effect.gen(function* () {
    const rates = yield* alternate({ rounds: 7, ours, theirs })
    yield* Console.log(`  store ${perSecond(rates.ours)}, bare node:sqlite ${perSecond(rates.theirs)}`)
    yield* report("store-sqlite-append", rates.ours / rates.theirs, "0.5")
  }),
}
