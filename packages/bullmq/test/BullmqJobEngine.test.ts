import { describe, expect, it } from "@effect/vitest"
import { JobEngine, type Outcome } from "@throughline/core/JobEngine"
import type { JobRecord, JobState } from "@throughline/core/JobRecord"
import { priorityRank } from "@throughline/core/JobRecord"
import { Queue, QueueEvents } from "bullmq"
import { Redis } from "ioredis"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as RedisServer from "../../redis/test/RedisServer.ts"
import type * as BullmqJobEngine from "../src/BullmqJobEngine.ts"
import { enqueue, failure, json, layerOf, name, newJob, succeeded, until, workOn } from "./jobs.ts"

const server = RedisServer.forFile()
let prefixes = 0

/** An engine under a prefix of its own. */
const engineLayer = (options: BullmqJobEngine.Options = {}) =>
  Layer.unwrap(Effect.map(server, (url) => layerOf(url, { prefix: `test-${process.pid}-${++prefixes}`, ...options })))

const test = <E>(
  title: string,
  body: Effect.Effect<void, E, JobEngine | SecureRandom.SecureRandom | Scope.Scope>,
  options?: BullmqJobEngine.Options,
) => it.live(title, () => Effect.scoped(body).pipe(Effect.provide(engineLayer(options))))

const stateOf = Effect.fnUntraced(function* (job: Pick<JobRecord, "id">) {
  const engine = yield* JobEngine
  return Option.getOrUndefined(yield* engine.get(job.id))?.state
})

const untilState = (job: Pick<JobRecord, "id">, state: JobState | undefined) =>
  until(
    `job is ${state}`,
    Effect.map(stateOf(job), (is) => is === state),
  )

const failed = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)

describe("enqueueing", () => {
  test(
    "an accepted job is kept as it was given",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const before = Date.now()
      const job = yield* newJob({
        payload: '{ "odd" :  1.0,  "text": "ä" }' as JobRecord["payload"],
        priority: "high",
        uniqueKey: "order:1 ä",
        maxAttempts: 7,
        trace: { traceId: "a".repeat(32), spanId: "b".repeat(16), sampled: true },
      })
      expect(yield* engine.enqueue({ jobs: [job] })).toEqual([{ id: job.id, created: true, pending: false }])
      const record = Option.getOrThrow(yield* engine.get(job.id))
      const { enqueuedAt, readyAt, ...rest } = record
      expect(rest).toEqual({ ...job, state: "waiting", failures: [], crashes: 0 })
      expect(enqueuedAt).toBeGreaterThanOrEqual(before)
      expect(readyAt).toBe(enqueuedAt)
    }),
  )

  test(
    "a batch over the bound is refused whole, and one that fits is accepted whole, whatever the names",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const jobs = yield* Effect.forEach(["a", "b", "c"], (each) => newJob({ name: name(each) }))
      yield* enqueue({ name: name("other"), runAt: Date.now() + 60_000 })
      const refused = yield* failed(engine.enqueue({ jobs, maxWaiting: 3 }))
      expect(refused).toMatchObject({ _tag: "PoolFull", waiting: 1, maxWaiting: 3 })
      expect(yield* Effect.forEach(jobs, stateOf)).toEqual([undefined, undefined, undefined])
      yield* engine.enqueue({ jobs, maxWaiting: 4 })
      expect(yield* Effect.forEach(jobs, stateOf)).toEqual(["waiting", "waiting", "waiting"])
      // What is there already takes no room.
      expect((yield* engine.enqueue({ jobs, maxWaiting: 4 })).map(({ created }) => created)).toEqual([
        false,
        false,
        false,
      ])
    }),
  )

  test(
    "one live job of a name holds a unique key, in one batch too, until it settles",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const [first, second, other] = [
        yield* newJob({ uniqueKey: "k" }),
        yield* newJob({ uniqueKey: "k" }),
        yield* newJob({ uniqueKey: "k", name: name("other") }),
      ]
      expect(yield* engine.enqueue({ jobs: [first, second, other] })).toEqual([
        { id: first.id, created: true, pending: false },
        { id: first.id, created: false, pending: false },
        { id: other.id, created: true, pending: false },
      ])
      yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      yield* engine.awaitSettled(first.id)
      expect((yield* engine.enqueue({ jobs: [second] }))[0]).toMatchObject({ created: true })
    }),
  )

  test(
    "the same batch again stores nothing again",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* newJob()
      yield* engine.enqueue({ jobs: [job] })
      expect(yield* engine.enqueue({ jobs: [job] })).toEqual([{ id: job.id, created: false, pending: false }])
      expect(yield* engine.counts).toEqual([{ name: "mail", state: "waiting", count: 1 }])
    }),
  )

  test(
    "a payload over the bound is refused",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* newJob({ payload: json("x".repeat(100)) })
      expect(yield* failed(engine.enqueue({ jobs: [job] }))).toMatchObject({ _tag: "PayloadTooLarge", bytes: 102 })
    }),
    { maxPayloadBytes: 50 },
  )

  test(
    "of many that fire a schedule for one time one gets the job in",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      expect(yield* engine.lastTick("nightly")).toEqual(Option.none())
      const fired = yield* Effect.forEach(
        [1, 2, 3, 4],
        () => Effect.flatMap(newJob(), (job) => engine.tick({ schedule: "nightly", at: 1000, job })),
        { concurrency: 4 },
      )
      expect(fired.filter(Option.isSome)).toHaveLength(1)
      expect(yield* engine.lastTick("nightly")).toEqual(Option.some(1000))
      expect(yield* engine.tick({ schedule: "nightly", at: 999, job: yield* newJob() })).toEqual(Option.none())
      expect(Option.isSome(yield* engine.tick({ schedule: "nightly", at: 1001, job: yield* newJob() }))).toBe(true)
    }),
  )
})

