import { assert, describe, it } from "@effect/vitest"
import * as Job from "@throughline/core/Job"
import * as JobEngine from "@throughline/core/JobEngine"
import * as JobPool from "@throughline/core/JobPool"
import { type JobFailure, type JobId, type JobJson, JobRecord, type NewJob } from "@throughline/core/JobRecord"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { engine, name, Note, pool, record, Refused, settle } from "./jobPoolWorld.ts"

/** A job that fails with what it is given, each time, and when it was tried. */
const failing = Effect.fnUntraced(function* (options: {
  readonly retry?: Schedule.Schedule<unknown, Refused | object>
  readonly maxAttempts?: number
  readonly giveUp?: (error: Refused) => boolean
}) {
  const jobs = yield* JobPool.JobPool
  const Failing = Job.make("failing", { payload: Schema.String, error: Refused, ...options })
  const times: Array<number> = []
  yield* jobs.handle(Failing, (why) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      times.push(now)
      return Effect.fail(new Refused({ why }))
    }),
  )
  return { Failing, times }
})

const delays = (draw: number) =>
  Effect.gen(function* () {
    const step = yield* Schedule.toStep(Job.defaultRetry)
    const drawn: Array<number> = []
    for (let failure = 0; failure < 12; failure++) {
      const [, delay] = yield* Effect.orDie(step(failure, undefined))
      drawn.push(Math.round(Duration.toMillis(delay)))
    }
    return drawn
  }).pipe(Effect.provideService(Random.Random, { nextDoubleUnsafe: () => draw, nextIntUnsafe: () => 0 }))

describe("retries", () => {
  it.effect("follow the schedule, each failure with its time, until the attempts are used up", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { Failing, times } = yield* failing({ retry: Schedule.exponential("1 second"), maxAttempts: 4 })
      const { id } = yield* jobs.enqueue(Failing, "no")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(times, [0, 1000, 3000, 7000])
      const error = yield* Effect.flip(jobs.awaitResult(Failing, id))
      assert.deepStrictEqual(error, new Refused({ why: "no" }))
      const { failures, state } = yield* record(id)
      assert.strictEqual(state, "dead")
      assert.deepStrictEqual(
        failures.map(({ _tag, at }) => [_tag, at]),
        [0, 1000, 3000, 7000].map((at) => ["HandlerFailed", at]),
      )
    }).pipe(Effect.provide(pool())),
  )

  it.effect("go on where they were when the pool was gone in between", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const life = JobPool.layer().pipe(Layer.provide(Layer.succeed(JobEngine.JobEngine, under)))
      const retry = Schedule.exponential("1 second")
      const first = yield* Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        const { Failing, times } = yield* failing({ retry })
        const { id } = yield* jobs.enqueue(Failing, "no")
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(times, [0, 1000])
        return id
      }).pipe(Effect.scoped, Effect.provide(life))
      yield* Effect.gen(function* () {
        const { times } = yield* failing({ retry })
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(times, [3000, 7000])
        assert.strictEqual((yield* record(first)).state, "dead")
      }).pipe(Effect.scoped, Effect.provide(life))
    }).pipe(Effect.provide(engine())),
  )

  it.effect("end where the schedule does, and where the error says that none can help", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { Failing, times } = yield* failing({
        retry: Schedule.spaced("1 second").pipe(
          Schedule.setInputType<Refused | object>(),
          Schedule.while(({ input }) => !(input instanceof Refused) || input.why !== "stop"),
        ),
        giveUp: ({ why }) => why === "hopeless",
      })
      for (const why of ["stop", "hopeless"]) yield* jobs.enqueue(Failing, why)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(times, [0, 0])
      yield* jobs.enqueue(Failing, "on")
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(times, 6)
      assert.lengthOf(yield* jobs.deadLetters({ limit: 10 }), 3)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("wait a random part of the whole delay by default, of 5 minutes at most", () =>
    Effect.gen(function* () {
      const whole = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300].map((seconds) => seconds * 1000)
      assert.deepStrictEqual(
        yield* delays(0),
        whole.map(() => 0),
      )
      assert.deepStrictEqual(
        yield* delays(0.5),
        whole.map((delay) => delay / 2),
      )
      assert.deepStrictEqual(yield* delays(1), whole)
    }),
  )

  it.effect("are at a whole millisecond, never before the pause is over", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { Failing } = yield* failing({ retry: Schedule.spaced(Duration.millis(10.25)) })
      const { id } = yield* jobs.enqueue(Failing, "no")
      yield* settle
      const { readyAt, state } = yield* record(id)
      assert.deepStrictEqual([state, readyAt], ["delayed", 11])
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a schedule that dies ends the retries, not the worker", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { Failing } = yield* failing({
        retry: Schedule.map(Schedule.spaced("1 second"), (): Effect.Effect<number> => {
          throw new Error("broken schedule")
        }),
      })
      const { id } = yield* jobs.enqueue(Failing, "no")
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Failing, id)))._tag, "Refused")
      yield* jobs.handle(Note, Effect.succeed)
      const next = yield* jobs.enqueue(Note, "next")
      assert.strictEqual(yield* jobs.awaitResult(Note, next.id), "next")
    }).pipe(Effect.provide(pool())),
  )
})

