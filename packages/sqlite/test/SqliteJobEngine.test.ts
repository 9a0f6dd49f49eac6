import { assert, describe, it } from "@effect/vitest"
import * as JobEngine from "@throughline/core/JobEngine"
import type { JobId, JobJson, JobName, JobRecord, NewJob } from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

const file = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-jobs-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
  ),
  (directory) => join(directory, "jobs.db"),
)

/** An engine of its own on a file, as another process would have one, and the client under it. */
const open = (filename: string, options?: SqliteJobEngine.Options) =>
  Layer.build(
    SqliteJobEngine.layer(options).pipe(
      Layer.provideMerge(SqliteClient.layer({ filename })),
      Layer.provide(Throughline.layerCrypto),
    ),
  )

const engineOf = (filename: string, options?: SqliteJobEngine.Options) =>
  Effect.map(open(filename, options), (context) => Context.get(context, JobEngine.JobEngine))

const name = "mail" as JobName
const other = "report" as JobName
const done = "null" as JobJson

const newJob = Effect.fnUntraced(function* (fields: Partial<NewJob> = {}) {
  const random = Effect.flatMap(SecureRandom.SecureRandom, (secure) => secure.uuidV7())
  const id = yield* Effect.provide(random, Throughline.layerCrypto)
  const job: NewJob = {
    id: id as JobId,
    name,
    payload: "{}" as JobJson,
    priority: "normal",
    maxAttempts: 4,
    keepResult: 60_000,
    keepDead: 60_000,
    ...fields,
  }
  return job
})

const enqueue = Effect.fnUntraced(function* (engine: JobEngine.JobEngine["Service"], fields?: Partial<NewJob>) {
  const job = yield* newJob(fields)
  yield* engine.enqueue({ jobs: [job] })
  return job.id
})

/** A worker that begins jobs and ends each when it is told to. */
const makeWorker = () => {
  const begun: Array<JobRecord> = []
  const settled: Array<readonly [JobId, string]> = []
  const ends = new Map<JobId, Deferred.Deferred<JobEngine.Outcome>>()
  const interrupted: Array<JobId> = []
  const worker: JobEngine.Worker = {
    run: ({ job }) =>
      Effect.suspend(() => {
        begun.push(job)
        const end = Deferred.makeUnsafe<JobEngine.Outcome>()
        ends.set(job.id, end)
        return Effect.onInterrupt(Deferred.await(end), () => Effect.sync(() => interrupted.push(job.id)))
      }),
    settled: (job, { _tag }) => Effect.sync(() => void settled.push([job.id, _tag])),
  }
  const end = (id: JobId, outcome: JobEngine.Outcome = { _tag: "Succeeded", result: done }) =>
    Effect.suspend(() => Deferred.succeed(ends.get(id)!, outcome))
  return { begun, end, interrupted, settled, worker }
}

/** Lets virtual time pass in steps until something is so. */
const until = Effect.fnUntraced(function* (what: string, condition: () => boolean, step: number = 20) {
  for (let i = 0; i < 5000; i++) {
    if (condition()) return
    yield* TestClock.adjust(step)
    yield* Effect.yieldNow
  }
  assert.fail(`never: ${what}`)
})

const working = Effect.fnUntraced(function* (
  engine: JobEngine.JobEngine["Service"],
  options: Partial<JobEngine.WorkOptions> & { readonly names?: ReadonlyArray<JobName> } = {},
) {
  const made = makeWorker()
  const at = yield* engine.work({ concurrency: 10, maxCrashes: 10, ...options }, made.worker)
  for (const handled of options.names ?? [name]) yield* at.handle(handled, {})
  return { ...made, at }
})

const stateOf = (engine: JobEngine.JobEngine["Service"], id: JobId) =>
  Effect.map(engine.get(id), (job) => Option.getOrUndefined(job)?.state)

