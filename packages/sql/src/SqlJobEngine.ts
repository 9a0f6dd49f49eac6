/**
 * The job engine on an `SqlClient`: a job is on disk before `enqueue` returns.
 *
 * Workers claim jobs in batches, under a lease that they renew while the jobs run; a claim has a number, so the late answer of
 * a worker that was taken for dead is refused. Several processes share one database. Writes of the same moment share a
 * transaction.
 *
 * **Outbox.** Within `SqlClient.withTransaction`, `enqueue` is part of that transaction: the job exists if and only if it
 * commits. Waiting for such a job inside the transaction would wait for ever.
 *
 * Order is exact among the workers of one process; several processes take turns, each claiming in order. Times are those of
 * each process's clock: keep the clocks of machines that share a database in step, to well within the lease.
 */
import * as AppendRules from "@throughline/core/AppendRules"
import { InvalidRequest } from "@throughline/core/EventStoreError"
import * as JobEngine from "@throughline/core/JobEngine"
import * as JobError from "@throughline/core/JobError"
import {
  isLive,
  type JobCount,
  type JobId,
  type JobName,
  type JobRecord,
  type NewJob,
} from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as changes from "./internal/changes.ts"
import * as groupCommit from "./internal/groupCommit.ts"
import * as jobRow from "./internal/jobRow.ts"
import * as jobStore from "./internal/jobStore.ts"
import * as jobWaiters from "./internal/jobWaiters.ts"
import * as jobWork from "./internal/jobWork.ts"
import * as settings from "./internal/settings.ts"
import * as SqlDialect from "./SqlDialect.ts"
import * as SqlMigrations from "./SqlMigrations.ts"

export interface Options extends JobEngine.EngineOptions {
  /**
   * How long a claim holds unless it is renewed, which happens three times in that time: 30 s by default, at least 1 s. A
   * worker that is killed gives its jobs back after it.
   */
  readonly lease?: Duration.Input | undefined
  /**
   * The time from one look for what other processes did to the next, 20 ms by default. What this process does is seen at
   * once.
   */
  readonly interval?: Duration.Input | undefined
  /**
   * A number that differs from the one before if anything was committed in between: a look that is cheaper than a query.
   * `SqliteJobEngine` of `@throughline/sqlite` has it.
   */
  readonly version?: Effect.Effect<number, SqlError> | undefined
}

/** Records removed in one transaction when their time is over. */
const sweptAtOnce = 1000

/** How often records that nobody can see any more are looked for, in ms. */
const sweepEvery = { least: 1000, most: 3_600_000 }

