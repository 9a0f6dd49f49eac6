/** The law of the whole: everything that an engine does is what its model does. */
import type { EngineOptions, JobEngine } from "@throughline/core/JobEngine"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { type Asked, JobModel } from "../JobModel.ts"
import * as Law from "../Law.ts"
import * as JobHistory from "./jobHistory.ts"
import * as JobWorld from "./jobWorld.ts"

const stateOf = (state: string, readyAt: number, now: number): string =>
  state !== "pending" ? state : readyAt > now ? "delayed" : "waiting"

/** Promise 13. */
export const whole: Law.Law<JobEngine, EngineOptions> = Law.make({
  promise: 13,
  name: "jobs run by priority, then first ready first, each to its end, over failures, crashes, cancellations and restarts",
  history: JobHistory.history,
  // Lengths grow with the number of the case up to this: all but the first few may be as long as they get, and a long
  // history meets what ten short ones don't.
  size: 1000,
  runs: 200,
  enough: 80,
  reaches: {
    "a retry": 0.2,
    "a crash": 0.2,
    "a running job cancelled": 0.05,
    "a full pool": 0.1,
    "a taken key": 0.1,
    "jobs given back": 0.1,
  },
  property: Effect.fnUntraced(function* ({ commands, maxCrashes, ofA, slots }, reach) {
    const world = yield* JobWorld.makeWorld
    const names = new Map([
      ["a", ofA],
      ["b", 100],
    ])
    const model = new JobModel({ slots, names, maxCrashes }, yield* Clock.currentTimeMillis)
    let numbered = 0
    let worker = yield* world.work(slots, maxCrashes, names)

    /** In steps from one job's time to the next: an engine that is slow to look would see several at once. */
    const pass = Effect.fnUntraced(function* (ms: number) {
      const end = model.now + ms
      while (model.now < end) {
        const next = Math.min(end, ...model.in("pending").map(({ readyAt }) => (readyAt > model.now ? readyAt : end)))
        const step = next - model.now
        model.pass(step)
        yield* TestClock.adjust(step)
        yield* JobWorld.sameStarts(world, model.starts)
      }
    })

    const play = Effect.fnUntraced(function* (command: JobHistory.Command) {
      switch (command._tag) {
        case "Enqueue": {
          const asked = command.wishes.map((wish): Asked => ({ ...wish, number: numbered++ }))
          const jobs = yield* Effect.forEach(asked, (job) => world.newJob(job, model.now))
          const { maxWaiting } = command
          const answer = yield* world.engine.enqueue({ jobs, maxWaiting }).pipe(
            Effect.map((answers) => answers.map(({ id }) => world.numbers.get(id)!)),
            Effect.catchTag("PoolFull", ({ waiting }) => Effect.succeed({ full: waiting })),
          )
          const expected = model.enqueue(asked, maxWaiting)
          if ("full" in expected) reach("a full pool")
          else if (expected.some((number, index) => number !== asked[index]!.number)) reach("a taken key")
          return yield* Law.same<unknown>("the answer to enqueue", answer, expected)
        }
        case "Pass":
          return yield* pass(command.ms)
        case "End": {
          const running = model.in("running")
          const job = running[command.which % Math.max(1, running.length)]
          if (job === undefined) return
          if (command.end._tag === "Fail") reach("a retry")
          if (command.end._tag === "Crash") reach("a crash")
          yield* world.until(() => world.ends.has(job.number))
          const told = world.settled.length
          const end = world.ends.get(job.number)!
          world.ends.delete(job.number)
          yield* Deferred.succeed(end, world.outcomeOf(command.end, model.now))
          model.end(job, command.end)
          // Each run is told of once.
          return yield* world.until(() => world.settled.length > told)
        }
        case "Cancel": {
          const number = command.which % Math.max(1, numbered)
          if (world.ids[number] === undefined) return
          const isRunning = model.jobs.get(number)?.state === "running"
          if (isRunning) reach("a running job cancelled")
          const told = world.settled.length
          const did = yield* world.engine
            .cancel(world.ids[number])
            .pipe(Effect.catchTag("JobUnknown", ({ _tag }) => Effect.succeed(_tag)))
          yield* Law.same("the answer to cancel", did, model.cancel(number))
          return isRunning ? yield* world.until(() => world.settled.length > told) : undefined
        }
        case "RetryDead":
        case "RemoveDead": {
          const dead = model.in("dead")
          const number = dead[command.which % Math.max(1, dead.length)]?.number ?? command.which % Math.max(1, numbered)
          if (world.ids[number] === undefined) return
          const isRetry = command._tag === "RetryDead"
          const refusal = yield* (isRetry ? world.engine.retryDead : world.engine.removeDead)(world.ids[number]).pipe(
            Effect.as(undefined),
            Effect.catchTag(["JobUnknown", "JobNotDead", "UniqueKeyTaken"], ({ _tag }) => Effect.succeed(_tag)),
          )
          const expected = isRetry ? model.retryDead(number) : model.removeDead(number)
          return yield* Law.same(`the answer to ${command._tag}`, refusal, expected)
        }
        case "Restart":
          if (model.in("running").length > 0) reach("jobs given back")
          yield* worker.stop
          world.ends.clear()
          worker = yield* world.work(slots, maxCrashes, names)
          return model.restart()
        case "Pause":
          model.pause()
          return yield* worker.working.pause
        case "Resume":
          model.resume()
          return yield* worker.working.resume
      }
    })

    const agree = Effect.gen(function* () {
      for (const { crashes, failures, number, readyAt, state } of model.jobs.values()) {
        const kept = Option.getOrUndefined(yield* world.engine.get(world.ids[number]!))
        yield* Law.same<unknown>(
          `job ${number}`,
          kept && {
            state: kept.state,
            crashes: kept.crashes,
            failures: kept.failures.length,
            ...(state === "pending" || state === "running" ? { readyAt: kept.readyAt } : undefined),
          },
          {
            state: stateOf(state, readyAt, model.now),
            crashes,
            failures,
            ...(state === "pending" || state === "running" ? { readyAt } : undefined),
          },
        )
      }
      const counted = new Map<string, number>()
      for (const { name, readyAt, state } of model.jobs.values()) {
        const key = `${name} ${stateOf(state, readyAt, model.now)}`
        counted.set(key, (counted.get(key) ?? 0) + 1)
      }
      const counts = yield* world.engine.counts
      yield* Law.same(
        "the counts",
        counts.map(({ count, name, state }) => `${name} ${state} ${count}`).toSorted(),
        [...counted].map(([key, count]) => `${key} ${count}`).toSorted(),
      )
      const listed = yield* world.engine.list({ limit: 1000 })
      yield* Law.same(
        "the list",
        listed.map(({ id }) => world.numbers.get(id)!).toSorted((a, b) => a - b),
        [...model.jobs.keys()].toSorted((a, b) => a - b),
      )
      const { results } = yield* world.engine.results({ limit: 1000 })
      yield* Law.same<unknown>(
        "the results log",
        results.map(({ id, outcome }) => [world.numbers.get(id)!, outcome] as const),
        model.log.slice(),
      )
    })

    for (const command of commands) {
      yield* play(command)
      yield* JobWorld.sameStarts(world, model.starts)
    }
    yield* agree
    // Whatever is left runs to its end once nothing is in its way.
    yield* play({ _tag: "Resume" })
    for (let left = 0; left < 1000; left++) {
      yield* JobWorld.sameStarts(world, model.starts)
      if (model.in("running").length > 0) yield* play({ _tag: "End", which: 0, end: { _tag: "Succeed" } })
      else if (model.in("pending").some(({ name, readyAt }) => names.has(name) && readyAt > model.now)) {
        yield* play({ _tag: "Pass", ms: 60_000 })
      } else break
    }
    yield* agree
    yield* worker.stop
  }),
})
