import { describe, expect, it } from "@effect/vitest"
import { JobEngine } from "@throughline/core/JobEngine"
import type { NewJob } from "@throughline/core/JobRecord"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as RedisServer from "../../redis/test/RedisServer.ts"
import { json, layerOf, name, newJob, succeeded, until, workOn } from "./jobs.ts"
import { alone } from "./overlaps.ts"

const worker = fileURLToPath(new URL("worker.ts", import.meta.url))

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-jobs-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true })),
)

class WorkerEnded extends Data.TaggedError("WorkerEnded")<{ readonly errors: string }> {}

interface Told {
  readonly starts: Map<string, number>
  readonly twice: Array<string>
}

/** A worker process that is killed so many ms after it has begun to work; `undefined`: when the scope closes. */
const workerProcess = (args: ReadonlyArray<string>, told: Told, killAfter: number | undefined) =>
  Effect.callback<void, WorkerEnded>((resume) => {
    const child = spawn(process.execPath, [worker, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    let errors = ""
    let timer: NodeJS.Timeout | undefined
    child.stderr.on("data", (data) => (errors += String(data)))
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [what, id = ""] = line.split(" ")
      if (what === "twice") told.twice.push(id)
      if (what === "start") told.starts.set(id, (told.starts.get(id) ?? 0) + 1)
      if (what === "ready" && killAfter !== undefined) timer = setTimeout(() => child.kill("SIGKILL"), killAfter)
    })
    child.once("close", (_code, signal) =>
      resume(signal === "SIGKILL" ? Effect.void : Effect.fail(new WorkerEnded({ errors }))),
    )
    return Effect.callback<void>((done) => {
      clearTimeout(timer)
      child.once("close", () => done(Effect.void))
      if (child.exitCode !== null || child.signalCode !== null) done(Effect.void)
      child.kill("SIGKILL")
    })
  })

const jobsOf = (count: number, most: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    Effect.fnUntraced(function* (index: number) {
      const millis = yield* Random.nextIntBetween(0, most)
      const priority = (["critical", "high", "normal", "low"] as const)[index % 4]!
      return yield* newJob({ name: name(index % 3 === 0 ? "b" : "a"), payload: json(millis), priority, maxAttempts: 1 })
    }),
  )

const isRetryable = (error: { readonly _tag: string; readonly isRetryable?: boolean }): boolean =>
  error.isRetryable === true

/** All of them succeeded at the first attempt, and each has one entry in the log. */
const expectAllSucceeded = Effect.fnUntraced(function* (jobs: ReadonlyArray<NewJob>) {
  const engine = yield* JobEngine
  const records = yield* Effect.forEach(jobs, ({ id }) => engine.awaitSettled(id), { concurrency: 50 })
  expect(records.filter(({ failures, state }) => state !== "succeeded" || failures.length > 0)).toEqual([])
  const logged: Array<string> = []
  let cursor: string | undefined
  for (;;) {
    const page = yield* engine.results({ limit: 1000, after: cursor })
    if (page.results.length === 0) break
    logged.push(...page.results.map(({ id }) => id))
    cursor = page.cursor
  }
  expect(logged.toSorted()).toEqual(jobs.map(({ id }) => id).toSorted())
  return records
})

describe("faults", () => {
  it.live(
    "workers that are killed lose no job, run none twice at once and cost no attempt",
    () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.make()
        const files = yield* directory
        const told: Told = { starts: new Map(), twice: [] }
        yield* Effect.gen(function* () {
          const engine = yield* JobEngine
          const jobs = yield* jobsOf(600, 400)
          yield* engine.enqueue({ jobs })
          // Two at once, of which one is killed at a random point, five times; then one to the end.
          const killed = Effect.gen(function* () {
            const after = yield* Random.nextIntBetween(10, 500)
            yield* workerProcess([url, "faults", files], told, after)
          })
          yield* Effect.forkScoped(workerProcess([url, "faults", files], told, undefined))
          yield* Effect.repeat(killed, Schedule.recurs(4))
          yield* Effect.forkScoped(workerProcess([url, "faults", files], told, undefined))
          const records = yield* expectAllSucceeded(jobs)
          expect(told.twice).toEqual([])
          // The kills met running jobs.
          const crashes = records.reduce((sum, job) => sum + job.crashes, 0)
          expect(crashes).toBeGreaterThan(0)
          expect([...told.starts.values()].reduce((sum, starts) => sum + starts, 0)).toBeGreaterThan(jobs.length)
        }).pipe(
          Effect.scoped,
          Effect.provide(layerOf(url, { prefix: "faults", lockDuration: 1000, stalledInterval: 400 })),
        )
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live(
    "a Redis that is killed and comes back loses no accepted job, and workers take work again by themselves",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ appendfsync: "always" })
        const files = yield* directory
        yield* Effect.gen(function* () {
          const engine = yield* JobEngine
          const twice: Array<string> = []
          const ran = new Map<string, number>()
          yield* workOn(
            ["a", "b"],
            ({ job }) => {
              const handler = Effect.andThen(
                Effect.sync(() => ran.set(job.id, (ran.get(job.id) ?? 0) + 1)),
                Effect.as(Effect.sleep(Number(job.payload)), succeeded()),
              )
              return alone(files, job.id, handler, (id) => twice.push(id))
            },
            { concurrency: 10, maxCrashes: 100 },
          )
          const jobs = yield* jobsOf(400, 30)
          let accepted = 0
          // What wasn't answered is given again, under the same ids.
          const enqueueing = Effect.forEach(
            jobs,
            (job) =>
              Effect.tap(
                Effect.retry(engine.enqueue({ jobs: [job] }), {
                  while: isRetryable,
                  schedule: Schedule.spaced("20 millis"),
                }),
                () => Effect.sync(() => accepted++),
              ),
            { concurrency: 4, discard: true },
          )
          const adding = yield* Effect.forkChild(enqueueing)
          const waiting = yield* Effect.forkChild(
            Effect.retry(engine.awaitSettled(jobs.at(-1)!.id), Schedule.spaced("50 millis")),
          )
          for (const [at, pause] of [
            [60, 0],
            [150, 300],
            [260, 2500],
          ] as const) {
            yield* until(
              "so many are accepted",
              Effect.sync(() => accepted >= at),
              20_000,
            )
            yield* server.kill()
            yield* Effect.sleep(pause)
            yield* server.start
          }
          yield* Fiber.join(adding)
          expect((yield* Fiber.join(waiting)).state).toBe("succeeded")
          yield* Effect.retry(expectAllSucceeded(jobs), {
            while: isRetryable,
            schedule: Schedule.spaced("50 millis"),
          })
          expect(twice).toEqual([])
          expect(ran.size).toBe(jobs.length)
        }).pipe(
          Effect.scoped,
          Effect.provide(
            layerOf(server.url, {
              prefix: "faults",
              lockDuration: 1500,
              stalledInterval: 500,
              reconnect: Schedule.spaced("50 millis"),
            }),
          ),
        )
      }).pipe(Effect.scoped),
    60_000,
  )
})