describe("running", () => {
  test(
    "a job runs to success, and everybody who waits for it is told",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const waiting = yield* newJob()
      yield* engine.enqueue({ jobs: [waiting] })
      const fiber = yield* Effect.forkChild(engine.awaitSettled(waiting.id))
      const { settled, started } = yield* workOn(["mail"], () => Effect.succeed(succeeded({ sent: 1 })))
      const record = yield* Fiber.join(fiber)
      expect(record).toMatchObject({ state: "succeeded", result: '{"sent":1}', failures: [] })
      expect(started).toMatchObject([{ id: waiting.id, state: "running" }])
      yield* until(
        "told",
        Effect.sync(() => settled.length === 1),
      )
      expect(settled[0]![0]).toEqual(record)
      expect(settled[0]![1]).toEqual({ _tag: "Succeeded", result: '{"sent":1}' })
    }),
  )

  test(
    "jobs run by priority, then in the order in which they became ready, over all names",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const jobs: Array<JobRecord["id"]> = []
      const expected: Array<readonly [number, number, string]> = []
      for (let index = 0; index < 24; index++) {
        const priority = (["low", "critical", "normal", "high"] as const)[(index * 7) % 4]!
        const job = yield* newJob({ name: name(index % 3 === 0 ? "a" : index % 3 === 1 ? "b" : "c"), priority })
        yield* engine.enqueue({ jobs: [job] })
        const { readyAt } = Option.getOrThrow(yield* engine.get(job.id))
        jobs.push(job.id)
        expected.push([priorityRank[priority], readyAt, job.id])
      }
      const { started } = yield* workOn(["a", "b", "c"], () => Effect.succeed(succeeded()), { concurrency: 1 })
      yield* until(
        "all ran",
        Effect.sync(() => started.length === jobs.length),
      )
      const order = expected.toSorted((a, b) => a[0] - b[0] || a[1] - b[1] || (a[2] < b[2] ? -1 : 1))
      // Handling begins name by name, so the first job may be of the first name.
      expect(started.slice(1).map(({ id }) => id)).toEqual(
        order.map(([, , id]) => id).filter((id) => id !== started[0]!.id),
      )
    }),
  )

  test(
    "a delayed job holds up no other, and runs when its time has come",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const at = Date.now() + 400
      const late = yield* enqueue({ priority: "critical", runAt: at })
      expect(yield* stateOf(late)).toBe("delayed")
      const { started } = yield* workOn(["mail"], () => Effect.succeed(succeeded()), { concurrency: 1 })
      const early = yield* enqueue({ priority: "low" })
      expect((yield* engine.awaitSettled(early.id)).settledAt).toBeLessThan(at)
      const record = yield* engine.awaitSettled(late.id)
      expect(started.map(({ id }) => id)).toEqual([early.id, late.id])
      expect(record.readyAt).toBe(at)
      expect(record.startedAt).toBeGreaterThanOrEqual(at)
      expect(record.startedAt).toBeLessThan(at + 300)
    }),
  )

  test(
    "no more jobs run at once than the process and the name allow, and no claimed job waits for a slot",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      let now = 0
      let most = 0
      const perName = new Map<string, number>()
      let mostOfName = 0
      const jobs = yield* Effect.forEach(Array.from({ length: 30 }), (_, index) =>
        newJob({ name: name(index % 2 === 0 ? "a" : "b") }),
      )
      yield* engine.enqueue({ jobs })
      const running: Array<number> = []
      yield* workOn(
        ["a", "b"],
        ({ job }) =>
          Effect.gen(function* () {
            most = Math.max(most, ++now)
            perName.set(job.name, (perName.get(job.name) ?? 0) + 1)
            mostOfName = Math.max(mostOfName, perName.get(job.name)!)
            const counts = yield* Effect.orDie(engine.counts)
            running.push(counts.reduce((sum, { count, state }) => sum + (state === "running" ? count : 0), 0))
            yield* Effect.sleep(5)
            now--
            perName.set(job.name, perName.get(job.name)! - 1)
            return succeeded()
          }),
        { concurrency: 3, perName: 2 },
      )
      yield* Effect.forEach(jobs, ({ id }) => engine.awaitSettled(id))
      expect(most).toBe(3)
      expect(mostOfName).toBe(2)
      expect(Math.max(...running)).toBeLessThanOrEqual(3)
    }),
  )

  test(
    "a failed attempt is stored and made again at the time that was asked for",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const times: Array<number> = []
      const job = yield* enqueue({ maxAttempts: 2 })
      const { settled } = yield* workOn(["mail"], ({ job: { failures } }) =>
        Effect.sync(() => {
          if (failures.length === 3) return succeeded()
          const at = failures.length === 0 ? Date.now() + 150 : Date.now() - 5
          times.push(at)
          return { _tag: "Retry", failure: failure(`no ${failures.length}`), at } as const
        }),
      )
      const record = yield* engine.awaitSettled(job.id)
      expect(record).toMatchObject({ state: "succeeded", failures: [0, 1, 2].map((n) => failure(`no ${n}`)) })
      yield* until(
        "told",
        Effect.sync(() => settled.length === 4),
      )
      expect(settled.map(([, { _tag }]) => _tag)).toEqual(["Retry", "Retry", "Retry", "Succeeded"])
      expect(settled[0]![0]).toMatchObject({ state: "delayed", readyAt: times[0] })
      expect(record.startedAt).toBeGreaterThanOrEqual(times[0]!)
    }),
  )

  test(
    "what is given up is dead, and can be retried as if it were new, or removed",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      let outcome: "Dead" | "Succeeded" = "Dead"
      const job = yield* enqueue({ uniqueKey: "k" })
      const other = yield* enqueue({ name: name("other") })
      yield* workOn(["mail"], () =>
        Effect.sync(() => (outcome === "Dead" ? { _tag: "Dead", failure: failure("broken") } : succeeded())),
      )
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "dead", failures: [failure("broken")] })
      expect(yield* failed(engine.retryDead(other.id))).toMatchObject({ _tag: "JobNotDead", state: "waiting" })
      expect(yield* failed(engine.removeDead((yield* newJob()).id))).toMatchObject({ _tag: "JobUnknown" })

      outcome = "Succeeded"
      yield* engine.retryDead(job.id)
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "succeeded", failures: [], crashes: 0 })

      outcome = "Dead"
      const second = yield* enqueue({ uniqueKey: "k" })
      yield* engine.awaitSettled(second.id)
      const holder = yield* enqueue({ uniqueKey: "k", runAt: Date.now() + 60_000 })
      expect(yield* failed(engine.retryDead(second.id))).toMatchObject({ _tag: "UniqueKeyTaken", holder: holder.id })
      yield* engine.removeDead(second.id)
      expect(yield* stateOf(second)).toBeUndefined()
    }),
  )

  test(
    "the last progress is kept in the record",
    Effect.gen(function* () {
      const job = yield* enqueue()
      const engine = yield* JobEngine
      yield* workOn(["mail"], (claim) =>
        Effect.andThen(
          Effect.orDie(claim.progress(json(0.5))),
          Effect.as(Effect.orDie(claim.progress(json("done"))), succeeded()),
        ),
      )
      expect((yield* engine.awaitSettled(job.id)).progress).toBe('"done"')
    }),
  )

  test(
    "jobs of a name that nobody handles wait, and are counted",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const unhandled = yield* enqueue({ name: name("nobody") })
      const late = yield* enqueue({ name: name("nobody"), runAt: Date.now() + 50 })
      yield* enqueue({ name: name("nobody"), runAt: Date.now() + 60_000 })
      const done = yield* enqueue()
      yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      yield* engine.awaitSettled(done.id)
      yield* untilState(late, "waiting")
      expect(yield* stateOf(unhandled)).toBe("waiting")
      const counts = yield* engine.counts
      expect(counts).toHaveLength(3)
      expect(counts).toContainEqual({ name: "nobody", state: "waiting", count: 2 })
      expect(counts).toContainEqual({ name: "nobody", state: "delayed", count: 1 })
      expect(counts).toContainEqual({ name: "mail", state: "succeeded", count: 1 })
    }),
  )

  test(
    "paused, a process claims nothing; resumed, it goes on",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const { started, working } = yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      yield* engine.awaitSettled((yield* enqueue()).id)
      yield* working.pause
      const job = yield* enqueue()
      yield* Effect.sleep(100)
      expect(started).toHaveLength(1)
      expect(yield* stateOf(job)).toBe("waiting")
      yield* working.resume
      yield* engine.awaitSettled(job.id)
    }),
  )

  test(
    "a job of a name that a paused process was waiting for is run by another at once",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const { working } = yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      yield* engine.awaitSettled((yield* enqueue()).id)
      yield* working.pause
      const url = yield* server
      const other = layerOf(url, { prefix: `test-${process.pid}-${prefixes}` })
      const job = yield* enqueue()
      yield* workOn(["mail"], () => Effect.succeed(succeeded())).pipe(
        Effect.andThen(engine.awaitSettled(job.id)),
        Effect.andThen(Effect.flatMap(enqueue(), ({ id }) => engine.awaitSettled(id))),
        Effect.scoped,
        Effect.provide(other),
        Effect.timeout("3 seconds"),
      )
    }),
  )
})

