/**
 * `redis-append-batch`: events per second in batches of 100, one batch at a time, as a producer, index and publishing on,
 * against a bare script that adds the same entries.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import type { IoRedis } from "@throughline/redis/IoRedis"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import { bareClient, bytesOf, layerStore } from "./Redis.ts"
import { encodedLines } from "./Sqlite.ts"

const batches = 500
const batchSize = 100
const events = batches * batchSize

let rounds = 0

const makeBatches = Effect.map(encodedLines(events), (encoded) =>
  Array.from({ length: batches }, (_, index) => encoded.slice(index * batchSize, (index + 1) * batchSize)),
)

type Batches = ReadonlyArray<ReadonlyArray<Envelope.EncodedEvent>>

const ours = Effect.fnUntraced(function* (input: Batches): Effect.fn.Return<number, unknown, EventStore | IoRedis> {
  const store = yield* EventStore
  const runId = Envelope.RunId.make(`batch-${++rounds}`)
  const [millis] = yield* timed(
    Effect.gen(function* () {
      for (const [index, batch] of input.entries()) {
        yield* store.append({
          runId,
          vocabulary: AgentEvents.vocabulary.id,
          events: batch,
          producer: { id: "bench", epoch: 1, number: index + 1 },
        })
      }
    }),
  )
  const { lastSeq } = yield* store.head(runId)
  if (lastSeq !== events) return yield* Effect.fail(`the store has ${lastSeq} of ${events} events`)
  yield* store.remove(runId)
  return events / (millis / 1000)
})

const script = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'data', ARGV[i]) end return #ARGV"

const theirs = Effect.fnUntraced(function* (input: ReadonlyArray<ReadonlyArray<string>>) {
  const client = yield* bareClient
  const key = `bare-${++rounds}`
  const sha = yield* Effect.promise(() => client.script("LOAD", script))
  const [millis] = yield* timed(
    Effect.promise(async () => {
      for (const batch of input) await client.evalsha(String(sha), 1, key, ...batch)
    }),
  )
  const length = yield* Effect.promise(() => client.xlen(key))
  if (length !== events) return yield* Effect.fail(`the stream has ${length} of ${events} events`)
  yield* Effect.promise(() => client.unlink(key))
  return events / (millis / 1000)
}, Effect.scoped)

export const redisAppendBatch: Bench = {
  name: "redis-append-batch",
  run: Effect.gen(function* () {
    const input = yield* makeBatches
    const texts = input.map((batch) => batch.map(bytesOf))
    const rates = yield* alternate({ rounds: 9, ours: ours(input), theirs: theirs(texts) })
    yield* Console.log(`  store ${perSecond(rates.ours)}, bare script ${perSecond(rates.theirs)}`)
    yield* report("redis-append-batch", rates.ours / rates.theirs, "0.75")
  }).pipe(Effect.provide(layerStore)),
}
