/**
 * `redis-bridge`: events per second from 64 streams through the bridge into the store, index and publishing on, against
 * bare `XADD`s of the same events with 64 in flight.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import { EventStore } from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import type { IoRedis } from "@throughline/redis/IoRedis"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import { bareClient, bytesOf, layerStore } from "./Redis.ts"
import { encodedLines } from "./Sqlite.ts"

const runs = 64
const eventsPerRun = 500
const events = runs * eventsPerRun

let rounds = 0

const source = Stream.map(Stream.range(1, eventsPerRun), (index): { readonly event: AgentEvents.AgentEvent } => ({
  event:
    index === eventsPerRun
      ? { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }
      : { _tag: "OutputLine", stream: "stdout", line: `line ${index} of a recorded process, about this long` },
}))

const ours: Effect.Effect<number, unknown, EventBridge.EventBridge | EventStore | IoRedis> = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const store = yield* EventStore
  const round = ++rounds
  const runIds = Array.from({ length: runs }, (_, index) => Envelope.RunId.make(`bridge-${round}-${index}`))
  const [millis] = yield* timed(
    Effect.forEach(runIds, (runId) => bridge.record(AgentEvents.vocabulary, { runId }, source), {
      concurrency: "unbounded",
      discard: true,
    }),
  )
  for (const runId of runIds) {
    const { lastSeq, status } = yield* store.head(runId)
    if (lastSeq !== eventsPerRun || status !== "completed") {
      return yield* Effect.fail(`run ${runId} is ${status} at ${lastSeq} of ${eventsPerRun} events`)
    }
    yield* store.remove(runId)
  }
  return events / (millis / 1000)
})

const theirs = Effect.gen(function* () {
  const client = yield* bareClient
  const round = ++rounds
  const records = (yield* encodedLines(eventsPerRun)).map(bytesOf)
  const [millis] = yield* timed(
    Effect.promise(() =>
      Promise.all(
        Array.from({ length: runs }, async (_, index) => {
          for (const record of records) await client.xadd(`bare-${round}-${index}`, "*", "data", record)
        }),
      ),
    ),
  )
  for (let index = 0; index < runs; index++) yield* Effect.promise(() => client.unlink(`bare-${round}-${index}`))
  return events / (millis / 1000)
}).pipe(Effect.scoped)

export const redisBridge: Bench = {
  name: "redis-bridge",
  run: Effect.gen(function* () {
    const rates = yield* alternate({ rounds: 7, ours, theirs })
    yield* Console.log(`  bridge ${perSecond(rates.ours)}, bare XADD ${perSecond(rates.theirs)}`)
    yield* report("redis-bridge", rates.ours / rates.theirs, "1.0")
  }).pipe(
    Effect.provide(
      EventBridge.layer().pipe(Layer.provideMerge(StreamAdapter.layerMemory), Layer.provideMerge(layerStore)),
    ),
  ),
}
