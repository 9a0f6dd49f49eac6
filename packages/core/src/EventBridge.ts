/**
 * The way of events from their source into the store and out to the rooms: batched, exactly once, in order per run.
 *
 * ```text
 *            ┌ lane of run a: batch ─▶ append (retried) ─▶ publish ┐
 * source ─▶ ─┤                                                     ├─▶ counts, dead letters
 *            └ lane of run b: …                                    ┘
 * ```
 *
 * A lane is a run's queue with its producer identity; a lane that fails or waits holds up no other. Nothing vanishes:
 * what can't be stored goes to the dead-letter handler with its typed cause. Where the program has an `EventBus`, what was
 * stored is published to it before the rooms. Only the bound on all that is pending is
 * shared: a run that fails for long while its source goes on can fill it, and the source waits.
 *
 * **Example** (A source of many runs, and a place for what can't be stored)
 *
 * ```ts
 * import * as AgentEvents from "@throughline/core/AgentEvents"
 * import * as EventBridge from "@throughline/core/EventBridge"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Effect from "effect/Effect"
 * import type * as Stream from "effect/Stream"
 *
 * declare const events: Stream.Stream<EventBridge.BridgeInput<AgentEvents.AgentEvent>>
 *
 * export const program = Effect.gen(function* () {
 *   const bridge = yield* EventBridge.EventBridge
 *   const handle = yield* bridge.start(AgentEvents.vocabulary, events, { producerId: "worker-1" })
 *   return yield* handle.await
 * }).pipe(
 *   Effect.scoped,
 *   Effect.provide(
 *     Throughline.layerMemory({
 *       bridge: {
 *         onDeadLetter: ({ cause, events, runId }) =>
 *           Effect.logError(`${events.length} events of ${runId} were not stored: ${cause.message}`),
 *       },
 *     }),
 *   ),
 * )
 * ```
 */
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import {
  defaultRooms,
  type EncodedEvent,
  type EventInput,
  type RoomKind,
  type RunId,
  type SessionId,
} from "./Envelope.ts"
import { EventBus } from "./EventBus.ts"
import { type AppendError, EventStore } from "./EventStore.ts"
import type { ReadFailed } from "./EventStoreError.ts"
import * as bridge from "./internal/bridge.ts"
import { StreamAdapter } from "./StreamAdapter.ts"
import type { EventRefused, Vocabulary } from "./Vocabulary.ts"

/** One event of a source that carries many runs. */
export interface BridgeInput<out E> extends EventInput<E> {
  readonly runId: RunId
  readonly sessionId?: SessionId | undefined
}

/** The bridge was stopped before the event could be stored. */
export class BridgeStopped extends Schema.TaggedError<BridgeStopped>("@throughline/core/EventBridge/BridgeStopped")(
  "BridgeStopped",
  {},
) {
  override get message() {
    return "the bridge was stopped before the event was stored"
  }
}

/** What a try of the store can fail with: the input of {@link BridgeOptions.retry}. */
export type BridgeFailure = AppendError | ReadFailed

/** Why events were given up. `ReadFailed`: the producer's state could not be read before the run's first append. */
export type DeadLetterCause = BridgeFailure | EventRefused | BridgeStopped

/** Events that were not stored, and why. Whether a batch of unknown outcome was stored after all, the run itself tells. */
export interface DeadLetter {
  readonly runId: RunId
  readonly sessionId: SessionId | undefined
  readonly cause: DeadLetterCause
  /** As they would have been stored; for an event the vocabulary refused, `unencoded` holds it instead. */
  readonly events: ReadonlyArray<EncodedEvent>
  readonly unencoded: ReadonlyArray<EventInput<unknown>>
}

/** What a bridge has done so far; counts are events, but for `retried`, which counts tries. */
export interface BridgeStatus {
  readonly state: "running" | "draining" | "stopped"
  readonly stored: number
  readonly retried: number
  readonly dead: number
}

/** A running bridge. It stops with its scope, draining within its grace time. */
export interface BridgeHandle<out Err = never> {
  readonly status: Effect.Effect<BridgeStatus>
  /** Takes no more from the source and waits until everything taken is stored or dead. */
  readonly drain: Effect.Effect<BridgeStatus>
  /**
   * Drains within the grace time, then hands what is left to the dead-letter handler. Open runs are no longer renewed:
   * their leases expire and a watcher ends them with their wills.
   */
  readonly stop: Effect.Effect<BridgeStatus>
  /** Completes when the source has ended and everything taken is stored or dead; fails with the source's error. */
  readonly await: Effect.Effect<BridgeStatus, Err>
}

/** How a recorded run came out. */
export interface Recorded extends BridgeStatus {
  readonly runId: RunId
  /** Whether the end (the stream's own or the will) was stored. */
  readonly ended: boolean
}

export interface SourceOptions<in out E> {
  /**
   * The producer's identity. Absent: minted, epoch 1. Named by the caller: takes over, at each run's first append, from
   * whoever used the name before.
   */
  readonly producerId?: string | undefined
  /** The event that ends a run of this source whose producer is gone; the vocabulary's `abandoned` by default. */
  readonly will?: ((runId: RunId) => E) | undefined
}