describe("stopping", () => {
  test(
    "a closed scope interrupts what runs and gives it back uncharged, in the place it had",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const running = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const first = yield* enqueue()
      const { settled } = yield* Scope.provide(
        workOn(["mail"], () => Effect.andThen(Deferred.succeed(running, undefined), Effect.never), { concurrency: 1 }),
        scope,
      )
      yield* Deferred.await(running)
      const second = yield* enqueue()
      const before = Option.getOrThrow(yield* engine.get(first.id))
      yield* Scope.close(scope, Exit.void)
      expect(settled.map(([{ id }, { _tag }]) => [id, _tag])).toEqual([[first.id, "GivenBack"]])
      expect(Option.getOrThrow(yield* engine.get(first.id))).toEqual({ ...before, state: "waiting" })
      const { started } = yield* workOn(["mail"], () => Effect.succeed(succeeded()), { concurrency: 1 })
      yield* engine.awaitSettled(second.id)
      expect(started.map(({ crashes, failures, id }) => [id, crashes, failures])).toEqual([
        [first.id, 0, []],
        [second.id, 0, []],
      ])
    }),
  )

  test(
    "a stopped name claims no more, and what runs goes on",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const go = yield* Deferred.make<void>()
      const job = yield* enqueue()
      const { handled, started } = yield* workOn(["mail"], () => Effect.as(Deferred.await(go), succeeded()))
      yield* until(
        "it runs",
        Effect.sync(() => started.length === 1),
      )
      yield* handled[0]!.stop
      const later = yield* enqueue()
      yield* Deferred.succeed(go, undefined)
      expect((yield* engine.awaitSettled(job.id)).state).toBe("succeeded")
      expect(yield* stateOf(later)).toBe("waiting")
    }),
  )

  test(
    "a job that waits is cancelled at once, one that runs by its worker in another process",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const waiting = yield* enqueue({ uniqueKey: "k" })
      const delayed = yield* enqueue({ runAt: Date.now() + 60_000 })
      expect(yield* engine.cancel(waiting.id)).toBe("cancelled")
      expect(yield* engine.cancel(delayed.id)).toBe("cancelled")
      expect(yield* engine.cancel(waiting.id)).toBe("settled")
      expect(yield* engine.awaitSettled(waiting.id)).toMatchObject({ state: "cancelled", failures: [] })
      expect(yield* failed(engine.cancel((yield* newJob()).id))).toMatchObject({ _tag: "JobUnknown" })
      expect(yield* failed(engine.retryDead(waiting.id))).toMatchObject({ _tag: "JobNotDead", state: "cancelled" })

      const url = yield* server
      const other = layerOf(url, { prefix: `test-${process.pid}-${prefixes}` })
      yield* Effect.gen(function* () {
        const { settled, started } = yield* workOn(["mail"], () => Effect.never)
        const job = yield* enqueue({ uniqueKey: "k" })
        yield* until(
          "it runs",
          Effect.sync(() => started.length === 1),
        )
        expect(yield* engine.cancel(job.id)).toBe("requested")
        expect((yield* engine.awaitSettled(job.id)).state).toBe("cancelled")
        expect(settled.map(([, { _tag }]) => _tag)).toEqual(["Cancelled"])
        expect(yield* engine.counts).toEqual([{ name: "mail", state: "cancelled", count: 3 }])
      }).pipe(Effect.scoped, Effect.provide(other))
    }),
  )

  test(
    "of a job whose cancellation was asked for only a success stands",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const url = yield* server
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (opened) => Effect.sync(() => opened.disconnect()),
      )
      const outcomes: Record<string, Outcome> = {
        a: succeeded(),
        b: { _tag: "Retry", failure: failure("no"), at: 0 },
        c: { _tag: "Retry", failure: failure("no"), at: Date.now() + 60_000 },
        d: { _tag: "Dead", failure: failure("no") },
      }
      const names = Object.keys(outcomes)
      const jobs = yield* Effect.forEach(names, (each) => enqueue({ name: name(each) }))
      // The flag is stored, but what tells the worker is still under way.
      const { settled } = yield* workOn(names, ({ job }) =>
        Effect.as(
          Effect.promise(() =>
            client.hset(`{test-${process.pid}-${prefixes}}:${job.name}:${job.id}`, "tl:cancel", "1"),
          ),
          outcomes[job.name]!,
        ),
      )
      const records = yield* Effect.forEach(jobs, ({ id }) => engine.awaitSettled(id))
      expect(records.map(({ failures, state }) => [state, failures.length])).toEqual([
        ["succeeded", 0],
        ["cancelled", 0],
        ["cancelled", 0],
        ["cancelled", 0],
      ])
      yield* until(
        "told",
        Effect.sync(() => settled.length === 4),
      )
      expect(settled.map(([{ state }, { _tag }]) => `${state} ${_tag}`).toSorted()).toEqual([
        "cancelled Cancelled",
        "cancelled Cancelled",
        "cancelled Cancelled",
        "succeeded Succeeded",
      ])
    }),
  )
})

