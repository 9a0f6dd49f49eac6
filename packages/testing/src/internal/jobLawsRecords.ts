/** Laws about what an engine keeps of jobs and tells of them. */
import { type EngineOptions, JobEngine } from "@throughline/core/JobEngine"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as JobWorld from "./jobWorld.ts"

type JobLaw = Law.Law<JobEngine, EngineOptions>

const plain = (number: number) => ({ number, name: "a", rank: 3, delay: 0 })
const onlyA = new Map([["a", 100]])

/** Promise 13. */
export const enqueuesOnce: JobLaw = Law.make({
  promise: 13,
  name: "a batch that is given again is stored once, and payloads over the bound refuse it whole",
  history: Arbitrary.all({
    jobs: Generator.int(1, 6),
    over: Generator.weighted([
      [2, -1],
      [1, 0],
      [1, 3],
    ]),
  }),
  options: () => ({ maxPayloadBytes: 64 }),
  runs: 40,
  reaches: { "a repeat": 0.2, "a refusal": 0.1 },
  property: Effect.fnUntraced(function* ({ jobs: many, over }, reach) {
    const world = yield* JobWorld.makeWorld
    const now = yield* Clock.currentTimeMillis
    const jobs = yield* Effect.forEach(Array.from({ length: many }), (_, number) => world.newJob(plain(number), now))
    if (over >= 0 && over < many) {
      reach("a refusal")
      // Counted in bytes, not in characters.
      const large = { ...jobs[over]!, payload: JSON.stringify("é".repeat(32)) as (typeof jobs)[0]["payload"] }
      const refused = yield* Effect.flip(world.engine.enqueue({ jobs: jobs.with(over, large) }))
      yield* Law.same("the refusal", refused._tag, "PayloadTooLarge")
      return yield* Law.same("what is kept", yield* world.engine.counts, [])
    }
    reach("a repeat")
    const first = yield* world.engine.enqueue({ jobs })
    const second = yield* world.engine.enqueue({ jobs })
    yield* Law.same(
      "the first answer",
      first.map(({ created, id }) => [created, id]),
      jobs.map(({ id }) => [true, id]),
    )
    yield* Law.same(
      "the second answer",
      second.map(({ created, id }) => [created, id]),
      jobs.map(({ id }) => [false, id]),
    )
    yield* Law.same("how many are kept", (yield* world.engine.list({ limit: 1000 })).length, many)
  }),
})

/** Promise 13. */
export const settles: JobLaw = Law.make({
  promise: 13,
  name: "who waits for a job is told once it has settled, however that comes, and at once of one that has or isn't there",
  history: Arbitrary.all({
    end: Generator.weighted(
      ["succeeded", "dead", "cancelled", "cancelled while running"].map((how) => [1, how] as const),
    ),
    waiters: Generator.int(1, 4),
    isLate: Generator.boolean,
  }),
  runs: 60,
  property: Effect.fnUntraced(function* ({ end, isLate, waiters }) {
    const world = yield* JobWorld.makeWorld
    const now = yield* Clock.currentTimeMillis
    const job = yield* world.newJob(plain(0), now)
    const unknown = yield* world.newJob(plain(1), now)
    yield* world.engine.enqueue({ jobs: [job] })
    const wait = Effect.forkChild(world.engine.awaitSettled(job.id), { startImmediately: true })
    const waiting = isLate ? [] : yield* Effect.forEach(Array.from({ length: waiters }), () => wait)
    if (end === "cancelled") yield* world.engine.cancel(job.id)
    else {
      const worker = yield* world.work(1, 10, onlyA)
      yield* world.until(() => world.ends.has(0))
      if (end === "cancelled while running") yield* world.engine.cancel(job.id)
      else {
        const outcome = world.outcomeOf({ _tag: end === "dead" ? "GiveUp" : "Succeed" }, now)
        yield* Deferred.succeed(world.ends.get(0)!, outcome)
      }
      yield* world.until(() => world.settled.length === 1)
      yield* worker.stop
    }
    if (isLate) waiting.push(yield* wait)
    // Other processes may have to look for it.
    yield* TestClock.adjust(1000)
    for (const waiter of waiting) {
      const record = yield* Fiber.join(waiter)
      yield* Law.same<string>("the state that was told", record.state, end.startsWith("cancelled") ? "cancelled" : end)
    }
    const missing = yield* Effect.flip(world.engine.awaitSettled(unknown.id))
    yield* Law.same("of a job that isn't there", missing._tag, "JobUnknown")
  }),
})