/**
 * Brings the database to this version's tables and opens the engine until the scope closes.
 *
 * Fails with `OpenFailed` where that can't be done; the reason says whether trying again can help.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<
  JobEngine.JobEngine["Service"],
  SqlMigrations.OpenFailed,
  SqlClient.SqlClient | SecureRandom.SecureRandom | Scope.Scope
> {
  const dialect = yield* SqlMigrations.migrate
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const random = yield* SecureRandom.SecureRandom
  const bounds = JobRules.boundsOf(options)
  const lease = Math.max(1000, Duration.toMillis(Duration.fromInputUnsafe(options.lease ?? "30 seconds")))
  const interval = Duration.fromInputUnsafe(options.interval ?? "20 millis")

  const store = jobStore.make(sql, dialect, bounds.maxResults)
  const { batch, commit } = yield* groupCommit.make(sql)
  const changed = yield* changes.make({ interval, version: options.version })
  const reasonOf = (error: groupCommit.Below) =>
    error._tag === "SqlError" ? SqlDialect.reasonOf(dialect, error) : error
  let isWorking = false
  /** How many running jobs were asked to be cancelled here. */
  let cancellations = 0

  const generation = yield* AppendRules.makeGeneration(random)
  yield* commit(store.nameLog(generation)).pipe(
    Effect.mapError((error) => new SqlMigrations.OpenFailed({ reason: reasonOf(error) })),
  )

  /** What the database says no to becomes `EngineFailed`. */
  const below =
    (operation: string) =>
    <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, Exclude<E, groupCommit.Below> | JobError.EngineFailed> =>
      Effect.mapError(effect, (error) =>
        isBelow(error)
          ? new JobError.EngineFailed({ operation, reason: reasonOf(error) })
          : // What is left of the union once those below are told.
            (error as Exclude<E, groupCommit.Below>),
      )

  /** One transaction, told to everyone once it is committed. */
  const writing =
    (operation: string) =>
    <A, E>(write: (now: number) => Effect.Effect<A, E>) =>
      below(operation)(
        Effect.tap(commit(Effect.flatMap(Clock.currentTimeMillis, write)), sql.afterCommit(Effect.sync(changed.tell))),
      )

  const reading = <A, E>(operation: string, read: (now: number) => Effect.Effect<A, E>) =>
    below(operation)(settings.reading(Effect.flatMap(Clock.currentTimeMillis, read)))

  const load = (id: JobId, now: number) =>
    Effect.flatMap(store.load(id, now), (stored) =>
      stored === undefined ? Effect.fail(new JobError.JobUnknown({ id })) : Effect.succeed(stored),
    )

  const loadDead = (id: JobId, now: number) =>
    Effect.flatMap(load(id, now), (stored) => {
      const refused = JobRules.checkDead(stored.job)
      return refused === undefined ? Effect.succeed(stored) : Effect.fail(refused)
    })

  const waiters = yield* jobWaiters.make({
    changes: changed,
    pause: Duration.min(interval, Duration.millis(20)),
    /** Of some jobs, those that have settled or are gone. */
    settled: (ids) =>
      reading("await jobs", () =>
        Effect.map(
          sql`SELECT id FROM throughline_jobs
WHERE id IN (${dialect.strings(sql, JSON.stringify(ids))}) AND state IN ('pending', 'running')`.values,
          (rows) => {
            const live = new Set(rows.map(([id]) => String(id)))
            return ids.filter((id) => !live.has(id))
          },
        ),
      ),
  })

  const enqueue: JobEngine.JobEngine["Service"]["enqueue"] = Effect.fnUntraced(function* ({ jobs, maxWaiting }) {
    const refused = JobRules.checkJobs("enqueue", jobs, bounds.maxPayloadBytes)
    if (refused !== undefined) return yield* refused
    const isPending = Option.isSome(yield* Effect.serviceOption(sql.transactionService))
    if (maxWaiting === undefined && !isPending) {
      return yield* below("enqueue")(Effect.tap(acceptTogether(jobs), Effect.sync(changed.tell)))
    }
    return yield* writing("enqueue")((now) =>
      Effect.gen(function* () {
        if (maxWaiting !== undefined) yield* checkRoom(jobs, maxWaiting)
        return yield* store.accept(jobs, now, isPending)
      }),
    )
  })

  const acceptTogether = batch((requests: ReadonlyArray<ReadonlyArray<NewJob>>) =>
    Effect.gen(function* () {
      const answers = yield* store.accept(requests.flat(), yield* Clock.currentTimeMillis, false)
      let from = 0
      return requests.map(({ length }) => answers.slice(from, (from += length)))
    }),
  )

  const checkRoom = Effect.fnUntraced(function* (jobs: JobEngine.EnqueueRequest["jobs"], maxWaiting: number) {
    // Counting no further than the bound costs the same however many wait.
    if ((yield* store.waiting(Math.max(0, maxWaiting - jobs.length + 1))) + jobs.length <= maxWaiting) return
    const added = yield* store.fresh(jobs)
    if (added === 0) return
    const waiting = yield* store.waiting(Number.MAX_SAFE_INTEGER)
    if (waiting + added > maxWaiting) return yield* new JobError.PoolFull({ waiting, maxWaiting })
  })

  const tick: JobEngine.JobEngine["Service"]["tick"] = Effect.fnUntraced(function* ({ at, job, schedule }) {
    const refused = JobRules.checkJobs("tick", [job], bounds.maxPayloadBytes)
    if (refused !== undefined) return yield* refused
    return yield* writing("tick")((now) =>
      Effect.gen(function* () {
        const rows = yield* sql`INSERT INTO throughline_job_schedules (schedule, last_at) VALUES (${schedule}, ${at})
ON CONFLICT (schedule) DO UPDATE SET last_at = excluded.last_at WHERE excluded.last_at > throughline_job_schedules.last_at RETURNING 1`
          .values
        return rows.length === 0 ? Option.none() : Option.fromUndefinedOr((yield* store.accept([job], now, false))[0])
      }),
    )
  })

  const cancel: JobEngine.JobEngine["Service"]["cancel"] = (id) =>
    Effect.map(
      writing("cancel")((now) =>
        Effect.gen(function* () {
          const stored = yield* load(id, now)
          if (!isLive(stored.job.state)) return { did: "settled" as const }
          if (stored.job.state === "running") {
            yield* sql`UPDATE throughline_jobs SET cancel_requested = 1 WHERE job_key = ${stored.key}`
            return { did: "requested" as const }
          }
          const job = JobRules.settled(stored.job, { _tag: "Cancelled" }, now)
          yield* store.move(stored, job)
          yield* store.append([job])
          return { did: "cancelled" as const, job }
        }),
      ),
      (answer) => {
        if (answer.did === "cancelled") waiters.settled([answer.job])
        else if (answer.did === "requested") {
          cancellations += 1
          changed.tell()
        }
        return answer.did
      },
    )

  const retryDead: JobEngine.JobEngine["Service"]["retryDead"] = (id) =>
    writing("retry a dead job")((now) =>
      Effect.gen(function* () {
        const stored = yield* loadDead(id, now)
        const { uniqueKey } = stored.job
        const holder = yield* store.holderOf(stored.job)
        if (holder !== undefined && uniqueKey !== undefined) {
          return yield* new JobError.UniqueKeyTaken({ id, uniqueKey, holder })
        }
        yield* store.move(stored, JobRules.revived(stored.job, now))
      }),
    )

  const removeDead: JobEngine.JobEngine["Service"]["removeDead"] = (id) =>
    writing("remove a dead job")((now) =>
      Effect.flatMap(loadDead(id, now), ({ key }) =>
        Effect.asVoid(sql`DELETE FROM throughline_jobs WHERE job_key = ${key}`),
      ),
    )

  const list: JobEngine.JobEngine["Service"]["list"] = Effect.fnUntraced(function* ({ after, limit, name, state }) {
    const refused = JobRules.checkLimit("list", limit)
    if (refused !== undefined) return yield* refused
    return yield* reading("list jobs", (now) =>
      Effect.gen(function* () {
        const conditions = [sql`(kept_until IS NULL OR kept_until > ${now})`]
        if (after !== undefined) conditions.push(sql`id > ${after}`)
        if (name !== undefined) conditions.push(sql`name = ${name}`)
        if (state === "delayed") conditions.push(sql`state = 'pending' AND ready_at > ${now}`)
        else if (state === "waiting") conditions.push(sql`state = 'pending' AND ready_at <= ${now}`)
        // A literal, so that the database sees that an index of one state serves.
        else if (state !== undefined) conditions.push(sql`state = ${sql.literal(`'${state}'`)}`)
        const rows = yield* sql`SELECT ${sql.literal(jobRow.columns)} FROM throughline_jobs WHERE ${sql.and(conditions)}
ORDER BY id LIMIT ${limit}`.values
        const listed: Array<JobRecord> = []
        for (const row of rows) {
          const decoded = jobRow.decode(row, now)
          // One damaged row must not hide the others; asked for by itself, it is a typed error.
          if (Result.isSuccess(decoded)) listed.push(decoded.success.job)
          else yield* Effect.logWarning(`A job is left out of a list: ${decoded.failure.detail}`)
        }
        return listed
      }),
    )
  })

  const counts: JobEngine.JobEngine["Service"]["counts"] = reading("count jobs", (now) =>
    Effect.map(
      sql`SELECT name, CASE WHEN ready_at > ${now} THEN 'delayed' ELSE 'waiting' END AS state, count(*)
FROM throughline_jobs WHERE state = 'pending' GROUP BY 1, 2
UNION ALL SELECT name, state, count(*) FROM throughline_jobs WHERE state = 'running' GROUP BY 1, 2
UNION ALL SELECT name, state, count(*) FROM throughline_jobs WHERE kept_until > ${now} GROUP BY 1, 2`.values,
      (rows) =>
        rows.map(([name, state, count]): JobCount => ({
          name: name as JobName,
          state: state as JobCount["state"],
          count: Number(count),
        })),
    ),
  )

  const inOneMoment = settings.readingOnce(sql, dialect)

  const results: JobEngine.JobEngine["Service"]["results"] = Effect.fnUntraced(function* ({ after, limit }) {
    const refused = JobRules.checkLimit("results", limit)
    if (refused !== undefined) return yield* refused
    const page = Effect.gen(function* () {
      const log = yield* store.log
      const place = yield* Effect.fromResult(JobRules.resultsPlace(after, log))
      const entries = yield* store.resultsAfter(place, limit)
      return { results: entries, cursor: JobRules.resultsCursor(log, entries.at(-1)?.position ?? place) }
    })
    return yield* below("read results")(inOneMoment(page))
  })

  const awaitResults: JobEngine.JobEngine["Service"]["awaitResults"] = (after) =>
    below("await results")(
      Effect.gen(function* () {
        while (true) {
          const seen = changed.seen()
          const log = yield* settings.reading(store.log)
          if (after !== JobRules.resultsCursor(log, log.last)) return
          yield* changed.after(seen)
        }
      }),
    )

  const sweep = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    let swept = sweptAtOnce
    while (swept === sweptAtOnce) {
      const rows = yield* commit(
        sql`DELETE FROM throughline_jobs WHERE job_key IN (SELECT job_key FROM throughline_jobs WHERE kept_until <= ${now} LIMIT ${sweptAtOnce})
RETURNING 1`.values,
      )
      swept = rows.length
    }
    const rows = yield* settings.reading(
      sql`SELECT min(kept_until) FROM throughline_jobs WHERE kept_until IS NOT NULL`.values,
    )
    const next = rows[0]?.[0]
    return next === null || next === undefined ? sweepEvery.most : Number(next) - now
  }).pipe(
    Effect.catch((error) =>
      Effect.as(Effect.logWarning("Jobs past their time were not removed; trying again later", error), 60_000),
    ),
    Effect.flatMap((wait) => Effect.sleep(Math.min(Math.max(wait, sweepEvery.least), sweepEvery.most))),
  )
  yield* Effect.forkScoped(Effect.forever(sweep))

  return JobEngine.JobEngine.of({
    options: bounds,
    enqueue,
    tick,
    lastTick: (schedule) =>
      reading("read a schedule", () =>
        Effect.map(sql`SELECT last_at FROM throughline_job_schedules WHERE schedule = ${schedule}`.values, (rows) =>
          rows.length === 0 ? Option.none() : Option.some(Number(rows[0]![0])),
        ),
      ),
    get: (id) =>
      reading("get a job", (now) => Effect.map(store.load(id, now), (stored) => Option.fromUndefinedOr(stored?.job))),
    awaitSettled: (id) =>
      below("await a job")(
        waiters.wait(
          id,
          reading("await a job", (now) => Effect.map(load(id, now), ({ job }) => job)),
        ),
      ),
    cancel,
    retryDead,
    removeDead,
    list,
    counts,
    results,
    resultsEnd: reading("read results", () => Effect.map(store.log, (log) => JobRules.resultsCursor(log, log.last))),
    awaitResults,
    work: Effect.fnUntraced(function* (workOptions, worker) {
      if (isWorking) {
        const reason = new InvalidRequest({ detail: "a pool works on this engine already" })
        return yield* new JobError.EngineFailed({ operation: "work", reason })
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          isWorking = true
        }),
        () =>
          Effect.sync(() => {
            isWorking = false
          }),
      )
      const ground: jobWork.Ground = {
        store,
        batch,
        commit,
        changes: changed,
        lease,
        reasonOf,
        cancellations: () => cancellations,
        id: yield* random.uuidV7(),
        settled: (jobs: ReadonlyArray<JobRecord>) => {
          waiters.settled(jobs)
          changed.tell()
        },
      }
      return yield* jobWork.make(ground, workOptions, worker)
    }),
  })
})

const isBelow = (error: unknown): error is groupCommit.Below => {
  const tag = (error as { readonly _tag?: unknown } | null)?._tag
  return tag === "SqlError" || tag === "StoreBroken" || tag === "StoreUnavailable"
}

/** The engine on the database of the `SqlClient`. */
export const layer = (
  options?: Options,
): Layer.Layer<JobEngine.JobEngine, SqlMigrations.OpenFailed, SqlClient.SqlClient | SecureRandom.SecureRandom> =>
  Layer.effect(JobEngine.JobEngine, make(options))