const throwing = () => {
  throw new Error("broken codec")
}

describe("a handler", () => {
  const Wild = Job.make("wild", {
    payload: Schema.String,
    success: Schema.String.check(Schema.isMaxLength(5)),
    error: Schema.Struct({ code: Schema.Int }),
    maxAttempts: 1,
    timeout: "10 seconds",
  })

  const kinds: Record<string, () => Effect.Effect<string, { readonly code: number }>> = {
    throws: () => {
      throw new Error("thrown")
    },
    dies: () => Effect.die({ not: "an error" }),
    hangs: () => Effect.never,
    "hangs for good": () => Effect.uninterruptible(Effect.never),
    "interrupts itself": () => Effect.interrupt,
    "gives what its schema refuses": () => Effect.succeed("too long"),
    "fails with what its schema refuses": () => Effect.fail({ code: 0.5 }),
  }
  const expected: Record<string, JobFailure["_tag"]> = {
    throws: "HandlerDied",
    dies: "HandlerDied",
    hangs: "TimedOut",
    "hangs for good": "TimedOut",
    "interrupts itself": "HandlerInterrupted",
    "gives what its schema refuses": "ResultRefused",
    "fails with what its schema refuses": "ResultRefused",
  }

  for (const [kind, failure] of Object.entries(expected)) {
    it.effect(`that ${kind} has an outcome of its own, and its worker lives on`, () =>
      Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        yield* jobs.handle(Wild, (what) => kinds[what]?.() ?? Effect.succeed(what))
        const { id } = yield* jobs.enqueue(Wild, kind)
        const next = yield* jobs.enqueue(Wild, "next")
        yield* settle
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("5 seconds")
        const died = yield* Effect.flip(jobs.awaitResult(Wild, id))
        if (!("_tag" in died) || died._tag !== "JobDied") return assert.fail(`it did not die: ${JSON.stringify(died)}`)
        assert.strictEqual(died.failure._tag, failure)
        assert.strictEqual(yield* jobs.awaitResult(Wild, next.id), "next")
      }).pipe(Effect.provide(pool({ concurrency: 1 }))),
    )
  }

  it.effect("that gives what JSON has no text for is refused, and its worker lives on", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Anything = Job.make("anything", { payload: Schema.Int, success: Schema.Any, maxAttempts: 1 })
      yield* jobs.handle(Anything, (n) => Effect.succeed(n === 0 ? undefined : n === 1 ? () => n : n))
      for (const n of [0, 1]) {
        const { id } = yield* jobs.enqueue(Anything, n)
        const died = yield* Effect.flip(jobs.awaitResult(Anything, id))
        if (died._tag !== "JobDied") return assert.fail(`it did not die: ${died._tag}`)
        assert.strictEqual(died.failure._tag, "ResultRefused")
        assert.strictEqual((yield* record(id)).crashes, 0)
      }
      const next = yield* jobs.enqueue(Anything, 2)
      assert.strictEqual(yield* jobs.awaitResult(Anything, next.id), 2)
    }).pipe(Effect.provide(pool({ concurrency: 1 }))),
  )

  it.effect("whose result's codec dies has a failed attempt, and no crash", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Broken = { ...Note, maxAttempts: 1, success: { ...Note.success, encode: throwing } }
      yield* jobs.handle(Broken, Effect.succeed)
      const { id } = yield* jobs.enqueue(Broken, "a")
      yield* Effect.flip(jobs.awaitResult(Broken, id))
      const { crashes, failures } = yield* record(id)
      assert.deepStrictEqual([crashes, failures.map(({ _tag }) => _tag)], [0, ["HandlerDied"]])
    }).pipe(Effect.provide(pool())),
  )

  it.effect("that tells a progress which is no JSON goes on without it", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const cycle: { [key: string]: Schema.Json } = {}
      cycle["self"] = cycle
      yield* jobs.handle(Note, (note, { progress }) =>
        // `undefined` as code without types gives it.
        Effect.as(Effect.andThen(progress(cycle), progress(undefined as unknown as Schema.Json)), note),
      )
      const { id } = yield* jobs.enqueue(Note, "a")
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "a")
      assert.isUndefined((yield* record(id)).progress)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("that ends before its timeout leaves no timer behind", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      yield* jobs.handle(Wild, (what) => Effect.delay(Effect.succeed(what), "9 seconds"))
      const { id } = yield* jobs.enqueue(Wild, "slow")
      yield* settle
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* jobs.awaitResult(Wild, id), "slow")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* record(id)).state, "succeeded")
    }).pipe(Effect.provide(pool())),
  )
})

const stored = (payload: string, more: Partial<NewJob> = {}): NewJob => ({
  id: "01900000-0000-7000-8000-000000000001" as JobId,
  name: name("note"),
  payload: payload as JobJson,
  priority: "normal",
  maxAttempts: 4,
  keepResult: 1000,
  keepDead: 1000,
  ...more,
})

