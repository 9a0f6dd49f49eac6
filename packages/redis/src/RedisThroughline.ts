/**
 * Throughline on Redis: the log and live fan-out between any number of machines.
 *
 * **Example** (Recording and following runs on a server)
 *
 * ```ts
 * import * as AgentEvents from "@throughline/core/AgentEvents"
 * import * as Envelope from "@throughline/core/Envelope"
 * import * as EventBridge from "@throughline/core/EventBridge"
 * import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
 * import * as RedisThroughline from "@throughline/redis/RedisThroughline"
 * import * as Config from "effect/Config"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * const program = Effect.gen(function* () {
 *   const bridge = yield* EventBridge.EventBridge
 *   const hub = yield* SubscriptionHub.SubscriptionHub
 *   const runId = Envelope.RunId.make("hello")
 *   yield* bridge.record(AgentEvents.vocabulary, { runId }, Stream.empty)
 *   return yield* Stream.runCollect(hub.run(runId))
 * }).pipe(Effect.provide(RedisThroughline.layerConfig({ client: { url: Config.Redacted("REDIS_URL") } })))
 * ```
 */
import type { EventArchive } from "@throughline/core/EventArchive"
import type { EventStore } from "@throughline/core/EventStore"
import type { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import type * as Config from "effect/Config"
import type { Digest } from "effect/crypto/Digest"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Layer from "effect/Layer"
import type { Redis } from "effect/persistence/Redis"
import * as IoRedis from "./IoRedis.ts"
import * as RedisEventArchive from "./RedisEventArchive.ts"
import * as RedisEventStore from "./RedisEventStore.ts"
import type { RedisFailed } from "./RedisFailed.ts"
import * as RedisStreamAdapter from "./RedisStreamAdapter.ts"

/** How runs are kept and followed on a server that the `IoRedis` names. */
export interface BackendOptions {
  /** The archive needs the index, and the append script publishes to the adapter's rooms, so neither is a choice here. */
  readonly store?: Omit<RedisEventStore.RedisStoreOptions, "index" | "publish"> | undefined
  /** How the subscriber connection is kept. */
  readonly live?: RedisStreamAdapter.Options | undefined
}

export interface Options extends BackendOptions, Omit<Throughline.ThroughlineOptions, "store"> {
  /** The server, `redis://127.0.0.1:6379` by default, and how it is reached. */
  readonly client?: IoRedis.Options | undefined
}

/** The store, the archive and the live adapter of the server of an `IoRedis`, made as one. */
export const layerBackend = (
  options: BackendOptions = {},
): Layer.Layer<EventStore | EventArchive | StreamAdapter, never, IoRedis.IoRedis | SecureRandom | Digest> =>
  Layer.mergeAll(
    RedisEventStore.layer({ ...options.store, publish: true }),
    RedisEventArchive.layer(options.store),
    RedisStreamAdapter.layer(options.live),
  )

const over = <E>(
  client: Layer.Layer<IoRedis.IoRedis | Redis, E>,
  options: Options,
): Layer.Layer<Throughline.Throughline | IoRedis.IoRedis | Redis, E> =>
  Throughline.layer(layerBackend(options), options).pipe(Layer.provideMerge(client))

/**
 * Everything of one server, the way in and the way out included, and Effect's own `Redis` service on the same client.
 *
 * Fails with `RedisFailed` where the first connection can't be made.
 */
export const layer = (
  options: Options = {},
): Layer.Layer<Throughline.Throughline | IoRedis.IoRedis | Redis, RedisFailed> =>
  over(IoRedis.layer(options.client), options)

/** {@link layer} with its client from configuration. */
export const layerConfig = (
  options: Omit<Options, "client"> & { readonly client: Config.Wrap<IoRedis.Options> },
): Layer.Layer<Throughline.Throughline | IoRedis.IoRedis | Redis, RedisFailed | Config.ConfigError> => {
  const { client, ...rest } = options
  return over(IoRedis.layerConfig(client), rest)
}
