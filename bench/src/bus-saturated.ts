/**
 * `bus-saturated`: frames that a producer publishes per second beside 100 subscribers that are stuck, for each policy,
 * against 100 that read. The line is the worst policy's.
 *
 * Readers share the producer's thread, so its rate includes their turns. The time within `publish` alone is printed too:
 * what a stuck subscriber's policy costs, against queues that have room.
 */
import type { Delivery, OverflowPolicy } from "@throughline/core/Envelope"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as EventBus from "@throughline/core/EventBus"
import * as Throughline from "@throughline/core/Throughline"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { frameOf } from "./BusFrames.ts"
import { alternate, type Bench, median, perSecond, report, timed } from "./Compare.ts"

const subscribers = 100
const frames = 20_000
const burst = 50

/** Two runs in turn, eight frames each, as a bridge publishes them; mostly deltas. */
const deliveries: ReadonlyArray<Delivery> = ["progress", "progress", "progress", "normal"]
const all = Array.from({ length: frames }, (_, index) =>
  frameOf(index + 1, (index >> 3) & 1, ((index >> 4) << 3) + (index & 7) + 1, deliveries[index & 3]),
)

const publishingTo = (overflow: OverflowPolicy, stuck: boolean, within: Array<number>) =>
  Effect.gen(function* () {
    const bus = yield* EventBus.make()
    const queue = { capacity: 64, overflow, vocabulary: AgentEvents.vocabulary }
    yield* Effect.forEach(Array.from({ length: subscribers }), () =>
      Effect.flatMap(bus.subscribeAll({ queue }), (stream) =>
        stuck ? Effect.void : Effect.forkScoped(Stream.runDrain(stream), { startImmediately: true }),
      ),
    )
    let publishing = 0
    const [millis] = yield* timed(
      Effect.gen(function* () {
        for (let from = 0; from < frames; from += burst) {
          const publish = Effect.forEach(all.slice(from, from + burst), (frame) => bus.publish([frame]), {
            discard: true,
          })
          publishing += (yield* timed(publish))[0]
          yield* Effect.yieldNow
          yield* Effect.yieldNow
        }
      }),
    )
    within.push(frames / (publishing / 1000))
    return frames / (millis / 1000)
  }).pipe(Effect.scoped)

const policies = ["dropNonTerminal", "dropProgress", "summarize", "failSubscriber"] as const

export const busSaturated: Bench = {
  name: "bus-saturated",
  run: Effect.gen(function* () {
    const ratios: Array<number> = []
    for (const overflow of policies) {
      const stuck: Array<number> = []
      const reading: Array<number> = []
      const { ours, theirs } = yield* alternate({
        rounds: 7,
        ours: publishingTo(overflow, true, stuck),
        theirs: publishingTo(overflow, false, reading),
      })
      yield* Console.log(
        `  ${overflow}: all stuck ${perSecond(ours)}, none stuck ${perSecond(theirs)}; within publish ${perSecond(median(stuck))} and ${perSecond(median(reading))}`,
      )
      ratios.push(ours / theirs)
    }
    yield* report("bus-saturated", Math.min(...ratios), "0.5")
  }).pipe(Effect.provide(Throughline.layerCrypto)),
}
