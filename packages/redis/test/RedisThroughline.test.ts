import { expect, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventBridge } from "@throughline/core/EventBridge"
import { EventStore } from "@throughline/core/EventStore"
import { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import { IoRedis } from "@throughline/redis/IoRedis"
import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as RedisServer from "./RedisServer.ts"
import * as World from "./adapterWorld.ts"

const url = RedisServer.forFile()
const runId = Envelope.RunId.make("hello")
const sessionId = Envelope.SessionId.make("chat")

let prefixes = 0
const prefix = () => `composed-${++prefixes}:`

const lines = Stream.make("one", "two").pipe(
  Stream.map((line) => ({ event: { _tag: "OutputLine", stream: "stdout", line } as const })),
)

it.live("a run recorded by one process is followed whole by another, and by its session", () =>
  Effect.gen(function* () {
    const client = { url: yield* url, keyPrefix: prefix() }
    const writer = yield* Layer.build(RedisThroughline.layer({ client }))
    const reader = yield* Layer.build(RedisThroughline.layer({ client, hub: { watchdog: "1 hour" } }))
    const hub = Context.get(reader, SubscriptionHub)
    const following = yield* Effect.forkChild(Stream.runCollect(hub.run(runId)))
    const session = yield* hub.session(sessionId).pipe(
      Stream.filter(({ _tag }) => _tag === "Event"),
      Stream.take(4),
      Stream.runCollect,
      Effect.provide(reader),
      Effect.forkChild,
    )
    yield* World.until(() =>
      Effect.map(
        Context.get(reader, IoRedis).send("PUBSUB", ["NUMSUB", `${client.keyPrefix}run:hello`]),
        (reply) => Array.isArray(reply) && reply[1] === 1,
      ),
    )
    const recorded = Stream.concat(Stream.make({ event: { _tag: "RunStarted", input: "hi" } as const }), lines)
    yield* Context.get(writer, EventBridge).record(AgentEvents.vocabulary, { runId, sessionId }, recorded)
    const items = yield* Effect.timeout(Fiber.join(following), "15 seconds")
    const seqs = items.flatMap((item) => (item._tag === "Event" ? [item.envelope.seq] : []))
    expect(seqs).toEqual([1, 2, 3, 4])
    expect(yield* Effect.timeout(Fiber.join(session), "15 seconds")).toHaveLength(4)
  }).pipe(Effect.scoped),
)

it.live("the store publishes to the run's room itself, but not what replicas must confirm first", () =>
  Effect.gen(function* () {
    const address = yield* url
    const publishedBy = Effect.fnUntraced(function* (store: RedisThroughline.BackendOptions["store"]) {
      const context = yield* Layer.build(
        RedisThroughline.layer({ client: { url: address, keyPrefix: prefix() }, store }),
      )
      const appended = yield* Context.get(context, EventStore).append({
        runId,
        vocabulary: AgentEvents.vocabulary.id,
        events: World.events(1),
      })
      return appended.published
    })
    expect(yield* publishedBy(undefined)).toEqual([{ _tag: "Run", runId }])
    expect(yield* publishedBy({ durability: { replicas: 0, timeout: "1 second" } })).toEqual([])
  }).pipe(Effect.scoped),
)

it.live("a client from configuration; a server that isn't there fails the layer", () =>
  Effect.gen(function* () {
    const layer = RedisThroughline.layerConfig({ client: { url: Config.Redacted("REDIS") } })
    const built = (address: string) =>
      Effect.scoped(Effect.asVoid(Layer.build(layer))).pipe(
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS: address }))),
      )
    yield* built(yield* url)
    const failure = yield* Effect.flip(built("redis://127.0.0.1:1"))
    expect(failure).toMatchObject({ _tag: "RedisFailed", reason: { _tag: "Disconnected" } })
  }),
)
