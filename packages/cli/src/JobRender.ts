/**
 * Jobs as readable text and as JSON. What a job holds is no more trusted than what a run holds: see `Render`.
 */
import { isLive, type JobCount, type JobFailure, type JobRecord, JobState } from "@throughline/core/JobRecord"
import type * as Schema from "effect/Schema"
import { type Column, columns, duration, type Paint, safe, styleOf } from "./Render.ts"

type Iso = (millis: number) => string

/** A failure with its time as ISO 8601 in UTC. */
type FailureJson = { readonly [key: string]: Schema.Json | string }

/** A job as `--json` prints it: as it is stored, with payload, progress and result as JSON and times as ISO 8601 in UTC. */
export interface JobJson {
  readonly id: string
  readonly name: string
  readonly state: JobState
  readonly priority: string
  /** Failed attempts so far. */
  readonly failedAttempts: number
  readonly maxAttempts: number
  readonly crashes: number
  readonly uniqueKey?: string
  readonly enqueuedAt: string
  readonly readyAt: string
  readonly startedAt?: string
  readonly settledAt?: string
  readonly report?: JobRecord["report"]
  readonly failures: ReadonlyArray<FailureJson>
  readonly payload: unknown
  readonly progress?: unknown
  readonly result?: unknown
}

/** JSON as the value it is; what is none (a row that was changed by hand) stays the text that is stored. */
const valueOf = (json: string): unknown => {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

const failureOf = (failure: JobFailure, iso: Iso): FailureJson => ({ ...failure, at: iso(failure.at) })

export const jsonOf = (job: JobRecord, iso: Iso): JobJson => ({
  id: job.id,
  name: job.name,
  state: job.state,
  priority: job.priority,
  failedAttempts: job.failures.length,
  maxAttempts: job.maxAttempts,
  crashes: job.crashes,
  ...(job.uniqueKey === undefined ? undefined : { uniqueKey: job.uniqueKey }),
  enqueuedAt: iso(job.enqueuedAt),
  readyAt: iso(job.readyAt),
  ...(job.startedAt === undefined ? undefined : { startedAt: iso(job.startedAt) }),
  ...(job.settledAt === undefined ? undefined : { settledAt: iso(job.settledAt) }),
  ...(job.report === undefined ? undefined : { report: job.report }),
  failures: job.failures.map((failure) => failureOf(failure, iso)),
  payload: valueOf(job.payload),
  ...(job.progress === undefined ? undefined : { progress: valueOf(job.progress) }),
  ...(job.result === undefined ? undefined : { result: valueOf(job.result) }),
})

/** What a failure was, in one line. */
const reasonOf = (failure: JobFailure): string => {
  switch (failure._tag) {
    case "HandlerFailed":
      return JSON.stringify(failure.error)
    case "HandlerDied":
      return failure.message
    case "HandlerInterrupted":
      return "interrupted itself"
    case "TimedOut":
      return `took longer than ${duration(failure.timeout)}`
    case "ResultRefused":
    case "PayloadRefused":
      return failure.problem
    case "WorkerCrashed":
      return `${failure.crashes} workers that ran it died`
  }
}

/** The time that matters of a job: when it is ready, since when it is, runs, or has settled. */
const when = (job: JobRecord, now: number): string => {
  if (job.state === "delayed") return `in ${duration(job.readyAt - now)}`
  const since = isLive(job.state) ? (job.state === "running" ? job.startedAt : job.readyAt) : job.settledAt
  return `${duration(now - (since ?? now))} ago`
}

const firstLine = (text: string): string => text.split("\n", 1)[0]!

const listed: ReadonlyArray<Column> = [
  { heading: "JOB" },
  { heading: "NAME" },
  { heading: "STATE", look: styleOf },
  { heading: "PRIORITY" },
  { heading: "FAILED", isRight: true },
  { heading: "WHEN", isRight: true },
  { heading: "LAST FAILURE" },
]

/** Cells longer than this are cut. */
const widest = 60

const cut = (text: string): string => (text.length > widest ? `${text.slice(0, widest - 1)}…` : text)

/** Jobs as a table, one line a job under a line of headings. */
export const table = (jobs: ReadonlyArray<JobRecord>, now: number, style: Paint): ReadonlyArray<string> =>
  columns(
    listed,
    jobs.map((job) => {
      const last = job.failures.at(-1)
      return [
        job.id,
        job.name,
        job.state,
        job.priority,
        `${job.failures.length}/${job.maxAttempts}`,
        when(job, now),
        last === undefined ? "" : cut(safe(firstLine(`${last._tag}: ${reasonOf(last)}`))),
      ]
    }),
    style,
  )

/** All that is kept of a job, a line for each thing. */
export const details = (job: JobRecord, now: number, iso: Iso, style: Paint): ReadonlyArray<string> => {
  const lines: Array<readonly [label: string, text: string | undefined]> = [
    ["job", job.id],
    ["name", job.name],
    ["state", `${job.state}, ${when(job, now)}`],
    ["priority", job.priority],
    ["attempts", `${job.failures.length} failed of ${job.maxAttempts}`],
    ["crashes", job.crashes === 0 ? undefined : String(job.crashes)],
    ["unique key", job.uniqueKey],
    ["reports to", job.report === undefined ? undefined : `run ${job.report.runId}`],
    ["enqueued", iso(job.enqueuedAt)],
    ["ready", iso(job.readyAt)],
    ["started", job.startedAt === undefined ? undefined : iso(job.startedAt)],
    ["settled", job.settledAt === undefined ? undefined : iso(job.settledAt)],
    ["payload", job.payload],
    ["progress", job.progress],
    ["result", job.result],
    ...job.failures.map((failure) => ["failure", `${iso(failure.at)} ${failure._tag}: ${reasonOf(failure)}`] as const),
  ]
  return lines.flatMap(([label, text]) =>
    text === undefined ? [] : `${style("gray", label.padEnd(10))}  ${safe(text)}`,
  )
}

/** The counts of one job name, a number for each state. */
export interface CountsJson extends Readonly<Record<JobState, number>> {
  readonly name: string
}

/** Counts by name, in the order of the names. */
export const countsOf = (counts: ReadonlyArray<JobCount>): ReadonlyArray<CountsJson> =>
  [...new Set(counts.map(({ name }) => name))].toSorted().map((name) => {
    const of = (state: JobState) =>
      counts.reduce((sum, one) => (one.name === name && one.state === state ? sum + one.count : sum), 0)
    return {
      name,
      delayed: of("delayed"),
      waiting: of("waiting"),
      running: of("running"),
      succeeded: of("succeeded"),
      dead: of("dead"),
      cancelled: of("cancelled"),
    }
  })

/** Counts as a table, one line a name. */
export const countsTable = (counts: ReadonlyArray<CountsJson>, style: Paint): ReadonlyArray<string> =>
  columns(
    [
      { heading: "NAME" },
      ...JobState.literals.map((state): Column => ({
        heading: state.toUpperCase(),
        isRight: true,
        look: (cell) => (cell === "0" ? "gray" : styleOf(state)),
      })),
    ],
    counts.map((count) => [count.name, ...JobState.literals.map((state) => String(count[state]))]),
    style,
  )
