import type { InvalidCursor } from "@throughline/core/Cursor"
import {
  type EngineOptions,
  JobEngine,
  layerMemory,
  type Outcome,
  type Worker,
  type WorkOptions,
} from "@throughline/core/JobEngine"
import * as JobError from "@throughline/core/JobError"
import type { JobFailure, JobId, JobRecord, NewJob } from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as JobPoolLaws from "@throughline/testing/JobPoolLaws"
import * as Mutant from "@throughline/testing/Mutant"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

type Engine = JobEngine["Service"]

const mutant = (
  bug: string,
  law: JobPoolLaws.JobLaw,
  wrap: (engine: Engine) => Engine,
  configure: (options: EngineOptions | undefined) => EngineOptions | undefined = (options) => options,
): Mutant.Mutant<JobEngine, EngineOptions> => ({
  bug,
  law: law.name,
  subject: (options) =>
    Layer.effect(JobEngine, Effect.map(JobEngine, wrap)).pipe(Layer.provide(layerMemory(configure(options)))),
})

/** The engine with what it is given to enqueue changed. */
const enqueueing =
  (change: (jobs: ReadonlyArray<NewJob>) => ReadonlyArray<NewJob>) =>
  (engine: Engine): Engine => ({
    ...engine,
    enqueue: (request) => Effect.suspend(() => engine.enqueue({ ...request, jobs: change(request.jobs) })),
  })

/** The engine with its worker changed. */
const working =
  (change: (worker: Worker, engine: Engine) => Worker, options: Partial<WorkOptions> = {}) =>
  (engine: Engine): Engine => ({
    ...engine,
    work: (given, worker) => engine.work({ ...given, ...options }, change(worker, engine)),
  })

/** The engine with the outcomes of its worker changed. */
const ending = (change: (outcome: Outcome, job: JobRecord) => Outcome) =>
  working((worker) => ({
    ...worker,
    run: (claim) => Effect.map(worker.run(claim), (outcome) => change(outcome, claim.job)),
  }))

const diedAt = (at: number): Outcome => ({
  _tag: "Retry",
  failure: { _tag: "HandlerDied", at, message: "charged" },
  at,
})

const withoutKey = ({ uniqueKey: _uniqueKey, ...job }: NewJob): NewJob => job

const keyOf = ({ name, uniqueKey }: Pick<NewJob, "name" | "uniqueKey">) => `${name} ${uniqueKey}`

/** Another id that is as good. */
const otherId = (id: JobId): JobId => `${id.slice(0, -1)}${id.endsWith("0") ? "1" : "0"}` as JobId

