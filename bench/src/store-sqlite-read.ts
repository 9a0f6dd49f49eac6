/**
 * `store-sqlite-read`: 100,000 events read in pages of 1,000, against bare `node:sqlite` that reads the same columns of the
 * same rows, page by page, looks at none of it and makes nothing of it.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { DatabaseSync } from "node:sqlite"
import { alternate, type Bench, report } from "./Compare.ts"
import { encodedLines, layerStore, temporaryFile } from "./Sqlite.ts"

const events = 100_000
const pageSize = 1000
const runId = Envelope.RunId.make("read")

const page = `SELECT seq, event_id, agent_id, provider, turn_id, kind, delivery, ends_run, emitted_at, tags, correlation, event
FROM throughline_events WHERE run_key = 1 AND seq > ? ORDER BY seq LIMIT ?`

const bareOf = Effect.fnUntraced(function* (filename: string) {
  const database = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(filename, { readOnly: true })),
    (opened) => Effect.sync(() => opened.close()),
  )
  const statement = database.prepare(page)
  statement.setReturnArrays(true)
  return Effect.sync(() => {
    for (let after = 0; after < events; after += pageSize) {
      const { length } = statement.all(after, pageSize)
      if (length !== pageSize) throw new Error(`a page after ${after} of ${length} events`)
    }
  })
})

const ours = Effect.gen(function* () {
  const store = yield* EventStore
  for (let after = 0; after < events; after += pageSize) {
    const { envelopes } = yield* store.read({ runId, after, limit: pageSize })
    if (envelopes.length !== pageSize || envelopes[0]!.seq !== after + 1) {
      return yield* Effect.fail(`a page after ${after} of ${envelopes.length} events`)
    }
  }
  return undefined
})

/** Microseconds of the processor per event: neither side waits for anything, and what else the machine does counts for neither. */
const perEvent = <E, R>(side: Effect.Effect<void, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const before = process.cpuUsage()
    return Effect.map(side, () => {
      const { system, user } = process.cpuUsage(before)
      return (system + user) / events
    })
  })

export const storeSqliteRead: Bench = {
  name: "store-sqlite-read",
  run: Effect.gen(function* () {
    const filename = yield* temporaryFile
    yield* Effect.gen(function* () {
      const store = yield* EventStore
      for (let index = 0; index < events / pageSize; index++) {
        yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: yield* encodedLines(pageSize) })
      }
      const sides = yield* alternate({ rounds: 15, ours: perEvent(ours), theirs: perEvent(yield* bareOf(filename)) })
      yield* Console.log(`  ${sides.ours.toFixed(2)} µs of processor an event, bare ${sides.theirs.toFixed(2)} µs`)
      yield* report("store-sqlite-read", sides.theirs / sides.ours, "at least 0.4")
    }).pipe(Effect.provide(layerStore(filename)))
  }).pipe(Effect.scoped),
}
