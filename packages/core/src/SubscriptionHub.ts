/**
 * The read side: each event of a run once, in order, to the end, whatever the live path does.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { CursorScopeMismatch, RunCursor } from "./Cursor.ts"
import { type EncodedEnvelope, type Envelope, RunId, type SessionId } from "./Envelope.ts"
import type { EventArchive, ReplayError } from "./EventArchive.ts"
import type { Page, ReadError } from "./EventStore.ts"
import type { VocabularyMismatch } from "./EventStoreError.ts"
import type { Vocabulary } from "./Vocabulary.ts"

/** The run was removed while it was being read. */
export class RunRemoved extends Schema.TaggedError<RunRemoved>("@throughline/core/SubscriptionHub/RunRemoved")(
  "RunRemoved",
  { runId: RunId, generation: Schema.String },
) {
  override get message() {
    return `run ${this.runId} (generation ${this.generation}) was removed while it was being read`
  }
}

/** An event; `cursor` resumes after it. `A` is the envelope: {@link EncodedEnvelope}, or `Envelope<E>` for a reader with a vocabulary. */
export interface Event<out A> {
  readonly _tag: "Event"
  readonly envelope: A
  readonly cursor: string
}

/** The replay has met the live part; once per reader, in ended runs before completing. */
export interface CaughtUp {
  readonly _tag: "CaughtUp"
  /** The last seq delivered before this item: the run's head at this moment, 0 for a run that has no events yet. */
  readonly head: number
}

/** Seqs `from` to `to` were trimmed; the reader goes on after them. */
export interface Truncated {
  readonly _tag: "Truncated"
  readonly from: number
  readonly to: number
}

export type RunItem<A> = Event<A> | CaughtUp | Truncated

export type RunError = ReadError | RunRemoved | VocabularyMismatch

/** An event of a session; `cursor` resumes the session after it, `runCursor` the event's run. */
export interface SessionEvent<out A> {
  readonly _tag: "Event"
  readonly envelope: A
  readonly position: number
  readonly cursor: string
  readonly runCursor: string
}

/** History of one of the session's runs was trimmed: seqs `from` to `to`. */
export interface SessionTruncated {
  readonly _tag: "Truncated"
  readonly runId: RunId
  readonly from: number
  readonly to: number
}

/** All that was stored when the session was opened has been delivered; once. */
export interface SessionCaughtUp {
  readonly _tag: "CaughtUp"
  readonly position: number
  readonly cursor: string
}

export type SessionItem<A> = SessionEvent<A> | SessionTruncated | SessionCaughtUp

export type SessionError = ReplayError | CursorScopeMismatch | VocabularyMismatch

export interface RunOptions {
  /** Everything after this cursor, or after this seq; from the start where absent. */
  readonly after?: RunCursor | undefined
  /** What trimmed history does: fail with `HistoryTruncated` (the default), or a `Truncated` item and on. */
  readonly truncated?: "fail" | "skip" | undefined
}

export interface Typed<in out E> {
  /** Decodes events; reading a run of another vocabulary fails `VocabularyMismatch`, an undecodable one `CorruptRecord`. */
  readonly vocabulary: Vocabulary<E>
}

/** Watches runs: the read side of the library. */
export class SubscriptionHub extends Context.Service<
  SubscriptionHub,
  {
    /**
     * The run, whole: for any `after`, exactly the seqs after it to the end, once each, in order; then the stream
     * completes. An unknown run is waited for. A slow reader is served from the store at its own pace and holds a page
     * of memory. Readers of one run in one process share one live subscription and one repair read.
     *
     * Fails when the store stays down past the retry budget (`ReadFailed`), when the run is removed (`RunRemoved`), and
     * as `EventStore.read` does on cursors (`CursorAhead`, `CursorStale`, `InvalidCursor`, `HistoryTruncated`) and
     * records (`CorruptRecord`).
     */
    readonly run: {
      <E>(runId: RunId, options: RunOptions & Typed<E>): Stream.Stream<RunItem<Envelope<E>>, RunError>
      (runId: RunId, options?: RunOptions): Stream.Stream<RunItem<EncodedEnvelope>, RunError>
    }

    /**
     * The two parts of a run for callers that want them apart: the first page after a place, and the stream of all that
     * follows that page. No overlap, no hole.
     */
    readonly subscribeRun: (
      runId: RunId,
      options: { readonly after?: RunCursor | undefined; readonly limit: number },
    ) => Effect.Effect<
      { readonly replay: Page; readonly live: Stream.Stream<RunItem<EncodedEnvelope>, RunError> },
      ReadError
    >

    /**
     * All runs of a session, present and future, in position order; it never ends. Resumed by position. Needs a store
     * with an archive; live frames only wake the archive read.
     */
    readonly session: {
      <E>(
        sessionId: SessionId,
        options: { readonly after?: string | undefined } & Typed<E>,
      ): Stream.Stream<SessionItem<Envelope<E>>, SessionError, EventArchive>
      (
        sessionId: SessionId,
        options?: { readonly after?: string | undefined },
      ): Stream.Stream<SessionItem<EncodedEnvelope>, SessionError, EventArchive>
    }
  }
>()("@throughline/core/SubscriptionHub") {}

