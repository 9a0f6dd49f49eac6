/**
 * `redis-seek`: the time of a 100-event page near the end of a run of 100,000 against one at its start.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, report, timed } from "./Compare.ts"
import { layerStore } from "./Redis.ts"
import { encodedLines } from "./Sqlite.ts"

const events = 100_000
const batchSize = 1000
const pageSize = 100
const pagesPerRound = 50
const runId = Envelope.RunId.make("seek")

/** Milliseconds of a page: the mean of pages at neighbouring places, each of them whole. */
const pageFrom = (start: number) =>
  Effect.gen(function* () {
    const store = yield* EventStore
    const [millis] = yield* timed(
      Effect.gen(function* () {
        for (let page = 0; page < pagesPerRound; page++) {
          const after = start + page * pageSize
          const { envelopes } = yield* store.read({ runId, after, limit: pageSize })
          if (envelopes.length !== pageSize || envelopes[0]!.seq !== after + 1) {
            return yield* Effect.fail(`a page after ${after} of ${envelopes.length} events`)
          }
        }
        return undefined
      }),
    )
    return millis / pagesPerRound
  })

export const redisSeek: Bench = {
  name: "redis-seek",
  run: Effect.gen(function* () {
    const store = yield* EventStore
    const batch = yield* encodedLines(batchSize)
    for (let index = 0; index < events / batchSize; index++) {
      yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: batch })
    }
    const { ours, theirs } = yield* alternate({
      rounds: 9,
      ours: pageFrom(events - pagesPerRound * pageSize),
      theirs: pageFrom(0),
    })
    yield* Console.log(`  near the end ${ours.toFixed(3)} ms, at the start ${theirs.toFixed(3)} ms`)
    yield* report("redis-seek", ours / theirs, "at most 1.2")
  }).pipe(Effect.provide(layerStore)),
}
