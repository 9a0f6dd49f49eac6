/**
 * `redis-append-1`: the latency of one append at a time, as a producer, index and publishing on, against a bare `XADD` of
 * the same bytes. `redis-vs-seed`: the same appends against the `GET`, `INCR`, `XADD` that some stores need.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import type { IoRedis } from "@throughline/redis/IoRedis"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, report, timed } from "./Compare.ts"
import { bareClient, bytesOf, layerStore } from "./Redis.ts"
import { encodedLines } from "./Sqlite.ts"

const appends = 3000

let rounds = 0

/** Milliseconds of an append. */
type Events = ReadonlyArray<Envelope.EncodedEvent>

const ours = Effect.fnUntraced(function* (events: Events): Effect.fn.Return<number, unknown, EventStore | IoRedis> {
  const store = yield* EventStore
  const runId = Envelope.RunId.make(`append-${++rounds}`)
  const [millis] = yield* timed(
    Effect.gen(function* () {
      for (let index = 0; index < appends; index++) {
        yield* store.append({
          runId,
          vocabulary: AgentEvents.vocabulary.id,
          events: [events[index]!],
          producer: { id: "bench", epoch: 1, number: index + 1 },
        })
      }
    }),
  )
  const { lastSeq } = yield* store.head(runId)
  if (lastSeq !== appends) return yield* Effect.fail(`the store has ${lastSeq} of ${appends} events`)
  return millis / appends
})

const bare = (events: Events, seed: boolean) =>
  Effect.gen(function* () {
    const client = yield* bareClient
    const key = `bare-${++rounds}`
    const records = events.map(bytesOf)
    const [millis] = yield* timed(
      Effect.promise(async () => {
        for (const record of records) {
          if (seed) {
            await client.get(`${key}:session`)
            await client.incr(`${key}:seq`)
            await client.xadd(key, "MAXLEN", "~", 10_000, "*", "data", record)
          } else await client.xadd(key, "*", "data", record)
        }
      }),
    )
    return millis / appends
  }).pipe(Effect.scoped)

export const redisAppend1: Bench = {
  name: "redis-append-1",
  run: Effect.gen(function* () {
    const events = yield* encodedLines(appends)
    const latency = yield* alternate({ rounds: 9, ours: ours(events), theirs: bare(events, false) })
    yield* Console.log(`  append ${latency.ours.toFixed(4)} ms, bare XADD ${latency.theirs.toFixed(4)} ms`)
    yield* report("redis-append-1", latency.ours / latency.theirs, "at most 1.45")
  }).pipe(Effect.provide(layerStore)),
}

export const redisVsSeed: Bench = {
  name: "redis-vs-seed",
  run: Effect.gen(function* () {
    const events = yield* encodedLines(appends)
    const latency = yield* alternate({ rounds: 7, ours: ours(events), theirs: bare(events, true) })
    yield* Console.log(`  append ${latency.ours.toFixed(4)} ms, GET INCR XADD ${latency.theirs.toFixed(4)} ms`)
    yield* report("redis-vs-seed", latency.theirs / latency.ours, "2.0")
  }).pipe(Effect.provide(layerStore)),
}
