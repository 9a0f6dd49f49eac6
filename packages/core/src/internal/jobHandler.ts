/** One run of a handler: from the stored payload to what becomes of the job. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Job, JobContext, RetryInput } from "../Job.ts"
import type { Claim, Outcome } from "../JobEngine.ts"
import { attemptOf, type JobFailure, type JobJson, type JobRecord } from "../JobRecord.ts"
import * as JobRules from "../JobRules.ts"
import * as jobRetry from "./jobRetry.ts"

/** What a run needs besides its job. */
export interface Surroundings {
  /** UTF-8 bytes of a result or a progress. */
  readonly maxPayloadBytes: number
  /** How long a handler that was interrupted may take to end, in ms. */
  readonly abandonAfter: number
  /** Tells whoever follows the job how far it is. */
  readonly progressed: (job: JobRecord, value: Schema.Json) => Effect.Effect<void>
}

/** How a handler came out; `late` if its timeout was over. */
interface Ended<A, E> {
  readonly exit: Exit.Exit<A, E> | undefined
  readonly late: boolean
}

/**
 * Runs a handler that has a timeout in a fiber of its own, so that one which can't be interrupted doesn't keep its worker: it
 * is waited for `abandonAfter`, then left alone.
 */
const apart = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  context: Context.Context<R>,
  options: { readonly timeout: number; readonly abandonAfter: number },
): Effect.Effect<Ended<A, E>> =>
  Effect.callback<Ended<A, E>>((resume) => {
    const run = Effect.runForkWith(context)
    const handler = run(effect)
    const sleeping: Array<Fiber.Fiber<void>> = []
    const after = (millis: number, then: () => void) => {
      sleeping.push(run(Effect.andThen(Effect.sleep(millis), Effect.sync(then))))
    }
    let late = false
    handler.addObserver((exit) => {
      for (const fiber of sleeping) fiber.interruptUnsafe()
      resume(Effect.succeed({ exit, late }))
    })
    if (handler.pollUnsafe() === undefined) {
      after(options.timeout, () => {
        late = true
        handler.interruptUnsafe()
        if (handler.pollUnsafe() === undefined) {
          after(options.abandonAfter, () =>
            resume(
              Effect.as(Effect.logError("a handler that timed out can't be interrupted and was left running"), {
                exit: undefined,
                late,
              }),
            ),
          )
        }
      })
    }
    return Effect.callback<void>((done) => {
      handler.interruptUnsafe()
      handler.addObserver(() => done(Effect.void))
      if (handler.pollUnsafe() === undefined) after(options.abandonAfter, () => done(Effect.void))
    })
  })

/** What the types allow may be no JSON all the same: cycles, or what came from untyped code. */
const jsonOf = (value: Schema.Json): JobJson | undefined => {
  try {
    return JSON.stringify(value) as JobJson | undefined
  } catch {
    return undefined
  }
}

const progressOf =
  (claim: Claim, surroundings: Surroundings) =>
  (value: Schema.Json): Effect.Effect<void> =>
    Effect.suspend(() => {
      const json = jsonOf(value)
      if (json === undefined || JobRules.isOver(json, surroundings.maxPayloadBytes)) {
        const problem = json === undefined ? "is no JSON" : "is over the bound"
        return Effect.logWarning(`progress of job ${claim.job.id} ${problem} and was left out`)
      }
      return Effect.andThen(
        claim.progress(json).pipe(Effect.catch((error) => Effect.logDebug("a job's progress was not stored", error))),
        surroundings.progressed(claim.job, value),
      )
    })

/** A whole ms, as engines keep times; never before the pause is over. */
const timeOf = (millis: number): number => Math.min(Number.MAX_SAFE_INTEGER, Math.ceil(millis))

/** The handler's span belongs to no trace of the worker's; it links to the one that enqueued the job. */
const traced = <A, E, R>(effect: Effect.Effect<A, E, R>, { id, name, trace }: JobRecord): Effect.Effect<A, E, R> =>
  trace === undefined
    ? effect
    : Effect.withSpan(effect, `job ${name}`, {
        root: true,
        kind: "consumer",
        links: [{ span: Tracer.externalSpan(trace), attributes: {} }],
        attributes: { "job.id": id, "job.name": name },
        captureStackTrace: false,
      })

