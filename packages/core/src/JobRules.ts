/**
 * What every engine decides alike, as pure functions: which requests are refused, how a record moves on, which cursors
 * of the results log are good. An engine with transactions calls them; one without restates them and is held to the same
 * laws.
 */
import * as Result from "effect/Result"
import * as Cursor from "./Cursor.ts"
import { InvalidRequest } from "./EventStoreError.ts"
import type { EngineOptions, Outcome, Settlement } from "./JobEngine.ts"
import * as JobError from "./JobError.ts"
import { isLive, type JobFailure, type JobRecord, type JobResult, type JobState, type NewJob } from "./JobRecord.ts"

/** The bounds of an engine, defaults filled in; what is out of bounds is taken for the nearest bound. */
export const boundsOf = (options: EngineOptions = {}): { readonly [K in keyof EngineOptions]-?: number } => ({
  maxPayloadBytes: Math.max(1, options.maxPayloadBytes ?? 1024 * 1024),
  maxResults: Math.max(1, options.maxResults ?? 100_000),
})

const encoder = new TextEncoder()

/** UTF-8 bytes of a text. */
export const byteLength = (text: string): number => encoder.encode(text).length

/** Whether a JSON text is over a bound; the usual short one is told without encoding it. */
export const isOver = (json: string, maxBytes: number): boolean =>
  json.length > maxBytes || (json.length * 3 > maxBytes && byteLength(json) > maxBytes)

const invalid = (operation: string, detail: string) =>
  new JobError.EngineFailed({ operation, reason: new InvalidRequest({ detail }) })

/** Whether a number of ms is one that every store keeps as it is. */
export const isTime = (millis: number): boolean => Math.abs(millis) <= Number.MAX_SAFE_INTEGER

const jobProblem = (job: NewJob): string | undefined => {
  if (job.runAt !== undefined && !isTime(job.runAt)) return `runAt ${job.runAt} is no time`
  if (!Number.isInteger(job.maxAttempts) || job.maxAttempts < 1 || job.maxAttempts > 1000) {
    return `maxAttempts ${job.maxAttempts} is not from 1 to 1,000`
  }
  const { uniqueKey } = job
  if (uniqueKey !== undefined && (uniqueKey.length === 0 || uniqueKey.length > 256 || !uniqueKey.isWellFormed())) {
    return "the unique key has other than 1 to 256 characters of Unicode"
  }
  if (!(job.keepResult >= 0 && isTime(job.keepResult) && job.keepDead >= 0 && isTime(job.keepDead))) {
    return "keepResult and keepDead are times in ms, from 0 to 2^53 - 1"
  }
  return undefined
}

/** What is wrong with jobs before the store is looked at, if anything. */
export const checkJobs = (
  operation: string,
  jobs: ReadonlyArray<NewJob>,
  maxPayloadBytes: number,
): JobError.EngineFailed | JobError.PayloadTooLarge | undefined => {
  if (jobs.length === 0) return invalid(operation, "there are no jobs")
  for (const job of jobs) {
    const problem = jobProblem(job)
    if (problem !== undefined) return invalid(operation, problem)
    if (isOver(job.payload, maxPayloadBytes)) {
      const bytes = byteLength(job.payload)
      return new JobError.PayloadTooLarge({ name: job.name, bytes, maxBytes: maxPayloadBytes })
    }
  }
  return undefined
}

/** What is wrong with the limit of a page, if anything. */
export const checkLimit = (operation: string, limit: number): JobError.EngineFailed | undefined =>
  Number.isInteger(limit) && limit >= 1 && limit <= 1000
    ? undefined
    : invalid(operation, `the limit ${limit} is not from 1 to 1,000`)

const none: ReadonlyArray<JobFailure> = []

/** The record of a job that is accepted now. */
export const accepted = (job: NewJob, now: number): JobRecord => {
  const { runAt } = job
  // Field by field, not spread: one shape for nearly all jobs, and several times as fast.
  const record: { -readonly [Field in keyof JobRecord]: JobRecord[Field] } = {
    id: job.id,
    name: job.name,
    payload: job.payload,
    priority: job.priority,
    maxAttempts: job.maxAttempts,
    keepResult: job.keepResult,
    keepDead: job.keepDead,
    state: runAt !== undefined && runAt > now ? "delayed" : "waiting",
    enqueuedAt: now,
    readyAt: runAt === undefined ? now : Math.max(now, runAt),
    failures: none,
    crashes: 0,
  }
  if (job.uniqueKey !== undefined) record.uniqueKey = job.uniqueKey
  if (job.report !== undefined) record.report = job.report
  if (job.trace !== undefined) record.trace = job.trace
  return record
}

/** What is stored of an outcome: of a job whose cancellation was asked for while it ran, only a success stands. */
export const settlementOf = (outcome: Outcome, cancelRequested: boolean): Outcome | { readonly _tag: "Cancelled" } =>
  cancelRequested && outcome._tag !== "Succeeded" ? { _tag: "Cancelled" } : outcome

