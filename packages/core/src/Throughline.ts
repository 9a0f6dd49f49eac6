/**
 * Composed layers: one line to start.
 *
 * **Example** (A run in memory)
 *
 * ```ts
 * import * as AgentEvents from "@throughline/core/AgentEvents"
 * import * as Envelope from "@throughline/core/Envelope"
 * import * as EventBridge from "@throughline/core/EventBridge"
 * import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * const program = Effect.gen(function* () {
 *   const bridge = yield* EventBridge.EventBridge
 *   const hub = yield* SubscriptionHub.SubscriptionHub
 *   const runId = Envelope.RunId.make("hello")
 *   yield* bridge.record(AgentEvents.vocabulary, { runId }, Stream.empty)
 *   return yield* Stream.runCollect(hub.run(runId))
 * }).pipe(Effect.provide(Throughline.layerMemory()))
 * ```
 */
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Layer from "effect/Layer"
import type { EventArchive } from "./EventArchive.ts"
import * as EventBridge from "./EventBridge.ts"
import * as EventBus from "./EventBus.ts"
import * as EventStore from "./EventStore.ts"
import type { StoreOptions } from "./StoreOptions.ts"
import * as StreamAdapter from "./StreamAdapter.ts"
import * as SubscriptionHub from "./SubscriptionHub.ts"

/** How the composed parts work; each part's own options, defaults where absent. */
export interface ThroughlineOptions {
  readonly store?: StoreOptions | undefined
  readonly bridge?: EventBridge.BridgeOptions | undefined
  readonly bus?: EventBus.BusOptions | undefined
  readonly hub?: SubscriptionHub.HubOptions | undefined
}

/** Everything a backend composes: the log, its archive, the live path, the bus, the way in and the way out. */
export type Throughline =
  | EventStore.EventStore
  | EventArchive
  | StreamAdapter.StreamAdapter
  | EventBridge.EventBridge
  | EventBus.EventBus
  | SubscriptionHub.SubscriptionHub
  | SecureRandom.SecureRandom
  | Digest.Digest

/** Randomness and digests from WebCrypto, which the layers of this package ask for. */
export const layerCrypto: Layer.Layer<SecureRandom.SecureRandom | Digest.Digest> = Layer.mergeAll(
  SecureRandom.layerWebCrypto,
  Digest.layerWebCrypto,
)

/** The bridge, the bus that it feeds, and the hub over any store, archive and adapter. */
export const layer = <E, R>(
  backend: Layer.Layer<EventStore.EventStore | EventArchive | StreamAdapter.StreamAdapter, E, R>,
  options: Omit<ThroughlineOptions, "store"> = {},
): Layer.Layer<Throughline, E, Exclude<R, SecureRandom.SecureRandom | Digest.Digest>> =>
  Layer.mergeAll(EventBridge.layer(options.bridge), SubscriptionHub.layer(options.hub)).pipe(
    Layer.provideMerge(EventBus.layer(options.bus)),
    Layer.provideMerge(backend),
    Layer.provideMerge(layerCrypto),
  )

/** Everything in the memory of this process: for tests and first programs. */
export const layerMemory = (options: ThroughlineOptions = {}): Layer.Layer<Throughline> =>
  layer(Layer.mergeAll(EventStore.layerMemory(options.store), StreamAdapter.layerMemory), options)
