/**
 * Jobs as they are declared: a name, schemas, and how failures are treated.
 *
 * A declaration is a value that the program which enqueues and the one which handles share; it does nothing by itself.
 *
 * **Example** (A mail that is worth some tries)
 *
 * ```ts
 * import * as Job from "@throughline/core/Job"
 * import * as Schedule from "effect/Schedule"
 * import * as Schema from "effect/Schema"
 *
 * class MailRefused extends Schema.TaggedError<MailRefused>()("MailRefused", { permanent: Schema.Boolean }) {}
 *
 * export const SendMail = Job.make("send-mail", {
 *   payload: Schema.Struct({ to: Schema.String, subject: Schema.String }),
 *   success: Schema.Struct({ messageId: Schema.String }),
 *   error: MailRefused,
 *   retry: Schedule.exponential("2 seconds").pipe(Job.fullJitter),
 *   maxAttempts: 6,
 *   timeout: "30 seconds",
 *   giveUp: (error) => error.permanent,
 * })
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { EngineFailed } from "./JobError.ts"
import { type HandlerOptions, JobPool } from "./JobPool.ts"
import { type JobFailure, type JobId, type JobJson, JobName, type JobPriority } from "./JobRecord.ts"

/** A schema whose values cross JSON without services. */
export type JobSchema<A> = Schema.Codec<A, unknown>

/** Values as the JSON text that engines keep; a failure says what didn't fit. */
export interface JobCodec<in out A> {
  readonly encode: (value: A) => Result.Result<JobJson, string>
  readonly decode: (json: string) => Result.Result<A, string>
}

/**
 * What the retry schedule of a job is stepped with: the job's own error as its schema decodes it, and everything else that can
 * fail an attempt as it is stored (an own error that its schema no longer decodes is a stored `HandlerFailed`).
 */
export type RetryInput<E> = E | JobFailure

/** How the attempts of a job are made and what is kept of it. */
export interface JobOptions<in out P, in out S, in out E> {
  readonly payload: JobSchema<P>
  /** What its handler gives; nothing by default. */
  readonly success?: JobSchema<S> | undefined
  /** How its handler may fail; not at all by default. */
  readonly error?: JobSchema<E> | undefined
  /** `normal` by default. */
  readonly priority?: JobPriority | undefined
  /**
   * The pauses before retries; {@link defaultRetry} where absent. After each failure it is stepped anew over all the job's failures, each
   * with the time it happened at, so a restart doesn't forget. Its last delay counts; where it is done, the job is dead.
   */
  readonly retry?: Schedule.Schedule<unknown, RetryInput<E>> | undefined
  /** Attempts in all, from 1 to 1,000; 4 by default. */
  readonly maxAttempts?: number | undefined
  /** How long an attempt may take before it is interrupted and counts as failed; no bound by default, or where infinite. */
  readonly timeout?: Duration.Input | undefined
  /** The errors that no retry can mend: the job goes straight to the dead letters. None by default. */
  readonly giveUp?: ((error: E) => boolean) | undefined
  /** How long a job is kept after it succeeded or was cancelled; 1 day by default, for good where infinite. */
  readonly keepResult?: Duration.Input | undefined
  /** How long a job is kept among the dead letters; 30 days by default, for good where infinite. */
  readonly keepDead?: Duration.Input | undefined
}

/** A declared job. */
export interface Job<out Name extends string, in out P, in out S, in out E> {
  readonly name: JobName & Name
  readonly payload: JobCodec<P>
  readonly success: JobCodec<S>
  readonly error: JobCodec<E>
  readonly priority: JobPriority
  readonly retry: Schedule.Schedule<unknown, RetryInput<E>>
  readonly maxAttempts: number
  /** In ms. */
  readonly timeout: number | undefined
  readonly giveUp: (error: E) => boolean
  /** In ms. */
  readonly keepResult: number
  /** In ms. */
  readonly keepDead: number
}

/** A job of any types. */
// oxlint-disable-next-line typescript/no-explicit-any -- the types of a job are invariant, so only `any` stands for all of them
export type Any = Job<string, any, any, any>

/** What a handler knows about the run of its job. */
export interface JobContext {
  readonly id: JobId
  /** From 1. A crash of a worker, or a shutdown, is no attempt: the same one begins again. */
  readonly attempt: number
  readonly maxAttempts: number
  /** Whether a failure now is the last: there is no further attempt, whatever the schedule says. */
  readonly isLastAttempt: boolean
  /** In ms since 1970. */
  readonly enqueuedAt: number
  /** Tells how far the job is: kept in its record (the last one wins) and told to whoever follows it. Never fails the job. */
  readonly progress: (value: Schema.Json) => Effect.Effect<void>
}

/**
 * Draws each delay of a schedule anew, evenly from nothing to the whole of it ("full jitter"), by Effect's `Random`.
 *
 * Callers that failed together come back spread over the whole delay. (`Schedule.jittered` only varies it by a fifth.)
 */
