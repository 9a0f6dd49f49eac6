/** The job engine in the memory of this process. */
import * as Clock from "effect/Clock"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { makeGeneration } from "../AppendRules.ts"
import { InvalidRequest } from "../EventStoreError.ts"
import type { Enqueued, EnqueueError, EngineOptions, JobEngine, ResultsError, ResultsPage } from "../JobEngine.ts"
import * as JobError from "../JobError.ts"
import { isLive, type JobCount, type JobId, type JobRecord, type JobState, type NewJob } from "../JobRecord.ts"
import * as JobRules from "../JobRules.ts"
import { type Entry, MemoryJobs } from "./memoryJobs.ts"
import { MemoryJobWork } from "./memoryJobWork.ts"

export const make = Effect.fnUntraced(function* (
  options: EngineOptions | undefined,
  random: SecureRandom["Service"],
): Effect.fn.Return<JobEngine["Service"]> {
  const bounds = JobRules.boundsOf(options)
  const clock = yield* Clock.Clock
  const jobs = new MemoryJobs(yield* makeGeneration(random), bounds.maxResults)
  const ticks = new Map<string, number>()
  let work: MemoryJobWork | undefined

  /** What is so at this moment: those whose time has come are ready, those kept long enough are gone. */
  const now = (): number => {
    const millis = clock.currentTimeMillisUnsafe()
    jobs.advance(millis)
    return millis
  }

  const found = (id: JobId): Effect.Effect<Entry, JobError.JobUnknown> =>
    Effect.suspend(() => {
      now()
      const entry = jobs.entries.get(id)
      return entry === undefined ? Effect.fail(new JobError.JobUnknown({ id })) : Effect.succeed(entry)
    })

  const accept = (job: NewJob, millis: number): Enqueued => {
    const holder = jobs.entries.has(job.id) ? job.id : jobs.holderOf(job)?.job.id
    if (holder !== undefined) return { id: holder, created: false, pending: false }
    jobs.add(JobRules.accepted(job, millis))
    return { id: job.id, created: true, pending: false }
  }

  /** How many of the jobs would be stored. */
  const fresh = (batch: ReadonlyArray<NewJob>): number => {
    const ids = new Set<string>()
    const keys = new Set<string>()
    for (const job of batch) {
      if (jobs.entries.has(job.id) || jobs.holderOf(job) !== undefined) continue
      const key = job.uniqueKey === undefined ? undefined : `${job.name}\n${job.uniqueKey}`
      if (key !== undefined && keys.has(key)) continue
      if (key !== undefined) keys.add(key)
      ids.add(job.id)
    }
    return ids.size
  }

  const enqueue: JobEngine["Service"]["enqueue"] = ({ jobs: batch, maxWaiting }) =>
    Effect.suspend((): Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError> => {
      const refused = JobRules.checkJobs("enqueue", batch, bounds.maxPayloadBytes)
      if (refused !== undefined) return Effect.fail(refused)
      const millis = now()
      const added = maxWaiting === undefined ? 0 : fresh(batch)
      if (maxWaiting !== undefined && added > 0 && jobs.waiting + added > maxWaiting) {
        return Effect.fail(new JobError.PoolFull({ waiting: jobs.waiting, maxWaiting }))
      }
      const answers = batch.map((job) => accept(job, millis))
      work?.look()
      return Effect.succeed(answers)
    })

  const tick: JobEngine["Service"]["tick"] = ({ at, job, schedule }) =>
    Effect.suspend(() => {
      const refused = JobRules.checkJobs("tick", [job], bounds.maxPayloadBytes)
      if (refused !== undefined) return Effect.fail(refused)
      const last = ticks.get(schedule)
      if (last !== undefined && last >= at) return Effect.succeedNone
      ticks.set(schedule, at)
      const answer = accept(job, now())
      work?.look()
      return Effect.succeedSome(answer)
    })

  const awaitSettled = (id: JobId): Effect.Effect<JobRecord, JobError.JobUnknown> =>
    Effect.flatMap(found(id), (entry) => {
      if (!isLive(entry.job.state)) return Effect.succeed(entry.job)
      return Effect.callback<JobRecord, JobError.JobUnknown>((resume) => {
        // Told as it settles: by the time this fiber goes on, it may have been retried or removed.
        const waiter = (job: JobRecord) => resume(Effect.succeed(job))
        const waiters = (entry.waiters ??= [])
        waiters.push(waiter)
        return Effect.sync(() => {
          const place = waiters.indexOf(waiter)
          if (place >= 0) waiters.splice(place, 1)
        })
      })
    })

  const cancel: JobEngine["Service"]["cancel"] = (id) =>
    Effect.map(found(id), (entry) => {
      if (!isLive(entry.job.state)) return "settled"
      if (entry.job.state === "running") {
        work?.cancel(entry)
        return "requested"
      }
      jobs.move(entry, JobRules.settled(entry.job, { _tag: "Cancelled" }, clock.currentTimeMillisUnsafe()))
      return "cancelled"
    })

  const dead = (id: JobId) =>
    Effect.flatMap(found(id), (entry) => {
      const refused = JobRules.checkDead(entry.job)
      return refused === undefined ? Effect.succeed(entry) : Effect.fail(refused)
    })

  const retryDead: JobEngine["Service"]["retryDead"] = (id) =>
    Effect.flatMap(dead(id), (entry) => {
      const holder = jobs.holderOf(entry.job)?.job.id
      if (holder !== undefined) {
        return Effect.fail(new JobError.UniqueKeyTaken({ id, uniqueKey: entry.job.uniqueKey!, holder }))
      }
      jobs.move(entry, JobRules.revived(entry.job, clock.currentTimeMillisUnsafe()))
      work?.look()
      return Effect.void
    })

  const list: JobEngine["Service"]["list"] = ({ after, limit, name, state }) =>
    Effect.suspend(() => {
      const refused = JobRules.checkLimit("list", limit)
      if (refused !== undefined) return Effect.fail(refused)
      now()
      const listed: Array<JobRecord> = []
      for (const { job } of jobs.entries.values()) {
        if (state !== undefined && job.state !== state) continue
        if (name !== undefined && job.name !== name) continue
        if (after === undefined || job.id > after) listed.push(job)
      }
      return Effect.succeed(listed.toSorted((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit))
    })

  const counts: JobEngine["Service"]["counts"] = Effect.sync(() => {
    now()
    const counted: Array<JobCount> = []
    for (const named of jobs.names.values()) {
      for (const [state, count] of Object.entries(named.counts) as Array<[JobState, number]>) {
        if (count > 0) counted.push({ name: named.name, state, count })
      }
    }
    return counted
  })

  const results: JobEngine["Service"]["results"] = ({ after, limit }) =>
    Effect.suspend((): Effect.Effect<ResultsPage, ResultsError> => {
      const refused = JobRules.checkLimit("results", limit)
      if (refused !== undefined) return Effect.fail(refused)
      const { log } = jobs
      return Effect.map(Effect.fromResult(JobRules.resultsPlace(after, log)), (place) => {
        const page = jobs.resultsAfter(place, limit)
        return { results: page, cursor: JobRules.resultsCursor(log, page.at(-1)?.position ?? place) }
      })
    })

  const begin: JobEngine["Service"]["work"] = Effect.fnUntraced(function* (workOptions, worker) {
    if (work !== undefined) {
      const reason = new InvalidRequest({ detail: "a pool works on this engine already" })
      return yield* new JobError.EngineFailed({ operation: "work", reason })
    }
    const context = yield* Effect.context()
    const working = new MemoryJobWork(jobs, clock, context, workOptions, worker)
    work = working
    yield* Effect.addFinalizer(() =>
      Effect.andThen(working.shut(), () => {
        work = undefined
        return Effect.void
      }),
    )
    return {
      handle: Effect.fnUntraced(function* (name, { concurrency = Number.POSITIVE_INFINITY }) {
        if (working.handles(name)) {
          const reason = new InvalidRequest({ detail: `the name ${name} is handled already` })
          return yield* new JobError.EngineFailed({ operation: "handle", reason })
        }
        const handled = yield* Effect.acquireRelease(
          Effect.sync(() => working.handle(name, concurrency)),
          (acquired) => working.close(acquired),
        )
        return {
          stop: Effect.sync(() => {
            handled.stopped = true
          }),
        }
      }),
      pause: Effect.sync(() => working.pause()),
      resume: Effect.sync(() => working.resume()),
    }
  })

  return {
    options: bounds,
    enqueue,
    tick,
    lastTick: (schedule) => Effect.sync(() => Option.fromUndefinedOr(ticks.get(schedule))),
    get: (id) =>
      Effect.sync(() => {
        now()
        return Option.fromUndefinedOr(jobs.entries.get(id)?.job)
      }),
    awaitSettled,
    cancel,
    retryDead,
    removeDead: (id) => Effect.map(dead(id), (entry) => jobs.remove(entry)),
    list,
    counts,
    results,
    resultsEnd: Effect.sync(() => JobRules.resultsCursor(jobs.log, jobs.log.last)),
    awaitResults: (after) =>
      Effect.suspend(() => {
        const { log } = jobs
        const { version } = jobs.resulted
        // A cursor that is no good is told by `results`, so waiting on one returns.
        const atEnd = after === JobRules.resultsCursor(log, log.last)
        return atEnd ? jobs.resulted.changed(version) : Effect.void
      }),
    work: begin,
  }
})
