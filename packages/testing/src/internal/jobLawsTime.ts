/** Laws of a pool over an engine: when failed jobs are tried again, what a shutdown leaves, when schedules fire. */
import type { EngineOptions, JobEngine } from "@throughline/core/JobEngine"
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import type { JobId } from "@throughline/core/JobRecord"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"

type JobLaw = Law.Law<JobEngine, EngineOptions>

class Failed extends Schema.TaggedError<Failed>()("Failed", { attempt: Schema.Int }) {}

/** How the retries of a job are spaced. */
interface Spacing {
  readonly base: number
  readonly factor: number
  readonly cap: number
  readonly isJittered: boolean
}

const scheduleOf = ({ base, cap, factor, isJittered }: Spacing) => {
  const schedule = Schedule.min([Schedule.exponential(base, factor), Schedule.spaced(cap)])
  return isJittered ? Job.fullJitter(schedule) : schedule
}

/** The whole pause after the n-th failure, from 1. */
const pauseAfter = ({ base, cap, factor }: Spacing, n: number) => Math.min(base * factor ** (n - 1), cap)

/** A pool over the engine of the case, until it is closed. */
const openPool = (options?: JobPool.JobPoolOptions) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const pool = yield* Scope.provide(JobPool.make(options), scope)
    return { pool, scope, close: Scope.close(scope, Exit.void) }
  })

/** Lets time pass until something is so, a step at a time. */
const passUntil = Effect.fnUntraced(function* (isSo: () => boolean, step: number, most: number) {
  for (let passed = 0; passed < most && !isSo(); passed += step) {
    yield* TestClock.adjust(step)
    yield* Effect.yieldNow
  }
})

/** Promise 13. */
export const retries: JobLaw = Law.make({
  promise: 13,
  name: "a failed job is tried again when its schedule says, through restarts, until its attempts are used up",
  history: Arbitrary.all({
    spacing: Arbitrary.all({
      base: Generator.weighted([
        [1, 100],
        [1, 250],
        [1, 1000],
      ]),
      factor: Generator.weighted([
        [2, 2],
        [1, 3],
        [1, 1],
      ]),
      cap: Generator.weighted([
        [2, 5000],
        [1, 400],
      ]),
      isJittered: Generator.boolean,
    }),
    fails: Generator.int(1, 5),
    maxAttempts: Generator.int(2, 5),
    /** The failure after which the pool is closed and another opened. */
    restartAfter: Generator.int(0, 4),
  }),
  runs: 40,
  reaches: {
    "a dead letter": 0.1,
    "a success": 0.1,
    jitter: 0.2,
    "a restart": 0.3,
    // A pool that jitters no pause, or always waits for nothing, keeps within the range too.
    "a jittered pause in the lower half": 0.1,
    "a jittered pause in the upper half": 0.1,
  },
  property: Effect.fnUntraced(function* ({ fails, maxAttempts, restartAfter, spacing }, reach) {
    const Flaky = Job.make("flaky", {
      payload: Schema.Struct({}),
      error: Failed,
      retry: scheduleOf(spacing),
      maxAttempts,
    })
    const times: Array<number> = []
    const attempts: Array<readonly [attempt: number, isLast: boolean]> = []
    const handler = (_: object, context: Job.JobContext) =>
      Effect.gen(function* () {
        times.push(yield* Clock.currentTimeMillis)
        attempts.push([context.attempt, context.isLastAttempt])
        if (context.attempt <= fails) return yield* new Failed({ attempt: context.attempt })
      })
    const open = Effect.gen(function* () {
      const opened = yield* openPool()
      yield* Scope.provide(opened.pool.handle(Flaky, handler), opened.scope)
      return opened
    })
    let current = yield* open
    const { id } = yield* current.pool.enqueue(Flaky, {})
    const runs = Math.min(fails + 1, maxAttempts)
    for (let run = 1; run <= runs; run++) {
      yield* passUntil(() => times.length >= run, 10, 60_000)
      if (run === restartAfter && run < runs) {
        reach("a restart")
        yield* settledDown
        yield* current.close
        current = yield* open
      }
    }
    if (spacing.isJittered) reach("jitter")
    const pauses = times.slice(1).map((time, index) => time - times[index]!)
    for (const [index, pause] of pauses.entries()) {
      const whole = pauseAfter(spacing, index + 1)
      // A time is a whole number of ms.
      if (!spacing.isJittered) {
        yield* Law.holds(Math.abs(pause - whole) <= 1, `a pause of ${pause} ms instead of ${whole}`)
        continue
      }
      yield* Law.holds(pause >= 0 && pause <= whole + 1, `a pause of ${pause} ms, of ${whole}`)
      // Time passes 10 ms at a step, so what is near the middle or the end says nothing.
      if (pause > 0 && pause < whole * 0.5 - 10) reach("a jittered pause in the lower half")
      if (pause > whole * 0.5 + 10 && pause < whole - 10) reach("a jittered pause in the upper half")
    }
    yield* Law.same(
      "the attempts",
      attempts,
      Array.from({ length: runs }, (_, index) => [index + 1, index + 1 === maxAttempts] as const),
    )
    const result = yield* Effect.result(current.pool.awaitResult(Flaky, id))
    if (fails < maxAttempts) {
      reach("a success")
      yield* Law.holds(Result.isSuccess(result), `it did not succeed: ${String(result)}`)
    } else {
      reach("a dead letter")
      const error = Result.isFailure(result) ? result.failure : undefined
      yield* Law.same("the error of its last attempt", error instanceof Failed ? error.attempt : error, maxAttempts)
      const letters = yield* current.pool.deadLetters({ limit: 10 })
      yield* Law.same(
        "the dead letters",
        letters.map((letter) => [letter.id, letter.failures.length]),
        [[id, maxAttempts]],
      )
    }
    yield* current.close
  }),
})

