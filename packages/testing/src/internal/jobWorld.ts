/** A job engine with a worker whose jobs begin and end as a history says, beside the model of it. */
import { JobEngine, type Outcome, type Worker, type Working } from "@throughline/core/JobEngine"
import { type JobId, type JobJson, JobName, type JobPriority, type NewJob } from "@throughline/core/JobRecord"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Asked, End } from "../JobModel.ts"
import * as Law from "../Law.ts"

const priorities: ReadonlyArray<JobPriority> = ["critical", "high", "normal", "low"]

/** How long a record is kept: longer than any history. */
const kept = 1e10

/**
 * How long a law waits for an engine that answers from outside this process, in ms of the computer's own time. 0 by default: an
 * engine in this process does all it has to do within turns of the scheduler. The layer of a suite may say otherwise.
 */
export const Patience = Context.Reference<number>("@throughline/testing/JobPoolLaws/Patience", {
  defaultValue: () => 0,
})

/** What the worker says of a run that ends so. */
const outcomeOf = (end: End, now: number): Outcome | "crash" => {
  const failure = { _tag: "HandlerDied", at: now, message: "as the history says" } as const
  switch (end._tag) {
    case "Succeed":
      return { _tag: "Succeeded", result: "null" as JobJson }
    case "Fail":
      return { _tag: "Retry", failure, at: now + end.retryAfter }
    case "GiveUp":
      return { _tag: "Dead", failure }
    case "Crash":
      return "crash"
  }
}

export const makeWorld = Effect.gen(function* () {
  const engine = yield* JobEngine
  const random = yield* SecureRandom.SecureRandom
  const ids: Array<JobId> = []
  const numbers = new Map<JobId, number>()
  const begun: Array<number> = []
  const settled: Array<readonly [number, string]> = []
  const ends = new Map<number, Deferred.Deferred<Outcome | "crash">>()

  const worker: Worker = {
    run: ({ job }) =>
      Effect.suspend(() => {
        const number = numbers.get(job.id)!
        begun.push(number)
        const end = Deferred.makeUnsafe<Outcome | "crash">()
        ends.set(number, end)
        return Effect.flatMap(Deferred.await(end), (outcome) =>
          outcome === "crash" ? Effect.die("the worker crashed") : Effect.succeed(outcome),
        )
      }),
    settled: (job, { _tag }) => Effect.sync(() => void settled.push([numbers.get(job.id)!, _tag])),
  }

  /** What is asked of the engine for a job; its id is kept under the job's number. */
  const newJob = Effect.fnUntraced(function* ({ delay, key, name, number, rank }: Asked, now: number) {
    const id = (yield* random.uuidV7()) as JobId
    ids[number] = id
    numbers.set(id, number)
    const job: NewJob = {
      id,
      name: JobName.make(name),
      payload: "{}" as JobJson,
      priority: priorities[rank - 1]!,
      maxAttempts: 100,
      keepResult: kept,
      keepDead: kept,
      ...(delay === 0 ? undefined : { runAt: now + delay }),
      ...(key === undefined ? undefined : { uniqueKey: key }),
    }
    return job
  })

  /** Works with some bounds until it is stopped. */
  const work = Effect.fnUntraced(function* (slots: number, maxCrashes: number, names: ReadonlyMap<string, number>) {
    const scope = yield* Scope.make()
    const working: Working = yield* Scope.provide(engine.work({ concurrency: slots, maxCrashes }, worker), scope).pipe(
      // Histories are full of crashes, which an engine tells its log.
      Effect.provide(Logger.layer([])),
    )
    // Nothing begins before all names are handled, so that the order is one of all.
    yield* working.pause
    for (const [name, concurrency] of names) {
      yield* Scope.provide(working.handle(JobName.make(name), { concurrency }), scope)
    }
    yield* working.resume
    // Names are let go one after the other: the slot that one leaves is not for the next.
    return { working, stop: Effect.andThen(working.pause, Scope.close(scope, Exit.void)) }
  })

  const patience = yield* Patience

  /** Lets everything happen that can without time passing, until something is so or nothing comes of it. */
  const until = Effect.fnUntraced(function* (isSo: () => boolean) {
    for (let turn = 0; turn < 2000 && !isSo(); turn++) yield* Effect.yieldNow
    for (let waited = 0; waited < patience && !isSo(); waited++) yield* breath
  })

  /** Lets come what would come too much. */
  const settleDown = Effect.gen(function* () {
    for (let turn = 0; turn < 20; turn++) yield* Effect.yieldNow
    for (let waited = 0; waited < Math.min(patience, 3); waited++) yield* breath
  })

  return { begun, engine, ids, newJob, numbers, outcomeOf, settled, ends, settleDown, until, work }
})

/** A moment of the computer's own time. */
const breath = TestClock.withLive(Effect.sleep(1))

export interface World extends Effect.Success<typeof makeWorld> {}

/** Breaks the law unless the engine has begun just these jobs, in this order. */
export const sameStarts = Effect.fnUntraced(function* (world: World, expected: ReadonlyArray<number>) {
  yield* world.until(() => world.begun.length >= expected.length)
  yield* world.settleDown
  yield* Law.same("the jobs that began, in order", world.begun.slice(), expected.slice())
})
