/**
 * What the pool and its engines can say no to, each with the ids a caller needs to act.
 *
 * `EngineFailed` wraps what went wrong below in a tagged `reason` with `isRetryable`; every other error is an answer about
 * the request itself.
 */
import * as Schema from "effect/Schema"
import { StoreReason } from "./EventStoreError.ts"
import { JobFailure, JobId, JobName, JobState } from "./JobRecord.ts"

const id = <const Name extends string>(name: Name) => `@throughline/core/JobPool/${name}` as const

/**
 * The engine can't do its work; the tagged `reason` says whether to try again. Whether an enqueue of unknown outcome was
 * done doesn't matter: the same jobs (by id) may be given again.
 */
export class EngineFailed extends Schema.TaggedError<EngineFailed>(id("EngineFailed"))("EngineFailed", {
  /** What was asked of the engine. */
  operation: Schema.String,
  reason: StoreReason,
}) {
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message() {
    return `the job engine failed to ${this.operation}: ${this.reason.message}`
  }
}

/** There is no room for the jobs: nothing of the batch was accepted. Try again when jobs have been worked off. */
export class PoolFull extends Schema.TaggedError<PoolFull>(id("PoolFull"))("PoolFull", {
  /** Jobs waiting or delayed when it was refused. */
  waiting: Schema.Int,
  maxWaiting: Schema.Int,
}) {
  override get message() {
    return `${this.waiting} jobs wait, and ${this.maxWaiting} may`
  }
}

/** A payload is over the bound; nothing of the batch was accepted. */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>(id("PayloadTooLarge"))("PayloadTooLarge", {
  name: JobName,
  /** UTF-8 bytes of the payload's JSON. */
  bytes: Schema.Int,
  maxBytes: Schema.Int,
}) {
  override get message() {
    return `the payload of a job ${this.name} has ${this.bytes} bytes, more than the ${this.maxBytes} allowed`
  }
}

/** The job's payload schema refused a value; nothing of the batch was accepted. */
export class PayloadInvalid extends Schema.TaggedError<PayloadInvalid>(id("PayloadInvalid"))("PayloadInvalid", {
  name: JobName,
  problem: Schema.String,
}) {
  override get message() {
    return `the payload doesn't fit the job ${this.name}: ${this.problem}`
  }
}

/** No such job is kept: it never was, was removed, or its time to be kept is over. */
export class JobUnknown extends Schema.TaggedError<JobUnknown>(id("JobUnknown"))("JobUnknown", { id: JobId }) {
  override get message() {
    return `job ${this.id} is not known`
  }
}

/** The job is not among the dead letters, so it can be neither retried nor removed from them. */
export class JobNotDead extends Schema.TaggedError<JobNotDead>(id("JobNotDead"))("JobNotDead", {
  id: JobId,
  state: JobState,
}) {
  override get message() {
    return `job ${this.id} is ${this.state}, not dead`
  }
}

/** A dead job can't be retried while another live job of its name holds its unique key. */
export class UniqueKeyTaken extends Schema.TaggedError<UniqueKeyTaken>(id("UniqueKeyTaken"))("UniqueKeyTaken", {
  id: JobId,
  uniqueKey: Schema.String,
  /** The live job that holds the key. */
  holder: JobId,
}) {
  override get message() {
    return `job ${this.id} can't be retried: job ${this.holder} holds the unique key ${JSON.stringify(this.uniqueKey)}`
  }
}

/** Results after the cursor were trimmed from the log. What is left is read after `oldest`. */
export class HistoryTruncated extends Schema.TaggedError<HistoryTruncated>(id("HistoryTruncated"))("HistoryTruncated", {
  after: Schema.String,
  /** The cursor before the oldest result left. */
  oldest: Schema.String,
}) {
  override get message() {
    return `results after ${this.after} were trimmed; what is left is after ${this.oldest}`
  }
}

/** The job is in the dead letters; `failure` says why. */
export class JobDied extends Schema.TaggedError<JobDied>(id("JobDied"))("JobDied", {
  id: JobId,
  name: JobName,
  failure: JobFailure,
}) {
  override get message() {
    return `job ${this.id} (${this.name}) is dead: ${this.failure._tag}`
  }
}

/** The job was cancelled before it had a result. */
export class JobWasCancelled extends Schema.TaggedError<JobWasCancelled>(id("JobWasCancelled"))("JobWasCancelled", {
  id: JobId,
  name: JobName,
}) {
  override get message() {
    return `job ${this.id} (${this.name}) was cancelled`
  }
}

/** A stored result or error doesn't decode with the schema of the job that it was asked for. */
export class ResultUnreadable extends Schema.TaggedError<ResultUnreadable>(id("ResultUnreadable"))("ResultUnreadable", {
  id: JobId,
  name: JobName,
  problem: Schema.String,
}) {
  override get message() {
    return `the result of job ${this.id} (${this.name}) can't be read: ${this.problem}`
  }
}
