import { describe, expect } from "@effect/vitest"
import { JobEngine, type Outcome } from "@throughline/core/JobEngine"
import { Redis } from "ioredis"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import process from "node:process"
import { enqueue, failed, failure, name, newJob, stateOf, succeeded, until, workOn } from "./jobs.ts"
import * as Engines from "./Engines.ts"

const { optionsOf, secondProcess, test } = Engines.forFile()

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
      }).pipe(Effect.scoped, Effect.provide(secondProcess))
    }),
  )

  test(
    "of a job whose cancellation was asked for only a success stands",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const { prefix, url } = yield* optionsOf
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
          Effect.promise(() => client.hset(`${prefix}:${job.name}:${job.id}`, "tl:cancel", "1")),
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

describe("leaving", () => {
  test(
    "handling a name again and again leaves nothing behind",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const warnings: Array<string> = []
      const onWarning = (warning: Error) => warnings.push(warning.message)
      process.on("warning", onWarning)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.off("warning", onWarning)))
      for (let round = 0; round < 30; round++) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* workOn(["mail"], () => Effect.succeed(succeeded()))
            yield* engine.awaitSettled((yield* enqueue()).id)
          }),
        )
      }
      expect(warnings).toEqual([])
      const { url } = yield* optionsOf
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (opened) => Effect.sync(() => opened.disconnect()),
      )
      // The engine's own two, and the one that asks.
      const connections = Effect.promise(
        async () =>
          String(await client.client("LIST"))
            .trim()
            .split("\n").length,
      )
      yield* until(
        "connections are closed",
        Effect.map(connections, (count) => count === 3),
      )
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

  /** Takes a running job's lock away, as if it had run out while its process stood still. */
  const unlock = Effect.fnUntraced(function* (id: string) {
    const { prefix, url } = yield* optionsOf
    yield* Effect.promise(async () => {
      const client = new Redis(url)
      await client.del(`${prefix}:mail:${id}:lock`)
      client.disconnect()
    })
  })

  test(
    "a claim that was lost is interrupted, and its job runs again elsewhere",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue()
      const first = yield* workOn(["mail"], ({ job: { crashes } }) =>
        crashes === 0 ? Effect.never : Effect.succeed(succeeded("again")),
      )
      yield* until(
        "it runs",
        Effect.sync(() => first.started.length === 1),
      )
      yield* unlock(job.id)
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "succeeded", result: '"again"', crashes: 1 })
      yield* until(
        "told",
        Effect.sync(() => first.settled.length === 2),
      )
      expect(first.settled.map(([, { _tag }]) => _tag)).toEqual(["Lost", "Succeeded"])
    }),
    quick,
  )

  test(
    "a job whose worker was gone too often is dead, and the process that found out is told",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue()
      const { settled, started } = yield* workOn(["mail"], () => Effect.never, { maxCrashes: 1 })
      yield* until(
        "it runs",
        Effect.sync(() => started.length === 1),
      )
      yield* unlock(job.id)
      const failures = [{ _tag: "WorkerCrashed", crashes: 1 }]
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "dead", crashes: 1, failures })
      yield* until(
        "told",
        Effect.sync(() => settled.length === 2),
      )
      expect(settled.map(([, { _tag }]) => _tag).toSorted()).toEqual(["Dead", "Lost"])
    }),
    quick,
  )

  test(
    "a job that was to be cancelled when its worker was gone is cancelled",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue()
      const { started } = yield* workOn(["mail"], () =>
        Effect.uninterruptible(Effect.sleep(2000)).pipe(Effect.as(succeeded())),
      )
      yield* until(
        "it runs",
        Effect.sync(() => started.length === 1),
      )
      yield* engine.cancel(job.id)
      yield* unlock(job.id)
      expect(yield* engine.awaitSettled(job.id)).toMatchObject({ state: "cancelled", failures: [] })
    }),
    quick,
  )

  test(
    "a late answer of a claim that was lost is refused",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const job = yield* enqueue()
      const go = yield* Deferred.make<void>()
      const { settled, started } = yield* workOn(["mail"], ({ job: { crashes } }) =>
        crashes === 0 ? Effect.as(Deferred.await(go), succeeded("late")) : Effect.succeed(succeeded("again")),
      )
      yield* until(
        "it runs",
        Effect.sync(() => started.length === 1),
      )
      yield* unlock(job.id)
      yield* Deferred.succeed(go, undefined)
      yield* until(
        "told",
        Effect.sync(() => settled.length === 1),
      )
      expect(settled[0]![1]).toEqual({ _tag: "Lost" })
      expect((yield* engine.awaitSettled(job.id)).result).toBe('"again"')
      expect((yield* engine.results({ limit: 10 })).results).toHaveLength(1)
    }),
    quick,
  )
})
