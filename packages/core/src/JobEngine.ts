/**
 * The port under the job pool: where jobs are kept, in what order they are claimed, and what survives.
 *
 * ```text
 * JobPool (schemas, schedules, events) ──▶ JobEngine ◀── memory | SQL | BullMQ
 *        worker.run(claim) ◀── work: the engine's own way of finding jobs
 *        worker.settled(…) ◀── what the engine stored of the outcome
 * ```
 *
 * The port is untyped on purpose: an engine stores {@link NewJob}s, whose payload is JSON text, and never sees a schema, a
 * `Schedule` or a handler. What to do about a failure (retry when, or give up) the pool decides and says in an
 * {@link Outcome}; that the decision is stored whole, once, and only by the worker that holds the claim, is the engine's.
 * Rules that are the same everywhere are pure functions in `JobRules`.
 *
 * An engine finds work in its own way (a heap, a poll, a worker of another library), so it isn't asked for jobs: it is
 * given a {@link Worker} and runs it.
 *
 * Order: of the ready jobs whose name is handled and has a free slot, a higher priority first, then the one that became
 * ready first (`readyAt`), then the one accepted first. A job that is delayed, whose name nobody handles or is at its bound,
 * holds up no other. Where an engine can do less (one queue per name, say), its own docs say what.
 */
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { InvalidCursor } from "./Cursor.ts"
import * as memoryJobEngine from "./internal/memoryJobEngine.ts"
import type * as JobError from "./JobError.ts"
import type {
  JobCount,
  JobFailure,
  JobId,
  JobJson,
  JobName,
  JobRecord,
  JobResult,
  JobState,
  NewJob,
} from "./JobRecord.ts"

export interface EnqueueRequest {
  /**
   * At least one. They are accepted together or not at all, in this order.
   *
   * A job whose id is kept already is not stored again: giving the same batch again after an unknown outcome is safe.
   */
  readonly jobs: ReadonlyArray<NewJob>
  /**
   * Refuse the batch with `PoolFull` if more than this many jobs, of all names, would then be waiting or delayed. Checked in
   * the same step as the write. Retries, jobs given back and ticks are never refused.
   */
  readonly maxWaiting?: number | undefined
}

/** What became of one job of a batch. */
export interface Enqueued {
  /** The job that will run: the one given, or the live one of its name that holds its unique key. */
  readonly id: JobId
  /** Whether the job was stored by this call; false where its id was kept already or its unique key is taken. */
  readonly created: boolean
  /**
   * The job is part of a transaction of the caller that is not committed yet: it exists if and only if that commits.
   */
  readonly pending: boolean
}

/** A recurring job at one of its times. */
export interface TickRequest {
  /** The schedule's name, the same in every process: 1 to 256 characters. */
  readonly schedule: string
  /** The time it fires for, in ms since 1970. */
  readonly at: number
  readonly job: NewJob
}

export type EnqueueError = JobError.EngineFailed | JobError.PoolFull | JobError.PayloadTooLarge

/** What `cancel` did. */
export type Cancelled =
  /** It was not running: it is `cancelled` now. */
  | "cancelled"
  /** It is running: its worker, in whatever process, is told and interrupts it. */
  | "requested"
  /** It had settled before; nothing changed. */
  | "settled"

export interface ListRequest {
  readonly state?: JobState | undefined
  readonly name?: JobName | undefined
  /** Jobs at most, from 1 to 1,000. */
  readonly limit: number
  /** Continue after this job: the last one of the page before. */
  readonly after?: JobId | undefined
}

export interface ResultsRequest {
  /** Everything after this cursor; everything that is kept where absent. */
  readonly after?: string | undefined
  /** Entries at most, from 1 to 1,000. */
  readonly limit: number
}

/** A page of the results log. */
export interface ResultsPage {
  /** In order of position, none left out; empty at the log's end. */
  readonly results: ReadonlyArray<JobResult>
  /** The cursor after the page. At the log's end it is where waiting goes on. */
  readonly cursor: string
}

export type ResultsError = JobError.EngineFailed | JobError.HistoryTruncated | InvalidCursor

