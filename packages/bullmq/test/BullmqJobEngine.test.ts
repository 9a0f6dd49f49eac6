import { describe, expect } from "@effect/vitest"
import { JobEngine } from "@throughline/core/JobEngine"
import { type JobRecord, priorityRank } from "@throughline/core/JobRecord"
import { Queue, QueueEvents } from "bullmq"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { enqueue, failed, failure, json, name, newJob, stateOf, succeeded, until, untilState, workOn } from "./jobs.ts"
import * as Engines from "./Engines.ts"

const { optionsOf, secondProcess, test } = Engines.forFile()

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
    "a large batch is accepted in one step and in its order",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const jobs = yield* Effect.forEach(Array.from({ length: 3000 }), () => newJob())
      expect(yield* engine.enqueue({ jobs })).toEqual(jobs.map(({ id }) => ({ id, created: true, pending: false })))
      const first = yield* engine.list({ limit: 1000, state: "waiting" })
      expect(first.map(({ id }) => id)).toEqual(jobs.slice(0, 1000).map(({ id }) => id))
      expect(yield* engine.counts).toEqual([{ name: "mail", state: "waiting", count: 3000 }])
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
    "a job whose time has come is before those that became ready later, retried or not",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const now = Date.now()
      const delayed = yield* enqueue({ runAt: now + 100 })
      const retried = yield* enqueue()
      const first = yield* workOn(["mail"], () =>
        Effect.sync(() => ({ _tag: "Retry", failure: failure("no"), at: now + 150 }) as const),
      ).pipe(
        Effect.tap(({ settled }) =>
          until(
            "it failed",
            Effect.sync(() => settled.length === 1),
          ),
        ),
        Effect.scoped,
      )
      expect(first.started.map(({ id }) => id)).toEqual([retried.id])
      yield* Effect.sleep(Math.max(0, now + 200 - Date.now()))
      const last = yield* enqueue()
      const { started } = yield* workOn(["mail"], () => Effect.succeed(succeeded()), { concurrency: 1 })
      yield* engine.awaitSettled(last.id)
      expect(started.map(({ id }) => id)).toEqual([delayed.id, retried.id, last.id])
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
      const job = yield* enqueue()
      yield* workOn(["mail"], () => Effect.succeed(succeeded())).pipe(
        Effect.andThen(engine.awaitSettled(job.id)),
        Effect.andThen(Effect.flatMap(enqueue(), ({ id }) => engine.awaitSettled(id))),
        Effect.scoped,
        Effect.provide(secondProcess),
        Effect.timeout("3 seconds"),
      )
    }),
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
    "who waits for a job is told how it came out, even if its record is not kept",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue({ keepResult: 0 })
      const waiting = yield* Effect.forkChild(engine.awaitSettled(job.id))
      yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      expect((yield* Fiber.join(waiting)).state).toBe("succeeded")
      expect(yield* stateOf(job)).toBeUndefined()
    }),
  )

  test(
    "waiting for a job that is removed ends",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue({ runAt: Date.now() + 60_000 })
      const waiting = yield* Effect.forkChild(Effect.flip(engine.awaitSettled(job.id)))
      const queue = new Queue("mail", yield* optionsOf)
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
      const options = yield* optionsOf
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
    "what a dashboard does to a queue and its jobs is heeded",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const options = yield* optionsOf
      const queue = yield* Effect.acquireRelease(
        Effect.sync(() => new Queue("mail", options)),
        (opened) => Effect.promise(() => opened.close()),
      )
      const isDead = { now: true }
      const { started } = yield* workOn(["mail"], () =>
        Effect.sync(() => (isDead.now ? { _tag: "Dead", failure: failure("no") } : succeeded())),
      )
      const job = yield* enqueue()
      yield* engine.awaitSettled(job.id)
      isDead.now = false
      yield* Effect.promise(async () => (await queue.getJob(job.id))!.retry())
      yield* untilState(job, "succeeded")

      yield* Effect.promise(() => queue.pause())
      const paused = yield* enqueue({ runAt: Date.now() + 50 })
      yield* untilState(paused, "waiting")
      const second = yield* enqueue()
      yield* Effect.sleep(150)
      expect(started).toHaveLength(2)
      yield* Effect.promise(() => queue.resume())
      yield* engine.awaitSettled(paused.id)
      yield* engine.awaitSettled(second.id)

      const delayed = yield* enqueue({ runAt: Date.now() + 60_000 })
      yield* Effect.promise(async () => (await queue.getJob(delayed.id))!.promote())
      yield* engine.awaitSettled(delayed.id)
    }),
  )

  test(
    "a job that another program added is refused and holds up nothing",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const options = yield* optionsOf
      const queue = yield* Effect.acquireRelease(
        Effect.sync(() => new Queue("mail", options)),
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
