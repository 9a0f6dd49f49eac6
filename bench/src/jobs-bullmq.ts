/**
 * `jobs-bullmq`: no-op jobs per second from being enqueued to being done, 50 at a time, against BullMQ by itself with the same
 * options: one `Queue.add` a job, one `Worker` with a concurrency of 50, the same Redis.
 */
import * as BullmqJobEngine from "@throughline/bullmq/BullmqJobEngine"
import { JobEngine } from "@throughline/core/JobEngine"
import { type JobJson, JobName, type NewJob } from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import { atOnce, bareBullmq, day, flush, ids, inLanes, jobs, payload } from "./JobLoad.ts"

const name = JobName.make("noop")

let rounds = 0

/** Jobs per second. */
const ours = (url: string) =>
  Effect.gen(function* () {
    yield* flush(url)
    const prefix = `ours-${++rounds}`
    const minted = yield* ids
    const body = Effect.gen(function* () {
      const engine = yield* JobEngine
      const done = yield* Deferred.make<void>()
      let settled = 0
      const working = yield* engine.work(
        { concurrency: atOnce, maxCrashes: 10 },
        {
          run: () => Effect.succeed({ _tag: "Succeeded", result: "null" as JobJson }),
          settled: () => Effect.suspend(() => (++settled === jobs ? Deferred.succeed(done, undefined) : Effect.void)),
        },
      )
      yield* working.handle(name, {})
      const job = (index: number): NewJob => ({
        id: minted[index]!,
        name,
        payload: JSON.stringify(payload) as JobJson,
        priority: "normal",
        maxAttempts: 4,
        keepResult: day,
        keepDead: 30 * day,
      })
      const all = Effect.andThen(
        inLanes((index) => engine.enqueue({ jobs: [job(index)] })),
        Deferred.await(done),
      )
      const [millis] = yield* timed(all)
      const counts = yield* engine.counts
      if (counts.length !== 1 || counts[0]!.count !== jobs)
        return yield* Effect.fail(`not all jobs are done: ${JSON.stringify(counts)}`)
      return (jobs / millis) * 1000
    })
    const layer = BullmqJobEngine.layer({ url, prefix }).pipe(Layer.provideMerge(Throughline.layerCrypto))
    return yield* Effect.provide(Effect.scoped(body), layer)
  }).pipe(Effect.provide(Throughline.layerCrypto))

export const jobsBullmq: Bench = {
  name: "jobs-bullmq",
  run: Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* RedisServer.make()
      const rate = yield* alternate({ rounds: 7, ours: ours(url), theirs: bareBullmq(url) })
      yield* Console.log(`  the engine ${perSecond(rate.ours)}, BullMQ by itself ${perSecond(rate.theirs)}`)
      yield* report("jobs-bullmq", rate.ours / rate.theirs, "0.8")
    }),
  ),
}
