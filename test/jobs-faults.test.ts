/** Jobs when things go wrong, through a pool over a SQLite file that outlives it: what crosses packages and restarts. */
import { assert, describe, it } from "@effect/vitest"
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import type { JobId } from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

const file = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-jobs-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true })),
  ),
  (directory) => join(directory, "jobs.db"),
)

/** A pool as another process would have it, until it is closed. */
const open = Effect.fnUntraced(function* (
  filename: string,
  options: JobPool.JobPoolOptions & SqliteJobEngine.Options = {},
) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const context = yield* Scope.provide(
    Layer.build(
      Layer.fresh(JobPool.layer(options)).pipe(
        Layer.provide(Layer.fresh(SqliteJobEngine.layer(options))),
        Layer.provide(Layer.fresh(SqliteClient.layer({ filename }))),
        Layer.provide(Throughline.layerCrypto),
      ),
    ),
    scope,
  )
  const pool = Context.get(context, JobPool.JobPool)
  const handle: typeof pool.handle = (...given) => Scope.provide(pool.handle(...given), scope)
  return { pool, handle, close: Scope.close(scope, Exit.void) }
})

/** Lets virtual time pass in steps until something is so. */
const until = Effect.fnUntraced(function* (what: string, isSo: () => boolean) {
  for (let step = 0; step < 5000; step++) {
    if (isSo()) return
    yield* TestClock.adjust(20)
    yield* Effect.yieldNow
  }
  assert.fail(`never: ${what}`)
})

/** Lets virtual time pass until an effect has ended. */
const whilePassing = Effect.fnUntraced(function* <A, E>(effect: Effect.Effect<A, E>) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  yield* until("the end of what is waited for", () => fiber.pollUnsafe() !== undefined)
  return yield* Fiber.join(fiber)
})

const record = (pool: JobPool.JobPool["Service"], id: JobId) =>
  Effect.map(pool.get(id), (found) => Option.getOrThrow(found))

describe("a shutdown", () => {
  const Step = Job.make("step", {
    payload: Schema.Struct({ ms: Schema.Int, fails: Schema.Int }),
    success: Schema.Int,
    error: Schema.String,
    retry: Schedule.spaced("10 seconds"),
  })

  interface Wish {
    readonly ms: number
    readonly fails: number
  }

  const handler = (begun: Array<JobId>) => (payload: Wish, context: Job.JobContext) =>
    Effect.gen(function* () {
      begun.push(context.id)
      yield* Effect.sleep(payload.ms)
      if (context.attempt <= payload.fails) return yield* Effect.fail("not yet")
      return context.attempt
    })

  it.effect("while jobs run, retry, wait and are delayed loses none and charges none, within the grace time", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const first = yield* open(filename, { concurrency: 3, grace: "1 second" })
      const begun: Array<JobId> = []
      yield* first.handle(Step, handler(begun))
      const add = (payload: Wish, options?: JobPool.EnqueueOptions) =>
        Effect.map(first.pool.enqueue(Step, payload, options), ({ id }) => id)

      const retrying = yield* add({ ms: 0, fails: 1 })
      yield* until("the first failure", () => begun.length === 1)
      yield* TestClock.adjust(100)
      const short = yield* add({ ms: 500, fails: 0 })
      const long = yield* add({ ms: 60_000, fails: 0 })
      const failing = yield* add({ ms: 800, fails: 1 })
      const waiting = yield* add({ ms: 0, fails: 0 })
      const delayed = yield* add({ ms: 0, fails: 0 }, { delay: "1 minute" })
      yield* until("three that run", () => begun.length === 4)

      const from = yield* Clock.currentTimeMillis
      const { givenBack } = yield* whilePassing(first.pool.shutdown())
      const took = (yield* Clock.currentTimeMillis) - from
      assert.isAtMost(took, 1100)
      assert.strictEqual(givenBack, 1)

      const then = yield* Effect.forEach([retrying, short, long, failing, waiting, delayed], (id) =>
        record(first.pool, id),
      )
      assert.deepStrictEqual(
        then.map(({ crashes, failures, state }) => [state, failures.length, crashes]),
        [
          ["delayed", 1, 0],
          ["succeeded", 0, 0],
          ["waiting", 0, 0],
          // It failed within the grace time: its retry is kept.
          ["delayed", 1, 0],
          ["waiting", 0, 0],
          ["delayed", 0, 0],
        ],
      )
      yield* first.close

      const second = yield* open(filename)
      const again: Array<JobId> = []
      yield* second.handle(Step, handler(again))
      const attempts: Array<number> = []
      for (const id of [retrying, short, long, failing, waiting, delayed]) {
        attempts.push(yield* whilePassing(second.pool.awaitResult(Step, id)))
      }
      assert.deepStrictEqual(attempts, [2, 1, 1, 2, 1, 1])
    }).pipe(Effect.scoped),
  )
})

