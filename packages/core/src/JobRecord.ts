/**
 * Jobs as they are stored: ids, states, failures, and the record that an engine keeps of each job.
 *
 * Payload, result and progress are JSON text that only the pool reads; times are milliseconds since 1970. The schemas here
 * are what an engine decodes its stored rows with.
 */
import * as Schema from "effect/Schema"
import { EventId, RunId, SessionId } from "./Envelope.ts"

/** One accepted job: a UUIDv7 in lowercase, minted by the pool before the first try to store it. */
export const JobId = EventId.pipe(Schema.brand("JobId"))
export type JobId = typeof JobId.Type

/**
 * The name a job is declared and handled under: 1 to 100 characters of `A-Z a-z 0-9 . _ -`.
 *
 * No colon: some engines build keys from it.
 */
export const JobName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9._-]{1,100}$/, { expected: "1 to 100 characters of A-Z a-z 0-9 . _ -" }),
).pipe(Schema.brand("JobName"))
export type JobName = typeof JobName.Type

/** At most one live job per name has a given unique key: 1 to 256 characters. */
export const UniqueKey = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(256))

/** What is run first: every ready job of a higher priority comes before those of a lower one. */
export const JobPriority = Schema.Literals(["critical", "high", "normal", "low"])
export type JobPriority = typeof JobPriority.Type

/** The place of a priority in the order of running: critical 1, high 2, normal 3, low 4. */
export const priorityRank: Readonly<Record<JobPriority, 1 | 2 | 3 | 4>> = { critical: 1, high: 2, normal: 3, low: 4 }

/**
 * Where a job is. Live: `delayed` (its time has not come: asked for, or the pause before a retry), `waiting` (ready to be
 * claimed, whether or not anybody handles its name), `running` (claimed). Settled: `succeeded`, `dead` (in the dead
 * letters), `cancelled`. Only `retryDead` brings a settled job back.
 *
 * ```text
 * enqueue ─▶ delayed ─▶ waiting ⇄ running ─▶ succeeded | cancelled | dead
 *               ▲                    │                              │
 *               ├────── a retry ─────┘    waiting ◀── retryDead ────┘
 * ```
 */
export const JobState = Schema.Literals(["delayed", "waiting", "running", "succeeded", "dead", "cancelled"])
export type JobState = typeof JobState.Type

/** Whether a job in this state may still run: it holds its unique key and counts in `size`. */
export const isLive = (state: JobState): boolean => state === "delayed" || state === "waiting" || state === "running"

/** JSON text. Engines store and hand it back as it is. */
export const JobJson = Schema.String.pipe(Schema.brand("JobJson"))
export type JobJson = typeof JobJson.Type

const Millis = Schema.Finite

/** The handler failed with the job's own error, encoded by the job's error schema. */
export const HandlerFailed = Schema.TaggedStruct("HandlerFailed", { at: Millis, error: Schema.Json })

/** The handler died: a defect, told for a person to read. */
export const HandlerDied = Schema.TaggedStruct("HandlerDied", { at: Millis, message: Schema.String })

/** The handler interrupted itself. An interruption by the pool (shutdown, cancel, a lost lease) is no failure. */
export const HandlerInterrupted = Schema.TaggedStruct("HandlerInterrupted", { at: Millis })

/** The handler took longer than the job's timeout, in ms, and was interrupted. */
export const TimedOut = Schema.TaggedStruct("TimedOut", { at: Millis, timeout: Millis })

/** The handler's success, or its error, can't be stored: its schema refused it, or it is over the bound. */
export const ResultRefused = Schema.TaggedStruct("ResultRefused", { at: Millis, problem: Schema.String })

/** The stored payload no longer decodes. The record keeps it as it was; retrying is up to a person. */
export const PayloadRefused = Schema.TaggedStruct("PayloadRefused", { at: Millis, problem: Schema.String })

/** Workers that ran the job died too often: their process was killed, or their lease ran out. */
export const WorkerCrashed = Schema.TaggedStruct("WorkerCrashed", { at: Millis, crashes: Schema.Int })

