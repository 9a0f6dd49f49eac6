/**
 * `bus-fanout-10`: 10 subscribers, deliveries per second, against 10 `Stream.fromSubscription` readers of one
 * `PubSub.bounded(1024)`. Both are published to one at a time; `PubSub.publishAll` in batches is printed too.
 *
 * A bounded `PubSub` makes its publisher wait; the bus drops instead, so its publisher gives the readers a turn now and
 * then, and a dropped frame voids the run.
 */
import type { Frame } from "@throughline/core/Envelope"
import * as EventBus from "@throughline/core/EventBus"
import * as Throughline from "@throughline/core/Throughline"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { frameOf } from "./BusFrames.ts"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"

const subscribers = 10
const capacity = 1024
const frames = 100_000
/** Frames published between turns of the readers. */
const burst = 500

const all = Array.from({ length: frames }, (_, index) => frameOf(index + 1, 0, index + 1))

const whole = (counts: ReadonlyArray<number>) =>
  counts.every((count) => count === frames)
    ? Effect.void
    : Effect.fail(`a subscriber got ${Math.min(...counts)} of ${frames} frames`)

const count = <A, E>(stream: Stream.Stream<A, E>) =>
  Stream.runFold(
    Stream.take(stream, frames),
    () => 0,
    (sum) => sum + 1,
  )

const rate = (millis: number) => (subscribers * frames) / (millis / 1000)

const publishing = (publish: (bus: EventBus.EventBus["Service"]) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    const bus = yield* EventBus.make()
    const fibers = yield* Effect.forEach(Array.from({ length: subscribers }), () =>
      Effect.flatMap(bus.subscribeAll({ queue: { capacity, overflow: "dropProgress" } }), (stream) =>
        Effect.forkChild(count(stream), { startImmediately: true }),
      ),
    )
    const [millis, counts] = yield* timed(Effect.andThen(publish(bus), Fiber.joinAll(fibers)))
    yield* whole(counts)
    return rate(millis)
  }).pipe(Effect.scoped)

const ours = publishing((bus) =>
  Effect.forEach(
    all,
    (frame, index) =>
      index % burst === burst - 1 ? Effect.andThen(bus.publish([frame]), Effect.yieldNow) : bus.publish([frame]),
    { discard: true },
  ),
)

const baseline = (publish: (pubsub: PubSub.PubSub<Frame>) => Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const pubsub = yield* PubSub.bounded<Frame>(capacity)
    const fibers = yield* Effect.forEach(Array.from({ length: subscribers }), () =>
      Effect.flatMap(PubSub.subscribe(pubsub), (subscription) =>
        Effect.forkChild(count(Stream.fromSubscription(subscription)), { startImmediately: true }),
      ),
    )
    const [millis, counts] = yield* timed(Effect.andThen(publish(pubsub), Fiber.joinAll(fibers)))
    yield* whole(counts)
    return rate(millis)
  }).pipe(Effect.scoped)

const oneAtATime = baseline((pubsub) =>
  Effect.forEach(all, (frame) => PubSub.publish(pubsub, frame), { discard: true }),
)
const batched = baseline((pubsub) => PubSub.publishAll(pubsub, all))

const batches = Array.from({ length: frames / burst }, (_, index) => all.slice(index * burst, (index + 1) * burst))
const oursInBatches = publishing((bus) =>
  Effect.forEach(batches, (batch) => Effect.andThen(bus.publish(batch), Effect.yieldNow), { discard: true }),
)

export const busFanout10: Bench = {
  name: "bus-fanout-10",
  run: Effect.gen(function* () {
    const { ours: bus, theirs } = yield* alternate({ rounds: 7, ours, theirs: oneAtATime })
    const inBatches = yield* batched
    const busInBatches = yield* oursInBatches
    yield* Console.log(
      `  bus ${perSecond(bus)}, in batches ${perSecond(busInBatches)}, PubSub one at a time ${perSecond(theirs)}, PubSub.publishAll ${perSecond(inBatches)}`,
    )
    yield* report("bus-fanout-10", bus / theirs, "2.0")
  }).pipe(Effect.provide(Throughline.layerCrypto)),
}