const tagOf = (error: { readonly _tag: string } | string) => (typeof error === "string" ? error : error._tag)

describe("who waits for a result", () => {
  const Note = Job.make("note", {
    payload: Schema.Struct({}),
    error: Schema.String,
    maxAttempts: 1,
    keepResult: "1 minute",
  })

  it.effect("is told that the job is gone: removed, past its time, or never there", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const here = yield* open(filename)
      const there = yield* open(filename)
      // Dead, and removed by another process.
      const dead = yield* here.pool.enqueue(Note, {})
      yield* here.handle(Note, (_, { id }) => (id === dead.id ? Effect.fail("refused") : Effect.void))
      assert.strictEqual(yield* Effect.flip(whilePassing(there.pool.awaitResult(Note, dead.id))), "refused")
      yield* there.pool.removeDead(dead.id)
      assert.strictEqual(tagOf(yield* Effect.flip(here.pool.awaitResult(Note, dead.id))), "JobUnknown")
      // Succeeded, and kept for a minute.
      const brief = yield* here.pool.enqueue(Note, {})
      yield* whilePassing(there.pool.awaitResult(Note, brief.id))
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual(tagOf(yield* Effect.flip(there.pool.awaitResult(Note, brief.id))), "JobUnknown")
    }).pipe(Effect.scoped),
  )

  it.effect("while a row is taken out of the file by hand is told so, and doesn't hang", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const { pool } = yield* open(filename)
      const { id } = yield* pool.enqueue(Note, {}, { delay: "1 hour" })
      const waiting = yield* Effect.forkChild(Effect.flip(pool.awaitResult(Note, id)), { startImmediately: true })
      yield* TestClock.adjust(100)
      const database = new DatabaseSync(filename)
      database.prepare("DELETE FROM throughline_jobs WHERE id = ?").run(id)
      database.close()
      assert.strictEqual(tagOf(yield* whilePassing(Fiber.join(waiting))), "JobUnknown")
    }).pipe(Effect.scoped),
  )
})

/** The computer's clock, set anew by so many ms; what sleeps goes on sleeping, as it does when a real one is. */
const setClock = Effect.map(Clock.Clock, (live) => {
  let offset = 0
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => live.currentTimeMillisUnsafe() + offset,
    currentTimeMillis: Effect.sync(() => live.currentTimeMillisUnsafe() + offset),
    currentTimeNanosUnsafe: () => live.currentTimeNanosUnsafe() + BigInt(offset) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => live.currentTimeNanosUnsafe() + BigInt(offset) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => live.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: live.monotonicTimeNanos,
    sleep: (duration) => live.sleep(duration),
  }
  return { clock, by: (millis: number) => Effect.sync(() => void (offset += millis)) }
})