/** Brings events in: the write side of the library. */
export class EventBridge extends Context.Service<
  EventBridge,
  {
    /**
     * Runs a source of events of many runs until it ends, the handle stops it, or the scope closes. Runs that are open
     * then are no longer renewed: nobody is left to write them.
     *
     * What is waiting is appended as one batch (no delay is added when idle), cut at a run's end and at the configured
     * bounds. Only failures that a retry can mend are retried, with the identical batch.
     */
    readonly start: <E, Err, R>(
      vocabulary: Vocabulary<E>,
      source: Stream.Stream<BridgeInput<E>, Err, R>,
      options?: SourceOptions<E>,
    ) => Effect.Effect<BridgeHandle<Err>, never, R | Scope.Scope>

    /**
     * Runs one stream as one run. If it ends, fails or is interrupted without an event that ends the run, the will is
     * appended at once; after an interruption within the grace time, otherwise a dead letter like any other event. Fails
     * with the stream's error, after the will.
     */
    readonly record: <E, Err, R>(
      vocabulary: Vocabulary<E>,
      run: { readonly runId: RunId; readonly sessionId?: SessionId | undefined },
      stream: Stream.Stream<EventInput<E>, Err, R>,
      options?: SourceOptions<E>,
    ) => Effect.Effect<Recorded, Err, R>
  }
>()("@throughline/core/EventBridge") {}

/** How a bridge works; each has a default. */
export interface BridgeOptions {
  /** Kinds of rooms that are published to; `Run` and `Session` by default. */
  readonly rooms?: ReadonlyArray<RoomKind> | undefined
  /** Events in one append, from 1 to what the store takes; 500 by default. */
  readonly maxBatchEvents?: number | undefined
  /** UTF-16 units of JSON in one append; 1 MiB by default. An event that is larger goes alone. */
  readonly maxBatchSize?: number | undefined
  /** Events taken from the source and not yet stored or dead, over all runs; 10,000 by default. At the bound the source waits. */
  readonly maxPending?: number | undefined
  /** The lease on open runs; 30 s, renewed every 10 s by default. `false`: runs are written without a lease. */
  readonly lease?: { readonly ttl: Duration.Input; readonly renewEvery: Duration.Input } | false | undefined
  /**
   * How failures that a retry can mend are retried; by default from 50 ms, doubling to 5 s, jittered by a fifth, for a
   * minute in all. When it gives up, the batch goes to the dead letters and what follows it is tried.
   */
  readonly retry?: Schedule.Schedule<unknown, BridgeFailure> | undefined
  /** How long one try may take before it counts as failed, its outcome unknown; 10 s by default. */
  readonly appendTimeout?: Duration.Input | undefined
  /** How long publishing a batch may hold up the run's next append; 1 s by default. Readers repair what it misses. */
  readonly publishTimeout?: Duration.Input | undefined
  /**
   * How long closing the scope, or `stop`, waits for what is pending; 5 s by default. What is left is then handed to the
   * dead-letter handler, for as long again at most.
   */
  readonly grace?: Duration.Input | undefined
  /** Receives what can't be stored; logs it as an error by default. Its run waits for it, other runs don't. */
  readonly onDeadLetter?: ((letter: DeadLetter) => Effect.Effect<void>) | undefined
}

const defaultRetry = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: "1 minute" }),
)

const logDeadLetter = ({ cause, events, runId, unencoded }: DeadLetter): Effect.Effect<void> =>
  Effect.logError(`${events.length + unencoded.length} events of run ${runId} were not stored: ${cause.message}`).pipe(
    Effect.annotateLogs({ runId, cause: cause._tag }),
  )

const defaultLease = { ttl: "30 seconds", renewEvery: "10 seconds" } as const

/** Makes a bridge over a store and a live path. */
export const make = Effect.fnUntraced(function* (
  options: BridgeOptions = {},
): Effect.fn.Return<EventBridge["Service"], never, EventStore | StreamAdapter | SecureRandom.SecureRandom> {
  const lease = options.lease ?? defaultLease
  return bridge.make({
    store: yield* EventStore,
    adapter: yield* StreamAdapter,
    bus: Option.getOrUndefined(yield* Effect.serviceOption(EventBus)),
    random: yield* SecureRandom.SecureRandom,
    rooms: options.rooms ?? defaultRooms,
    maxBatchEvents: Math.max(1, options.maxBatchEvents ?? 500),
    maxBatchSize: options.maxBatchSize ?? 1024 * 1024,
    maxPending: Math.max(1, options.maxPending ?? 10_000),
    lease: lease === false ? undefined : lease,
    retry: options.retry ?? defaultRetry,
    appendTimeout: Duration.fromInputUnsafe(options.appendTimeout ?? "10 seconds"),
    publishTimeout: Duration.fromInputUnsafe(options.publishTimeout ?? "1 second"),
    grace: Duration.fromInputUnsafe(options.grace ?? "5 seconds"),
    onDeadLetter: options.onDeadLetter ?? logDeadLetter,
    stopped: new BridgeStopped({}),
  })
})

/** The bridge over the store and the adapter of the program. */
export const layer = (
  options?: BridgeOptions,
): Layer.Layer<EventBridge, never, EventStore | StreamAdapter | SecureRandom.SecureRandom> =>
  Layer.effect(EventBridge, make(options))