const withFailure = (job: JobRecord, failure: JobFailure): ReadonlyArray<JobFailure> => [...job.failures, failure]

/** The running job after its claim was settled. */
export const settled = (job: JobRecord, settlement: Exclude<Settlement, { _tag: "Lost" }>, now: number): JobRecord => {
  switch (settlement._tag) {
    case "Succeeded":
      return { ...job, state: "succeeded", settledAt: now, result: settlement.result }
    case "Cancelled":
      return { ...job, state: "cancelled", settledAt: now }
    case "Dead":
      return { ...job, state: "dead", settledAt: now, failures: withFailure(job, settlement.failure) }
    case "Retry": {
      const state = settlement.at > now ? "delayed" : "waiting"
      const readyAt = Math.max(now, settlement.at)
      return { ...job, state, readyAt, failures: withFailure(job, settlement.failure) }
    }
    case "GivenBack":
      return { ...job, state: "waiting" }
  }
}

/** The running job after its worker crashed: ready again, or dead. */
export const crashed = (job: JobRecord, maxCrashes: number, now: number): JobRecord => {
  const crashes = job.crashes + 1
  return crashes >= maxCrashes
    ? { ...settled(job, { _tag: "Dead", failure: { _tag: "WorkerCrashed", at: now, crashes } }, now), crashes }
    : { ...job, state: "waiting", crashes }
}

/** The dead job after `retryDead`. */
export const revived = (job: JobRecord, now: number): JobRecord => {
  const { progress: _progress, settledAt: _settledAt, startedAt: _startedAt, ...rest } = job
  return { ...rest, state: "waiting", readyAt: now, failures: [], crashes: 0 }
}

/** How long a settled record is kept, in ms since 1970. */
export const keptUntil = (job: JobRecord): number =>
  (job.settledAt ?? Number.POSITIVE_INFINITY) + (job.state === "dead" ? job.keepDead : job.keepResult)

/** The entry that a job which has just settled leaves in the results log. */
export const resultOf = (job: JobRecord, position: number): JobResult => {
  const { failures, id, name, result, settledAt, state } = job
  const last = failures.at(-1)
  return {
    position,
    id,
    name,
    outcome: state === "succeeded" || state === "dead" ? state : "cancelled",
    at: settledAt ?? 0,
    failedAttempts: failures.length,
    ...(result === undefined ? undefined : { result }),
    ...(state === "dead" && last !== undefined ? { failure: last } : undefined),
  }
}

/** Whether a job that is asked for among the dead letters is there. */
export const checkDead = (job: JobRecord): JobError.JobNotDead | undefined =>
  job.state === "dead" ? undefined : new JobError.JobNotDead({ id: job.id, state: job.state })

/** Whether a job in this state counts against the bound on waiting jobs. */
export const takesRoom = (state: JobState): boolean => isLive(state) && state !== "running"

/** The results log of a store at one moment. */
export interface ResultsLog {
  /** Names the log, so that a cursor of another store is told: 8 characters of `a-z 0-9`, as `AppendRules.makeGeneration` gives. */
  readonly generation: string
  /** The position of the last entry that was trimmed; 0 where none was. */
  readonly trimmed: number
  /** The position of the last entry; 0 where there never was one. */
  readonly last: number
}

/** The cursor after a position: `<position>-<generation of the log>`. */
export const resultsCursor = (log: Pick<ResultsLog, "generation">, position: number): string =>
  Cursor.run(position, log.generation)

/** The cursor of the same log at another position. */
export const cursorAt = (cursor: string, position: number): string =>
  Cursor.run(position, cursor.slice(cursor.indexOf("-") + 1))

const resultsPattern = /^(0|[1-9][0-9]{0,15})-([a-z0-9]{8})$/

/** The position that a page begins after. */
export const resultsPlace = (
  after: string | undefined,
  log: ResultsLog,
): Result.Result<number, InvalidCursor | JobError.HistoryTruncated> => {
  if (after === undefined) return Result.succeed(log.trimmed)
  const match = resultsPattern.exec(after)
  if (match === null) return refused(after, "expected <position>-<log>")
  if (match[2] !== log.generation) return refused(after, "it was cut from another store")
  const position = Number(match[1])
  if (!(position <= log.last)) return refused(after, `it is beyond the log's end, ${log.last}`)
  if (position >= log.trimmed) return Result.succeed(position)
  return Result.fail(new JobError.HistoryTruncated({ after, oldest: resultsCursor(log, log.trimmed) }))
}

type InvalidCursor = Cursor.InvalidCursor

const refused = (text: string, problem: string): Result.Result<never, InvalidCursor> =>
  Result.fail(new Cursor.InvalidCursor({ text, problem }))