Mutant.suite("JobPool", JobPoolLaws.laws, [
  mutant(
    "ignores priorities",
    JobPoolLaws.whole,
    enqueueing((jobs) => jobs.map((job) => ({ ...job, priority: "normal" }))),
  ),
  mutant(
    "lets a later job of the same name pass an earlier one",
    JobPoolLaws.whole,
    enqueueing((jobs) => jobs.toReversed()),
  ),
  mutant("lets a delayed job hold up the ready ones behind it", JobPoolLaws.whole, (engine) => {
    let latest = 0
    return enqueueing((jobs) =>
      jobs.map((job) => {
        latest = Math.max(latest, job.runAt ?? 0)
        return { ...job, runAt: latest }
      }),
    )(engine)
  }),
  mutant(
    "charges a crash of the worker as an attempt",
    JobPoolLaws.whole,
    working((worker) => ({
      ...worker,
      run: (claim) =>
        Effect.catchDefect(worker.run(claim), () => Effect.map(Clock.currentTimeMillis, (at) => diedAt(at))),
    })),
  ),
  mutant("charges a job that is given back with an attempt", JobPoolLaws.shutdown, (engine) => {
    const charged = new Map<JobId, JobFailure>()
    return working((worker) => ({
      run: ({ job, progress }) => {
        const failure = charged.get(job.id)
        return worker.run({ job: failure === undefined ? job : { ...job, failures: [failure] }, progress })
      },
      settled: (job, settlement) => {
        if (settlement._tag === "GivenBack") charged.set(job.id, { _tag: "HandlerInterrupted", at: job.readyAt })
        return worker.settled(job, settlement)
      },
    }))(engine)
  }),
  mutant(
    "never takes a job that crashes its workers for dead",
    JobPoolLaws.whole,
    working((worker) => worker, { maxCrashes: 1000 }),
  ),
  mutant("forgets a unique key once its job is retried", JobPoolLaws.whole, (engine) => {
    const forgotten = new Set<string>()
    const noting = ending((outcome, job) => {
      if (outcome._tag === "Retry" && job.uniqueKey !== undefined) forgotten.add(keyOf(job))
      return outcome
    })
    return enqueueing((jobs) => jobs.map((job) => (forgotten.has(keyOf(job)) ? withoutKey(job) : job)))(noting(engine))
  }),
  mutant(
    "loses a job that is given back",
    JobPoolLaws.shutdown,
    working((worker, engine) => ({
      ...worker,
      settled: (job, settlement) =>
        Effect.andThen(
          worker.settled(job, settlement),
          settlement._tag === "GivenBack" ? Effect.ignore(engine.cancel(job.id)) : Effect.void,
        ),
    })),
  ),
  mutant("stores the part of a batch that there is room for", JobPoolLaws.whole, (engine) => ({
    ...engine,
    enqueue: (request) =>
      Effect.catchTag(engine.enqueue(request), "PoolFull", (full) =>
        Effect.gen(function* () {
          const fitting = request.jobs.slice(0, Math.max(0, full.maxWaiting - full.waiting))
          if (fitting.length > 0) yield* Effect.ignore(engine.enqueue({ jobs: fitting }))
          return yield* full
        }),
      ),
  })),
  mutant("stores a batch that is given again a second time", JobPoolLaws.enqueuesOnce, (engine) => {
    const given = new Set<JobId>()
    return enqueueing((jobs) =>
      jobs.map((job) => {
        const id = given.has(job.id) ? otherId(job.id) : job.id
        given.add(id)
        return { ...job, id }
      }),
    )(engine)
  }),
  mutant(
    "bounds payloads by characters, not by bytes",
    JobPoolLaws.enqueuesOnce,
    (engine) => ({
      ...engine,
      enqueue: (request) => {
        const over = request.jobs.find(({ payload }) => payload.length > 64)
        return over === undefined
          ? engine.enqueue(request)
          : Effect.fail(new JobError.PayloadTooLarge({ name: over.name, bytes: over.payload.length, maxBytes: 64 }))
      },
    }),
    (options) => ({ ...options, maxPayloadBytes: 1000 }),
  ),
  mutant("answers who waits for a job before it has settled", JobPoolLaws.settles, (engine) => ({
    ...engine,
    awaitSettled: (id) =>
      Effect.flatMap(
        engine.get(id),
        Option.match({ onNone: () => Effect.fail(new JobError.JobUnknown({ id })), onSome: Effect.succeed }),
      ),
  })),
  mutant(
    "tells what became of a job before it is stored",
    JobPoolLaws.told,
    working((worker) => ({
      run: (claim) =>
        Effect.gen(function* () {
          const outcome = yield* worker.run(claim)
          yield* worker.settled(JobRules.settled(claim.job, outcome, yield* Clock.currentTimeMillis), outcome)
          return outcome
        }),
      settled: () => Effect.void,
    })),
  ),
  mutant(
    "tells what became of a job twice",
    JobPoolLaws.told,
    working((worker) => ({
      ...worker,
      settled: (job, settlement) => Effect.andThen(worker.settled(job, settlement), worker.settled(job, settlement)),
    })),
  ),
  mutant("loses the oldest results without a word", JobPoolLaws.results, (engine) => ({
    ...engine,
    results: (request): ReturnType<Engine["results"]> =>
      Effect.catchTag(engine.results(request), "HistoryTruncated", () => engine.results({ limit: request.limit })),
  })),
  mutant("gives the last result of a page again", JobPoolLaws.results, (engine) => ({
    ...engine,
    results: (
      request,
    ): Effect.Effect<
      Effect.Success<ReturnType<Engine["results"]>>,
      JobError.EngineFailed | JobError.HistoryTruncated | InvalidCursor
    > =>
      Effect.map(engine.results(request), ({ cursor, results }) => {
        const last = results.at(-1)
        return {
          results,
          cursor: results.length < 2 || last === undefined ? cursor : JobRules.cursorAt(cursor, last.position - 1),
        }
      }),
  })),
  mutant(
    "tries again at once",
    JobPoolLaws.retries,
    ending((outcome) => (outcome._tag === "Retry" ? { ...outcome, at: outcome.failure.at } : outcome)),
  ),
  {
    ...mutant("waits after a failure as long as it should have after the one before", JobPoolLaws.retries, (engine) => {
      const pauses = new Map<JobId, number>()
      return ending((outcome, { id }) => {
        if (outcome._tag !== "Retry") return outcome
        const pause = outcome.at - outcome.failure.at
        const before = pauses.get(id) ?? pause
        pauses.set(id, pause)
        return { ...outcome, at: outcome.failure.at + before }
      })(engine)
    }),
    says: "a pause of",
  },
  mutant("fires twice for one time of a schedule", JobPoolLaws.ticks, (engine) => ({
    ...engine,
    tick: ({ job }) =>
      Effect.map(engine.enqueue({ jobs: [job] }), ([enqueued]) => Option.fromUndefinedOr(enqueued)).pipe(
        Effect.catchTag("PoolFull", () => Effect.succeedNone),
      ),
  })),
  mutant("runs more jobs of a name at once than it may", JobPoolLaws.whole, (engine) => ({
    ...engine,
    work: (options, worker) =>
      Effect.map(engine.work(options, worker), (at) => ({ ...at, handle: (name) => at.handle(name, {}) })),
  })),
  mutant("runs on while it is paused", JobPoolLaws.whole, (engine) => ({
    ...engine,
    work: (options, worker) => Effect.map(engine.work(options, worker), (at) => ({ ...at, pause: Effect.void })),
  })),
])