/** What the worker says became of a run of a job. */
export type Outcome =
  | { readonly _tag: "Succeeded"; readonly result: JobJson }
  /** The attempt failed; the job is ready again at `at` (ms since 1970; at once if past). Adds the failure to the record. */
  | { readonly _tag: "Retry"; readonly failure: JobFailure; readonly at: number }
  /** It is given up. Adds the failure to the record. */
  | { readonly _tag: "Dead"; readonly failure: JobFailure }
  /** It did not run to an end, through no fault of its own: ready again at once, in the place it had, nothing charged. */
  | { readonly _tag: "GivenBack" }

/** What the engine stored of a claim. */
export type Settlement =
  | Outcome
  /** It was cancelled while it ran. */
  | { readonly _tag: "Cancelled" }
  /** Nothing: the claim was lost (its lease ran out, its job was removed), and the late answer was refused. */
  | { readonly _tag: "Lost" }

/** A job that was handed to a worker. */
export interface Claim {
  /** The job as it is now: `running`, with the failures of the attempts before. */
  readonly job: JobRecord
  /**
   * Stores the handler's progress in the record: the last one wins, nothing is promised after the run. Never fails the job.
   */
  readonly progress: (value: JobJson) => Effect.Effect<void, JobError.EngineFailed>
}

/** What the pool gives an engine: how to run a job, and what to tell of it. */
export interface Worker {
  /**
   * Runs one claimed job. Never fails. The engine runs it in a fiber of its own and interrupts that when the job is to
   * stop: it was cancelled, its claim was lost, its name is no longer handled, or the scope closes. It then ends as soon as
   * the handler's finalizers have run, and the engine settles the claim itself: as `Cancelled`, `Lost`, or `GivenBack`.
   *
   * An outcome that comes all the same stands, but for a cancelled job that did not succeed: it is `Cancelled`.
   */
  readonly run: (claim: Claim) => Effect.Effect<Outcome>
  /**
   * Called once per claim, after the outcome is stored (or refused), and for a job that the engine of this process moved to
   * the dead letters for its crashes (`Dead` with `WorkerCrashed`). `job` is the record as it was stored, or as it was
   * claimed where that isn't known. Never fails; the claim's slot is free when it ends. Not interrupted by the engine.
   */
  readonly settled: (job: JobRecord, settlement: Settlement) => Effect.Effect<void>
}

export interface WorkOptions {
  /** Jobs run at once by this process, of all names, from 1. */
  readonly concurrency: number
  /**
   * A job whose worker crashed this many times is dead with `WorkerCrashed`, from 1. The crash is no attempt: fewer times
   * it is ready again, in the place it had.
   */
  readonly maxCrashes: number
}

/** A name that is being worked on. */
export interface WorkedName {
  /** Claims no more of it, for good. Returns once no further job of it can start; running ones go on. */
  readonly stop: Effect.Effect<void>
}