/** The runs of a job's handler in its own context. Never fails. */
export const make = <Name extends string, P, S, E, R>(
  job: Job<Name, P, S, E>,
  handler: (payload: P, context: JobContext) => Effect.Effect<S, E, R>,
  context: Context.Context<Exclude<R, Scope.Scope>>,
  surroundings: Surroundings,
): ((claim: Claim) => Effect.Effect<Outcome>) => {
  const { abandonAfter, maxPayloadBytes } = surroundings
  const { timeout } = job
  const inContext = () => context

  const inputOf = (failure: JobFailure): RetryInput<E> => {
    if (failure._tag !== "HandlerFailed") return failure
    const decoded = job.error.decode(JSON.stringify(failure.error))
    return Result.isSuccess(decoded) ? decoded.success : failure
  }

  /** What follows from a failed attempt; `input` is the error itself, where the handler failed with one. */
  const failed = ({ job: record }: Claim, failure: JobFailure, input: RetryInput<E>): Effect.Effect<Outcome> => {
    if (attemptOf(record) >= record.maxAttempts) return Effect.succeed({ _tag: "Dead", failure })
    const steps = record.failures.map((earlier) => ({ at: earlier.at, input: inputOf(earlier) }))
    steps.push({ at: failure.at, input })
    return Effect.map(jobRetry.delayAfter(job.retry, steps), (delay) =>
      delay === undefined ? { _tag: "Dead", failure } : { _tag: "Retry", failure, at: timeOf(failure.at + delay) },
    )
  }

  const refused = (claim: Claim, problem: string, at: number): Effect.Effect<Outcome> => {
    const failure: JobFailure = { _tag: "ResultRefused", at, problem }
    return failed(claim, failure, failure)
  }

  const erred = (claim: Claim, error: E, at: number): Effect.Effect<Outcome> => {
    const encoded = job.error.encode(error)
    if (Result.isFailure(encoded)) {
      return refused(claim, `the error doesn't fit its schema: ${encoded.failure}`, at)
    }
    if (JobRules.isOver(encoded.success, maxPayloadBytes)) {
      return refused(claim, `the error has more than ${maxPayloadBytes} bytes`, at)
    }
    const failure: JobFailure = { _tag: "HandlerFailed", at, error: JSON.parse(encoded.success) as Schema.Json }
    return job.giveUp(error) ? Effect.succeed({ _tag: "Dead", failure }) : failed(claim, failure, error)
  }

  const died = (claim: Claim, defect: unknown, at: number): Effect.Effect<Outcome> => {
    const failure: JobFailure = { _tag: "HandlerDied", at, message: messageOf(defect) }
    return failed(claim, failure, failure)
  }

  const unsuccessful = (
    claim: Claim,
    cause: Cause.Cause<E> | undefined,
    late: boolean,
    at: number,
  ): Effect.Effect<Outcome> => {
    if (cause === undefined || (late && Cause.hasInterruptsOnly(cause))) {
      const timedOut: JobFailure = { _tag: "TimedOut", at, timeout: timeout ?? 0 }
      return failed(claim, timedOut, timedOut)
    }
    for (const reason of cause.reasons) if (reason._tag === "Fail") return erred(claim, reason.error, at)
    for (const reason of cause.reasons) if (reason._tag === "Die") return died(claim, reason.defect, at)
    const interrupted: JobFailure = { _tag: "HandlerInterrupted", at }
    return failed(claim, interrupted, interrupted)
  }

  /** Schemas, `giveUp` and schedules are code of the user's: where they die, the attempt did. */
  const guarded = (claim: Claim, outcome: () => Effect.Effect<Outcome>): Effect.Effect<Outcome> =>
    Effect.catchDefect(Effect.suspend(outcome), (defect) =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => died(claim, defect, at)),
    )

  const succeeded = (claim: Claim, value: S): Effect.Effect<Outcome> => {
    const encoded = job.success.encode(value)
    if (Result.isSuccess(encoded) && !JobRules.isOver(encoded.success, maxPayloadBytes)) {
      return Effect.succeed({ _tag: "Succeeded", result: encoded.success })
    }
    const problem = Result.isFailure(encoded)
      ? `the success doesn't fit its schema: ${encoded.failure}`
      : `the success has more than ${maxPayloadBytes} bytes`
    return Effect.flatMap(Clock.currentTimeMillis, (at) => refused(claim, problem, at))
  }

  const success = (claim: Claim, value: S): Effect.Effect<Outcome> => guarded(claim, () => succeeded(claim, value))

  /** No cause: the handler didn't end in time, not even when it was interrupted. */
  const failure = (claim: Claim, cause: Cause.Cause<E> | undefined, late: boolean): Effect.Effect<Outcome> =>
    guarded(claim, () => Effect.flatMap(Clock.currentTimeMillis, (at) => unsuccessful(claim, cause, late, at)))

  return (claim) => {
    const record = claim.job
    const payload = job.payload.decode(record.payload)
    if (Result.isFailure(payload)) {
      const problem = payload.failure
      return Effect.map(Clock.currentTimeMillis, (at) => ({
        _tag: "Dead",
        failure: { _tag: "PayloadRefused", at, problem },
      }))
    }
    const attempt = attemptOf(record)
    const told: JobContext = {
      id: record.id,
      attempt,
      maxAttempts: record.maxAttempts,
      isLastAttempt: attempt >= record.maxAttempts,
      enqueuedAt: record.enqueuedAt,
      progress: progressOf(claim, surroundings),
    }
    const effect = traced(
      Effect.suspend(() => handler(payload.success, told)),
      record,
    )
    // A scope per run, so that what a handler acquires goes with it.
    const scoped = Effect.scoped(effect)
    return timeout === undefined
      ? Effect.matchCauseEffect(Effect.updateContext(scoped, inContext), {
          onSuccess: (value) => success(claim, value),
          onFailure: (cause) => failure(claim, cause, false),
        })
      : Effect.flatMap(apart(scoped, context, { timeout, abandonAfter }), ({ exit, late }) =>
          exit !== undefined && Exit.isSuccess(exit) ? success(claim, exit.value) : failure(claim, exit?.cause, late),
        )
  }
}

/** A defect for a person to read, with its stack where it has one. */
const messageOf = (defect: unknown): string => {
  const text = defect instanceof Error ? (defect.stack ?? String(defect)) : String(defect)
  return text.slice(0, 4096).toWellFormed()
}
