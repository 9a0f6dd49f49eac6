/**
 * A job at half past two every night in Berlin, however many processes run the schedule. Two pools over one engine stand for two
 * processes over one database; the nights around the end of summer time pass on a test clock.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Job, JobEngine, JobPool, Throughline } from "@throughline/core"
import { Console, Cron, DateTime, Effect, Layer, Result, Schema } from "effect"
import { TestClock } from "effect/testing"

const Report = Job.make("nightly-report", {
  payload: Schema.Struct({ day: Schema.String }),
  keepResult: "30 days",
  // Nobody waits for it: others go first.
  priority: "low",
})

const berlin = DateTime.zoneMakeNamedUnsafe("Europe/Berlin")

/** Every process has it. The key names the schedule in all of them: of those that fire at a time, one enqueues. */
const schedule = Effect.fnUntraced(function* (pool: JobPool.JobPool["Service"]) {
  yield* pool.recurring("nightly report", {
    job: Report,
    cron: Result.getOrThrow(Cron.parse("30 2 * * *", berlin)),
    payload: (at) => ({ day: DateTime.formatIsoDate(DateTime.setZone(at, berlin)) }),
  })
})

const program = Effect.gen(function* () {
  yield* TestClock.setTime(Date.parse("2026-10-22T12:00:00Z"))
  const [web, worker] = [yield* JobPool.make(), yield* JobPool.make()]
  yield* schedule(web)
  yield* schedule(worker)
  // Only one of them does the work.
  yield* worker.handle(Report, ({ day }) => Console.log(`the report of ${day}`))
  for (let hour = 0; hour < 5 * 24; hour++) yield* TestClock.adjust("1 hour")
  for (const { enqueuedAt, state } of yield* web.list({ name: Report.name, limit: 100 })) {
    const at = DateTime.makeZonedUnsafe(enqueuedAt, { timeZone: berlin })
    yield* Console.log(`${DateTime.formatIsoZoned(at)} ${state}`)
  }
})

NodeRuntime.runMain(
  program.pipe(
    Effect.scoped,
    Effect.provide(
      JobEngine.layerMemory().pipe(Layer.provideMerge(Throughline.layerCrypto), Layer.provideMerge(TestClock.layer())),
    ),
  ),
)