/** Why a job did not succeed, and when (`at`). The first five are attempts and can be retried; the last two are not. */
export const JobFailure = Schema.Union([
  HandlerFailed,
  HandlerDied,
  HandlerInterrupted,
  TimedOut,
  ResultRefused,
  PayloadRefused,
  WorkerCrashed,
])
export type JobFailure = typeof JobFailure.Type

/** The run that a job's lifecycle events are appended to. */
export const JobReport = Schema.Struct({
  runId: RunId,
  sessionId: Schema.optionalKey(SessionId),
  /** Whether the job's end ends the run too. */
  endsRun: Schema.Boolean,
})
export type JobReport = typeof JobReport.Type

/** The span that enqueued a job, as W3C Trace Context names it. */
export const JobTrace = Schema.Struct({ traceId: Schema.String, spanId: Schema.String, sampled: Schema.Boolean })
export type JobTrace = typeof JobTrace.Type

const declared = {
  id: JobId,
  name: JobName,
  /** As the job's schema encoded it. */
  payload: JobJson,
  priority: JobPriority,
  /** Attempts in all before the job is dead, from 1 to 1,000. The pool decides by it, engines only keep it. */
  maxAttempts: Schema.Int,
  uniqueKey: Schema.optionalKey(UniqueKey),
  /** How long the record is kept after `succeeded` or `cancelled`, in ms. */
  keepResult: Millis,
  /** How long the record is kept among the dead letters, in ms. */
  keepDead: Millis,
  report: Schema.optionalKey(JobReport),
  trace: Schema.optionalKey(JobTrace),
}

/** A job as it is given to an engine. */
export const NewJob = Schema.Struct({
  ...declared,
  /** Not before this time; ready at once where absent or past. */
  runAt: Schema.optionalKey(Millis),
})
export type NewJob = typeof NewJob.Type

/** All that is kept of a job. */
export const JobRecord = Schema.Struct({
  ...declared,
  state: JobState,
  enqueuedAt: Millis,
  /**
   * When the job became, or becomes, ready: the later of `runAt` and the time of enqueueing; of a retry, its time.
   * A job that was given back, or whose worker crashed, keeps it.
   */
  readyAt: Millis,
  /** One per attempt that failed, oldest first; of a dead job the last one says why. `retryDead` empties it. */
  failures: Schema.Array(JobFailure),
  /** Workers that crashed running it. No attempts; `retryDead` sets it to 0. */
  crashes: Schema.Int,
  /** When it was last claimed. */
  startedAt: Schema.optionalKey(Millis),
  /** When it succeeded, died or was cancelled; absent while it is live. */
  settledAt: Schema.optionalKey(Millis),
  /** The last progress that its handler told. */
  progress: Schema.optionalKey(JobJson),
  /** Present if and only if it succeeded. */
  result: Schema.optionalKey(JobJson),
})
export type JobRecord = typeof JobRecord.Type

/** The attempt that a job is in, or would begin with, from 1. */
export const attemptOf = (job: Pick<JobRecord, "failures">): number => job.failures.length + 1

/** How a job came out. */
export const Settled = Schema.Literals(["succeeded", "dead", "cancelled"])
export type Settled = typeof Settled.Type

/**
 * An entry of the results log: one each time a job settles, so a job that died, was retried and succeeded has two.
 */
export const JobResult = Schema.Struct({
  /** The place in the log: rises with each entry, in the order in which they can be read. */
  position: Schema.Int,
  id: JobId,
  name: JobName,
  outcome: Settled,
  at: Millis,
  /** Failed attempts before. */
  failedAttempts: Schema.Int,
  /** Present if and only if it succeeded. */
  result: Schema.optionalKey(JobJson),
  /** Present if and only if it is dead. */
  failure: Schema.optionalKey(JobFailure),
})
export type JobResult = typeof JobResult.Type

/** How many jobs of one name are in one state; what is zero is left out. */
export interface JobCount {
  readonly name: JobName
  readonly state: JobState
  readonly count: number
}
