/**
 * `queue-offer`: offers per second into a full `dropProgress` queue of 10,000 mixed frames, against full ones of 64.
 *
 * Both sides offer the same frames, half as many as their queues hold, to queues that were filled before the clock
 * started. A third of the frames are normal: each of those evicts the oldest progress frame.
 */
import type * as Envelope from "@throughline/core/Envelope"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, median, perSecond, report, timed } from "./Compare.ts"
import { makeFrames } from "./Frames.ts"

const large = 10_000
const small = 64
/** How often each side is filled anew and offered to, in one round; the median counts. */
const repeats = 21

const mixed: ReadonlyArray<Envelope.Delivery> = ["progress", "normal", "progress"]
const frames = makeFrames(large, (index) => mixed[index % mixed.length]!)
const offers = large / 2

const side = (capacity: number) =>
  Effect.gen(function* () {
    const count = Math.floor(large / capacity)
    const perQueue = Math.floor(offers / count)
    const spent: Array<number> = []
    for (let repeat = 0; repeat < repeats; repeat++) {
      yield* Effect.gen(function* () {
        const queues: Array<SubscriberQueue.SubscriberQueue> = []
        for (let index = 0; index < count; index++) {
          const queue = yield* SubscriberQueue.make({ capacity, terminalReserve: 0, overflow: "dropProgress" })
          queue.offerAll(frames.slice(index * capacity, (index + 1) * capacity))
          queues.push(queue)
        }
        const [millis] = yield* timed(
          Effect.sync(() => {
            let next = 0
            for (const queue of queues) for (let index = 0; index < perQueue; index++) queue.offer(frames[next++]!)
          }),
        )
        spent.push(millis)
      }).pipe(Effect.scoped)
    }
    return (count * perQueue) / (median(spent) / 1000)
  })

export const queueOffer: Bench = {
  name: "queue-offer",
  run: Effect.gen(function* () {
    const { ours, theirs } = yield* alternate({ rounds: 7, ours: side(large), theirs: side(small) })
    yield* Console.log(`  a full queue of ${large}: ${perSecond(ours)}, of ${small}: ${perSecond(theirs)}`)
    yield* report("queue-offer", ours / theirs, "0.8")
  }),
}
