/** What a pool tells of a job: its settlement as lifecycle events. */
import type * as Schema from "effect/Schema"
import type { Settlement } from "../JobEngine.ts"
import type { JobEvent } from "../JobEvents.ts"
import { attemptOf, type JobFailure, type JobRecord, type NewJob } from "../JobRecord.ts"

/** UTF-16 units of JSON of a result, an error or a progress that an event carries, well within what every store takes. */
const maxCarried = 65_536

const isCarried = (value: Schema.Json): boolean => JSON.stringify(value).length <= maxCarried

/** An event that is too large for a store would be lost, and with it perhaps the end of a run. */
const carried = (failure: JobFailure): JobFailure =>
  failure._tag !== "HandlerFailed" || isCarried(failure.error)
    ? failure
    : { ...failure, error: "left out: it is too large for an event" }

type Named = Pick<NewJob, "id" | "name" | "report">

const endsRun = (job: Named): boolean => job.report?.endsRun ?? false

export const enqueued = (job: NewJob): JobEvent => ({
  _tag: "JobEnqueued",
  jobId: job.id,
  name: job.name,
  priority: job.priority,
  ...(job.runAt === undefined ? undefined : { runAt: job.runAt }),
})

export const started = (job: JobRecord): JobEvent => ({
  _tag: "JobStarted",
  jobId: job.id,
  name: job.name,
  attempt: attemptOf(job),
})

export const progressed = (job: JobRecord, value: Schema.Json): ReadonlyArray<JobEvent> =>
  isCarried(value) ? [{ _tag: "JobProgress", jobId: job.id, name: job.name, attempt: attemptOf(job), value }] : []

export const cancelled = (job: Named): JobEvent => ({
  _tag: "JobCancelled",
  jobId: job.id,
  name: job.name,
  endsRun: endsRun(job),
})

/** A job whose payload is refused, or whose workers crashed, is dead without an attempt that failed. */
const isAttempt = (failure: JobFailure): boolean =>
  failure._tag !== "PayloadRefused" && failure._tag !== "WorkerCrashed"

/** The events of a settlement, in order; none of a job that was given back or whose claim was lost. */
export const settled = (job: JobRecord, attempt: number, settlement: Settlement): ReadonlyArray<JobEvent> => {
  const named = { jobId: job.id, name: job.name }
  switch (settlement._tag) {
    case "Succeeded": {
      const completed = { _tag: "JobCompleted", ...named, attempt, endsRun: endsRun(job) } as const
      return settlement.result.length > maxCarried
        ? [completed]
        : [{ ...completed, result: JSON.parse(settlement.result) as Schema.Json }]
    }
    case "Retry": {
      const { at } = settlement
      const failure = carried(settlement.failure)
      return [
        { _tag: "JobFailed", ...named, attempt, failure },
        { _tag: "JobRetrying", ...named, attempt: attempt + 1, at },
      ]
    }
    case "Dead": {
      const failure = carried(settlement.failure)
      const dead: JobEvent = { _tag: "JobDead", ...named, failure, endsRun: endsRun(job) }
      return isAttempt(failure) ? [{ _tag: "JobFailed", ...named, attempt, failure }, dead] : [dead]
    }
    case "Cancelled":
      return [cancelled(job)]
    case "GivenBack":
    case "Lost":
      return []
  }
}
