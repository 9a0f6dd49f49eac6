/** A run in twenty lines: recorded, then read from its second event on. */
import { NodeRuntime } from "@effect/platform-node"
import { AgentEvents, Envelope, EventBridge, SubscriptionHub, Throughline } from "@throughline/core"
import { Console, Effect, Stream } from "effect"

const { vocabulary } = AgentEvents
const runId = Envelope.RunId.make("hello")
const events = Stream.make<ReadonlyArray<AgentEvents.AgentEvent>>(
  { _tag: "RunStarted", name: "hello" },
  { _tag: "TextDelta", messageId: "m1", text: "Hello, world." },
  { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
)
const program = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const hub = yield* SubscriptionHub.SubscriptionHub
  yield* bridge.record(
    vocabulary,
    { runId },
    Stream.map(events, (event) => ({ event })),
  )
  yield* Stream.runForEach(hub.run(runId, { vocabulary, after: 1 }), (item) => Console.log(item))
})
NodeRuntime.runMain(Effect.provide(program, Throughline.layerMemory()))
