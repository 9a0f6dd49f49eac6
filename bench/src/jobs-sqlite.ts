/**
 * `jobs-sqlite`: no-op jobs per second through a pool on a SQLite file, from being enqueued to being done, 50 at a time, against
 * BullMQ by itself on a Redis of this machine. Both sides keep each job and its result; SQLite's are on disk (a kill of the
 * process loses none), Redis has no persistence here.
 */
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import { atOnce, bareBullmq, inLanes, jobs, payload } from "./JobLoad.ts"
import { temporaryFile } from "./Sqlite.ts"

const Noop = Job.make("noop", { payload: Schema.Struct({ to: Schema.String, subject: Schema.String }) })

const throughPool = Effect.gen(function* () {
  const { counts, drain, enqueue, handle } = yield* JobPool.JobPool
  const done = yield* Deferred.make<void>()
  let handled = 0
  yield* handle(Noop, () =>
    Effect.sync(() => {
      if (++handled === jobs) Deferred.doneUnsafe(done, Effect.void)
    }),
  )
  const all = Effect.andThen(
    inLanes(() => enqueue(Noop, payload)),
    Effect.andThen(Deferred.await(done), drain()),
  )
  const [millis] = yield* timed(all)
  const [count, ...others] = yield* counts
  if (count?.state !== "succeeded" || count.count !== jobs || others.length > 0)
    return yield* Effect.fail("not all jobs have succeeded")
  return (jobs / millis) * 1000
}).pipe(Effect.scoped)

/** Jobs per second, in a file of its own. */
const ours = Effect.gen(function* () {
  const filename = yield* temporaryFile
  return yield* Effect.provide(
    throughPool,
    JobPool.layer({ concurrency: atOnce }).pipe(
      Layer.provide(SqliteJobEngine.layer()),
      Layer.provide(SqliteClient.layer({ filename })),
      Layer.provide(Throughline.layerCrypto),
    ),
  )
}).pipe(Effect.scoped)

export const jobsSqlite: Bench = {
  name: "jobs-sqlite",
  run: Effect.gen(function* () {
    const { url } = yield* RedisServer.make()
    const rate = yield* alternate({ rounds: 7, ours, theirs: bareBullmq(url) })
    yield* Console.log(`  a pool on SQLite ${perSecond(rate.ours)}, BullMQ by itself ${perSecond(rate.theirs)}`)
    yield* report("jobs-sqlite", rate.ours / rate.theirs, ">= 1.0")
  }).pipe(Effect.scoped),
}
