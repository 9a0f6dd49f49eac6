/**
 * `redis-live`: the median time from an append to a reader of the hub in another process, index and publishing on, against
 * a bare script that adds the same bytes to a stream and publishes them to a bare subscriber in another process.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { fork } from "node:child_process"
import { alternate, type Bench, median, report } from "./Compare.ts"
import { bareClient, bytesOf, layerStore } from "./Redis.ts"
import { encodedLines } from "./Sqlite.ts"

const appends = 500

let rounds = 0

/** A process that reads what it is told to; ended with the scope. */
const startReader = Effect.fnUntraced(function* (side: "ours" | "bare") {
  const { client } = yield* IoRedis.IoRedis
  const answers = yield* Queue.unbounded<unknown, string>()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      fork(new URL("redis-live-reader.ts", import.meta.url), [side, String(client.options.port), String(appends)]),
    ),
    (started) => Effect.sync(() => started.kill()),
  )
  child.on("message", (message) => Queue.offerUnsafe(answers, message))
  child.on("exit", (code) => Queue.failCauseUnsafe(answers, Cause.fail(`a reader ended with ${code}`)))
  return {
    read: (runId: string) => Effect.sync(() => child.send(runId)),
    answer: Effect.timeoutOrElse(Queue.take(answers), {
      duration: "20 seconds",
      orElse: () => Effect.fail(`the reader of ${side} said nothing for 20 s`),
    }),
  }
})

type Reader = Effect.Success<ReturnType<typeof startReader>>

/** An event with the time in its text. */
const stamped = (event: Envelope.EncodedEvent): Envelope.EncodedEvent => {
  const sent = `sent at ${Number(process.hrtime.bigint()) / 1e6} ms`
  return { ...event, event: event.event.replace("about this long", sent) as Envelope.EventJson }
}

/** The median of the milliseconds that a reader was told of events after they were sent, one at a time. */
const measure = Effect.fnUntraced(function* (
  reader: Reader,
  events: ReadonlyArray<Envelope.EncodedEvent>,
  runId: string,
  append: (event: Envelope.EncodedEvent) => Effect.Effect<unknown, unknown>,
  end: Effect.Effect<unknown, unknown>,
) {
  yield* reader.read(runId)
  yield* reader.answer
  // It has caught up; its subscription is in place a moment later.
  yield* Effect.sleep("100 millis")
  for (const event of events) {
    yield* append(stamped(event))
    yield* Effect.sleep("1 millis")
  }
  yield* end
  const times = (yield* reader.answer) as ReadonlyArray<number>
  if (times.length !== appends) return yield* Effect.fail(`a reader got ${times.length} of ${appends} events`)
  return median(times)
})

const ours = Effect.fnUntraced(function* (reader: Reader, events: ReadonlyArray<Envelope.EncodedEvent>) {
  const store = yield* EventStore
  const runId = Envelope.RunId.make(`live-${++rounds}`)
  const vocabulary = AgentEvents.vocabulary.id
  const append = (event: Envelope.EncodedEvent) => store.append({ runId, vocabulary, events: [event] })
  const done = { ...events[0]!, delivery: "terminal", endsRun: "completed", kind: "RunCompleted" } as const
  const event = '{"_tag":"RunCompleted","finishReason":"stop","iterations":1}' as Envelope.EventJson
  return yield* measure(reader, events, runId, append, append({ ...done, event }))
})

const script = "redis.call('XADD', KEYS[1], '*', 'data', ARGV[1]) return redis.call('PUBLISH', KEYS[1], ARGV[1])"

const theirs = Effect.fnUntraced(function* (reader: Reader, events: ReadonlyArray<Envelope.EncodedEvent>) {
  const client = yield* bareClient
  const sha = yield* Effect.promise(() => client.script("LOAD", script) as Promise<string>)
  const key = `bare-live-${++rounds}`
  const append = (event: Envelope.EncodedEvent) => Effect.promise(() => client.evalsha(sha, 1, key, bytesOf(event)))
  return yield* measure(reader, events, key, append, Effect.void)
}, Effect.scoped)

export const redisLive: Bench = {
  name: "redis-live",
  run: Effect.gen(function* () {
    const events = yield* encodedLines(appends)
    const [reader, bareReader] = [yield* startReader("ours"), yield* startReader("bare")]
    const sides = { ours: ours(reader, events), theirs: theirs(bareReader, events) }
    const latency = yield* alternate<unknown, EventStore | IoRedis.IoRedis>({ rounds: 9, ...sides })
    yield* Console.log(`  store and hub ${latency.ours.toFixed(4)} ms, bare script ${latency.theirs.toFixed(4)} ms`)
    yield* report("redis-live", latency.ours / latency.theirs, "at most 1.6")
  }).pipe(Effect.scoped, Effect.provide(layerStore)),
}
