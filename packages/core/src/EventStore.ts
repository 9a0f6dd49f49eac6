/**
 * The durable log of runs: append with exactly-once producers, read by page, leases with wills.
 *
 * The port is untyped on purpose: it stores {@link EncodedEvent}s and hands back {@link EncodedEnvelope}s, so a backend
 * never sees a vocabulary. Everything a backend must decide about an append (order of checks, seqs, the end of the run)
 * is the pure function `AppendRules.decide`; a backend with transactions calls it, one without restates it and is held
 * to the same laws.
 */
import * as Context from "effect/Context"
import type { Digest } from "effect/crypto/Digest"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type { InvalidCursor, RunCursor } from "./Cursor.ts"
import type { EncodedEnvelope, EncodedEvent, Frame, Room, RunId, SessionId } from "./Envelope.ts"
import { EventArchive } from "./EventArchive.ts"
import type * as StoreError from "./EventStoreError.ts"
import * as memoryStore from "./internal/memoryStore.ts"
import type { RunHead, RunStatus } from "./RunHead.ts"
import type { StoreOptions } from "./StoreOptions.ts"
import type { VocabularyId } from "./Vocabulary.ts"

/** Who appends: what makes a repeated append the same one. Per run and producer id, `number` counts appends from 1 within an epoch. */
export interface Producer {
  readonly id: string
  readonly epoch: number
  readonly number: number
}

/** What the store remembers of a producer in a run. */
export interface ProducerState {
  readonly epoch: number
  readonly lastNumber: number
  /** The seq of the last event the producer appended. */
  readonly lastSeq: number
}

/** A claim to be alive. A run has one lease, whoever writes it; the last will given counts. */
export interface LeaseRequest {
  /** How long the lease holds from now, by the store's clock. */
  readonly ttl: Duration.Input
  /** The event that ends the run if the lease expires and nobody renews it. It must have `endsRun`. */
  readonly will?: EncodedEvent | undefined
}

export interface AppendRequest {
  readonly runId: RunId
  /** Set by the run's first append or never; absent later: inherits. */
  readonly sessionId?: SessionId | undefined
  readonly vocabulary: VocabularyId
  /** At least one. */
  readonly events: ReadonlyArray<EncodedEvent>
  readonly producer?: Producer | undefined
  /** Append only if this is the head's seq (0: the run must be new). */
  readonly expectedSeq?: number | undefined
  /**
   * Beside `expectedSeq`: append only if this is the run's generation too. Without it a run that was removed and begun anew
   * since passes for the one that was read, as soon as it is as long.
   */
  readonly expectedGeneration?: string | undefined
  readonly lease?: LeaseRequest | undefined
}

export interface AppendResult {
  /** One per event, in order: what was stored, ready to be published. */
  readonly frames: ReadonlyArray<Frame>
  /** The rooms the store has published to already, in the same step as the write. */
  readonly published: ReadonlyArray<Room>
}

export type AppendError =
  | StoreError.AppendFailed
  | StoreError.RunEnded
  | StoreError.SeqConflict
  | StoreError.SessionConflict
  | StoreError.ProducerFenced
  | StoreError.ProducerGap
  | StoreError.ProducerStale
  | StoreError.ProducerMismatch
  | StoreError.VocabularyMismatch
  | StoreError.EventTooLarge
  | StoreError.DurabilityUnconfirmed

export interface ReadRequest {
  readonly runId: RunId
  /** The page starts after this place; from the start of the run where absent. */
  readonly after?: RunCursor | undefined
  /** Events at most, from 1; the store's own bound (1,000 events, 4 MiB unless configured) holds too. */
  readonly limit: number
}

export interface Page {
  /** Contiguous from the seq after `after`; empty at the head. Never empty before it, however large an event is. */
  readonly envelopes: ReadonlyArray<EncodedEnvelope>
  /** The run's head in the same view as the page. */
  readonly head: RunHead
}

export type ReadError =
  | StoreError.ReadFailed
  | StoreError.HistoryTruncated
  | StoreError.CursorAhead
  | StoreError.CursorStale
  | StoreError.CorruptRecord
  | InvalidCursor

