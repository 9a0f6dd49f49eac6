/**
 * Durable background work: jobs are enqueued by their declaration, kept by an engine, and run by handlers that are layers.
 *
 * An accepted job runs at least once, to success, cancellation or the dead letters, as far as the engine is durable. At least
 * once means that a handler may see a job again (its process died, its lease ran out): it must be able to repeat its
 * work.
 *
 * **Example** (A declaration, its handler, and a program that enqueues)
 *
 * ```ts
 * import * as Job from "@throughline/core/Job"
 * import * as JobPool from "@throughline/core/JobPool"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as Schema from "effect/Schema"
 *
 * const Greet = Job.make("greet", {
 *   payload: Schema.Struct({ who: Schema.String }),
 *   success: Schema.String,
 * })
 *
 * const GreetHandler = Job.toLayer(Greet, ({ who }) => Effect.succeed(`Hello, ${who}`))
 *
 * export const program = Effect.gen(function* () {
 *   const pool = yield* JobPool.JobPool
 *   const { id } = yield* pool.enqueue(Greet, { who: "world" })
 *   return yield* pool.awaitResult(Greet, id)
 * }).pipe(
 *   Effect.provide(
 *     GreetHandler.pipe(
 *       Layer.provideMerge(JobPool.layerMemory()),
 *       Layer.provide(Throughline.layerCrypto),
 *     ),
 *   ),
 * )
 * ```
 */
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import type * as Cron from "effect/Cron"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { RunId, SessionId } from "./Envelope.ts"
import * as jobPool from "./internal/jobPool.ts"
import * as jobReporter from "./internal/jobReporter.ts"
import type { Any, Job, JobContext } from "./Job.ts"
import {
  type Cancelled,
  type Enqueued,
  type EngineOptions,
  JobEngine,
  layerMemory as engineMemory,
  type ListRequest,
  type ResultsError,
} from "./JobEngine.ts"
import type * as JobError from "./JobError.ts"
import type { JobCount, JobId, JobPriority, JobRecord, JobResult } from "./JobRecord.ts"

export interface EnqueueOptions {
  /** Not before this time; ready at once where it is past. With `delay` too, the later of both counts. */
  readonly runAfter?: DateTime.DateTime.Input | undefined
  /** Not before this much time has passed. */
  readonly delay?: Duration.Input | undefined
  /** The declaration's by default. */
  readonly priority?: JobPriority | undefined
  /** The declaration's by default. */
  readonly maxAttempts?: number | undefined
  /**
   * 1 to 256 characters. While a job of this name with this key is live, enqueueing another gives that one's id and stores
   * nothing.
   */
  readonly uniqueKey?: string | undefined
  /**
   * A run that the job's lifecycle events are appended to, under `JobEvents.vocabulary`, so that it can be followed like any
   * run. Needs an `EventStore` and a `StreamAdapter` in every process of the pool; in one without them nothing is
   * appended.
   */
  readonly report?:
    | {
        readonly runId: RunId
        readonly sessionId?: SessionId | undefined
        /** Whether the job's end ends the run; true by default. A run of several jobs is ended by its owner. */
        readonly endsRun?: boolean | undefined
      }
    | undefined
  /**
   * What to do at the pool's `maxWaiting`; the pool's own answer by default. Never `"wait"` inside an SQL transaction of the caller;
   * see {@link JobPoolOptions}.
   */
  readonly whenFull?: "fail" | "wait" | undefined
}

/** One job of a batch; see `request`. */
export interface JobRequest {
  readonly job: Any
  readonly payload: unknown
  readonly options: EnqueueOptions
}

/** A job with its payload, for `enqueueAll`. */
export const request = <Name extends string, P, S, E>(
  job: Job<Name, P, S, E>,
  payload: P,
  options: Omit<EnqueueOptions, "whenFull"> = {},
): JobRequest => ({ job, payload, options })

/** Why nothing was enqueued. A retry that `EngineFailed` allows may enqueue twice; give a `uniqueKey` where that matters. */
export type EnqueueError =
  | JobError.EngineFailed
  | JobError.PoolFull
  | JobError.PayloadInvalid
  | JobError.PayloadTooLarge

/** Why there is no result. */
export type AwaitError =
  | JobError.EngineFailed
  | JobError.JobUnknown
  | JobError.JobDied
  | JobError.JobWasCancelled
  | JobError.ResultUnreadable

