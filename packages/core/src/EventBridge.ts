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
 * what can't be stored goes to the dead-letter handler with its typed cause.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { EncodedEvent, EventInput, RoomKind, RunId, SessionId } from "./Envelope.ts"
import type { AppendError } from "./EventStore.ts"
import type { ReadFailed } from "./EventStoreError.ts"
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

/** Why events were given up. `ReadFailed`: the producer's state could not be read before the run's first append. */
export type DeadLetterCause = AppendError | ReadFailed | EventRefused | BridgeStopped

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
     * Runs a source of events of many runs until it ends, the handle stops it, or the scope closes.
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
     * appended at once. Fails with the stream's error, after the will.
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
  /** Events in one append; 500 by default. */
  readonly maxBatchEvents?: number | undefined
  /** UTF-16 units of JSON in one append; 1 MiB by default. */
  readonly maxBatchSize?: number | undefined
  /** Events taken from the source and not yet stored or dead, over all runs; 10,000 by default. At the bound the source waits. */
  readonly maxPending?: number | undefined
  /** The lease on open runs; 30 s, renewed every 10 s by default. `false`: runs are written without a lease. */
  readonly lease?: { readonly ttl: Duration.Input; readonly renewEvery: Duration.Input } | false | undefined
  /** How long closing the scope, or `stop`, waits for what is pending; 5 s by default. */
  readonly grace?: Duration.Input | undefined
  /** Receives what can't be stored; logs it as an error by default. */
  readonly onDeadLetter?: ((letter: DeadLetter) => Effect.Effect<void>) | undefined
}