describe("a clock that is set anew", () => {
  const Timed = Job.make("timed", { payload: Schema.Struct({ name: Schema.String, ms: Schema.Int }) })
  const year = 365 * 86_400_000

  it.live(
    "forward makes due what is due by it, takes no running job from its worker; backward, what is new runs at once",
    () =>
      Effect.gen(function* () {
        const filename = yield* file
        const { by, clock } = yield* setClock
        yield* Effect.gen(function* () {
          const { handle, pool } = yield* open(filename, { lease: "30 seconds" })
          const begun: Array<string> = []
          yield* handle(Timed, ({ ms, name }) =>
            Effect.andThen(
              Effect.sync(() => void begun.push(name)),
              Effect.sleep(ms),
            ),
          )
          const add = (name: string, ms: number, options?: JobPool.EnqueueOptions) =>
            Effect.map(pool.enqueue(Timed, { name, ms }, options), ({ id }) => id)
          const result = (id: JobId) => pool.awaitResult(Timed, id)

          const start = yield* Clock.currentTimeMillis
          const long = yield* add("long", 1000)
          const inADay = yield* add("in a day", 0, { delay: "1 day" })
          yield* result(yield* add("long past", 0, { runAfter: start - 1e9 }))
          // Ten years on, while a job runs whose lease is 30 seconds.
          yield* by(10 * year)
          yield* result(yield* add("after ten years", 0))
          yield* result(inADay)
          yield* result(long)
          const { crashes, failures } = yield* record(pool, long)
          assert.deepStrictEqual([crashes, failures.length], [0, 0])
          yield* by(-10 * year)
          yield* result(yield* add("now", 0))
          assert.deepStrictEqual(begun, ["long", "long past", "in a day", "after ten years", "now"])
        }).pipe(Effect.scoped, Effect.provideService(Clock.Clock, clock))
      }).pipe(Effect.scoped),
  )
})

describe("a payload over the bound", () => {
  const Blob = Job.make("blob", { payload: Schema.String })

  it.effect(
    "is refused with its size, and nothing of its batch is stored; a result over it is a failure of the run",
    () =>
      Effect.gen(function* () {
        const filename = yield* file
        const { handle, pool } = yield* open(filename, { maxPayloadBytes: 100 })
        const refused = yield* Effect.flip(
          pool.enqueueAll([JobPool.request(Blob, "fits"), JobPool.request(Blob, "é".repeat(50))]),
        )
        assert.strictEqual(refused._tag, "PayloadTooLarge")
        assert.deepInclude(refused, { bytes: 102, maxBytes: 100 })
        assert.strictEqual(yield* pool.size, 0)
        const Echo = Job.make("echo", { payload: Schema.Int, success: Schema.String, maxAttempts: 1 })
        yield* handle(Echo, (length) => Effect.succeed("x".repeat(length)))
        const { id } = yield* pool.enqueue(Echo, 99)
        const died = yield* Effect.flip(whilePassing(pool.awaitResult(Echo, id)))
        assert.strictEqual(died._tag === "JobDied" ? died.failure._tag : died._tag, "ResultRefused")
      }).pipe(Effect.scoped),
  )
})

it.live(
  "beside a million delayed jobs in the file, ten more are stored and run in a moment",
  () =>
    Effect.gen(function* () {
      const filename = yield* file
      const Mail = Job.make("mail", { payload: Schema.Int })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { pool } = yield* open(filename)
          yield* pool.enqueue(Mail, 0, { delay: "30 days" })
        }),
      )
      // As many as that one by SQL: enqueueing them takes minutes on a busy machine, and is not what is looked at.
      const database = new DatabaseSync(filename)
      database.exec("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000")
      const columns = database
        .prepare(
          "SELECT name FROM pragma_table_info('throughline_jobs') WHERE name NOT IN ('job_key', 'id', 'ready_at', 'priority')",
        )
        .all()
        .map(({ name }) => String(name))
        .join(", ")
      database.exec(`INSERT INTO throughline_jobs (id, ready_at, priority, ${columns})
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
SELECT printf('01900000-0000-7000-8000-%012x', i), ready_at + (i * 7919) % 1000003, 1 + i % 4, ${columns} FROM throughline_jobs, n`)
      database.close()

      const beside = yield* open(filename)
      assert.strictEqual(yield* beside.pool.size, 1_000_000)
      const alone = yield* open(yield* file)
      /** ms that ten jobs take, one after the other, from being enqueued to having succeeded. */
      const ten = Effect.fnUntraced(function* ({ handle, pool }: typeof beside) {
        yield* handle(Mail, () => Effect.void)
        const from = yield* Clock.monotonicTimeNanos
        for (let index = 0; index < 10; index++) {
          const { id } = yield* pool.enqueue(Mail, index)
          yield* pool.awaitResult(Mail, id)
        }
        return Number((yield* Clock.monotonicTimeNanos) - from) / 1e6
      })
      const usual = yield* ten(alone)
      // Looking at each of the million once takes longer than that.
      assert.isBelow(yield* ten(beside), usual * 5 + 300)
      assert.strictEqual(yield* beside.pool.size, 1_000_000)
    }).pipe(Effect.scoped),
  240_000,
)
