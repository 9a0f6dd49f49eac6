/**
 * `hub-fanout`: 1,000 readers of one run, deliveries per second, against 1,000 `Stream.fromSubscription` readers of one
 * `PubSub` that is published to one at a time (and, for the record, in batches).
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"

const readers = 1000
const events = 400

const line = (index: number): AgentEvents.AgentEvent =>
  index === events
    ? { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }
    : { _tag: "OutputLine", stream: "stdout", line: `line ${index}` }

const whole = (counts: ReadonlyArray<number>) =>
  counts.every((count) => count === events)
    ? Effect.void
    : Effect.fail(`a reader got ${Math.min(...counts)} of ${events} events`)

let runs = 0

const ours = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  const adapter = yield* StreamAdapter.StreamAdapter
  const hub = yield* SubscriptionHub.SubscriptionHub
  const runId = Envelope.RunId.make(`fanout-${++runs}`)
  const encoded = yield* Effect.forEach(
    Array.from({ length: events }, (_, index) => line(index + 1)),
    (event) => Vocabulary.encode(AgentEvents.vocabulary, { event }),
  )
  const fibers = yield* Effect.forEach(Array.from({ length: readers }), () =>
    Effect.forkChild(
      Stream.runFold(
        hub.run(runId, { vocabulary: AgentEvents.vocabulary }),
        () => 0,
        (count, item) => (item._tag === "Event" ? count + 1 : count),
      ),
      { startImmediately: true },
    ),
  )
  // Let every reader catch up with the empty run and wait.
  yield* Effect.sleep("150 millis")
  const [millis, counts] = yield* timed(
    Effect.gen(function* () {
      for (const event of encoded) {
        const appended = yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: [event] })
        yield* StreamAdapter.publishAppended(adapter, appended, ["Run"])
      }
      return yield* Fiber.joinAll(fibers)
    }),
  )
  yield* whole(counts)
  yield* store.remove(runId)
  return (readers * events) / (millis / 1000)
})

const baseline = (publish: (pubsub: PubSub.PubSub<AgentEvents.AgentEvent>) => Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const pubsub = yield* PubSub.bounded<AgentEvents.AgentEvent>(1024)
    const fibers = yield* Effect.forEach(Array.from({ length: readers }), () =>
      Effect.flatMap(PubSub.subscribe(pubsub), (subscription) =>
        Effect.forkChild(
          Stream.fromSubscription(subscription).pipe(
            Stream.take(events),
            Stream.runFold(
              () => 0,
              (count) => count + 1,
            ),
          ),
          { startImmediately: true },
        ),
      ),
    )
    const [millis, counts] = yield* timed(Effect.andThen(publish(pubsub), Fiber.joinAll(fibers)))
    yield* whole(counts)
    return (readers * events) / (millis / 1000)
  }).pipe(Effect.scoped)

const all = Array.from({ length: events }, (_, index) => line(index + 1))
const oneAtATime = baseline((pubsub) =>
  Effect.forEach(all, (event) => PubSub.publish(pubsub, event), { discard: true }),
)
const batched = baseline((pubsub) => PubSub.publishAll(pubsub, all))

export const hubFanout: Bench = {
  name: "hub-fanout",
  run: Effect.gen(function* () {
    const { ours: hub, theirs } = yield* alternate({ rounds: 7, ours, theirs: oneAtATime })
    const inBatches = yield* batched
    yield* Console.log(
      `  hub ${perSecond(hub)}, PubSub one at a time ${perSecond(theirs)}, PubSub.publishAll ${perSecond(inBatches)}`,
    )
    yield* report("hub-fanout", hub / theirs, "3.0")
  }).pipe(Effect.provide(Throughline.layerMemory())),
}
