/**
 * `bridge-throughput`: 200,000 events source → bridge → memory store → adapter → hub → one reader, against the same
 * events through a `PubSub.bounded` that is published to one at a time and read with `Stream.fromSubscription`.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"

const events = 200_000

const event = (index: number): AgentEvents.AgentEvent =>
  index === events
    ? { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }
    : { _tag: "OutputLine", stream: "stdout", line: `line ${index}` }

const source = Stream.map(Stream.range(1, events), event)

const whole = (count: number) =>
  count === events ? Effect.void : Effect.fail(`the reader got ${count} of ${events} events`)

let runs = 0

const ours = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const hub = yield* SubscriptionHub.SubscriptionHub
  const runId = Envelope.RunId.make(`throughput-${++runs}`)
  const reader = yield* Effect.forkChild(
    Stream.runFold(
      hub.run(runId, { vocabulary: AgentEvents.vocabulary }),
      () => 0,
      (count, item) => (item._tag === "Event" ? count + 1 : count),
    ),
    { startImmediately: true },
  )
  const [millis, count] = yield* timed(
    Effect.andThen(
      bridge.record(
        AgentEvents.vocabulary,
        { runId },
        Stream.map(source, (value) => ({ event: value })),
      ),
      Fiber.join(reader),
    ),
  )
  yield* whole(count)
  return events / (millis / 1000)
}).pipe(
  // A log of its own for every round, so that no round pays for the one before.
  Effect.provide(Throughline.layerMemory(), { local: true }),
)

const baseline = (publish: (pubsub: PubSub.PubSub<AgentEvents.AgentEvent>) => Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const pubsub = yield* PubSub.bounded<AgentEvents.AgentEvent>(1024)
    const subscription = yield* PubSub.subscribe(pubsub)
    const reader = yield* Effect.forkChild(
      Stream.fromSubscription(subscription).pipe(
        Stream.take(events),
        Stream.runFold(
          () => 0,
          (count) => count + 1,
        ),
      ),
      { startImmediately: true },
    )
    const [millis, count] = yield* timed(Effect.andThen(publish(pubsub), Fiber.join(reader)))
    yield* whole(count)
    return events / (millis / 1000)
  }).pipe(Effect.scoped)

const oneAtATime = baseline((pubsub) => Stream.runForEach(source, (value) => PubSub.publish(pubsub, value)))
const batched = baseline((pubsub) => Stream.runForEachArray(source, (values) => PubSub.publishAll(pubsub, values)))

export const bridgeThroughput: Bench = {
  name: "bridge-throughput",
  run: Effect.gen(function* () {
    const { ours: throughline, theirs } = yield* alternate({ rounds: 7, ours, theirs: oneAtATime })
    const inBatches = yield* batched
    yield* Console.log(
      `  throughline ${perSecond(throughline)}, PubSub one at a time ${perSecond(theirs)}, PubSub.publishAll ${perSecond(inBatches)}`,
    )
    yield* report("bridge-throughput", throughline / theirs, "0.5")
  }),
}