export interface RunsRequest {
  readonly sessionId?: SessionId | undefined
  readonly status?: Exclude<RunStatus, "unknown"> | undefined
  /** Runs at most, from 1 to 1,000. */
  readonly limit: number
  /** Continue after this run: the last head of the page before. */
  readonly before?: { readonly runId: RunId; readonly startedAt: number } | undefined
}

export interface RenewResult {
  readonly renewed: ReadonlyArray<RunId>
  /** Runs that are not open: ended or unknown. */
  readonly refused: ReadonlyArray<RunId>
}

export type AppendWillError =
  | StoreError.AppendFailed
  | StoreError.RunEnded
  | StoreError.SeqConflict
  | StoreError.LeaseConflict

/**
 * The durable log.
 *
 * Order: an append of n events is atomic and gets n contiguous seqs from the head on; concurrent appends never share,
 * skip or interleave a seq. Once: a repeat of a producer's last append returns the first answer and writes nothing. One
 * end: after an event with `endsRun` the run takes no more.
 */
export class EventStore extends Context.Service<
  EventStore,
  {
    /**
     * Appends events whole or not at all.
     *
     * Checks, in order: the request itself (`AppendFailed` with `InvalidRequest`, `EventTooLarge`), the producer's epoch
     * (`ProducerFenced`), a repeat of its last number (the first answer again, `ProducerMismatch` for other content,
     * `ProducerStale` for an older number), the end of the run (`RunEnded`), a skipped number (`ProducerGap`),
     * `expectedSeq` and `expectedGeneration` (`SeqConflict`), the session (`SessionConflict`), the vocabulary (`VocabularyMismatch`).
     */
    readonly append: (request: AppendRequest) => Effect.Effect<AppendResult, AppendError>

    /** A page of a run and its head. An unknown run is an empty page with head 0. */
    readonly read: (request: ReadRequest) => Effect.Effect<Page, ReadError>

    /** The run's head; cheap. An unknown run has status `unknown` and `lastSeq` 0. */
    readonly head: (runId: RunId) => Effect.Effect<RunHead, StoreError.ReadFailed>

    /** Heads of runs, last started first. */
    readonly runs: (request: RunsRequest) => Effect.Effect<ReadonlyArray<RunHead>, StoreError.ReadFailed>

    /** What the store remembers of a producer in a run. */
    readonly producer: (
      runId: RunId,
      producerId: string,
    ) => Effect.Effect<Option.Option<ProducerState>, StoreError.ReadFailed>

    /** Extends the lease of open runs, expired ones included; a lease is created where there is none. */
    readonly renew: (
      runIds: ReadonlyArray<RunId>,
      lease: LeaseRequest,
    ) => Effect.Effect<RenewResult, StoreError.AppendFailed>

    /**
     * Appends the will of a run whose lease has expired; version, expiry and head are checked in the same step, so that
     * of many watchers one wins.
     */
    readonly appendWill: (
      runId: RunId,
      expected: { readonly leaseVersion: number; readonly expectedSeq: number },
    ) => Effect.Effect<AppendResult, AppendWillError>

    /** Ends open runs that never had a lease and were not written to for `idleFor`, each with the given event. */
    readonly endAbandoned: (options: {
      readonly idleFor: Duration.Input
      /** Must have `endsRun`. Each run gets it under an event id of its own. */
      readonly event: Omit<EncodedEvent, "eventId">
    }) => Effect.Effect<ReadonlyArray<AppendResult>, StoreError.AppendFailed>

    /** Removes a run and all that is kept of it; `false` where there was none. Written again, it is a new generation. */
    readonly remove: (runId: RunId) => Effect.Effect<boolean, StoreError.AppendFailed>
  }
>()("@throughline/core/EventStore") {}

/**
 * The store and its archive in the memory of this process; nothing survives it.
 *
 * The store's clock is Effect's `Clock`.
 */
export const layerMemory = (
  options?: StoreOptions,
): Layer.Layer<EventStore | EventArchive, never, SecureRandom | Digest> =>
  Layer.effectContext(
    Effect.map(memoryStore.make(options), ({ archive, eventStore }) =>
      Context.make(EventStore, eventStore).pipe(Context.add(EventArchive, archive)),
    ),
  )