describe("crashes", () => {
  /** A worker whose run breaks its promise never to fail, some times, is one that is gone. */
  const crash = Effect.fnUntraced(function* (rounds: number) {
    const engine = yield* JobEngine
    const job = yield* enqueue()
    const second = yield* enqueue()
    let left = rounds
    const seen = yield* workOn(
      ["mail"],
      (claim) =>
        claim.job.id === job.id && left-- > 0
          ? Effect.die("killed")
          : Effect.succeed(succeeded(claim.job.failures.length)),
      { maxCrashes: 2, concurrency: 1 },
    )
    return { engine, job, second, ...seen }
  })
  const quick = { lockDuration: 300, stalledInterval: 150 }

  test(
    "a crash of the worker is no attempt, and the job is ready again",
    Effect.gen(function* () {
      const { engine, job } = yield* crash(1)
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "succeeded", crashes: 1, failures: [] })
    }),
    quick,
  )

  test(
    "after too many crashes it is dead with WorkerCrashed, and the pool is told",
    Effect.gen(function* () {
      const { engine, job, settled } = yield* crash(5)
      const record = yield* engine.awaitSettled(job.id)
      expect(record).toMatchObject({ state: "dead", crashes: 2, failures: [{ _tag: "WorkerCrashed", crashes: 2 }] })
      yield* until(
        "told",
        Effect.sync(() => settled.some(([, { _tag }]) => _tag === "Dead")),
      )
      const { results } = yield* engine.results({ limit: 100 })
      expect(results.find(({ id }) => id === job.id)).toMatchObject({ outcome: "dead", failedAttempts: 1 })
      yield* engine.retryDead(job.id)
      yield* until(
        "it runs again",
        Effect.map(stateOf(job), (state) => state !== "dead"),
      )
    }),
    quick,
  )

  test(
    "a job that runs longer than a lock keeps it",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue()
      const { started } = yield* workOn(["mail"], () => Effect.as(Effect.sleep(1200), succeeded()))
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "succeeded", crashes: 0 })
      expect(started).toHaveLength(1)
    }),
    quick,
  )
})

