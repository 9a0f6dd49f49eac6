/** The body of the pool: handlers over an engine that knows neither schemas nor schedules. */
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Context from "effect/Context"
import * as Tracer from "effect/Tracer"
import { InvalidRequest } from "../EventStoreError.ts"
import type { Claim, JobEngine, Outcome, Settlement, Worker, Working } from "../JobEngine.ts"
import * as JobError from "../JobError.ts"
import type { JobPool, Stopped } from "../JobPool.ts"
import { attemptOf, isLive, type JobId, type JobName, type JobRecord } from "../JobRecord.ts"
import * as jobEnqueue from "./jobEnqueue.ts"
import * as jobHandler from "./jobHandler.ts"
import * as jobLifecycle from "./jobLifecycle.ts"
import * as jobRecurring from "./jobRecurring.ts"
import type { Reporter } from "./jobReporter.ts"
import * as jobResults from "./jobResults.ts"
import { Signal } from "./signal.ts"

export interface Config {
  readonly engine: JobEngine["Service"]
  readonly random: SecureRandom["Service"]
  readonly reporter: Reporter
  readonly concurrency: number
  readonly maxWaiting: number | undefined
  readonly whenFull: "fail" | "wait"
  readonly maxCrashes: number
  readonly grace: Duration.Duration
  /** In ms. */
  readonly abandonAfter: number
}

/** A name that is handled here. */
interface Handled {
  readonly run: (claim: Claim) => Effect.Effect<Outcome>
  /** The jobs that run, and how often: a lost claim may end after the same job was claimed anew. */
  readonly running: Map<JobId, number>
  /** How many were given back. */
  givenBack: number
  /** Takes no more, waits for what runs, gives the rest back. */
  retire: (grace: Duration.Duration) => Effect.Effect<void>
}

/** How often the engine is asked about what other processes may have done, in ms. */
const lookAgain = 100