/** A recurring job. */
export interface RecurringOptions<in out P, in out S, in out E> {
  readonly job: Job<string, P, S, E>
  /** When it fires, in its own time zone (`Cron.parse(expression, zone)`). */
  readonly cron: Cron.Cron
  /** What each job is given; a function is told the time that it fires for. */
  readonly payload: P | ((at: DateTime.Utc) => P)
  /**
   * Whether to fire once, at start, for the newest time that no process fired for, provided that the schedule had fired before;
   * false by default: times that nobody was there for are left out.
   */
  readonly catchUp?: boolean | undefined
  readonly options?: Pick<EnqueueOptions, "priority" | "maxAttempts"> | undefined
}

export interface HandlerOptions {
  /** Jobs of this name run at once by this process; the pool's `concurrency` by default. */
  readonly concurrency?: number | undefined
}

/** What a shutdown left. */
export interface Stopped {
  /** Jobs that were interrupted when the grace time was over, and given back uncharged. */
  readonly givenBack: number
}

/** A result with the cursor after it. */
export interface Completed extends JobResult {
  readonly cursor: string
}

/** Enqueues jobs, runs them, and tells what became of them. */
export class JobPool extends Context.Service<
  JobPool,
  {
    /** Accepts a job. Durable, as far as the engine is, before it returns. */
    readonly enqueue: <Name extends string, P, S, E>(
      job: Job<Name, P, S, E>,
      payload: P,
      options?: EnqueueOptions,
    ) => Effect.Effect<Enqueued, EnqueueError>

    /** Accepts jobs together or not at all; gives one answer for each, in order. None at all is no error. */
    readonly enqueueAll: (
      requests: ReadonlyArray<JobRequest>,
      options?: Pick<EnqueueOptions, "whenFull">,
    ) => Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError>

    /**
     * Runs jobs of a name in this process until the scope closes; then it takes no more, waits for the running ones as long as
     * the pool's `grace`, and gives the rest back uncharged. `Job.toLayer` is this as a layer.
     *
     * A name is handled once at a time in a process (`EngineFailed` with `InvalidRequest`).
     */
    readonly handle: <Name extends string, P, S, E, R>(
      job: Job<Name, P, S, E>,
      handler: (payload: P, context: JobContext) => Effect.Effect<S, E, R>,
      options?: HandlerOptions,
    ) => Effect.Effect<void, JobError.EngineFailed, R | Scope.Scope>

    /** The record, while it is kept. */
    readonly get: (id: JobId) => Effect.Effect<Option.Option<JobRecord>, JobError.EngineFailed>

    /**
     * Waits for the job's success, or fails with its own error or with why there is none. It never hangs on a job that is
     * gone: that is `JobUnknown`. `JobDied`: for any cause but the job's own error.
     */
    readonly awaitResult: <Name extends string, P, S, E>(
      job: Job<Name, P, S, E>,
      id: JobId,
    ) => Effect.Effect<S, E | AwaitError>

    /**
     * Cancels a job: at once where it isn't running, otherwise (`"requested"`) its handler is interrupted, in whatever process.
     * A job that succeeds before the cancellation reaches it has succeeded.
     */
    readonly cancel: (id: JobId) => Effect.Effect<Cancelled, JobError.EngineFailed | JobError.JobUnknown>

    /** Jobs that are live: delayed, waiting or running, of all names. */
    readonly size: Effect.Effect<number, JobError.EngineFailed>

    /** How many jobs are kept, by name and state; names nobody handles included. */
    readonly counts: Effect.Effect<ReadonlyArray<JobCount>, JobError.EngineFailed>

    /** A page of records in the order of their ids; the next page is after the last id. */
    readonly list: (request: ListRequest) => Effect.Effect<ReadonlyArray<JobRecord>, JobError.EngineFailed>

    /** A page of dead letters, as `list` gives them; the last of a record's `failures` says why. */
    readonly deadLetters: (
      request: Omit<ListRequest, "state">,
    ) => Effect.Effect<ReadonlyArray<JobRecord>, JobError.EngineFailed>

    /** Makes a dead job ready again as if it were new. */
    readonly retryDead: JobEngine["Service"]["retryDead"]

    /** Forgets a dead job. */
    readonly removeDead: JobEngine["Service"]["removeDead"]

    /**
     * Every job that settles after the cursor, each once, in order, for ever: from a stored log, so a slow reader loses none.
     * Without a cursor it begins with what settles from now on; with `"oldest"` at the oldest result left. Fails
     * `HistoryTruncated` where results after the cursor are no longer kept.
     */
    readonly completed: (options?: { readonly after?: string | undefined }) => Stream.Stream<Completed, ResultsError>

    /**
     * Enqueues a job at each time of a `Cron`, until the scope closes. `key` names the schedule in all processes (1 to 256
     * characters): of those that run it, one enqueues for each time. An engine that is away is tried again; a time that has
     * passed meanwhile is made up for once. A key of another length, or a `Cron` that never comes (30 February), enqueues
     * nothing: an error in the log says so, and nothing fails.
     */
    readonly recurring: <P, S, E>(
      key: string,
      options: RecurringOptions<P, S, E>,
    ) => Effect.Effect<void, never, Scope.Scope>

    /** Takes no more jobs in this process until `resume`; running ones go on, enqueueing too. */
    readonly pause: Effect.Effect<void>
    readonly resume: Effect.Effect<void>

    /**
     * Waits until no job of a name that this process handles is waiting or running; with `delayed: true` until none is delayed
     * either.
     */
    readonly drain: (options?: { readonly delayed?: boolean | undefined }) => Effect.Effect<void, JobError.EngineFailed>

    /**
     * Stops handling: takes no more jobs, lets those that run end within the grace time (the pool's by default), interrupts the
     * rest and gives them back uncharged. Enqueueing and asking go on. Final for the handlers that there are: a shutdown that is
     * interrupted goes on, and who stops them a second time (the end of their layer too) waits for the first, as long as its
     * grace time.
     */
    readonly shutdown: (grace?: Duration.Input) => Effect.Effect<Stopped>
  }
