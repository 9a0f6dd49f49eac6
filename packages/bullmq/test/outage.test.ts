import { expect, it } from "@effect/vitest"
import { JobEngine } from "@throughline/core/JobEngine"
import { Redis } from "ioredis"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as RedisServer from "../../redis/test/RedisServer.ts"
import { enqueue, failed, layerOf, newJob, stateOf, succeeded, workOn } from "./jobs.ts"

it.live("a Redis that stands still fails what is asked of it in time, and jobs go on when it goes on", () =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    yield* Effect.gen(function* () {
      const engine = yield* JobEngine
      yield* workOn(["mail"], () => Effect.succeed(succeeded()))
      yield* engine.awaitSettled((yield* enqueue()).id)
      yield* server.signal("SIGSTOP")
      const job = yield* newJob()
      const refused = yield* failed(Effect.timeout(engine.enqueue({ jobs: [job] }), "5 seconds"))
      expect(refused).toMatchObject({ _tag: "EngineFailed", isRetryable: true })
      expect(yield* failed(Effect.timeout(engine.get(job.id), "5 seconds"))).toMatchObject({ _tag: "EngineFailed" })
      yield* server.signal("SIGCONT")
      yield* Effect.retry(engine.enqueue({ jobs: [job] }), Schedule.spaced("20 millis"))
      expect((yield* Effect.timeout(engine.awaitSettled(job.id), "10 seconds")).state).toBe("succeeded")
    }).pipe(
      Effect.scoped,
      Effect.provide(layerOf(server.url, { commandTimeout: "300 millis", reconnect: Schedule.spaced("50 millis") })),
    )
  }).pipe(Effect.scoped),
)

it.live("a Redis that is full refuses a job whole, and what it has runs on", () =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    yield* Effect.gen(function* () {
      const engine = yield* JobEngine
      const before = yield* enqueue()
      yield* Effect.promise(async () => {
        const client = new Redis(server.url)
        await client.config("SET", "maxmemory", "500kb")
        client.disconnect()
      })
      const job = yield* newJob()
      const refused = yield* failed(engine.enqueue({ jobs: [job] }))
      expect(refused).toMatchObject({ _tag: "EngineFailed", isRetryable: false, reason: { _tag: "StoreFull" } })
      expect(yield* stateOf(job)).toBeUndefined()
      expect(yield* stateOf(before)).toBe("waiting")
    }).pipe(Effect.scoped, Effect.provide(layerOf(server.url, {})))
  }).pipe(Effect.scoped),
)
