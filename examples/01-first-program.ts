/** A run in twenty lines: it is recorded, and read while it is written. */
import { AgentEvents, Envelope, EventBridge, SubscriptionHub, Throughline } from "@throughline/core"
import { Console, Effect, Fiber, Stream } from "effect"

const program = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const hub = yield* SubscriptionHub.SubscriptionHub
  const runId = Envelope.RunId.make("hello")

  const reader = yield* Effect.forkChild(
    Stream.runForEach(hub.run(runId, { vocabulary: AgentEvents.vocabulary }), (item) =>
      item._tag === "Event" ? Console.log(item.cursor, item.envelope.event) : Console.log(`(${item._tag})`),
    ),
  )
  const events = Stream.make<ReadonlyArray<AgentEvents.AgentEvent>>(
    { _tag: "RunStarted", name: "hello" },
    { _tag: "TextDelta", messageId: "m1", text: "Hello, " },
    { _tag: "TextDelta", messageId: "m1", text: "world." },
    { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
  )
  yield* bridge.record(
    AgentEvents.vocabulary,
    { runId },
    Stream.map(events, (event) => ({ event })),
  )
  yield* Fiber.join(reader)
})

Effect.runPromise(Effect.provide(program, Throughline.layerMemory()))
