/**
 * What a store can say no to, each with the ids a caller needs to act.
 *
 * `AppendFailed` and `ReadFailed` wrap what went wrong below in a tagged `reason` with `isRetryable`, so that a
 * schedule decides by type; every other error is an answer of the store about the request itself.
 */
import * as Schema from "effect/Schema"
import { Ending, EventId, RunId, SessionId } from "./Envelope.ts"
import { VocabularyId } from "./Vocabulary.ts"

const id = <const Name extends string>(name: Name) => `@throughline/core/EventStore/${name}` as const

/** The store can't be reached, is busy, or didn't answer in time; whether the work was done is unknown. Retry. */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>(id("StoreUnavailable"))("StoreUnavailable", {
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  get isRetryable(): boolean {
    return true
  }
  override get message() {
    return `the store is not available: ${this.detail}`
  }
}

/** The store has no room left; nothing was written. Free space, then append again. */
export class StoreFull extends Schema.TaggedError<StoreFull>(id("StoreFull"))("StoreFull", {
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `the store is full: ${this.detail}`
  }
}

/** The store can't do its work (not a database, no permission, a newer format, a fault of its own). */
export class StoreBroken extends Schema.TaggedError<StoreBroken>(id("StoreBroken"))("StoreBroken", {
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `the store can't be used: ${this.detail}`
  }
}

/** The request makes no sense whatever the store holds; nothing was done. `detail` says which part and why. */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>(id("InvalidRequest"))("InvalidRequest", {
  detail: Schema.String,
}) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `the request is invalid: ${this.detail}`
  }
}

/** Why a store operation failed below. */
export const StoreReason = Schema.Union([StoreUnavailable, StoreFull, StoreBroken, InvalidRequest])
export type StoreReason = typeof StoreReason.Type

/** The write failed; the tagged `reason` says whether to try again. */
export class AppendFailed extends Schema.TaggedError<AppendFailed>(id("AppendFailed"))("AppendFailed", {
  runId: Schema.optionalKey(RunId),
  reason: StoreReason,
}) {
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message() {
    return `append${this.runId === undefined ? "" : ` to run ${this.runId}`} failed: ${this.reason.message}`
  }
}

/** The read failed; the tagged `reason` says whether to try again. */
export class ReadFailed extends Schema.TaggedError<ReadFailed>(id("ReadFailed"))("ReadFailed", {
  runId: Schema.optionalKey(RunId),
  reason: StoreReason,
}) {
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message() {
    return `read${this.runId === undefined ? "" : ` of run ${this.runId}`} failed: ${this.reason.message}`
  }
}

/** The run has ended at `endSeq` and takes no more events; reading goes on. */
export class RunEnded extends Schema.TaggedError<RunEnded>(id("RunEnded"))("RunEnded", {
  runId: RunId,
  endSeq: Schema.Int,
  ending: Ending,
}) {
  override get message() {
    return `run ${this.runId} ended (${this.ending}) at seq ${this.endSeq}`
  }
}

/**
 * What was expected is not the head: somebody else wrote, or removed the run. Read on from the head and decide again; its
 * run cursor is `headSeq` of `generation`.
 */
export class SeqConflict extends Schema.TaggedError<SeqConflict>(id("SeqConflict"))("SeqConflict", {
  runId: RunId,
  expectedSeq: Schema.Int,
  expectedGeneration: Schema.optionalKey(Schema.String),
  headSeq: Schema.Int,
  /** The run's generation now; absent: the run is unknown. */
  generation: Schema.optionalKey(Schema.String),
}) {
  override get message() {
    const of = (generation: string | undefined) =>
      generation === undefined || this.expectedGeneration === undefined ? "" : ` of generation ${generation}`
    const expected = `${this.expectedSeq}${of(this.expectedGeneration)}`
    return `run ${this.runId} is at seq ${this.headSeq}${of(this.generation)}, not at the expected ${expected}`
  }
}

/** A run's session is set by its first append or never. */
export class SessionConflict extends Schema.TaggedError<SessionConflict>(id("SessionConflict"))("SessionConflict", {
  runId: RunId,
  given: SessionId,
  /** The run's session; absent: the run has none. */
  stored: Schema.optionalKey(SessionId),
}) {
  override get message() {
    return `run ${this.runId} belongs to ${this.stored === undefined ? "no session" : `session ${this.stored}`}, not to ${this.given}`
  }
}

const producerFields = { runId: RunId, producerId: Schema.String, epoch: Schema.Int }

/** A producer with a higher epoch has taken over; this one must stop. */
export class ProducerFenced extends Schema.TaggedError<ProducerFenced>(id("ProducerFenced"))("ProducerFenced", {
  ...producerFields,
  currentEpoch: Schema.Int,
}) {
  override get message() {
    return `producer ${this.producerId} of run ${this.runId} has epoch ${this.epoch}, but epoch ${this.currentEpoch} has taken over`
  }
}

/** A number was skipped: an earlier append of this producer never arrived (or the store lost it). */
export class ProducerGap extends Schema.TaggedError<ProducerGap>(id("ProducerGap"))("ProducerGap", {
  ...producerFields,
  number: Schema.Int,
  expectedNumber: Schema.Int,
}) {
  override get message() {
    return `producer ${this.producerId} of run ${this.runId} sent number ${this.number}, expected ${this.expectedNumber}`
  }
}

