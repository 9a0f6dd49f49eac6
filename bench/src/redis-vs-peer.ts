/**
 * `redis-vs-peer`: chunks of a model's answer per second from one producer to one follower, in order and to the end: the
 * bridge, the store and the hub, against `resumable-stream` on ioredis. Both are given all chunks at once when the follower
 * is in place. Here every chunk is stored; there the producer's memory holds them.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventBridge } from "@throughline/core/EventBridge"
import { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import { IoRedis } from "@throughline/redis/IoRedis"
import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Redis } from "ioredis"
import { createResumableStreamContext } from "resumable-stream/ioredis"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"

const chunks = Array.from({ length: 10_000 }, (_, index) => `token ${index} `)
const whole = chunks.join("")

let rounds = 0

const check = (text: string) =>
  text === whole ? Effect.void : Effect.fail(`the follower got ${text.length} of ${whole.length} characters`)

/** A process of ours: its own connections. */
const backend = (url: string) => Layer.build(Layer.fresh(RedisThroughline.layer({ client: { url } })))

const ours = Effect.fnUntraced(function* (url: string) {
  const [producer, follower] = [yield* backend(url), yield* backend(url)]
  const runId = Envelope.RunId.make(`peer-${++rounds}`)
  const follow = Context.get(follower, SubscriptionHub).run(runId, { vocabulary: AgentEvents.vocabulary })
  const following = yield* Effect.forkChild(
    Stream.runFold(
      follow,
      () => "",
      (text, item) =>
        item._tag === "Event" && item.envelope.event._tag === "TextDelta" ? text + item.envelope.event.text : text,
    ),
  )
  const { send } = Context.get(follower, IoRedis)
  yield* send("PUBSUB", ["NUMSUB", `throughline:run:${runId}`]).pipe(
    Effect.repeat({ until: (reply) => Array.isArray(reply) && reply[1] === 1 }),
    Effect.timeout("10 seconds"),
  )
  const events = Stream.concat(
    Stream.fromIterable(chunks).pipe(
      Stream.map((text) => ({ event: { _tag: "TextDelta", messageId: "answer", text } as const })),
    ),
    Stream.make({ event: { _tag: "RunCompleted", finishReason: "stop", iterations: 1 } as const }),
  )
  const [millis, text] = yield* timed(
    Effect.andThen(
      Context.get(producer, EventBridge).record(AgentEvents.vocabulary, { runId }, events),
      Fiber.join(following),
    ),
  )
  yield* check(text)
  return chunks.length / (millis / 1000)
}, Effect.scoped)

/** A process of theirs: a client that publishes and one that subscribes. */
const peerContext = Effect.fnUntraced(function* (url: string) {
  const connect = Effect.acquireRelease(
    Effect.sync(() => new Redis(url)),
    (client) => Effect.sync(() => client.disconnect()),
  )
  const [publisher, subscriber] = [yield* connect, yield* connect]
  return createResumableStreamContext({ waitUntil: null, publisher, subscriber })
})

const theirs = Effect.fnUntraced(function* (url: string) {
  const [producer, follower] = [yield* peerContext(url), yield* peerContext(url)]
  const streamId = `peer-${++rounds}`
  const started = yield* Deferred.make<void>()
  const start = Effect.runPromiseWith(yield* Effect.context())(Deferred.await(started))
  let next = 0
  const source = (): ReadableStream<string> =>
    new ReadableStream({
      start: () => start,
      pull: (controller) => {
        if (next === chunks.length) controller.close()
        else controller.enqueue(chunks[next++]!)
      },
    })
  yield* Effect.promise(() => producer.createNewResumableStream(streamId, source))
  const stream = yield* Effect.promise(() => follower.resumeExistingStream(streamId))
  if (stream === null || stream === undefined) return yield* Effect.fail("the peer's stream is not there")
  const [millis, text] = yield* timed(
    Effect.andThen(
      Deferred.succeed(started, undefined),
      Effect.promise(async () => {
        let all = ""
        for await (const chunk of stream) all += chunk
        return all
      }),
    ),
  )
  yield* check(text)
  return chunks.length / (millis / 1000)
}, Effect.scoped)

export const redisVsPeer: Bench = {
  name: "redis-vs-peer",
  run: Effect.gen(function* () {
    const { url } = yield* RedisServer.make()
    const rates = yield* alternate({ rounds: 7, ours: ours(url), theirs: theirs(url) })
    yield* Console.log(`  Throughline ${perSecond(rates.ours)}, resumable-stream ${perSecond(rates.theirs)}`)
    yield* report("redis-vs-peer", rates.ours / rates.theirs, "1.0")
  }).pipe(Effect.scoped),
}
