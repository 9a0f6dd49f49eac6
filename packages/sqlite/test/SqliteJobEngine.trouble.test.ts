import { assert, describe, it } from "@effect/vitest"
import * as JobEngine from "@throughline/core/JobEngine"
import type { JobId, JobJson, JobName, NewJob } from "@throughline/core/JobRecord"
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
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
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

const engineOf = (filename: string, busyRetry?: Schedule.Schedule<unknown>) =>
  Effect.map(
    Layer.build(
      SqliteJobEngine.layer({ lease: "1 second" }).pipe(
        Layer.provideMerge(SqliteClient.layer({ filename, busyRetry })),
        Layer.provide(Throughline.layerCrypto),
      ),
    ),
    (context) => Context.get(context, JobEngine.JobEngine),
  )

const name = "mail" as JobName

const newJob = Effect.map(
  Effect.provide(
    Effect.flatMap(SecureRandom.SecureRandom, (random) => random.uuidV7()),
    Throughline.layerCrypto,
  ),
  (id): NewJob => ({
    id: id as JobId,
    name,
    payload: "{}" as JobJson,
    priority: "normal",
    maxAttempts: 4,
    keepResult: 60_000,
    keepDead: 60_000,
  }),
)

const succeeded = { _tag: "Succeeded", result: "null" as JobJson } as const

/** Waits until something is so, for a minute at most. */
const until = Effect.fnUntraced(function* (isSo: Effect.Effect<boolean, unknown>) {
  yield* Effect.retry(
    Effect.flatMap(isSo, (so) => (so ? Effect.void : Effect.fail("not yet"))),
    Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "1 minute" })),
  )
})

describe("SqliteJobEngine in trouble", () => {
  it.live(
    "a job whose outcome could not be stored while its claim held runs again, whatever else its worker does",
    () =>
      Effect.gen(function* () {
        const filename = yield* file
        const engine = yield* engineOf(filename, Schedule.recurs(0))
        const locked = new DatabaseSync(filename, { timeout: 5000 })
        yield* Effect.addFinalizer(() => Effect.sync(() => locked.close()))
        const [short, long] = [yield* newJob, yield* newJob]
        const runs = new Map<JobId, number>()
        const end = yield* Deferred.make<void>()
        const working = yield* engine.work(
          { concurrency: 2, maxCrashes: 10 },
          {
            run: ({ job }) =>
              Effect.gen(function* () {
                const run = (runs.get(job.id) ?? 0) + 1
                runs.set(job.id, run)
                // The other one goes on for as long as the test: its claim is renewed all the while.
                if (job.id === long.id) yield* Deferred.await(end)
                else if (run === 1) yield* Effect.sync(() => locked.exec("BEGIN IMMEDIATE"))
                return succeeded
              }),
            settled: () => Effect.void,
          },
        )
        yield* engine.enqueue({ jobs: [short, long] })
        yield* working.handle(name, {})
        yield* until(Effect.sync(() => locked.isTransaction))
        // Longer than the claim holds.
        yield* Effect.sleep("1500 millis")
        yield* Effect.sync(() => locked.exec("COMMIT"))
        yield* until(Effect.map(engine.get(short.id), (job) => job._tag === "Some" && job.value.state === "succeeded"))
        yield* Deferred.succeed(end, undefined)
      }),
  )

  it.live("whoever waits when an engine is closed is told, and so is whoever asks afterwards", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const engine = yield* Scope.provide(engineOf(yield* file), scope)
      const job = yield* newJob
      yield* engine.enqueue({ jobs: [job] })
      const end = yield* engine.resultsEnd
      const awaiting = yield* Effect.forkChild(Effect.exit(engine.awaitSettled(job.id)), { startImmediately: true })
      const reading = yield* Effect.forkChild(Effect.exit(engine.awaitResults(end)), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(awaiting)))
      assert.isTrue(Exit.isFailure(yield* Fiber.join(reading)))
      const error = yield* Effect.flip(engine.enqueue({ jobs: [yield* newJob] }))
      assert.strictEqual(error._tag === "EngineFailed" && error.reason._tag, "StoreUnavailable")
    }),
  )

  it.live("a run that can't be interrupted doesn't hold up the end of the work once its name was let go", () =>
    Effect.gen(function* () {
      const engine = yield* engineOf(yield* file)
      const job = yield* newJob
      const begun = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      const work = yield* Scope.make()
      const handled = yield* Scope.make()
      const working = yield* Scope.provide(
        engine.work(
          { concurrency: 1, maxCrashes: 10 },
          {
            run: () =>
              Effect.uninterruptible(
                Deferred.succeed(begun, undefined).pipe(Effect.andThen(Deferred.await(end)), Effect.as(succeeded)),
              ),
            settled: () => Effect.void,
          },
        ),
        work,
      )
      yield* Scope.provide(working.handle(name, {}), handled)
      yield* engine.enqueue({ jobs: [job] })
      yield* Deferred.await(begun)
      const letGo = yield* Effect.forkChild(Scope.close(handled, Exit.void), { startImmediately: true })
      // It may be handled anew, although its job still runs.
      yield* until(Effect.isSuccess(Scope.provide(working.handle(name, {}), work)))
      yield* Scope.close(work, Exit.void)
      assert.isUndefined(letGo.pollUnsafe())
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(letGo)
    }),
  )

  it.live("a job that was to be cancelled when its worker died is cancelled, and that is told", () =>
    Effect.gen(function* () {
      const filename = yield* file
      const engine = yield* engineOf(filename)
      const job = yield* newJob
      yield* engine.enqueue({ jobs: [job] })
      const database = new DatabaseSync(filename)
      database.exec(
        "UPDATE throughline_jobs SET state = 'running', claim = 1, worker = 'gone', lease_until = 0, cancel_requested = 1",
      )
      database.close()
      const told: Array<string> = []
      yield* engine.work(
        { concurrency: 1, maxCrashes: 10 },
        { run: () => Effect.succeed(succeeded), settled: (_, { _tag }) => Effect.sync(() => void told.push(_tag)) },
      )
      yield* until(Effect.sync(() => told.length > 0))
      assert.deepStrictEqual(told, ["Cancelled"])
      assert.strictEqual((yield* engine.awaitSettled(job.id)).state, "cancelled")
    }),
  )
})
