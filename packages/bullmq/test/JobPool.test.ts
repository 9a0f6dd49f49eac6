import { describe, expect } from "@effect/vitest"
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import * as Cron from "effect/Cron"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Engines from "./Engines.ts"
import { failed, until } from "./jobs.ts"

const { test } = Engines.forFile()

class Refused extends Schema.TaggedError<Refused>()("Refused", { permanent: Schema.Boolean }) {}

const millisOf = (at: DateTime.Utc) => at.epochMilliseconds

const Mail = Job.make("send-mail", {
  payload: Schema.Struct({ to: Schema.String }),
  success: Schema.Struct({ attempt: Schema.Int }),
  error: Refused,
  retry: Schedule.spaced("30 millis"),
  giveUp: ({ permanent }) => permanent,
})

describe("a pool on BullMQ", () => {
  test(
    "retries by the job's own schedule, gives the typed result, and tells of every job",
    Effect.gen(function* () {
      const pool = yield* JobPool.make()
      const attempts: Array<number> = []
      yield* pool.handle(Mail, ({ to }, { attempt, isLastAttempt }) =>
        Effect.gen(function* () {
          attempts.push(attempt)
          if (to === "nobody") return yield* new Refused({ permanent: true })
          if (attempt < 3) return yield* new Refused({ permanent: false })
          expect(isLastAttempt).toBe(false)
          return { attempt }
        }),
      )
      const { id } = yield* pool.enqueue(Mail, { to: "somebody" })
      expect(yield* pool.awaitResult(Mail, id)).toEqual({ attempt: 3 })
      expect(attempts).toEqual([1, 2, 3])
      const lost = yield* pool.enqueue(Mail, { to: "nobody" })
      expect(yield* failed(pool.awaitResult(Mail, lost.id))).toEqual(new Refused({ permanent: true }))
      expect((yield* pool.deadLetters({ limit: 10 })).map((job) => job.id)).toEqual([lost.id])
      const told = yield* Stream.runCollect(Stream.take(pool.completed({ after: "oldest" }), 2))
      expect(told.map((each) => [each.id, each.outcome, each.failedAttempts])).toEqual([
        [id, "succeeded", 2],
        [lost.id, "dead", 1],
      ])
    }),
  )

  test(
    "a batch over several names is accepted together, and a shutdown loses and charges nothing",
    Effect.gen(function* () {
      const Other = Job.make("other", { payload: Schema.Struct({ to: Schema.String }) })
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(JobPool.make({ concurrency: 3 }), scope)
      let started = 0
      const stuck = () =>
        Effect.andThen(
          Effect.sync(() => started++),
          Effect.never,
        )
      yield* Scope.provide(first.handle(Mail, stuck), scope)
      yield* Scope.provide(first.handle(Other, stuck), scope)
      const answers = yield* first.enqueueAll([
        JobPool.request(Mail, { to: "a" }),
        JobPool.request(Other, { to: "b" }),
        JobPool.request(Mail, { to: "c" }, { priority: "low" }),
        JobPool.request(Mail, { to: "d" }, { priority: "low" }),
      ])
      yield* until(
        "three run",
        Effect.sync(() => started === 3),
      )
      expect(yield* first.shutdown("50 millis")).toEqual({ givenBack: 3 })
      yield* Scope.close(scope, Exit.void)

      const second = yield* JobPool.make()
      yield* second.handle(Mail, (_, { attempt }) => Effect.succeed({ attempt }))
      yield* second.handle(Other, () => Effect.void)
      yield* second.drain()
      const all = yield* second.list({ limit: 10 })
      expect(
        new Map(all.map(({ crashes, failures, id, state }) => [id, { state, charged: failures.length + crashes }])),
      ).toEqual(new Map(answers.map(({ id }) => [id, { state: "succeeded", charged: 0 }])))
    }),
  )

  test(
    "pools that run one schedule enqueue one job for each of its times",
    Effect.gen(function* () {
      const cron = Result.getOrThrow(Cron.parse("* * * * * *", "UTC"))
      const At = Job.make("at", { payload: Schema.Number })
      const pools = yield* Effect.forEach([1, 2, 3], () => JobPool.make())
      for (const pool of pools) yield* pool.recurring("seconds", { job: At, cron, payload: millisOf })
      const listed = pools[0]!.list({ limit: 100 })
      yield* until(
        "three fired",
        Effect.map(listed, (jobs) => jobs.length >= 3),
      )
      const times = (yield* listed).map((job) => Number(job.payload))
      expect(times).toEqual(times.map((_, index) => times[0]! + index * 1000))
    }),
  )
})
