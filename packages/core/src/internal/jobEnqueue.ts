/** The way in: a payload with its declaration becomes a job that engines understand. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Tracer from "effect/Tracer"
import { InvalidRequest } from "../EventStoreError.ts"
import type { Enqueued, JobEngine } from "../JobEngine.ts"
import * as JobError from "../JobError.ts"
import type { EnqueueError, EnqueueOptions, JobPool, JobRequest } from "../JobPool.ts"
import type { JobId, JobTrace, NewJob } from "../JobRecord.ts"
import * as JobRules from "../JobRules.ts"
import type { NextId } from "./eventIds.ts"
import * as jobIds from "./jobIds.ts"
import * as jobLifecycle from "./jobLifecycle.ts"
import type { Reporter } from "./jobReporter.ts"
import type { Signal } from "./signal.ts"

export interface Config {
  readonly engine: JobEngine["Service"]
  readonly random: SecureRandom["Service"]
  readonly reporter: Reporter
  readonly maxWaiting: number | undefined
  readonly whenFull: "fail" | "wait"
  /** Changes when a job of this process leaves the waiting ones. */
  readonly moved: Signal
}

/** How often a full engine is asked again for room that another process may have made, in ms. */
const lookAgain = 100

/** Not before when, in ms since 1970; no number where that can't be told. */
const runAtOf = ({ delay, runAfter }: EnqueueOptions, now: number): number | undefined => {
  if (delay === undefined && runAfter === undefined) return undefined
  const pause = delay === undefined ? Option.some(Duration.zero) : Duration.fromInput(delay)
  if (Option.isNone(pause)) return Number.NaN
  const delayed = now + Duration.toMillis(pause.value)
  if (runAfter === undefined) return delayed
  const after = DateTime.make(runAfter)
  return Option.isNone(after) ? Number.NaN : Math.max(delayed, DateTime.toEpochMillis(after.value))
}

const traceOf = (context: Context.Context<never>): JobTrace | undefined => {
  const span = Context.getOption(context, Tracer.ParentSpan)
  if (Option.isNone(span)) return undefined
  const { sampled, spanId, traceId } = span.value
  return { traceId, spanId, sampled }
}

/** A job as engines take it. */
export const newJob = (
  { job, options, payload }: JobRequest,
  id: JobId,
  now: number,
  trace: JobTrace | undefined,
): Result.Result<NewJob, JobError.PayloadInvalid | JobError.EngineFailed> => {
  const encoded = job.payload.encode(payload)
  if (Result.isFailure(encoded)) {
    return Result.fail(new JobError.PayloadInvalid({ name: job.name, problem: encoded.failure }))
  }
  const runAt = runAtOf(options, now)
  if (runAt !== undefined && !JobRules.isTime(runAt)) {
    const reason = new InvalidRequest({ detail: "runAfter or delay is no time" })
    return Result.fail(new JobError.EngineFailed({ operation: "enqueue", reason }))
  }
  // Assigned, not spread: nearly all jobs have none of the optional fields.
  const made: { -readonly [Field in keyof NewJob]: NewJob[Field] } = {
    id,
    name: job.name,
    payload: encoded.success,
    priority: options.priority ?? job.priority,
    maxAttempts: options.maxAttempts ?? job.maxAttempts,
    keepResult: job.keepResult,
    keepDead: job.keepDead,
  }
  if (runAt !== undefined) made.runAt = runAt
  if (options.uniqueKey !== undefined) made.uniqueKey = options.uniqueKey
  if (trace !== undefined) made.trace = trace
  const { report } = options
  if (report !== undefined) {
    const { endsRun = true, runId, sessionId } = report
    made.report = sessionId === undefined ? { runId, endsRun } : { runId, sessionId, endsRun }
  }
  return Result.succeed(made)
}

export const make = (config: Config): Pick<JobPool["Service"], "enqueue" | "enqueueAll"> => {
  const { engine, maxWaiting, moved, reporter } = config
  const mint = jobIds.make(config.random)

  /** Enqueues, or waits until it can. */
  const accept = (
    jobs: ReadonlyArray<NewJob>,
    whenFull: "fail" | "wait",
  ): Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError> => {
    const once = engine.enqueue({ jobs, maxWaiting })
    if (maxWaiting === undefined || whenFull === "fail" || jobs.length > maxWaiting) return once
    const waiting: typeof once = Effect.suspend(() => {
      const { version } = moved
      return Effect.catchTag(once, "PoolFull", () =>
        Effect.andThen(Effect.raceFirst(moved.changed(version), Effect.sleep(lookAgain)), waiting),
      )
    })
    return waiting
  }

  const tell = (jobs: ReadonlyArray<NewJob>, answers: ReadonlyArray<Enqueued>): Effect.Effect<void> =>
    Effect.forEach(
      jobs,
      (job, place) => {
        const answer = answers[place]
        // What is pending may be rolled back; what runs of it will be told then.
        return answer?.created === true && !answer.pending && reporter.hears(job)
          ? reporter.tell(job, [jobLifecycle.enqueued(job)])
          : Effect.void
      },
      { discard: true },
    )

  const accepted = (
    requests: ReadonlyArray<JobRequest>,
    whenFull: "fail" | "wait",
    context: Context.Context<never>,
    now: number,
    nextId: NextId,
  ): Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError> => {
    const trace = traceOf(context)
    const jobs: Array<NewJob> = []
    let heard = false
    for (const request of requests) {
      // The id of an event and of a job are minted alike.
      const made = newJob(request, nextId() as unknown as JobId, now, trace)
      if (Result.isFailure(made)) return Effect.fail(made.failure)
      jobs.push(made.success)
      heard ||= reporter.hears(made.success)
    }
    const answered = accept(jobs, whenFull)
    return heard ? Effect.tap(answered, (answers) => tell(jobs, answers)) : answered
  }

  const enqueueAll = (
    requests: ReadonlyArray<JobRequest>,
    whenFull: "fail" | "wait" = config.whenFull,
  ): Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError> =>
    Effect.withFiber(({ context }) => {
      const now = Context.get(context, Clock.Clock).currentTimeMillisUnsafe()
      const minted = mint(requests.length, now)
      return typeof minted === "function"
        ? accepted(requests, whenFull, context, now, minted)
        : Effect.flatMap(minted, (nextId) => accepted(requests, whenFull, context, now, nextId))
    })

  return {
    enqueue: (job, payload, options = {}) =>
      Effect.map(enqueueAll([{ job, payload, options }], options.whenFull), (answers) => answers[0]!),
    enqueueAll: (requests, options) =>
      requests.length === 0 ? Effect.succeed([]) : enqueueAll(requests, options?.whenFull),
  }
}