describe("results", () => {
  test(
    "a slow reader gets every result once, in order, until they are trimmed",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const start = yield* engine.resultsEnd
      expect(yield* engine.results({ limit: 10 })).toEqual({ results: [], cursor: start })
      const more = yield* Effect.forkChild(engine.awaitResults(start))
      const jobs = yield* Effect.forEach(Array.from({ length: 5 }), () => newJob())
      yield* engine.enqueue({ jobs })
      yield* workOn(["mail"], ({ job }) => Effect.succeed(succeeded(job.id)), { concurrency: 1 })
      yield* Effect.forEach(jobs, ({ id }) => engine.awaitSettled(id))
      yield* Fiber.join(more)
      const first = yield* engine.results({ limit: 2, after: start })
      const rest = yield* engine.results({ limit: 100, after: first.cursor })
      const all = [...first.results, ...rest.results]
      expect(all.map(({ position }) => position)).toEqual([1, 2, 3, 4, 5])
      expect(all.map(({ id, result }) => [id, result])).toEqual(jobs.map(({ id }) => [id, json(id)]))
      const three = yield* Effect.forEach([1, 2, 3], () => enqueue())
      yield* Effect.forEach(three, ({ id }) => engine.awaitSettled(id))
      expect(yield* failed(engine.results({ limit: 10, after: start }))).toMatchObject({ _tag: "HistoryTruncated" })
      const kept = yield* engine.results({ limit: 10 })
      expect(kept.results.map(({ position }) => position)).toEqual([4, 5, 6, 7, 8])
      expect(yield* failed(engine.results({ limit: 10, after: "99-aaaaaaaa" }))).toMatchObject({
        _tag: "InvalidCursor",
      })
      expect(yield* failed(engine.results({ limit: 10, after: "nonsense" }))).toMatchObject({ _tag: "InvalidCursor" })
    }),
    { maxResults: 5 },
  )

  test(
    "a record is kept as long as its own job says, and its result stays in the log",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      const short = yield* enqueue({ keepResult: 50 })
      const long = yield* enqueue({ keepResult: 60_000 })
      expect((yield* engine.awaitSettled(short.id)).state).toBe("succeeded")
      yield* engine.awaitSettled(long.id)
      yield* untilState(short, undefined)
      expect(yield* stateOf(long)).toBe("succeeded")
      expect((yield* engine.results({ limit: 10 })).results).toHaveLength(2)
    }),
  )

  test(
    "waiting for a job that is removed ends",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue({ runAt: Date.now() + 60_000 })
      const waiting = yield* Effect.forkChild(Effect.flip(engine.awaitSettled(job.id)))
      const url = yield* server
      const queue = new Queue("mail", {
        connection: { url },
        prefix: `{test-${process.pid}-${prefixes}}`,
      })
      yield* Effect.promise(async () => {
        await queue.remove(job.id)
        await queue.close()
      })
      expect(yield* Fiber.join(waiting)).toMatchObject({ _tag: "JobUnknown", id: job.id })
      expect(yield* failed(engine.awaitSettled(job.id))).toMatchObject({ _tag: "JobUnknown" })
    }),
  )

  test(
    "records are listed in the order of their ids, by name and state, in pages",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const jobs = yield* Effect.forEach(Array.from({ length: 12 }), (_, index) =>
        newJob({
          name: name(index % 2 === 0 ? "a" : "b"),
          ...(index % 3 === 0 ? { runAt: Date.now() + 60_000 } : undefined),
        }),
      )
      yield* engine.enqueue({ jobs: jobs.toReversed() })
      const ids = jobs.map(({ id }) => id).toSorted()
      const first = yield* engine.list({ limit: 5 })
      const second = yield* engine.list({ limit: 5, after: first.at(-1)!.id })
      const third = yield* engine.list({ limit: 5, after: second.at(-1)!.id })
      expect([...first, ...second, ...third].map(({ id }) => id)).toEqual(ids)
      expect((yield* engine.list({ limit: 100, name: name("a") })).every((job) => job.name === "a")).toBe(true)
      expect(yield* engine.list({ limit: 100, state: "delayed" })).toHaveLength(4)
      expect(yield* engine.list({ limit: 100, state: "dead" })).toEqual([])
    }),
  )
})

