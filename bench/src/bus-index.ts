/** `bus-index`: frames published per second with 10,000 subscribers of a run each, against 10; the same runs are busy. */
import * as EventBus from "@throughline/core/EventBus"
import * as Envelope from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { frameOf } from "./BusFrames.ts"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"

const busyRuns = 10
const frames = 100_000

const all = Array.from({ length: frames }, (_, index) =>
  frameOf(index + 1, index % busyRuns, Math.floor(index / busyRuns) + 1),
)

const publishingTo = (subscribers: number) =>
  Effect.gen(function* () {
    const bus = yield* EventBus.make()
    yield* Effect.forEach(
      Array.from({ length: subscribers }, (_, index) => Envelope.RunId.make(`run-${index}`)),
      (runId) => bus.subscribeRun(runId, { queue: { capacity: 64, overflow: "dropProgress" } }),
      { discard: true },
    )
    // What making so many left behind is not the publisher's to clear away.
    yield* Effect.sync(() => globalThis.gc?.())
    const [millis] = yield* timed(Effect.forEach(all, (frame) => bus.publish([frame]), { discard: true }))
    return frames / (millis / 1000)
  }).pipe(Effect.scoped)

export const busIndex: Bench = {
  name: "bus-index",
  run: Effect.gen(function* () {
    const { ours, theirs } = yield* alternate({ rounds: 7, ours: publishingTo(10_000), theirs: publishingTo(10) })
    yield* Console.log(`  with 10,000 subscribers ${perSecond(ours)}, with 10 ${perSecond(theirs)}`)
    yield* report("bus-index", ours / theirs, "0.7")
  }).pipe(Effect.provide(Throughline.layerCrypto)),
}