describe("what went wrong outside of a handler", () => {
  it.effect("a payload, a delay or a time that is none is refused with a type", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Anything = Job.make("anything", { payload: Schema.Any })
      assert.strictEqual((yield* Effect.flip(jobs.enqueue(Anything, undefined)))._tag, "PayloadInvalid")
      for (const options of [
        // As code without types gives it.
        { delay: "nonsense" as unknown as number },
        { delay: Duration.infinity },
        { delay: Duration.days(1e12) },
        { runAfter: "nonsense" },
      ]) {
        const refused = yield* Effect.flip(jobs.enqueue(Anything, 1, options))
        assert.strictEqual(refused._tag === "EngineFailed" && refused.reason._tag, "InvalidRequest")
      }
      assert.strictEqual(yield* jobs.size, 0)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a job that is kept for ever, and whose attempts may take as long, runs and can be stored", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const always = Duration.infinity
      const Kept = Job.make("kept", { payload: Schema.Int, keepResult: always, keepDead: always, timeout: always })
      assert.isUndefined(Kept.timeout)
      yield* jobs.handle(Kept, () => Effect.void)
      const { id } = yield* jobs.enqueue(Kept, 1)
      yield* jobs.awaitResult(Kept, id)
      const kept = yield* record(id)
      assert.deepStrictEqual([kept.keepResult, kept.keepDead], [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER])
      // The schema that engines read their rows with.
      assert.deepStrictEqual(yield* Schema.decodeEffect(JobRecord)(kept), kept)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a retry whose pause is beyond any time is at the last one", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { Failing } = yield* failing({ retry: Schedule.spaced(Duration.millis(1e300)) })
      const { id } = yield* jobs.enqueue(Failing, "no")
      yield* settle
      assert.strictEqual((yield* record(id)).readyAt, Number.MAX_SAFE_INTEGER)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a payload that no longer decodes is dead with its problem, kept as it was; the rest goes on", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const under = yield* JobEngine.JobEngine
      yield* under.enqueue({ jobs: [stored('{"an":"older shape"}')] })
      yield* jobs.handle(Note, Effect.succeed)
      const next = yield* jobs.enqueue(Note, "next")
      assert.strictEqual(yield* jobs.awaitResult(Note, next.id), "next")
      const [dead] = yield* jobs.deadLetters({ limit: 10 })
      if (dead === undefined) return assert.fail("it is not among the dead letters")
      assert.strictEqual(dead.payload, '{"an":"older shape"}')
      assert.deepInclude(dead.failures[0], { _tag: "PayloadRefused", at: 0 })
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a worker that crashes charges no attempt, and after `maxCrashes` the job is dead", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const told: Array<JobEngine.Settlement["_tag"]> = []
      let runs = 0
      const working = yield* under.work(
        { concurrency: 1, maxCrashes: 3 },
        {
          run: () => {
            runs++
            throw new Error("no worker should")
          },
          settled: (_job, settlement) => Effect.sync(() => told.push(settlement._tag)),
        },
      )
      yield* working.handle(name("note"), {})
      const [{ id } = { id: undefined }] = yield* under.enqueue({ jobs: [stored('""')] })
      const dead = yield* under.awaitSettled(id!)
      assert.strictEqual(runs, 3)
      assert.deepStrictEqual(dead.failures, [{ _tag: "WorkerCrashed", at: 0, crashes: 3 }])
      yield* settle
      assert.deepStrictEqual(told, ["GivenBack", "GivenBack", "Dead"])
    }).pipe(Effect.scoped, Effect.provide(engine())),
  )

  it.effect("a job whose id is kept already is not stored again", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const batch = { jobs: [stored('"a"')] }
      const [first] = yield* under.enqueue(batch)
      const [again] = yield* under.enqueue(batch)
      assert.deepStrictEqual(again, { id: first!.id, created: false, pending: false })
      assert.deepStrictEqual(yield* under.counts, [{ name: name("note"), state: "waiting", count: 1 }])
    }).pipe(Effect.provide(engine())),
  )

  it.effect("requests that make no sense are refused as such", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const refusals = yield* Effect.all(
        [
          under.enqueue({ jobs: [] }),
          under.enqueue({ jobs: [stored('""', { maxAttempts: 0 })] }),
          under.enqueue({ jobs: [stored('""', { runAt: Number.NaN })] }),
          under.enqueue({ jobs: [stored('""', { uniqueKey: "" })] }),
          under.enqueue({ jobs: [stored('""', { keepDead: Number.POSITIVE_INFINITY })] }),
          under.enqueue({ jobs: [stored('""', { keepResult: Number.NaN })] }),
          under.list({ limit: 0 }),
          under.results({ limit: 1001 }),
        ].map((effect) =>
          Effect.flip(effect as Effect.Effect<unknown, { readonly _tag: string; readonly reason?: { _tag: string } }>),
        ),
      )
      assert.deepStrictEqual(
        refusals.map(({ reason }) => reason?._tag),
        Array.from({ length: 8 }, () => "InvalidRequest"),
      )
      assert.isTrue(Option.isNone(yield* under.get(stored("").id)))
    }).pipe(Effect.provide(engine())),
  )
})