describe("beside BullMQ", () => {
  test(
    "its queues and events see ordinary jobs",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const url = yield* server
      const options = { connection: { url }, prefix: `{test-${process.pid}-${prefixes}}` }
      const queue = yield* Effect.acquireRelease(
        Effect.sync(() => new Queue("mail", options)),
        (opened) => Effect.promise(() => opened.close()),
      )
      const events = yield* Effect.acquireRelease(
        Effect.sync(() => new QueueEvents("mail", options)),
        (opened) => Effect.promise(() => opened.close()),
      )
      yield* Effect.promise(() => events.waitUntilReady())
      const completed: Array<string> = []
      events.on("completed", ({ jobId }) => completed.push(jobId))
      let fails = 1
      yield* workOn(["mail"], () =>
        Effect.sync(() => (fails-- > 0 ? { _tag: "Retry", failure: failure("no"), at: 0 } : succeeded({ ok: true }))),
      )
      const job = yield* enqueue({ priority: "high", maxAttempts: 5 })
      yield* engine.awaitSettled(job.id)
      const seen = yield* Effect.promise(() => queue.getJob(job.id))
      expect(seen).toMatchObject({
        name: "mail",
        data: { to: "a@b" },
        returnvalue: { ok: true },
        attemptsMade: 2,
        priority: 2,
        opts: { attempts: 5 },
        stacktrace: ['HandlerFailed: "no"'],
      })
      yield* until(
        "the event",
        Effect.sync(() => completed.includes(job.id)),
      )
      expect(yield* Effect.promise(() => queue.getJobCounts("completed", "failed"))).toEqual({
        completed: 1,
        failed: 0,
      })
    }),
  )

  test(
    "a job that another program added is refused and holds up nothing",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const url = yield* server
      const queue = yield* Effect.acquireRelease(
        Effect.sync(() => new Queue("mail", { connection: { url }, prefix: `{test-${process.pid}-${prefixes}}` })),
        (opened) => Effect.promise(() => opened.close()),
      )
      yield* Effect.promise(() => queue.add("mail", { foreign: true }))
      const job = yield* enqueue()
      yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      expect((yield* engine.awaitSettled(job.id)).state).toBe("succeeded")
      yield* until(
        "refused",
        Effect.promise(async () => (await queue.getFailedCount()) === 1),
      )
      expect(yield* engine.list({ limit: 10 })).toHaveLength(1)
    }),
  )
})
