/** What the adapter's tests share: processes on a server, listeners, and a proxy between them. */
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import { publishAppended, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventStore from "@throughline/redis/RedisEventStore"
import * as RedisStreamAdapter from "@throughline/redis/RedisStreamAdapter"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { connect, createServer, type Socket } from "node:net"

export const runIdOf = (n: number) => Envelope.RunId.make(`run-${n}`)
export const runRoom = (n: number): Envelope.Room => ({ _tag: "Run", runId: runIdOf(n) })
const runId = Envelope.RunId.make("run")
export const otherRun = Envelope.RunId.make("other")
export const sessionId = Envelope.SessionId.make("chat")
export const room: Envelope.Room = { _tag: "Run", runId }

let minted = 0
const eventOf = (more: Partial<Envelope.EncodedEvent> = {}): Envelope.EncodedEvent => ({
  eventId: Envelope.EventId.make(`0199c0de-0000-7000-8000-${String(++minted).padStart(12, "0")}`),
  kind: "Said",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  event: JSON.stringify({ said: minted }) as Envelope.EventJson,
  ...more,
})

export const events = (count: number) => Array.from({ length: count }, () => eventOf())

/** An event with a JSON text of so many characters. */
export const sized = (length: number) =>
  eventOf({ event: JSON.stringify("x".repeat(length - 2)) as Envelope.EventJson })

export const ending = () => eventOf({ delivery: "terminal", endsRun: "completed" })

export interface ProcessOptions {
  readonly client?: Omit<IoRedis.Options, "url"> | undefined
  readonly live?: RedisStreamAdapter.Options | undefined
  readonly store?: RedisEventStore.RedisStoreOptions | undefined
}

/** What a process has: a client, a store that publishes to the run's room, and an adapter. */
export const process = Effect.fnUntraced(function* (url: string, options: ProcessOptions = {}) {
  const context = yield* Layer.build(
    Layer.mergeAll(
      RedisEventStore.layer({ publish: true, ...options.store }),
      RedisStreamAdapter.layer(options.live),
    ).pipe(
      Layer.provideMerge(IoRedis.layer({ url, reconnect: Schedule.spaced("20 millis"), ...options.client })),
      Layer.provide(Throughline.layerCrypto),
    ),
  )
  const store = Context.get(context, EventStore)
  const adapter = Context.get(context, StreamAdapter)
  return {
    store,
    adapter,
    redis: Context.get(context, IoRedis.IoRedis),
    append: (appended: ReadonlyArray<Envelope.EncodedEvent>, run = runId) =>
      Effect.tap(
        store.append({ runId: run, sessionId, vocabulary: { name: "test", version: 1 }, events: appended }),
        (result) => publishAppended(adapter, result, Envelope.defaultRooms),
      ),
  }
})

export type Process = Effect.Success<ReturnType<typeof process>>

type Item = Envelope.Frame | Envelope.Gap

/** Subscribes, and collects what arrives; `ended` is how the stream came to an end. */
export const listen = Effect.fnUntraced(function* (adapter: StreamAdapter["Service"], to = room, capacity?: number) {
  const items: Array<Item> = []
  const stream = yield* adapter.subscribe(to, { capacity })
  const fiber = yield* Effect.forkScoped(Stream.runForEach(stream, (item) => Effect.sync(() => items.push(item))))
  return { items, ended: Effect.timeout(Fiber.await(fiber), "10 seconds") }
})

/** Seqs of frames and reasons of gaps, in order. */
export const told = (items: ReadonlyArray<Item>) =>
  items.map((item) => (item._tag === "Frame" ? item.envelope.seq : item.reason))

class NotYet extends Data.TaggedError("NotYet") {}

/** Lets time pass until the condition holds; fails after 15 seconds. */
export const until = <E = never>(condition: () => boolean | Effect.Effect<boolean, E>) =>
  Effect.suspend(() => {
    const holds = condition()
    return Effect.flatMap(Effect.isEffect(holds) ? holds : Effect.succeed(holds), (is) =>
      is ? Effect.void : Effect.fail(new NotYet()),
    )
  }).pipe(Effect.retry(Schedule.spaced("5 millis")), Effect.timeout("15 seconds"))

/** Tries until it succeeds, for 15 seconds. */
export const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("15 seconds"))