export const fullJitter = <Output, Input, Err, Env>(
  schedule: Schedule.Schedule<Output, Input, Err, Env>,
): Schedule.Schedule<Output, Input, Err, Env> =>
  Schedule.modifyDelay(schedule, ({ duration }) =>
    Effect.map(Random.next, (part) => Duration.millis(Duration.toMillis(duration) * part)),
  )

/** From 1 s, doubling to 5 minutes, with {@link fullJitter}; never done, so `maxAttempts` ends it. */
export const defaultRetry: Schedule.Schedule<unknown> = fullJitter(
  Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("5 minutes")]),
)

/** A schema may run code of its user's; one that throws has refused the value. */
const guarded = <A>(evaluate: () => Result.Result<A, string>): Result.Result<A, string> => {
  try {
    return evaluate()
  } catch (cause) {
    return Result.fail(String(cause))
  }
}

const codecOf = <A>(schema: JobSchema<A>): JobCodec<A> => {
  const codec = Schema.toCodecJson(schema)
  const encode = Schema.encodeResult(codec)
  const decode = Schema.decodeUnknownResult(codec)
  return {
    encode: (value) =>
      guarded(() => {
        const encoded = encode(value)
        if (Result.isFailure(encoded)) return Result.fail(String(encoded.failure))
        // Schemas of anything let through what JSON has no text for: `undefined`, a function.
        const json = JSON.stringify(encoded.success) as JobJson | undefined
        return json === undefined ? Result.fail(`JSON has no ${typeof encoded.success}`) : Result.succeed(json)
      }),
    decode: (json) => guarded(() => Result.mapError(decode(JSON.parse(json)), String)),
  }
}

const never = () => false

/** Most jobs give nothing. It is kept as null, which `Schema.Void` reads too. */
const nothing: JobCodec<void> = {
  encode: () => Result.succeed("null" as JobJson),
  decode: () => Result.succeed(undefined),
}

/** For ever is a number too, since records are kept as JSON and in columns that know no infinity. */
const keptFor = (kept: Duration.Input): number =>
  Math.min(Number.MAX_SAFE_INTEGER, Duration.toMillis(Duration.fromInputUnsafe(kept)))

/** An endless timeout is none. */
const timeoutOf = (timeout: Duration.Input | undefined): number | undefined => {
  const millis = timeout === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(Duration.fromInputUnsafe(timeout))
  return millis === Number.POSITIVE_INFINITY ? undefined : millis
}

/**
 * Declares a job.
 *
 * The name is what engines keep jobs under: renaming a job leaves the ones that wait behind. A change of the payload's schema
 * must read what is stored, or those jobs go to the dead letters.
 */
export const make = <const Name extends string, P, S = void, E = never>(
  name: Name,
  options: JobOptions<P, S, E>,
): Job<Name, P, S, E> => ({
  name: JobName.make(name) as JobName & Name,
  payload: codecOf(options.payload),
  // Absent schemas leave S and E at their defaults.
  success: options.success === undefined ? (nothing as unknown as JobCodec<S>) : codecOf(options.success),
  error: codecOf(options.error ?? (Schema.Never as unknown as JobSchema<E>)),
  priority: options.priority ?? "normal",
  retry: options.retry ?? defaultRetry,
  maxAttempts: options.maxAttempts ?? 4,
  timeout: timeoutOf(options.timeout),
  giveUp: options.giveUp ?? never,
  keepResult: keptFor(options.keepResult ?? "1 day"),
  keepDead: keptFor(options.keepDead ?? "30 days"),
})

/**
 * A handler as a layer: runs jobs of a name in this process, with the requirements of its own, while the layer lives.
 *
 * The handler sees a job at least once; it may see it again after a crash of the process. It may fail with the job's error,
 * die, run into the timeout or be interrupted: each is a failure of its own kind in the record, and the worker goes on.
 *
 * **Example** (A handler with a requirement)
 *
 * ```ts
 * import * as Job from "@throughline/core/Job"
 * import * as Context from "effect/Context"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * class Mailer extends Context.Service<Mailer, { readonly send: (to: string) => Effect.Effect<void> }>()("Mailer") {}
 *
 * const Welcome = Job.make("welcome", { payload: Schema.Struct({ to: Schema.String }) })
 *
 * export const WelcomeHandler = Job.toLayer(
 *   Welcome,
 *   Effect.fnUntraced(function* ({ to }, context) {
 *     const mailer = yield* Mailer
 *     if (context.isLastAttempt) yield* Effect.logWarning(`the last attempt to welcome ${to}`)
 *     yield* mailer.send(to)
 *   }),
 *   { concurrency: 5 },
 * )
 * ```
 */
export const toLayer = <Name extends string, P, S, E, R>(
  job: Job<Name, P, S, E>,
  handler: (payload: P, context: JobContext) => Effect.Effect<S, E, R>,
  options?: HandlerOptions,
): Layer.Layer<never, EngineFailed, JobPool | Exclude<R, Scope.Scope>> =>
  Layer.effectDiscard(Effect.flatMap(JobPool, (pool) => pool.handle(job, handler, options)))