/** Promise 13. */
export const told: JobLaw = Law.make({
  promise: 13,
  name: "a worker is told of each run once, after what became of it is stored, and its slot is free after that",
  history: Arbitrary.all({
    ends: Arbitrary.array(
      Generator.weighted([
        [2, "Succeed"],
        [1, "GiveUp"],
        [1, "Fail"],
      ] as const),
      {
        minLength: 1,
        maxLength: 8,
      },
    ),
    slots: Generator.int(1, 3),
  }),
  runs: 40,
  property: Effect.fnUntraced(function* ({ ends, slots }) {
    const engine = yield* JobEngine
    const world = yield* JobWorld.makeWorld
    const now = yield* Clock.currentTimeMillis
    const jobs = yield* Effect.forEach(ends, (_, number) => world.newJob(plain(number), now))
    const wrong: Array<string> = []
    const toldOf: Array<string> = []
    let running = 0
    const failure = { _tag: "HandlerDied", at: now, message: "as the history says" } as const
    const scope = yield* Effect.scope
    const working = yield* engine.work(
      { concurrency: slots, maxCrashes: 10 },
      {
        run: ({ job }) =>
          Effect.suspend(() => {
            running += 1
            if (running > slots) wrong.push(`${running} jobs at once`)
            const end = ends[world.numbers.get(job.id)!]!
            return Effect.as(
              Effect.yieldNow,
              end === "Succeed"
                ? ({ _tag: "Succeeded", result: job.payload } as const)
                : end === "GiveUp"
                  ? ({ _tag: "Dead", failure } as const)
                  : ({ _tag: "Retry", failure, at: now + 1e9 } as const),
            )
          }),
        settled: (job, { _tag }) =>
          Effect.gen(function* () {
            const kept = yield* Effect.orDie(engine.get(job.id))
            const state = kept._tag === "Some" ? kept.value.state : "gone"
            if (state !== job.state) wrong.push(`told of ${_tag} as ${job.state}, but it is ${state}`)
            toldOf.push(job.id)
            running -= 1
          }),
      },
    )
    yield* engine.enqueue({ jobs })
    yield* Effect.provideService(working.handle(jobs[0]!.name, {}), Scope.Scope, scope)
    yield* world.until(() => toldOf.length >= jobs.length)
    yield* world.settleDown
    yield* Law.same("what went wrong", wrong, [])
    yield* Law.same("the runs it was told of", toldOf.toSorted(), jobs.map(({ id }) => id as string).toSorted())
  }),
})

/** Promises 9 and 13. */
export const results: JobLaw = Law.make({
  promise: 9,
  name: "a slow reader of results gets each settling once, in order, or is told which were trimmed",
  history: Arbitrary.all({
    settlings: Generator.int(1, 30),
    maxResults: Generator.weighted([
      [2, 100],
      [1, 5],
      [1, 10],
    ]),
    limit: Generator.int(1, 7),
    /** Settlings between two pages of the reader. */
    pace: Generator.int(1, 12),
  }),
  options: ({ maxResults }) => ({ maxResults }),
  runs: 60,
  reaches: { trimmed: 0.1, whole: 0.3 },
  property: Effect.fnUntraced(function* ({ limit, maxResults, pace, settlings }, reach) {
    const world = yield* JobWorld.makeWorld
    const { engine } = world
    const now = yield* Clock.currentTimeMillis
    let cursor = yield* engine.resultsEnd
    const read: Array<number> = []
    let missed = 0
    const page = Effect.gen(function* () {
      const found = yield* engine.results({ after: cursor, limit }).pipe(
        Effect.catchTag("HistoryTruncated", ({ oldest }) => {
          reach("trimmed")
          return Effect.succeed({ results: [], cursor: oldest })
        }),
      )
      for (const { id } of found.results) read.push(world.numbers.get(id)!)
      const isEnd = found.results.length === 0 && found.cursor === cursor
      if (found.results.length === 0 && !isEnd) missed += 1
      cursor = found.cursor
      return isEnd
    })
    for (let number = 0; number < settlings; number++) {
      const job = yield* world.newJob(plain(number), now)
      yield* engine.enqueue({ jobs: [job] })
      yield* engine.cancel(job.id)
      if (number % pace === pace - 1) yield* page
    }
    while (!(yield* page));
    const expected = Array.from({ length: settlings }, (_, number) => number)
    if (missed === 0) {
      reach("whole")
      return yield* Law.same("the results", read, expected)
    }
    yield* Law.same(
      "the results, in order and once",
      read,
      [...new Set(read)].toSorted((a, b) => a - b),
    )
    // What is kept was not left out.
    yield* Law.same("the last results", read.slice(-Math.min(maxResults, read.length)).at(-1), settlings - 1)
    const kept = yield* engine.results({ limit: 1000 })
    yield* Law.same("how many are kept", kept.results.length, Math.min(maxResults, settlings))
  }),
})