/** What a pool still does without time passing. */
const settledDown = Effect.gen(function* () {
  for (let turn = 0; turn < 50; turn++) yield* Effect.yieldNow
})

/** Promise 13. */
export const shutdown: JobLaw = Law.make({
  promise: 13,
  name: "a shutdown loses no job and charges none: what ran is finished within the grace time or run again",
  history: Arbitrary.all({
    /** How long each job takes, in ms. */
    jobs: Arbitrary.array(
      Generator.weighted([
        [2, 0],
        [2, 500],
        [1, 2000],
        [1, 10_000],
      ]),
      { minLength: 1, maxLength: 8 },
    ),
    concurrency: Generator.int(1, 4),
    grace: Generator.weighted([
      [1, 0],
      [2, 1000],
    ]),
    after: Generator.weighted([
      [1, 0],
      [2, 300],
      [1, 1200],
    ]),
  }),
  runs: 40,
  reaches: { "a job given back": 0.15, "a job finished in the grace time": 0.1 },
  property: Effect.fnUntraced(function* ({ after, concurrency, grace, jobs }, reach) {
    const Slow = Job.make("slow", { payload: Schema.Number, success: Schema.Int })
    const done: Array<JobId> = []
    const begun: Array<JobId> = []
    const handler = (takes: number, { attempt, id }: Job.JobContext) =>
      Effect.gen(function* () {
        begun.push(id)
        yield* Effect.sleep(takes)
        done.push(id)
        return attempt
      })
    const open = Effect.gen(function* () {
      const opened = yield* openPool({ concurrency, grace })
      yield* Scope.provide(opened.pool.handle(Slow, handler), opened.scope)
      return opened
    })
    const first = yield* open
    const accepted = yield* first.pool.enqueueAll(jobs.map((takes) => JobPool.request(Slow, takes)))
    yield* TestClock.adjust(after)
    yield* settledDown
    const before = done.length
    const running = begun.length - before
    const stopping = yield* Effect.forkChild(first.pool.shutdown(), { startImmediately: true })
    yield* TestClock.adjust(grace + 20)
    const { givenBack } = yield* Fiber.join(stopping)
    if (givenBack > 0) reach("a job given back")
    if (done.length > before) reach("a job finished in the grace time")
    yield* Law.same("the jobs that were finished or given back", done.length - before + givenBack, running)
    yield* first.close
    const second = yield* open
    yield* passUntil(() => new Set(done).size >= jobs.length, 500, 200_000)
    yield* settledDown
    for (const { id } of accepted) {
      const attempt = yield* second.pool.awaitResult(Slow, id)
      yield* Law.same("the attempt that succeeded", attempt, 1)
      const record = Option.getOrUndefined(yield* second.pool.get(id))
      yield* Law.same("its crashes and failures", [record?.crashes, record?.failures.length], [0, 0])
    }
    yield* second.close
  }),
})

/** Promise 13. */
export const ticks: JobLaw = Law.make({
  promise: 13,
  name: "a schedule enqueues one job for each of its times, however many pools run it",
  history: Arbitrary.all({
    pools: Generator.int(1, 3),
    minutes: Generator.int(1, 12),
    every: Generator.weighted([
      [1, 1],
      [1, 2],
      [1, 5],
    ]),
  }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ every, minutes, pools }) {
    const At = Job.make("at", { payload: Schema.Number })
    const cron = Result.getOrThrow(Cron.parse(`*/${every} * * * *`, "UTC"))
    const opened = yield* Effect.forEach(Array.from({ length: pools }), () => openPool())
    const options = { job: At, cron, payload: (at: { readonly epochMilliseconds: number }) => at.epochMilliseconds }
    for (const { pool, scope } of opened) yield* Scope.provide(pool.recurring("law", options), scope)
    const began = yield* Clock.currentTimeMillis
    for (let minute = 0; minute < minutes; minute++) yield* TestClock.adjust("1 minute")
    yield* settledDown
    const jobs = yield* opened[0]!.pool.list({ limit: 1000 })
    const times: Array<number> = []
    for (let at = began + 60_000; at <= began + minutes * 60_000; at += 60_000) {
      if (((at / 60_000) % 60) % every === 0) times.push(at)
    }
    yield* Law.same(
      "the times it fired for",
      jobs.map(({ payload }) => JSON.parse(payload) as number).toSorted((a, b) => a - b),
      times,
    )
    for (const { close } of opened) yield* close
  }),
})