/** The number is older than the last one, so its answer is no longer kept. */
export class ProducerStale extends Schema.TaggedError<ProducerStale>(id("ProducerStale"))("ProducerStale", {
  ...producerFields,
  number: Schema.Int,
  lastNumber: Schema.Int,
}) {
  override get message() {
    return `producer ${this.producerId} of run ${this.runId} sent number ${this.number} again, but the last was ${this.lastNumber}`
  }
}

/** The last number was used for other content: two writers share one producer identity. */
export class ProducerMismatch extends Schema.TaggedError<ProducerMismatch>(id("ProducerMismatch"))("ProducerMismatch", {
  ...producerFields,
  number: Schema.Int,
}) {
  override get message() {
    return `number ${this.number} of producer ${this.producerId} of run ${this.runId} (epoch ${this.epoch}) was used for other content`
  }
}

/** History after `after` was trimmed; the oldest seq left is `oldestSeq`. */
export class HistoryTruncated extends Schema.TaggedError<HistoryTruncated>(id("HistoryTruncated"))("HistoryTruncated", {
  runId: RunId,
  after: Schema.Int,
  oldestSeq: Schema.Int,
  /** The run's generation: what is read on from here belongs to it. */
  generation: Schema.String,
}) {
  override get message() {
    return `run ${this.runId} is kept from seq ${this.oldestSeq} on; what follows seq ${this.after} was trimmed`
  }
}

/** The cursor is beyond the run's head: it was cut from another store, or the store lost what it had acknowledged. */
export class CursorAhead extends Schema.TaggedError<CursorAhead>(id("CursorAhead"))("CursorAhead", {
  runId: RunId,
  after: Schema.Int,
  headSeq: Schema.Int,
}) {
  override get message() {
    return `the cursor is after seq ${this.after}, but run ${this.runId} ends at seq ${this.headSeq}`
  }
}

/** The cursor was cut from another run, or from a run of that name that was removed since. */
export class CursorStale extends Schema.TaggedError<CursorStale>(id("CursorStale"))("CursorStale", {
  runId: RunId,
  cursorGeneration: Schema.String,
  /** The run's generation now; absent: the run is unknown. */
  generation: Schema.optionalKey(Schema.String),
}) {
  override get message() {
    return `the cursor is of generation ${this.cursorGeneration}, run ${this.runId} ${this.generation === undefined ? "is unknown" : `is of ${this.generation}`}`
  }
}

/** A stored record can't be decoded. It is never skipped; `problem` says what is wrong with it. */
export class CorruptRecord extends Schema.TaggedError<CorruptRecord>(id("CorruptRecord"))("CorruptRecord", {
  runId: RunId,
  seq: Schema.Int,
  problem: Schema.String,
}) {
  override get message() {
    return `record ${this.seq} of run ${this.runId} can't be decoded: ${this.problem}`
  }
}

/** The run is written in another vocabulary, or another version of it. */
export class VocabularyMismatch extends Schema.TaggedError<VocabularyMismatch>(id("VocabularyMismatch"))(
  "VocabularyMismatch",
  { runId: RunId, stored: VocabularyId, given: VocabularyId },
) {
  override get message() {
    return `run ${this.runId} speaks ${this.stored.name} version ${this.stored.version}, not ${this.given.name} version ${this.given.version}`
  }
}

/** One event is over the store's bound; nothing was written. */
export class EventTooLarge extends Schema.TaggedError<EventTooLarge>(id("EventTooLarge"))("EventTooLarge", {
  runId: RunId,
  eventId: EventId,
  /** UTF-8 bytes of the event's JSON. */
  bytes: Schema.Int,
  maxBytes: Schema.Int,
}) {
  override get message() {
    return `event ${this.eventId} of run ${this.runId} has ${this.bytes} bytes, more than the ${this.maxBytes} allowed`
  }
}

/** The write is stored, but the durability asked for was not confirmed in time. The same append may be sent again. */
export class DurabilityUnconfirmed extends Schema.TaggedError<DurabilityUnconfirmed>(id("DurabilityUnconfirmed"))(
  "DurabilityUnconfirmed",
  { runId: RunId, detail: Schema.String },
) {
  get isRetryable(): boolean {
    return true
  }
  override get message() {
    return `the append to run ${this.runId} is not confirmed as durable: ${this.detail}`
  }
}

/** The will can't be appended: the run has no lease or no will, was renewed since, or its lease still holds. */
export class LeaseConflict extends Schema.TaggedError<LeaseConflict>(id("LeaseConflict"))("LeaseConflict", {
  runId: RunId,
  problem: Schema.Literals(["noLease", "noWill", "renewed", "notExpired"]),
}) {
  override get message() {
    const why = {
      noLease: "it has no lease",
      noWill: "its lease carries no will",
      renewed: "its lease was renewed",
      notExpired: "its lease has not expired",
    }
    return `the will of run ${this.runId} was not appended: ${why[this.problem]}`
  }
}