/** The engine at work in this process. */
export interface Working {
  /**
   * Claims jobs of a name until the scope closes, `concurrency` of them at once (no bound of its own where absent). Closing
   * the scope interrupts those that run and gives them back uncharged; it returns once that is stored, or can't be. A name
   * is handled once at a time in a process.
   */
  readonly handle: (
    name: JobName,
    options: { readonly concurrency?: number | undefined },
  ) => Effect.Effect<WorkedName, JobError.EngineFailed, Scope.Scope>
  /** Claims nothing more in this process until `resume`; running jobs go on, enqueueing too. Returns once it holds. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

/** What a batch and a job may hold, and how long results are kept; every engine takes these. */
export interface EngineOptions {
  /** UTF-8 bytes of a payload's, a result's or a progress's JSON; 1 MiB by default. */
  readonly maxPayloadBytes?: number | undefined
  /** Results kept in the log; older ones are trimmed. 100,000 by default. */
  readonly maxResults?: number | undefined
}

/**
 * Keeps jobs and runs them.
 *
 * At least once: a job that `enqueue` acknowledged runs until it succeeds, is cancelled, or is in the dead letters. What a
 * crash of the process, or of the machine, leaves of it the engine's own docs say.
 */
export class JobEngine extends Context.Service<
  JobEngine,
  {
    /** The bounds the engine holds to, defaults filled in. */
    readonly options: Required<{ readonly [K in keyof EngineOptions]: number }>

    /**
     * Accepts jobs whole or not at all; gives one answer per job, in order. Durable, as far as the engine is, before it
     * returns. Where the engine says so, it joins the transaction that the calling fiber is in.
     *
     * A job whose unique key a live job of the same name holds (one earlier in the batch too) is not stored: its answer
     * names that one.
     */
    readonly enqueue: (request: EnqueueRequest) => Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError>

    /**
     * Enqueues a job for one time of a schedule, if nobody has for that time or a later one: of many processes that fire
     * one schedule, one gets the job in. Remembering the last time is no part of any job's retention.
     */
    readonly tick: (
      request: TickRequest,
    ) => Effect.Effect<Option.Option<Enqueued>, JobError.EngineFailed | JobError.PayloadTooLarge>

    /** The last time that a schedule was fired for, in ms since 1970. */
    readonly lastTick: (schedule: string) => Effect.Effect<Option.Option<number>, JobError.EngineFailed>

    /** The record, while it is kept. */
    readonly get: (id: JobId) => Effect.Effect<Option.Option<JobRecord>, JobError.EngineFailed>

    /**
     * Waits until the job has settled, at once where it has, whichever process settles it. A job that isn't kept, or is
     * removed while waiting, is `JobUnknown`, so this never hangs on nothing.
     */
    readonly awaitSettled: (id: JobId) => Effect.Effect<JobRecord, JobError.EngineFailed | JobError.JobUnknown>

    readonly cancel: (id: JobId) => Effect.Effect<Cancelled, JobError.EngineFailed | JobError.JobUnknown>

    /**
     * Makes a dead job ready again, at once, as if it were new: no failures, no crashes, the enqueueing time it had. The dead
     * letter is gone; its entry in the results log stays.
     */
    readonly retryDead: (
      id: JobId,
    ) => Effect.Effect<
      void,
      JobError.EngineFailed | JobError.JobUnknown | JobError.JobNotDead | JobError.UniqueKeyTaken
    >

    /** Forgets a dead job. */
    readonly removeDead: (
      id: JobId,
    ) => Effect.Effect<void, JobError.EngineFailed | JobError.JobUnknown | JobError.JobNotDead>

    /** Records in the order of their ids, which is that of enqueueing, but for those of the same millisecond. */
    readonly list: (request: ListRequest) => Effect.Effect<ReadonlyArray<JobRecord>, JobError.EngineFailed>

    /** How many jobs are kept, by name and state; names nobody handles included. A view of one moment. */
    readonly counts: Effect.Effect<ReadonlyArray<JobCount>, JobError.EngineFailed>

    /**
     * A page of the results log. It has one entry per settling, written in the same step, so a slow reader loses none.
     * `HistoryTruncated` where entries after the cursor were trimmed; a cursor of another store, or beyond the log's end, is
     * `InvalidCursor`. Without a cursor it begins with the oldest entry left. The log is trimmed by `maxResults` alone: a
     * record that is gone, or a dead letter that was removed, leaves its entries behind.
     */
    readonly results: (request: ResultsRequest) => Effect.Effect<ResultsPage, ResultsError>

    /** The cursor at the log's end: what settles from now on comes after it. */
    readonly resultsEnd: Effect.Effect<string, JobError.EngineFailed>

    /** Waits until the log may have entries after the cursor; may return early. */
    readonly awaitResults: (after: string) => Effect.Effect<void, JobError.EngineFailed>

    /**
     * Begins to work in this process, until the scope closes. Nothing is claimed before a name is handled. Once per
     * engine and process.
     *
     * The engine keeps at it: a store that is away is tried again for as long as the scope is open, an outcome that can't be
     * stored is tried for as long as its claim holds. Jobs claimed by a worker that is gone are claimed again when its lease
     * has run out.
     */
    readonly work: (options: WorkOptions, worker: Worker) => Effect.Effect<Working, JobError.EngineFailed, Scope.Scope>
  }
>()("@throughline/core/JobEngine") {}

/**
 * Jobs in the memory of this process; nothing survives it. The clock is Effect's `Clock`.
 *
 * The order of running is exact. Of the jobs that succeeded or were cancelled the newest `maxResults` are kept at most,
 * however long they would be.
 */
export const layerMemory = (options?: EngineOptions): Layer.Layer<JobEngine, never, SecureRandom> =>
  Layer.effect(
    JobEngine,
    Effect.flatMap(SecureRandom, (random) => memoryJobEngine.make(options, random)),
  )
