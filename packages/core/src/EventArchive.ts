/**
 * Replay across runs: every envelope of the store that a filter matches, ordered by position.
 *
 * A backend that can't order its runs does not provide this service, so the type of the program says so.
 */
import * as Context from "effect/Context"
import type * as Stream from "effect/Stream"
import type { CursorBeyondEnd, CursorScopeMismatch, InvalidCursor } from "./Cursor.ts"
import type { EncodedEnvelope, RunId } from "./Envelope.ts"
import type { EventFilter, InvalidFilter } from "./EventFilter.ts"
import type { CorruptRecord, ReadFailed } from "./EventStoreError.ts"

/** A stored envelope that the filter matches. `cursor` resumes after it; `runCursor` is its place in its run. */
export interface ArchiveEvent {
  readonly _tag: "Event"
  readonly envelope: EncodedEnvelope
  readonly position: number
  readonly cursor: string
  readonly runCursor: string
}

/** Trimmed history of a run, told before the run's next envelope: seqs `from` to `to` are gone. */
export interface ArchiveTruncated {
  readonly _tag: "Truncated"
  readonly runId: RunId
  readonly from: number
  readonly to: number
}

/** How far the replay has looked, whether or not anything matched; always the last item. */
export interface ArchiveCheckpoint {
  readonly _tag: "Checkpoint"
  readonly position: number
  readonly cursor: string
}

export type ArchiveItem = ArchiveEvent | ArchiveTruncated | ArchiveCheckpoint

export type ReplayError =
  | ReadFailed
  | CorruptRecord
  | InvalidCursor
  | CursorBeyondEnd
  | CursorScopeMismatch
  | InvalidFilter

export class EventArchive extends Context.Service<
  EventArchive,
  {
    /**
     * All that is stored after a cursor and matches, up to what was stored when the replay gets there; then a
     * `Checkpoint`, and the stream completes. Nothing that becomes visible later sorts before what was read.
     * Removed runs are left out. A run whose history was trimmed, and whose own fields match, yields `Truncated` before
     * its next envelope, and before any event at a later position than what was trimmed, so that every cursor is past it
     * or is told; a cursor already past what was trimmed is not. A cursor past all that is stored fails
     * `CursorBeyondEnd`. Costs a page of memory, whatever the length.
     */
    readonly replay: (request: {
      readonly filter: EventFilter
      /** A cursor of an earlier replay with the same filter. */
      readonly after?: string | undefined
    }) => Stream.Stream<ArchiveItem, ReplayError>
  }
>()("@throughline/core/EventArchive") {}
