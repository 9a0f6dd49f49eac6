/**
 * The life of jobs as events: what a pool tells on the bus, and into the run that a job was enqueued to report under.
 *
 * Each event names its job; an `attempt` counts from 1. On the bus every event also carries `correlation.jobId` and
 * `correlation.jobName`, so a filter can pick them without reading the event.
 */
import * as Schema from "effect/Schema"
import { JobFailure, JobId, JobName, JobPriority } from "./JobRecord.ts"
import * as Vocabulary from "./Vocabulary.ts"

const job = { jobId: JobId, name: JobName }
const Millis = Schema.Finite

/** The job is stored and will be run. Not told of a job that is part of a transaction which may still be rolled back. */
export const JobEnqueued = Schema.TaggedStruct("JobEnqueued", {
  ...job,
  priority: JobPriority,
  /** Not before, in ms since 1970. */
  runAt: Schema.optionalKey(Millis),
})

/** A handler began. The same attempt begins again after a shutdown or a crash of its worker. */
export const JobStarted = Schema.TaggedStruct("JobStarted", { ...job, attempt: Schema.Int })

/** The handler told how far it is, in JSON of 65,536 characters at most: more is only kept in the job's record. */
export const JobProgress = Schema.TaggedStruct("JobProgress", { ...job, attempt: Schema.Int, value: Schema.Json })

/** The attempt failed. What follows from it is told next: `JobRetrying` or `JobDead`. */
export const JobFailed = Schema.TaggedStruct("JobFailed", { ...job, attempt: Schema.Int, failure: JobFailure })

/** Another attempt follows. */
export const JobRetrying = Schema.TaggedStruct("JobRetrying", {
  ...job,
  /** The attempt that follows. */
  attempt: Schema.Int,
  /** Not before, in ms since 1970. */
  at: Millis,
})

/** The job succeeded. */
export const JobCompleted = Schema.TaggedStruct("JobCompleted", {
  ...job,
  attempt: Schema.Int,
  /** As the job's success schema encodes it; left out where its JSON has more than 65,536 characters. */
  result: Schema.optionalKey(Schema.Json),
  /** Whether the run that it is told in ends with it. */
  endsRun: Schema.Boolean,
})

/** The job is in the dead letters. */
export const JobDead = Schema.TaggedStruct("JobDead", {
  ...job,
  failure: JobFailure,
  /** Whether the run that it is told in ends with it. */
  endsRun: Schema.Boolean,
})

/** The job was cancelled. */
export const JobCancelled = Schema.TaggedStruct("JobCancelled", {
  ...job,
  /** Whether the run that it is told in ends with it. */
  endsRun: Schema.Boolean,
})

/** Nobody reports on the run any more. Appended to a run only as its will. */
export const JobAbandoned = Schema.TaggedStruct("JobAbandoned", {})

/** All that a pool tells. */
export const JobEvent = Schema.Union([
  JobEnqueued,
  JobStarted,
  JobProgress,
  JobFailed,
  JobRetrying,
  JobCompleted,
  JobDead,
  JobCancelled,
  JobAbandoned,
])
export type JobEvent = typeof JobEvent.Type

const endings = { JobCompleted: "completed", JobDead: "failed", JobCancelled: "cancelled" } as const

/** The vocabulary of jobs. */
export const vocabulary: Vocabulary.Vocabulary<JobEvent> = Vocabulary.make({
  name: "throughline.jobs",
  version: 1,
  schema: JobEvent,
  delivery: (event) => (event._tag === "JobProgress" ? "progress" : event._tag in endings ? "terminal" : "normal"),
  endsRun: (event) =>
    event._tag === "JobAbandoned"
      ? "failed"
      : event._tag === "JobCompleted" || event._tag === "JobDead" || event._tag === "JobCancelled"
        ? event.endsRun
          ? endings[event._tag]
          : undefined
        : undefined,
  // Of a job's progress the newest counts.
  coalesce: {
    key: (event) => (event._tag === "JobProgress" ? event.jobId : undefined),
    merge: (_earlier, later) => later,
  },
  abandoned: () => ({ _tag: "JobAbandoned" }),
})