describe("SqliteJobEngine", () => {
  it.effect("a job is in the file before enqueue returns", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const id = yield* Effect.scoped(Effect.flatMap(engineOf(filename), (engine) => enqueue(engine)))
      const again = yield* engineOf(filename)
      assert.strictEqual(yield* stateOf(again, id), "waiting")
    }),
  )

  it.effect("a job that another process enqueued starts, and its result reaches who enqueued it", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const here = yield* engineOf(filename)
      const there = yield* engineOf(filename)
      const worker = yield* working(there)
      const id = yield* enqueue(here)
      yield* until("it begins", () => worker.begun.length === 1)
      const awaiting = yield* Effect.forkChild(here.awaitSettled(id), { startImmediately: true })
      yield* worker.end(id, { _tag: "Succeeded", result: '"sent"' as JobJson })
      yield* until("it settled", () => worker.settled.length === 1)
      yield* TestClock.adjust(100)
      const record = yield* Fiber.join(awaiting)
      assert.strictEqual(record.state, "succeeded")
      assert.strictEqual(record.result, '"sent"')
    }),
  )

  it.effect("a worker that is gone gives its jobs back after the lease, and no attempt is charged", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename, { lease: "10 seconds" })
      const id = yield* enqueue(engine)
      // A process that was killed after it had claimed the job.
      const database = new DatabaseSync(filename)
      database.exec("UPDATE throughline_jobs SET state = 'running', claim = 1, worker = 'gone', lease_until = 10000")
      database.close()
      const worker = yield* working(engine)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(worker.begun.length, 0)
      yield* until("it begins again", () => worker.begun.length === 1, 500)
      assert.deepInclude(worker.begun[0], { id, failures: [], crashes: 1 })
    }),
  )

  it.effect("a job whose workers crash too often is dead with WorkerCrashed", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename, { lease: "10 seconds" })
      const id = yield* enqueue(engine)
      const database = new DatabaseSync(filename)
      database.exec(
        "UPDATE throughline_jobs SET state = 'running', claim = 9, crashes = 2, worker = 'gone', lease_until = 0",
      )
      database.close()
      const worker = yield* working(engine, { maxCrashes: 3 })
      yield* until("it is dead", () => worker.settled.length === 1)
      assert.deepStrictEqual(worker.settled, [[id, "Dead"]])
      const record = Option.getOrThrow(yield* engine.get(id))
      assert.deepInclude(record.failures.at(-1), { _tag: "WorkerCrashed", crashes: 3 })
    }),
  )

  it.effect("the late answer of a worker that was taken for dead is refused, and its job is interrupted", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename, { lease: "30 seconds" })
      const first = yield* working(engine)
      const id = yield* enqueue(engine)
      const late = yield* enqueue(engine)
      yield* until("both begin", () => first.begun.length === 2)
      // Another process found the leases over (this one was stopped, say) and has begun both again.
      const database = new DatabaseSync(filename)
      database.exec("UPDATE throughline_jobs SET claim = claim + 1, worker = 'another', lease_until = 1000000")
      database.close()
      yield* first.end(late, { _tag: "Succeeded", result: '"late"' as JobJson })
      yield* until("both are lost", () => first.settled.length === 2, 1000)
      assert.deepStrictEqual(
        new Map(first.settled),
        new Map([
          [id, "Lost"],
          [late, "Lost"],
        ]),
      )
      assert.deepStrictEqual(first.interrupted, [id])
      for (const job of [id, late]) assert.strictEqual(yield* stateOf(engine, job), "running")
    }),
  )

  it.effect("a running job keeps its lease however long it takes", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const here = yield* engineOf(filename, { lease: "10 seconds" })
      const there = yield* engineOf(filename, { lease: "10 seconds" })
      const first = yield* working(here)
      const id = yield* enqueue(here)
      yield* until("it begins", () => first.begun.length === 1)
      const second = yield* working(there)
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(second.begun.length, 0)
      yield* first.end(id)
      yield* until("it settled", () => first.settled.length === 1)
      assert.deepStrictEqual(first.settled, [[id, "Succeeded"]])
    }),
  )

  it.effect("a running job is cancelled from another process", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const here = yield* engineOf(filename)
      const there = yield* engineOf(filename)
      const worker = yield* working(there)
      const id = yield* enqueue(here)
      yield* until("it begins", () => worker.begun.length === 1)
      assert.strictEqual(yield* here.cancel(id), "requested")
      yield* until("it settled", () => worker.settled.length === 1)
      assert.deepStrictEqual(worker.settled, [[id, "Cancelled"]])
      assert.deepStrictEqual(worker.interrupted, [id])
      assert.strictEqual(yield* stateOf(here, id), "cancelled")
    }),
  )

  it.effect("closing gives running jobs back, uncharged and in their place", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename)
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(working(engine), scope)
      const id = yield* enqueue(engine)
      yield* until("it begins", () => first.begun.length === 1)
      yield* enqueue(engine)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(first.settled[0], [id, "GivenBack"])
      const record = Option.getOrThrow(yield* engine.get(id))
      assert.deepInclude(record, { state: "waiting", failures: [], crashes: 0 })
      const second = yield* working(engine, { concurrency: 1 })
      yield* until("it begins again", () => second.begun.length === 1)
      assert.strictEqual(second.begun[0]!.id, id)
    }),
  )

  it.effect("a job enqueued in a transaction exists if and only if that commits", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const context = yield* open(filename)
      const engine = Context.get(context, JobEngine.JobEngine)
      const sql = Context.get(context, SqlClient.SqlClient)
      const worker = yield* working(engine)
      yield* sql`CREATE TABLE orders (id TEXT)`
      const order = (id: string, fails: boolean) =>
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`INSERT INTO orders VALUES (${id})`
            const [answer] = yield* engine.enqueue({ jobs: [yield* newJob()] })
            assert.isTrue(answer!.pending)
            yield* TestClock.adjust(100)
            assert.strictEqual(worker.begun.length, 0, "it began before the commit")
            if (fails) return yield* Effect.fail("rolled back" as const)
            return answer!.id
          }),
        )
      assert.strictEqual(yield* Effect.flip(order("one", true)), "rolled back")
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* engine.counts, [])
      const id = yield* order("two", false)
      yield* until("it begins", () => worker.begun.length === 1)
      assert.strictEqual(worker.begun[0]!.id, id)
      assert.deepStrictEqual((yield* sql`SELECT id FROM orders`).length, 1)
    }),
  )

  it.effect("a damaged row goes to the dead letters, and the rest goes on", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename)
      const damaged = yield* enqueue(engine)
      const sound = yield* enqueue(engine)
      const database = new DatabaseSync(filename)
      database.prepare("UPDATE throughline_jobs SET failures = '{' WHERE id = ?").run(damaged)
      database.close()
      const worker = yield* working(engine, { concurrency: 1 })
      yield* until("the sound one begins", () => worker.begun.length === 1)
      assert.strictEqual(worker.begun[0]!.id, sound)
      const record = Option.getOrThrow(yield* engine.get(damaged))
      assert.strictEqual(record.state, "dead")
      assert.strictEqual(record.failures[0]!._tag, "PayloadRefused")
      const { results } = yield* engine.results({ limit: 10 })
      assert.deepStrictEqual(
        results.map(({ id, outcome }) => [id, outcome]),
        [[damaged, "dead"]],
      )
    }),
  )

  it.effect("a job that is found damaged when it is asked for is a typed error", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename)
      const id = yield* enqueue(engine)
      const database = new DatabaseSync(filename)
      database.exec("UPDATE throughline_jobs SET priority = 9")
      database.close()
      const error = yield* Effect.flip(engine.get(id))
      assert.strictEqual(error.reason._tag, "StoreBroken")
      assert.include(error.message, id)
      const sound = yield* enqueue(engine)
      assert.deepStrictEqual(
        (yield* engine.list({ limit: 10 })).map((job) => job.id),
        [sound],
      )
    }),
  )

  it.effect("records past their time are gone from every answer at once, and from the file soon", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const context = yield* open(filename)
      const engine = Context.get(context, JobEngine.JobEngine)
      const worker = yield* working(engine)
      const id = yield* enqueue(engine, { keepResult: 5000 })
      yield* until("it begins", () => worker.begun.length === 1)
      yield* worker.end(id)
      yield* until("it settled", () => worker.settled.length === 1)
      yield* TestClock.adjust(4900)
      assert.strictEqual(yield* stateOf(engine, id), "succeeded")
      yield* TestClock.adjust(200)
      assert.strictEqual(yield* stateOf(engine, id), undefined)
      assert.deepStrictEqual(yield* engine.counts, [])
      assert.deepStrictEqual(yield* engine.list({ limit: 10 }), [])
      yield* TestClock.adjust("1 hour")
      const rows = yield* Context.get(context, SqlClient.SqlClient)`SELECT id FROM throughline_jobs`
      assert.deepStrictEqual(rows, [])
    }),
  )

  it.effect("many names with many jobs are claimed in order", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename)
      const names = Array.from({ length: 120 }, (_, index) => `name-${index}` as JobName)
      const jobs = yield* Effect.forEach(names, (own, index) =>
        newJob({ name: own, priority: index % 2 === 0 ? "low" : "critical" }),
      )
      yield* engine.enqueue({ jobs })
      const worker = yield* working(engine, { concurrency: 1000, names })
      yield* until("all begin", () => worker.begun.length === 120)
      const wanted = [...names.filter((_, index) => index % 2 === 1), ...names.filter((_, index) => index % 2 === 0)]
      assert.deepStrictEqual(
        worker.begun.map((job) => job.name),
        wanted,
      )
    }),
  )

  it.effect("jobs of a name nobody handles wait and hold up no other", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename)
      yield* engine.enqueue({
        jobs: yield* Effect.forEach(Array.from({ length: 300 }), () => newJob({ name: other, priority: "critical" })),
      })
      const id = yield* enqueue(engine, { priority: "low" })
      const worker = yield* working(engine)
      yield* until("it begins", () => worker.begun.length === 1)
      assert.strictEqual(worker.begun[0]!.id, id)
      assert.deepInclude(yield* engine.counts, { name: other, state: "waiting", count: 300 })
    }),
  )
})
