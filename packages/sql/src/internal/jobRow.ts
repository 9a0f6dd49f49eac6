/** A job's row: what a `JobRecord` is stored as, and which claim it is in. */
import { StoreBroken } from "@throughline/core/EventStoreError"
import { type JobPriority, JobRecord, type JobState, priorityRank } from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** A row as an array in the order of {@link columns}. */
export type JobRow = ReadonlyArray<unknown>

/** A job and the place it is stored at. */
export interface Stored {
  readonly key: number
  /** Counts how often the job was claimed: what an answer is fenced by. */
  readonly claim: number
  readonly cancelRequested: boolean
  readonly job: JobRecord
}

/** What {@link decode} reads, and {@link inserted} writes after the first. */
const names = [
  "job_key",
  "id",
  "name",
  "payload",
  "priority",
  "max_attempts",
  "unique_key",
  "keep_result",
  "keep_dead",
  "report",
  "trace",
  "state",
  "enqueued_at",
  "ready_at",
  "failures",
  "crashes",
  "started_at",
  "settled_at",
  "progress",
  "result",
  "claim",
  "cancel_requested",
]

export const columns = names.join(", ")

/** The columns of a new job, in the order of {@link encode}. */
export const inserted = names.slice(1).join(", ")

/** How many columns {@link inserted} has. */
export const insertedWidth = names.length - 1

const json = (value: unknown): string | null => (value === undefined ? null : JSON.stringify(value))

/** The states of a row: whether a job is delayed or waiting is a matter of time, not of its row. */
const storedState = (state: JobState): string => (state === "delayed" || state === "waiting" ? "pending" : state)

const encodeFailures = (job: JobRecord): string | null =>
  job.failures.length === 0 ? null : JSON.stringify(job.failures)

/** The values of an accepted job in the order of {@link inserted}. */
export const encode = (job: JobRecord): Array<unknown> => [
  job.id,
  job.name,
  job.payload,
  priorityRank[job.priority],
  job.maxAttempts,
  job.uniqueKey ?? null,
  job.keepResult,
  job.keepDead,
  json(job.report),
  json(job.trace),
  storedState(job.state),
  job.enqueuedAt,
  job.readyAt,
  encodeFailures(job),
  job.crashes,
  job.startedAt ?? null,
  job.settledAt ?? null,
  job.progress ?? null,
  job.result ?? null,
  0,
  0,
]

const priorities = new Map<unknown, JobPriority>(
  (["critical", "high", "normal", "low"] as const).map((priority) => [priorityRank[priority], priority]),
)

const decodeRecord = Schema.decodeUnknownResult(JobRecord)

const optional = (key: string, value: unknown) => (value === null ? undefined : { [key]: value })

/** What isn't text is left for the schema to refuse. */
const parsed = (text: unknown): unknown => (typeof text === "string" ? JSON.parse(text) : text)

/** The job of a row as it is at `now`. */
export const decode = (row: JobRow, now: number): Result.Result<Stored, StoreBroken> => {
  const [key, id, name, payload, priority, maxAttempts, uniqueKey, keepResult, keepDead, report, trace] = row
  const [state, enqueuedAt, readyAt, failures, crashes, startedAt, settledAt, progress, result, claim, cancel] =
    row.slice(11)
  const broken = (problem: string) =>
    Result.fail(new StoreBroken({ detail: `the row of job ${String(id)} can't be decoded (${problem})` }))
  try {
    const record = decodeRecord({
      id,
      name,
      payload,
      priority: priorities.get(priority),
      maxAttempts,
      ...optional("uniqueKey", uniqueKey),
      keepResult,
      keepDead,
      ...optional("report", parsed(report)),
      ...optional("trace", parsed(trace)),
      state: state === "pending" ? (Number(readyAt) > now ? "delayed" : "waiting") : state,
      enqueuedAt,
      readyAt,
      failures: failures === null ? [] : parsed(failures),
      crashes,
      ...optional("startedAt", startedAt),
      ...optional("settledAt", settledAt),
      ...optional("progress", progress),
      ...optional("result", result),
    })
    return Result.isFailure(record)
      ? broken(String(record.failure))
      : Result.succeed({ key: Number(key), claim: Number(claim), cancelRequested: cancel === 1, job: record.success })
  } catch (cause) {
    return broken(`its failures, report or trace are not JSON: ${String(cause)}`)
  }
}

/** What is read of a row whose record can't be: enough to lay it among the dead letters. */
export const placeOf = (row: JobRow): { readonly key: number; readonly id: string; readonly name: string } => ({
  key: Number(row[0]),
  id: String(row[1]),
  name: String(row[2]),
})

/** The columns that change when a job moves on, in the order of {@link encodeMove}; it is in no claim then. */
export const moved = [
  "state",
  "ready_at",
  "failures",
  "crashes",
  "started_at",
  "settled_at",
  "kept_until",
  "progress",
  "result",
]

/** What is no longer so when a job moves on. */
export const unclaimed = "worker = NULL, lease_until = NULL, cancel_requested = 0"

/** The values of a job that moved on in the order of {@link moved}. */
export const encodeMove = (job: JobRecord): Array<unknown> => [
  storedState(job.state),
  job.readyAt,
  encodeFailures(job),
  job.crashes,
  job.startedAt ?? null,
  job.settledAt ?? null,
  job.settledAt === undefined ? null : JobRules.keptUntil(job),
  job.progress ?? null,
  job.result ?? null,
]