export const make = Effect.fnUntraced(function* (
  config: Config,
): Effect.fn.Return<JobPool["Service"], never, Scope.Scope> {
  const { engine, reporter } = config
  const poolScope = yield* Effect.scope
  const handlers = new Map<JobName, Handled>()
  /** The attempts that run; the record that is stored of an attempt no longer tells which it was. */
  const attempts = new Map<JobId, number>()
  /** Changes when a job starts or settles here. */
  const moved = new Signal()
  const starting = yield* Semaphore.make(1)
  let working: Working | undefined
  let paused = false

  const worker: Worker = {
    run: (claim) => {
      const handled = handlers.get(claim.job.name)
      // The engine is told before a handler goes.
      if (handled === undefined) return Effect.succeed({ _tag: "GivenBack" })
      const { id } = claim.job
      handled.running.set(id, (handled.running.get(id) ?? 0) + 1)
      moved.notify()
      if (!reporter.hears(claim.job)) return handled.run(claim)
      attempts.set(claim.job.id, attemptOf(claim.job))
      return Effect.andThen(reporter.tell(claim.job, [jobLifecycle.started(claim.job)]), handled.run(claim))
    },
    settled: (job, settlement) => settled(job, settlement),
  }

  const settled = (job: JobRecord, settlement: Settlement): Effect.Effect<void> => {
    const handled = handlers.get(job.name)
    if (handled !== undefined) {
      // A job that died of its crashes may never have run here.
      const runs = handled.running.get(job.id) ?? 0
      if (runs > 1) handled.running.set(job.id, runs - 1)
      else handled.running.delete(job.id)
      if (settlement._tag === "GivenBack") handled.givenBack++
    }
    moved.notify()
    if (!reporter.hears(job)) return Effect.void
    const attempt = attempts.get(job.id) ?? attemptOf(job)
    attempts.delete(job.id)
    const events = jobLifecycle.settled(job, attempt, settlement)
    return events.length === 0 ? Effect.void : reporter.tell(job, events)
  }

  /** Sets the engine to work, once; a failure leaves the next to try. */
  const start: Effect.Effect<Working, JobError.EngineFailed> = starting.withPermits(1)(
    Effect.suspend(() => {
      if (working !== undefined) return Effect.succeed(working)
      const { concurrency, maxCrashes } = config
      return engine.work({ concurrency, maxCrashes }, worker).pipe(
        Scope.provide(poolScope),
        Effect.tap((begun) => {
          working = begun
          // Added after the engine's own, so that it comes before it: handlers end in their grace time, if nobody ended them yet.
          const ending = Scope.addFinalizer(poolScope, Effect.asVoid(Effect.suspend(() => shutdown())))
          return Effect.andThen(ending, paused ? begun.pause : Effect.void)
        }),
      )
    }),
  )

  const retire = (name: JobName, handled: Handled, stop: Effect.Effect<void>, scope: Scope.Closeable) => {
    const idle: Effect.Effect<void> = Effect.suspend(() => {
      const { version } = moved
      return handled.running.size === 0 ? Effect.void : Effect.andThen(moved.changed(version), idle)
    })
    // A handler that can't be interrupted is waited for in a fiber apart, so that it doesn't keep who shuts down.
    const giveBack = Effect.flatMap(Effect.forkDetach(Scope.close(scope, Exit.void)), (closing) =>
      Effect.flatMap(Effect.timeoutOption(Fiber.await(closing), config.abandonAfter), (closed) =>
        Option.isSome(closed) ? Effect.void : Effect.logError("handlers that can't be interrupted were left running"),
      ),
    )
    let retired: Deferred.Deferred<void> | undefined
    return (grace: Duration.Duration): Effect.Effect<void> =>
      Effect.uninterruptibleMask((restore) => {
        if (retired !== undefined) return restore(Deferred.await(retired))
        const done = (retired = Deferred.makeUnsafe<void>())
        const retiring = stop.pipe(
          Effect.andThen(Effect.timeoutOption(idle, grace)),
          Effect.andThen(giveBack),
          Effect.ensuring(
            Effect.suspend(() => {
              // From here on the name may be handled anew.
              handlers.delete(name)
              return Deferred.succeed(done, undefined)
            }),
          ),
        )
        // In a fiber apart: a caller that no longer waits must not leave jobs running beyond what their handler needs.
        return Effect.andThen(Effect.forkDetach(retiring), restore(Deferred.await(done)))
      })
  }

  const handle: JobPool["Service"]["handle"] = Effect.fnUntraced(function* (job, handler, options = {}) {
    const { name } = job
    if (handlers.has(name)) {
      const reason = new InvalidRequest({ detail: `the name ${name} is handled already` })
      return yield* new JobError.EngineFailed({ operation: "handle", reason })
    }
    const context = yield* Effect.context<Effect.Services<ReturnType<typeof handler>>>()
    const run = jobHandler.make(job, handler, Context.omit(Tracer.ParentSpan)(context) as typeof context, {
      maxPayloadBytes: engine.options.maxPayloadBytes,
      abandonAfter: config.abandonAfter,
      progressed: (record, value) =>
        reporter.hears(record) ? reporter.tell(record, jobLifecycle.progressed(record, value)) : Effect.void,
    })
    const handled: Handled = { run, running: new Map(), givenBack: 0, retire: () => Effect.void }
    const scope = yield* Scope.make()
    const begin = Effect.suspend(() => {
      handlers.set(name, handled)
      return Effect.flatMap(start, (begun) => begun.handle(name, { concurrency: options.concurrency }))
    }).pipe(
      Scope.provide(scope),
      Effect.map((named) => {
        handled.retire = retire(name, handled, named.stop, scope)
      }),
      Effect.onError(() =>
        Effect.suspend(() => {
          handlers.delete(name)
          return Scope.close(scope, Exit.void)
        }),
      ),
    )
    yield* Effect.acquireRelease(begin, () => handled.retire(config.grace))
  })

  const shutdown = Effect.fnUntraced(function* (grace: Duration.Input = config.grace): Effect.fn.Return<Stopped> {
    const retiring = Array.from(handlers.values())
    const before = retiring.reduce((sum, { givenBack }) => sum + givenBack, 0)
    yield* Effect.forEach(retiring, (handled) => handled.retire(Duration.fromInputUnsafe(grace)), {
      concurrency: "unbounded",
      discard: true,
    })
    return { givenBack: retiring.reduce((sum, { givenBack }) => sum + givenBack, 0) - before }
  })

  const drain = (delayed: boolean): Effect.Effect<void, JobError.EngineFailed> =>
    Effect.suspend(() => {
      const { version } = moved
      return Effect.flatMap(engine.counts, (counts) =>
        counts.every(({ name, state }) => !handlers.has(name) || !isLive(state) || (state === "delayed" && !delayed))
          ? Effect.void
          : Effect.andThen(Effect.raceFirst(moved.changed(version), Effect.sleep(lookAgain)), drain(delayed)),
      )
    })

  const cancel: JobPool["Service"]["cancel"] = (id) =>
    // Read before: once it is cancelled its record may be gone, and nobody would end the run that it reports to.
    Effect.flatMap(engine.get(id), (found) =>
      Effect.tap(engine.cancel(id), (answer) => {
        if (answer !== "cancelled") return Effect.void
        moved.notify()
        const job = Option.getOrUndefined(found)
        return job === undefined || !reporter.hears(job)
          ? Effect.void
          : reporter.tell(job, [jobLifecycle.cancelled(job)])
      }),
    )

  return {
    ...jobEnqueue.make({ ...config, moved }),
    ...jobResults.make(engine),
    recurring: jobRecurring.make({
      ...config,
      enqueued: (job) => (reporter.hears(job) ? reporter.tell(job, [jobLifecycle.enqueued(job)]) : Effect.void),
    }),
    handle,
    get: engine.get,
    cancel,
    size: Effect.map(engine.counts, (counts) =>
      counts.reduce((size, { count, state }) => (isLive(state) ? size + count : size), 0),
    ),
    counts: engine.counts,
    list: engine.list,
    deadLetters: (request) => engine.list({ ...request, state: "dead" }),
    retryDead: engine.retryDead,
    removeDead: engine.removeDead,
    pause: Effect.suspend(() => {
      paused = true
      return working?.pause ?? Effect.void
    }),
    resume: Effect.suspend(() => {
      paused = false
      return working?.resume ?? Effect.void
    }),
    drain: (options) => drain(options?.delayed ?? false),
    shutdown,
  }
})
