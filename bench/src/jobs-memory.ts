/**
 * `jobs-memory`: no-op jobs per second through a pool in memory, 50 at a time, from being enqueued to being done, against the
 * same effects through Effect's `Queue` and 50 worker fibers (which keep no record, no result and no order of priorities).
 *
 * `jobs-memory-heap`: the same jobs per second while 1,000,000 delayed jobs wait, against none.
 */
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"

const jobs = 50_000
const atOnce = 50
const delayedJobs = 1_000_000

const Noop = Job.make("noop", { payload: Schema.Struct({ to: Schema.String, subject: Schema.String }) })

const payload = { to: "somebody@example.org", subject: "A mail of usual length" }

/** Runs an effect for each job, so many at once. */
const inLanes = <E>(each: Effect.Effect<unknown, E>) =>
  Effect.forEach(
    Array.from({ length: atOnce }, (_, lane) => lane),
    Effect.fnUntraced(function* () {
      for (let index = 0; index < jobs / atOnce; index++) yield* each
    }),
    { concurrency: atOnce, discard: true },
  )

/** The no-op, and what tells that all were done. */
const counted = Effect.map(Deferred.make<void>(), (done) => {
  let handled = 0
  const noop = Effect.sync(() => {
    if (++handled === jobs) Deferred.doneUnsafe(done, Effect.void)
  })
  return { noop, done: Deferred.await(done) }
})

const pool = JobPool.layerMemory({ concurrency: atOnce }).pipe(Layer.provide(Throughline.layerCrypto))

/** Jobs per second of the pool that the program has. */
const throughPool = Effect.gen(function* () {
  const { enqueue, handle } = yield* JobPool.JobPool
  const { done, noop } = yield* counted
  return yield* Effect.scoped(
    Effect.gen(function* () {
      yield* handle(Noop, () => noop)
      const [millis] = yield* timed(Effect.andThen(inLanes(enqueue(Noop, payload)), done))
      return (jobs / millis) * 1000
    }),
  )
})

const throughQueue = Effect.gen(function* () {
  const queue = yield* Queue.unbounded<typeof payload>()
  const { done, noop } = yield* counted
  const worker = Effect.forever(Effect.flatMap(Queue.take(queue), () => noop))
  yield* Effect.forEach(Array.from({ length: atOnce }), () => Effect.forkScoped(worker), { discard: true })
  const [millis] = yield* timed(Effect.andThen(inLanes(Queue.offer(queue, payload)), done))
  return (jobs / millis) * 1000
}).pipe(Effect.scoped)

export const jobsMemory: Bench = {
  name: "jobs-memory",
  run: Effect.gen(function* () {
    const { ours, theirs } = yield* alternate({
      rounds: 9,
      ours: Effect.provide(throughPool, pool),
      theirs: throughQueue,
    })
    yield* Console.log(`  a pool in memory ${perSecond(ours)}, Queue and ${atOnce} fibers ${perSecond(theirs)}`)
    yield* report("jobs-memory", ours / theirs, ">= 0.15")
  }),
}

/** Fills the pool with jobs that are due in a day or later. */
const fill = Effect.gen(function* () {
  const { enqueueAll } = yield* JobPool.JobPool
  for (let batch = 0; batch < delayedJobs / 1000; batch++) {
    // Times in no order, so that the heap is one.
    yield* enqueueAll(
      Array.from({ length: 1000 }, (_, index) =>
        JobPool.request(Noop, payload, { delay: 86_400_000 + (((batch * 1000 + index) * 7919) % 1_000_003) }),
      ),
    )
  }
})

export const jobsMemoryHeap: Bench = {
  name: "jobs-memory-heap",
  run: Effect.gen(function* () {
    const empty = yield* Layer.build(pool)
    const full = yield* Layer.build(Layer.fresh(pool))
    yield* Effect.provide(fill, full)
    const { ours, theirs } = yield* alternate({
      rounds: 9,
      ours: Effect.provide(throughPool, full),
      theirs: Effect.provide(throughPool, empty),
    })
    yield* Console.log(`  ${delayedJobs} delayed jobs waiting ${perSecond(ours)}, none ${perSecond(theirs)}`)
    yield* report("jobs-memory-heap", ours / theirs, ">= 0.7")
  }).pipe(Effect.scoped),
}
