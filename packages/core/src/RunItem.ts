/**
 * What readers receive: the items of a run's stream and of a session's stream, and the errors that end them.
 */
import * as Schema from "effect/Schema"
import { type Merged, type OverflowNotice, RunId } from "./Envelope.ts"
import type { ReplayError } from "./EventArchive.ts"
import type { InvalidFilter } from "./EventFilter.ts"
import type { ReadError } from "./EventStore.ts"
import type { VocabularyMismatch } from "./EventStoreError.ts"

/** The run was removed while it was being read. */
export class RunRemoved extends Schema.TaggedError<RunRemoved>("@throughline/core/RunItem/RunRemoved")("RunRemoved", {
  runId: RunId,
  generation: Schema.String,
}) {
  override get message() {
    return `run ${this.runId} (generation ${this.generation}) was removed while it was being read`
  }
}

/** An event; `cursor` resumes after it. `A` is the envelope: encoded, or `Envelope<E>` for a reader with a vocabulary. */
export interface Event<out A> {
  readonly _tag: "Event"
  readonly envelope: A
  readonly cursor: string
  /** The events this one stands for, where a reader chose to have them merged under pressure. */
  readonly merged?: Merged
}

/** The replay has met the live part; once per reader, in ended runs before completing. */
export interface CaughtUp {
  readonly _tag: "CaughtUp"
  /** The last seq delivered before this item: the run's head at this moment, 0 for a run that has no events yet. */
  readonly head: number
  /**
   * The head's run cursor, absent of a run that has no events yet. It names the generation that the reader is bound to, also
   * one that came with a bare seq and has received nothing.
   */
  readonly cursor?: string
}

/** Seqs `from` to `to` were trimmed; the reader goes on after them. */
export interface Truncated {
  readonly _tag: "Truncated"
  readonly from: number
  readonly to: number
}

/** What a reader lost by the policy it chose, before the next event or before its end. */
export interface Dropped {
  readonly _tag: "Dropped"
  readonly notice: OverflowNotice
}

/** An item of a run's stream; `Dropped` only where the reader chose a queue. */
export type RunItem<A> = Event<A> | CaughtUp | Truncated | Dropped

/** How a run's stream can fail. */
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

/** How a session's stream can fail. */
export type SessionError = Exclude<ReplayError, InvalidFilter> | VocabularyMismatch
