/** A job's hash as its record, and back. */
import {
  JobFailure,
  JobId,
  type JobJson,
  type JobName,
  type JobPriority,
  type JobRecord,
  JobReport,
  type JobState,
  JobTrace,
  type NewJob,
  priorityRank,
} from "@throughline/core/JobRecord"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { jobFields } from "./lua.ts"

/** The values of a job's fields, in the order of `jobFields`; null: it has none. */
export const Row = Schema.Array(Schema.NullOr(Schema.String))
export type Row = typeof Row.Type

/** What is the same for nearly all jobs of a name. */
const Kept = Schema.fromJsonString(
  Schema.Struct({ maxAttempts: Schema.Int, keepResult: Schema.Finite, keepDead: Schema.Finite }),
)
const More = Schema.fromJsonString(
  Schema.Struct({ report: Schema.optionalKey(JobReport), trace: Schema.optionalKey(JobTrace) }),
)
const decodeKept = Schema.decodeUnknownResult(Kept)
const decodeMore = Schema.decodeUnknownResult(More)
const decodeFailures = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Array(JobFailure)))
const encodeFailures = Schema.encodeSync(Schema.fromJsonString(Schema.Array(JobFailure)))
const isJobId = Schema.is(JobId)

/** The texts of a new job's `tl` fields; the second is empty where there is nothing to say. */
export const keptTexts = (job: NewJob): readonly [kept: string, more: string] => {
  const { keepDead, keepResult, maxAttempts, report, trace } = job
  const most = Number.MAX_SAFE_INTEGER
  const kept = { maxAttempts, keepResult: Math.min(keepResult, most), keepDead: Math.min(keepDead, most) }
  return [JSON.stringify(kept), report === undefined && trace === undefined ? "" : JSON.stringify({ report, trace })]
}

export const failuresText = (failures: ReadonlyArray<JobFailure>): string => encodeFailures(failures)

const priorities = Object.fromEntries(
  Object.entries(priorityRank).map(([priority, rank]) => [rank, priority as JobPriority]),
)

/** The texts that were decoded last: the jobs of a name share theirs. */
const lastKept = new Map<string, typeof Kept.Type>()

const keptOf = (text: string): Result.Result<typeof Kept.Type, unknown> => {
  const known = lastKept.get(text)
  if (known !== undefined) return Result.succeed(known)
  const decoded = decodeKept(text)
  if (Result.isFailure(decoded)) return decoded
  if (lastKept.size >= 256) lastKept.clear()
  lastKept.set(text, decoded.success)
  return decoded
}

/** The value of a field. */
export const fieldOf = (row: Row, field: (typeof jobFields)[number]): string | undefined =>
  row[jobFields.indexOf(field)] ?? undefined

type Draft = { -readonly [Field in keyof JobRecord]: JobRecord[Field] }

/** The record of a job, or what keeps it from being one of this engine. */
export const recordOf = (name: string, id: string, state: JobState, row: Row): Result.Result<JobRecord, string> => {
  const [data, timestamp, priority, stalled, processedOn, finishedOn, returnvalue, progress] = row
  const kept = keptOf(fieldOf(row, "tl") ?? "")
  const enqueuedAt = Number(timestamp ?? Number.NaN)
  // A job that was ready at once has no time of its own.
  const readyAt = Number(fieldOf(row, "tl:readyAt") ?? enqueuedAt)
  if (!isJobId(id) || Result.isFailure(kept) || !Number.isFinite(readyAt) || !Number.isFinite(enqueuedAt)) {
    return Result.fail("it was not enqueued by this engine, or by another version of it")
  }
  const failures = fieldOf(row, "tl:failures")
  const failed = failures === undefined ? Result.succeed([]) : decodeFailures(failures)
  if (Result.isFailure(failed)) return Result.fail("its failures can't be read")
  const more = fieldOf(row, "tl:more")
  const told = more === undefined ? undefined : decodeMore(more)
  if (told !== undefined && Result.isFailure(told)) return Result.fail("what it reports to can't be read")
  const record: Draft = {
    id,
    name: name as JobName,
    payload: (data ?? "null") as JobJson,
    priority: priorities[Math.min(4, Math.max(1, Number(priority)))] ?? "normal",
    maxAttempts: kept.success.maxAttempts,
    keepResult: kept.success.keepResult,
    keepDead: kept.success.keepDead,
    state,
    enqueuedAt,
    readyAt,
    failures: failed.success,
    crashes: Number(stalled ?? 0),
  }
  const uniqueKey = fieldOf(row, "deid")
  if (uniqueKey !== undefined) record.uniqueKey = uniqueKey
  if (told?.success.report !== undefined) record.report = told.success.report
  if (told?.success.trace !== undefined) record.trace = told.success.trace
  if (processedOn !== undefined && processedOn !== null) record.startedAt = Number(processedOn)
  if (finishedOn !== undefined && finishedOn !== null) record.settledAt = Number(finishedOn)
  if (progress !== undefined && progress !== null) record.progress = progress as JobJson
  if (state === "succeeded" && returnvalue !== undefined && returnvalue !== null) record.result = returnvalue as JobJson
  return Result.succeed(record)
}

/** A failure for a person who reads BullMQ's `failedReason`. */
export const describe = (failure: JobFailure): string => {
  switch (failure._tag) {
    case "HandlerFailed":
      return `HandlerFailed: ${JSON.stringify(failure.error)}`
    case "HandlerDied":
      return `HandlerDied: ${failure.message}`
    case "HandlerInterrupted":
      return "HandlerInterrupted"
    case "TimedOut":
      return `TimedOut: after ${failure.timeout} ms`
    case "ResultRefused":
    case "PayloadRefused":
      return `${failure._tag}: ${failure.problem}`
    case "WorkerCrashed":
      return `WorkerCrashed: ${failure.crashes} times`
  }
}
