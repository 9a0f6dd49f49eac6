/** What the benches of jobs share: the same no-op jobs for every side, so many at once, and BullMQ by itself. */
import { JobId } from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import { Queue, Worker } from "bullmq"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { Redis } from "ioredis"
import { timed } from "./Compare.ts"

export const jobs = 5000
export const atOnce = 50
export const day = 86_400_000
export const payload = { to: "somebody@example.org", subject: "A mail of usual length" }

const name = "noop"

let rounds = 0

/** Runs an effect for each index, so many at once. */
export const inLanes = <E>(each: (index: number) => Effect.Effect<unknown, E>) =>
  Effect.forEach(
    Array.from({ length: atOnce }, (_, lane) => lane),
    Effect.fnUntraced(function* (lane: number) {
      for (let index = lane; index < jobs; index += atOnce) yield* each(index)
    }),
    { concurrency: atOnce, discard: true },
  )

/** An id for each job. */
export const ids = Effect.gen(function* () {
  const random = yield* SecureRandom.SecureRandom
  const minted: Array<JobId> = []
  for (let index = 0; index < jobs; index++) minted.push(JobId.make(yield* random.uuidV7()))
  return minted
})

export const flush = (url: string) =>
  Effect.promise(async () => {
    const client = new Redis(url)
    await client.flushall()
    client.disconnect()
  })

/** Jobs per second of BullMQ by itself: one `Queue.add` a job, one `Worker`. */
export const bareBullmq = (url: string) =>
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
    const add = (index: number) =>
      Effect.promise(() =>
        queue.add(name, payload, {
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
