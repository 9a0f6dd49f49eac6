/**
 * `jobs-start`: the time from calling `enqueue` to the start of the handler, on a pool that is idle, for each engine: the median
 * and the 95th of a hundred. SQLite also where another process enqueues, as far as two engines of one process can show it: the
 * second sees the first's jobs only by looking at the file. And what a process whose pool is idle costs there.
 */
import * as BullmqJobEngine from "@throughline/bullmq/BullmqJobEngine"
import * as Job from "@throughline/core/Job"
import * as JobEngine from "@throughline/core/JobEngine"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"
import { type Bench, median } from "./Compare.ts"
import { temporaryFile } from "./Sqlite.ts"

const samples = 100

const Noop = Job.make("noop", { payload: Schema.Null })

const poolOn = <E>(engine: Layer.Layer<JobEngine.JobEngine, E>) =>
  Effect.map(
    Layer.build(JobPool.layer().pipe(Layer.provide(engine), Layer.provide(Throughline.layerCrypto))),
    (context) => Context.get(context, JobPool.JobPool),
  )

const measure = Effect.fnUntraced(function* (
  what: string,
  enqueuer: JobPool.JobPool["Service"],
  worker: JobPool.JobPool["Service"],
) {
  const begun: { waiting: Deferred.Deferred<bigint> } = { waiting: yield* Deferred.make<bigint>() }
  yield* worker.handle(Noop, () =>
    Effect.flatMap(Clock.monotonicTimeNanos, (now) => Deferred.succeed(begun.waiting, now)),
  )
  const millis: Array<number> = []
  for (let sample = 0; sample < samples + 5; sample++) {
    begun.waiting = yield* Deferred.make<bigint>()
    // Idle, and in step with no timer.
    yield* Effect.sleep(yield* Random.nextIntBetween(15, 45))
    const from = yield* Clock.monotonicTimeNanos
    yield* enqueuer.enqueue(Noop, null)
    const at = yield* Deferred.await(begun.waiting)
    if (sample >= 5) millis.push(Number(at - from) / 1e6)
  }
  const late = millis.toSorted((left, right) => left - right)[Math.floor(samples * 0.95)]!
  yield* Console.log(`  ${what}: median ${median(millis).toFixed(2)} ms, 95 % within ${late.toFixed(2)} ms`)
  return median(millis)
}, Effect.scoped)

const idleFor = 10_000

/** The share of a core that a process takes whose pool on the file has nothing to do. */
const idleShare = (filename: string) =>
  Effect.callback<number, string>((resume) => {
    const script = fileURLToPath(new URL("jobs-idle-worker.ts", import.meta.url))
    execFile(process.execPath, [script, filename, String(idleFor)], (cause, output) =>
      resume(cause === null ? Effect.succeed(Number(output)) : Effect.fail(cause.message)),
    )
  })

export const jobsStart: Bench = {
  name: "jobs-start",
  run: Effect.gen(function* () {
    const memory = yield* poolOn(JobEngine.layerMemory().pipe(Layer.provide(Throughline.layerCrypto)))
    yield* measure("memory", memory, memory)

    const filename = yield* temporaryFile
    const onFile = () =>
      poolOn(
        Layer.fresh(SqliteJobEngine.layer()).pipe(
          Layer.provide(Layer.fresh(SqliteClient.layer({ filename }))),
          Layer.provide(Throughline.layerCrypto),
        ),
      )
    const [here, there] = [yield* onFile(), yield* onFile()]
    yield* measure("SQLite, enqueued by the process that runs it", here, here)
    const apart = yield* measure("SQLite, enqueued by another", there, here)

    const share = yield* idleShare(filename)
    yield* Console.log(`  SQLite, an idle process: ${(share * 100).toFixed(2)} % of a core (target <= 1.5 %)`)

    const { url } = yield* RedisServer.make()
    const bullmq = yield* poolOn(BullmqJobEngine.layer({ url }).pipe(Layer.provide(Throughline.layerCrypto)))
    yield* measure("BullMQ", bullmq, bullmq)
    yield* Console.log(`bench jobs-start: ${apart.toFixed(2)} ms on SQLite, from another process (target <= 20 ms)`)
  }).pipe(Effect.scoped),
}
