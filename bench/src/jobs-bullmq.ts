/**
 * `jobs-bullmq`: no-op jobs per second from being enqueued to being done, 50 at a time, against BullMQ by itself with the same
 * options: one `Queue.add` a job, one `Worker` with a concurrency of 50, the same Redis.
 */
import * as BullmqJobEngine from "@throughline/bullmq/BullmqJobEngine"
import { JobEngine } from "@throughline/core/JobEngine"
import { JobId, type JobJson, JobName, type NewJob } from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import { Queue, Worker } from "bullmq"
import * as Console from "effect/Console"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Redis } from "ioredis"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"

const jobs = 5000
const atOnce = 50
const day = 86_400_000
const name = JobName.make("noop")
const payload = JSON.stringify({ to: "somebody@example.org", subject: "A mail of usual length" })

let rounds = 0

/** Runs an effect for each index, so many at once. */
const inLanes = <E>(each: (index: number) => Effect.Effect<unknown, E>) =>
  Effect.forEach(
    Array.from({ length: atOnce }, (_, lane) => lane),
    Effect.fnUntraced(function* (lane: number) {
      for (let index = lane; index < jobs; index += atOnce) yield* each(index)
    }),
    { concurrency: atOnce, discard: true },
  )

const ids = Effect.gen(function* () {
  const random = yield* SecureRandom.SecureRandom
  const minted: Array<JobId> = []
  for (let index = 0; index < jobs; index++) minted.push(JobId.make(yield* random.uuidV7()))
  return minted
})

const flush = (url: string) =>
  Effect.promise(async () => {
    const client = new Redis(url)
    await client.flushall()
    client.disconnect()
  })

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
        payload: payload as JobJson,
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

const theirs = (url: string) =>
  Effect.gen(function* () {
    yield* flush(url)
    const minted = yield* ids
    const prefix = `{bare-${++rounds}}`
    const connection = { url }
    const queue = yield* Effect.acquireRelease(
      Effect.sync(() => new Queue(name, { connection, prefix })),
      (opened) => Effect.promise(() => opened.close()),
    )
    const worker = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new Worker(name, async () => null, {
            connection: { ...connection, maxRetriesPerRequest: null },
            prefix,
            concurrency: atOnce,
            settings: { backoffStrategy: async () => 1000 },
          }),
      ),
      (opened) => Effect.promise(() => opened.close()),
    )
    yield* Effect.promise(async () => {
      await queue.waitUntilReady()
      await worker.waitUntilReady()
    })
    const done = yield* Deferred.make<void>()
    let settled = 0
    worker.on("completed", () => {
      if (++settled === jobs) Deferred.doneUnsafe(done, Effect.void)
    })
    const data: unknown = JSON.parse(payload)
    const add = (index: number) =>
      Effect.promise(() =>
        queue.add(name, data, {
          jobId: minted[index]!,
          priority: 3,
          attempts: 4,
          backoff: { type: "schedule" },
          removeOnComplete: { age: day / 1000 },
          removeOnFail: { age: (30 * day) / 1000 },
        }),
      )
    const [millis] = yield* timed(Effect.andThen(inLanes(add), Deferred.await(done)))
    const completed = yield* Effect.promise(() => queue.getCompletedCount())
    if (completed !== jobs) return yield* Effect.fail(`${completed} of ${jobs} jobs are completed`)
    return (jobs / millis) * 1000
  }).pipe(Effect.scoped, Effect.provide(Throughline.layerCrypto))

export const jobsBullmq: Bench = {
  name: "jobs-bullmq",
  run: Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* RedisServer.make()
      const rate = yield* alternate({ rounds: 7, ours: ours(url), theirs: theirs(url) })
      yield* Console.log(`  the engine ${perSecond(rate.ours)}, BullMQ by itself ${perSecond(rate.theirs)}`)
      yield* report("jobs-bullmq", rate.ours / rate.theirs, "0.8")
    }),
  ),
}