>()("@throughline/core/JobPool") {}

/** How a pool works; each has a default. */
export interface JobPoolOptions {
  /** Jobs run at once by this process, from 1; 10 by default. */
  readonly concurrency?: number | undefined
  /** Jobs that may be waiting or delayed in the engine, of all names; no bound by default. */
  readonly maxWaiting?: number | undefined
  /**
   * What enqueueing does at that bound: fail with `PoolFull` (the default), or wait for room. A batch that could never fit
   * fails either way.
   *
   * Waiting inside an SQL transaction that the enqueueing joins never ends: the transaction holds the store's write lock, so no
   * worker can make room. Give `whenFull: "fail"` there, and wait (or try again) around the transaction.
   */
  readonly whenFull?: "fail" | "wait" | undefined
  /** A job whose worker crashed this often is dead with `WorkerCrashed`; 10 by default. A crash is no attempt. */
  readonly maxCrashes?: number | undefined
  /** How long `shutdown`, or the end of a handler's scope, waits for running jobs; 5 s by default. */
  readonly grace?: Duration.Input | undefined
  /**
   * How long a handler that was interrupted may take to end; 5 s by default. One that takes longer is left alone with an
   * error in the log, so that its worker goes on.
   */
  readonly abandonAfter?: Duration.Input | undefined
  /** Whether lifecycle events are published to the program's `EventBus`, where there is one; true by default. */
  readonly publishEvents?: boolean | undefined
}

/**
 * Makes a pool over the engine of the program.
 *
 * Where there is an `EventBus`, it publishes `JobEvents` to it; where there are an `EventStore` and a `StreamAdapter`, it appends
 * them to the runs that jobs report under.
 */
export const make = Effect.fnUntraced(function* (
  options: JobPoolOptions = {},
): Effect.fn.Return<JobPool["Service"], never, JobEngine | SecureRandom | Scope.Scope> {
  const random = yield* SecureRandom
  const engine = yield* JobEngine
  return yield* jobPool.make({
    engine,
    random,
    reporter: yield* jobReporter.make({ random, publish: options.publishEvents ?? true }),
    concurrency: Math.max(1, Math.floor(options.concurrency ?? 10)),
    maxWaiting: options.maxWaiting,
    whenFull: options.whenFull ?? "fail",
    maxCrashes: Math.max(1, Math.floor(options.maxCrashes ?? 10)),
    grace: Duration.fromInputUnsafe(options.grace ?? "5 seconds"),
    abandonAfter: Duration.toMillis(Duration.fromInputUnsafe(options.abandonAfter ?? "5 seconds")),
  })
})

/** The pool over the engine of the program. */
export const layer = (options?: JobPoolOptions): Layer.Layer<JobPool, never, JobEngine | SecureRandom> =>
  Layer.effect(JobPool, make(options))

/** A pool and its engine in the memory of this process; nothing survives it. */
export const layerMemory = (
  options?: JobPoolOptions & EngineOptions,
): Layer.Layer<JobPool | JobEngine, never, SecureRandom> => Layer.provideMerge(layer(options), engineMemory(options))
