import { assert, describe, it } from "@effect/vitest"
import * as JobEngine from "@throughline/core/JobEngine"
import type { JobId, JobJson, NewJob } from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { engine, name, settle } from "./jobPoolWorld.ts"

const job = (number: number, more: Partial<NewJob> = {}): NewJob => ({
  id: `01900000-0000-7000-8000-${number.toString().padStart(12, "0")}` as JobId,
  name: name("note"),
  payload: `${number}` as JobJson,
  priority: "normal",
  maxAttempts: 4,
  keepResult: 60_000,
  keepDead: 60_000,
  ...more,
})

const succeeded: JobEngine.Outcome = { _tag: "Succeeded", result: "null" as JobJson }

/** A worker that does as it is told, and what it was told in turn. */
const worker = (run: (claim: JobEngine.Claim) => Effect.Effect<JobEngine.Outcome>) => {
  const told: Array<string> = []
  return {
    told,
    run,
    settled: ({ payload }: { readonly payload: string }, { _tag }: JobEngine.Settlement) =>
      Effect.sync(() => told.push(`${payload} ${_tag}`)),
  }
}

const options = { concurrency: 10, maxCrashes: 10 }

describe("the memory engine", () => {
  it.effect("one pool works on it at a time, and another when that is gone", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const { run, settled } = worker(() => Effect.succeed(succeeded))
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* under.work(options, { run, settled })
          const second = yield* Effect.flip(under.work(options, { run, settled }))
          assert.strictEqual(second.reason._tag, "InvalidRequest")
        }),
      )
      yield* Effect.scoped(under.work(options, { run, settled }))
    }).pipe(Effect.provide(engine())),
  )

  it.effect("the end of the work gives back what runs, tells of it, and claims nothing more", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const busy = worker(() => Effect.never)
      const work = yield* Scope.make()
      const names = yield* Scope.make()
      const working = yield* Scope.provide(under.work(options, busy), work)
      yield* Scope.provide(working.handle(name("note"), {}), names)
      yield* under.enqueue({ jobs: [job(1), job(2)] })
      yield* settle
      assert.deepStrictEqual(yield* under.counts, [{ name: name("note"), state: "running", count: 2 }])
      yield* Scope.close(work, Exit.void)
      yield* Scope.close(names, Exit.void)
      assert.deepStrictEqual(busy.told, ["1 GivenBack", "2 GivenBack"])
      yield* under.enqueue({ jobs: [job(3)] })
      yield* settle
      assert.deepStrictEqual(yield* under.counts, [{ name: name("note"), state: "waiting", count: 3 }])
    }).pipe(Effect.provide(engine())),
  )

  it.effect("a slot is free, and a name closed, only when what is told of the job has ended", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const gate = yield* Deferred.make<void>()
      const started: Array<string> = []
      const working = yield* under.work(
        { ...options, concurrency: 1 },
        {
          run: (claim) => Effect.sync(() => (started.push(claim.job.payload), succeeded)),
          settled: () => Deferred.await(gate),
        },
      )
      yield* working.handle(name("note"), {})
      yield* under.enqueue({ jobs: [job(1), job(2)] })
      yield* settle
      assert.deepStrictEqual(started, ["1"])
      assert.strictEqual((yield* under.awaitSettled(job(1).id)).state, "succeeded")
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      assert.deepStrictEqual(started, ["1", "2"])
    }).pipe(Effect.scoped, Effect.provide(engine())),
  )

  it.effect("stopped, a name claims no more, and what runs of it goes on", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const gate = yield* Deferred.make<void>()
      const slow = worker(() => Effect.as(Deferred.await(gate), succeeded))
      const working = yield* under.work({ ...options, concurrency: 1 }, slow)
      const named = yield* working.handle(name("note"), {})
      yield* under.enqueue({ jobs: [job(1), job(2)] })
      yield* settle
      yield* named.stop
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      assert.deepStrictEqual(slow.told, ["1 Succeeded"])
      assert.strictEqual(Option.getOrThrow(yield* under.get(job(2).id)).state, "waiting")
    }).pipe(Effect.scoped, Effect.provide(engine())),
  )

  it.effect("a job that was given back comes before those that became ready after it", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const started: Array<string> = []
      const working = yield* under.work(
        { ...options, concurrency: 1 },
        {
          run: (claim) =>
            Effect.sync(
              () => (started.push(claim.job.payload), started.length === 1 ? { _tag: "GivenBack" } : succeeded),
            ),
          settled: () => Effect.void,
        },
      )
      yield* under.enqueue({ jobs: [job(1), job(2), job(3)] })
      yield* working.handle(name("note"), {})
      yield* under.awaitSettled(job(3).id)
      assert.deepStrictEqual(started, ["1", "1", "2", "3"])
    }).pipe(Effect.scoped, Effect.provide(engine())),
  )

  it.effect("of a schedule each time fires once, and none before the last", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      const fired: Array<boolean> = []
      for (const [number, at] of [10, 20, 20, 15, 30].entries()) {
        fired.push(Option.isSome(yield* under.tick({ schedule: "nightly", at, job: job(number) })))
      }
      assert.deepStrictEqual(fired, [true, true, false, false, true])
      assert.deepStrictEqual(yield* under.lastTick("nightly"), Option.some(30))
      assert.deepStrictEqual(yield* under.lastTick("hourly"), Option.none())
    }).pipe(Effect.provide(engine())),
  )

  it.effect("jobs are listed by id, state and name, page by page", () =>
    Effect.gen(function* () {
      const under = yield* JobEngine.JobEngine
      yield* under.enqueue({
        jobs: [job(3), job(1), job(2, { name: name("other") }), job(4, { runAt: 1000 })],
      })
      const list = (request: JobEngine.ListRequest) =>
        Effect.map(under.list(request), (records) => records.map(({ payload }) => Number(payload)))
      assert.deepStrictEqual(yield* list({ limit: 10 }), [1, 2, 3, 4])
      assert.deepStrictEqual(yield* list({ limit: 2, after: job(1).id }), [2, 3])
      assert.deepStrictEqual(yield* list({ limit: 10, name: name("note"), state: "waiting" }), [1, 3])
      assert.deepStrictEqual(yield* list({ limit: 10, state: "delayed" }), [4])
    }).pipe(Effect.provide(engine())),
  )
})

describe("the rules of engines", () => {
  it("a cancelled job keeps no outcome but a success", () => {
    const failure = { _tag: "HandlerInterrupted", at: 0 } as const
    assert.deepStrictEqual(JobRules.settlementOf(succeeded, true), succeeded)
    for (const outcome of [
      { _tag: "Retry", failure, at: 1 },
      { _tag: "Dead", failure },
      { _tag: "GivenBack" },
    ] as const) {
      assert.deepStrictEqual(JobRules.settlementOf(outcome, true), { _tag: "Cancelled" })
      assert.deepStrictEqual(JobRules.settlementOf(outcome, false), outcome)
    }
  })

  it("a text is over its bound by UTF-8 bytes, told without encoding where that is plain", () => {
    for (const text of ["", "a", "aaaa", "äö", "語語", "👍", "\ud800", "aä語"]) {
      for (const bound of [0, 1, 2, 3, 4, 5, 6, 7]) {
        assert.strictEqual(JobRules.isOver(text, bound), new TextEncoder().encode(text).length > bound)
      }
    }
  })
})
