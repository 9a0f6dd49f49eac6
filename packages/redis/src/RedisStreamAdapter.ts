/**
 * Live fan-out through Redis Pub/Sub: one connection for all rooms that a process listens to.
 *
 * Pub/Sub keeps nothing: what is published while a subscriber is away is lost to it. So every subscriber gets a `Gap` as
 * soon as a lost connection is back and its room subscribed again, and the hub reads the store then, without waiting for
 * its watchdog.
 *
 * **Example** (The live path of a server)
 *
 * ```ts
 * import * as IoRedis from "@throughline/redis/IoRedis"
 * import * as RedisStreamAdapter from "@throughline/redis/RedisStreamAdapter"
 * import * as Config from "effect/Config"
 * import * as Layer from "effect/Layer"
 *
 * export const layer = RedisStreamAdapter.layer().pipe(
 *   Layer.provide(IoRedis.layerConfig({ url: Config.Redacted("REDIS_URL") })),
 * )
 * ```
 */
import type { Frame } from "@throughline/core/Envelope"
import { AdapterUnavailable, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcRef from "effect/RcRef"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type Connection, IoRedis } from "./IoRedis.ts"
import * as subscriptions from "./internal/subscriptions.ts"
import { Disconnected, RedisFailed, type RedisReason, Unexpected } from "./RedisFailed.ts"
import * as RedisFrame from "./RedisFrame.ts"
import * as RedisKeys from "./RedisKeys.ts"

/** How the subscriber connection is kept. */
export interface Options {
  /**
   * How often the subscriber connection is asked for a sign of life, 10 s by default. Who only listens doesn't notice
   * that nobody talks any more: a connection that doesn't answer within the client's `commandTimeout` is made anew.
   */
  readonly heartbeat?: Duration.Input | undefined
  /** How long the subscriber connection stays open without a room; 10 s by default. */
  readonly idle?: Duration.Input | undefined
}

const unavailable = (error: RedisFailed): AdapterUnavailable =>
  new AdapterUnavailable({ detail: error.message, isRetryable: error.isRetryable, cause: error })

const disconnected = (detail: string): AdapterUnavailable =>
  unavailable(new RedisFailed({ command: "subscribe", reason: new Disconnected({ detail }) }))

/** What answers is no Redis: the next connection may meet one. */
const makeAnew = ({ client }: Connection): void => {
  if (client.status === "ready") client.disconnect(true)
}

/** No Redis answers like this to what it is asked here. */
const isNonsense = (reason: RedisReason): boolean =>
  reason._tag === "Unexpected" || (reason._tag === "Refused" && reason.code === "ERR")

/** A sign of life; no answer in time makes the connection anew by itself. */
const checkLife = (connection: Connection): Effect.Effect<void> =>
  Effect.match(connection.send("ping", []), {
    // On a connection that has subscribed, RESP2 answers with a pair.
    onSuccess: (reply) => {
      if (!/^pong$/i.test(String(Array.isArray(reply) ? reply[0] : reply))) makeAnew(connection)
    },
    // A server that is busy, or doesn't let this user ask, is one.
    onFailure: ({ reason }) => {
      if (isNonsense(reason)) makeAnew(connection)
    },
  })

/** Tells a connection of rooms. Answers come in order and always come: Redis's, or why there is none. */
const wireOf = (connection: Connection, fork: (effect: Effect.Effect<void>) => void): subscriptions.Wire => {
  const refusal = (error: RedisFailed): subscriptions.Refusal => {
    const { reason } = error
    if (isNonsense(reason)) makeAnew(connection)
    return { error: unavailable(error), isLost: reason._tag === "Disconnected" || reason._tag === "TimedOut" }
  }
  return {
    // In small letters, as ioredis keeps its own account of them.
    subscribe: (channel, onAnswer) =>
      fork(
        Effect.match(connection.send("subscribe", [channel]), {
          onSuccess: (reply) => {
            if (typeof reply === "number" && reply > 0) return onAnswer(undefined)
            const reason = new Unexpected({ problem: "the answer is no number of channels" })
            return onAnswer(refusal(new RedisFailed({ command: "subscribe", reason })))
          },
          onFailure: (error) => onAnswer(refusal(error)),
        }),
      ),
    // A connection that can't carry it out is lost, and its subscriptions with it.
    unsubscribe: (channel) => fork(Effect.ignore(connection.send("unsubscribe", [channel]))),
  }
}