/** The channels that anybody listens to. */
export const channels = ({ redis }: Process) =>
  Effect.map(redis.send("PUBSUB", ["CHANNELS", "*"]), (found) => (found as ReadonlyArray<string>).toSorted())

/** How many connections listen to rooms. */
export const subscribers = ({ redis }: Process) =>
  Effect.map(
    redis.send("CLIENT", ["LIST", "TYPE", "pubsub"]),
    (list) =>
      String(list)
        .split("\n")
        .filter((line) => line !== "").length,
  )

export const kill = ({ redis }: Process) => redis.send("CLIENT", ["KILL", "TYPE", "pubsub"])

/** A reader of the run through a hub that looks at the store only when it is told to; its subscription is in place. */
export const follow = Effect.fnUntraced(function* (store: EventStore["Service"], adapter: StreamAdapter["Service"]) {
  const seen: Array<number> = []
  let isSubscribed = false
  const watched: StreamAdapter["Service"] = {
    ...adapter,
    subscribe: (to, queue) => Effect.tap(adapter.subscribe(to, queue), () => Effect.sync(() => (isSubscribed = true))),
  }
  const hub = Context.get(
    yield* Layer.build(
      SubscriptionHub.layer({ watchdog: "1 hour" }).pipe(
        Layer.provide(Layer.merge(Layer.succeed(EventStore, store), Layer.succeed(StreamAdapter, watched))),
      ),
    ),
    SubscriptionHub.SubscriptionHub,
  )
  let caughtUp = false
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(hub.run(runId), (item) =>
      Effect.sync(() => {
        if (item._tag === "Event") seen.push(item.envelope.seq)
        else if (item._tag === "CaughtUp") caughtUp = true
      }),
    ),
  )
  yield* until(() => caughtUp && isSubscribed)
  return { seen, fiber, done: Effect.timeout(Fiber.join(fiber), "15 seconds") }
})

interface Pair {
  readonly client: Socket
  readonly upstream: Socket
  isSilent: boolean
  isSubscriber: boolean
}

/** A proxy in front of a server: it cuts and refuses connections, holds back and alters what the server says. */
export const proxy = Effect.fnUntraced(function* (port: number) {
  const pairs = new Set<Pair>()
  const state = {
    /** New connections are closed at once. */
    isRefusing: false,
    /** How many connections are cut when they subscribe. */
    cuts: 0,
    /** What is said instead of what the server says, on connections that have subscribed. */
    alter: undefined as (() => string) | undefined,
  }
  const server = createServer((client) => {
    client.on("error", () => {})
    if (state.isRefusing) {
      client.destroy()
      return
    }
    const upstream = connect(port, "127.0.0.1").on("error", () => {})
    const pair: Pair = { client, upstream, isSilent: false, isSubscriber: false }
    pairs.add(pair)
    client.on("data", (bytes) => {
      if (bytes.includes("subscribe")) pair.isSubscriber = true
      if (pair.isSubscriber && state.cuts > 0) {
        state.cuts--
        client.destroy()
      } else upstream.write(bytes)
    })
    upstream.on("data", (bytes) => {
      if (pair.isSilent) return
      client.write(pair.isSubscriber && state.alter !== undefined ? state.alter() : bytes)
    })
    client.on("close", () => {
      pairs.delete(pair)
      upstream.destroy()
    })
    upstream.on("close", () => client.destroy())
  })
  const each = (effect: (pair: Pair) => void) => Effect.sync(() => pairs.forEach(effect))
  const own = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () =>
      Effect.sync(() => {
        server.close()
        for (const { client } of pairs) client.destroy()
      }),
  )
  return {
    url: `redis://127.0.0.1:${own}`,
    state,
    cut: each(({ client }) => void client.destroy()),
    /** Nothing that the server says arrives on the connections there are. */
    silence: each((pair) => void (pair.isSilent = true)),
    /** What the server says to subscribers stays where it is. */
    pause: each(({ isSubscriber, upstream }) => void (isSubscriber && upstream.pause())),
    resume: each(({ upstream }) => void upstream.resume()),
  }
})