/**
 * Makes the adapter; a connection of its own is opened for the first room that is listened to, and closed when there has
 * been none for a while.
 *
 * `subscribe` returns when Redis has acknowledged it. It fails with `AdapterUnavailable` at once while the connection is
 * down, after `commandTimeout` where nothing answers, and with `isRetryable: false` where Redis refuses the channel
 * (`NOPERM`). A message that is none of this format or of another room is a `Gap`.
 *
 * `publish` succeeds once Redis has the messages, and fails with `AdapterUnavailable`: nothing is tried twice.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<StreamAdapter["Service"], never, IoRedis | Scope.Scope> {
  const redis = yield* IoRedis
  const heartbeat = Schedule.spaced(options.heartbeat ?? "10 seconds")
  const runFork = Effect.runForkWith(yield* Effect.context())
  const fork = (effect: Effect.Effect<void>): void => void runFork(effect)

  const connect = Effect.gen(function* () {
    const connection = yield* redis.connect
    const { client } = connection
    // ioredis would do it without minding failures, and can't say when it is done.
    client.options.autoResubscribe = false
    const listened = subscriptions.make(wireOf(connection, fork), () =>
      disconnected("the subscriber connection is being made again"),
    )
    // Whatever else ioredis takes for a message: an exception here would end the process.
    const onMessage = (channel: unknown, message: unknown): void =>
      listened.receive(String(channel), message instanceof Buffer ? message.toString() : "")
    // An answer that nobody asked for: what came before it may have been meant for us.
    const onError = (): void => makeAnew(connection)
    const onEnd = (): void => {
      fork(RcRef.invalidate(subscriber))
      listened.end(disconnected("the subscriber connection was given up"))
    }
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        client
          .on("messageBuffer", onMessage)
          .on("error", onError)
          .on("close", listened.lost)
          .on("ready", listened.ready)
          .on("end", onEnd),
      ),
      () =>
        Effect.sync(() =>
          client
            .off("messageBuffer", onMessage)
            .off("error", onError)
            .off("close", listened.lost)
            .off("ready", listened.ready)
            .off("end", onEnd),
        ),
    )
    yield* Effect.forkScoped(Effect.schedule(checkLife(connection), heartbeat))
    return listened
  })

  const subscriber: RcRef.RcRef<subscriptions.Subscriptions, RedisFailed> = yield* RcRef.make({
    acquire: connect,
    idleTimeToLive: options.idle ?? "10 seconds",
  })

  return StreamAdapter.of({
    publish: (rooms, frames) => {
      const messages = messagesOf(frames)
      const channels = rooms.map((room) => RedisKeys.channel(redis.keyPrefix, room))
      const sends = channels.flatMap((channel) => messages.map((message) => redis.send("PUBLISH", [channel, message])))
      // Sent in this order, and not one after the other's answer.
      return Effect.forEach(sends, (send) => send, { concurrency: "unbounded", discard: true }).pipe(
        Effect.mapError(unavailable),
      )
    },
    subscribe: Effect.fnUntraced(function* (room, queueOptions) {
      const queue = yield* SubscriberQueue.makeForAdapter<AdapterUnavailable>(queueOptions)
      const listened = yield* Effect.mapError(RcRef.get(subscriber), unavailable)
      const { inPlace } = yield* Effect.acquireRelease(
        Effect.sync(() => listened.add(room, RedisKeys.channel(redis.keyPrefix, room), queue)),
        ({ remove }) => Effect.sync(remove),
      )
      yield* inPlace
      return queue.stream
    }),
  })
})

/** The adapter on the server of the `IoRedis`. */
export const layer = (options?: Options): Layer.Layer<StreamAdapter, never, IoRedis> =>
  Layer.effect(StreamAdapter, make(options))

/** The messages of frames; those too large for one are told by a message without any. */
const messagesOf = (frames: ReadonlyArray<Frame>): ReadonlyArray<string> => {
  const messages: Array<string> = []
  let start = 0
  let bytes = 0
  const cut = (end: number): void => {
    if (end > start) messages.push(...RedisFrame.encode(frames.slice(start, end)))
    start = end
    bytes = 0
  }
  for (let index = 0; index < frames.length; index++) {
    const size = Buffer.byteLength(frames[index]!.envelope.event)
    if (bytes + size > RedisFrame.mostBytes) cut(index)
    bytes += size
    if (size <= RedisFrame.mostBytes) continue
    messages.push(RedisFrame.unread)
    start = index + 1
    bytes = 0
  }
  cut(frames.length)
  return messages
}
