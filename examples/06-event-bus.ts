/**
 * The bus: a dashboard that watches the tool calls of every run, is closed, and is opened again after so much has happened
 * that the bus has forgotten its place. Live alone it is told so; repaired it reads what it missed from the archive.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { AgentEvents, Envelope, EventBridge, EventBus, type EventFilter, Throughline } from "@throughline/core"
import { Console, Effect, Stream } from "effect"

const toolCalls: EventFilter.EventFilter = { kinds: ["ToolExecutionStarted", "ToolExecutionFinished"] }

/** A run that calls a tool between a few lines of text. */
const run = (name: string) =>
  Stream.fromArray<AgentEvents.AgentEvent>([
    { _tag: "RunStarted" },
    { _tag: "TextDelta", messageId: "m1", text: "Let me look. " },
    { _tag: "ToolExecutionStarted", toolCallId: name, name: "search" },
    {
      _tag: "ToolExecutionFinished",
      toolCallId: name,
      name: "search",
      outcome: { _tag: "Success", output: { found: 3 } },
    },
    { _tag: "TextDelta", messageId: "m1", text: "Three results." },
    { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
  ]).pipe(Stream.map((event) => ({ event })))

const record = Effect.fnUntraced(function* (name: string) {
  const bridge = yield* EventBridge.EventBridge
  yield* bridge.record(AgentEvents.vocabulary, { runId: Envelope.RunId.make(name) }, run(name))
})

const show = (item: EventBus.BusItem | EventBus.RepairedItem) =>
  Console.log(item._tag === "Frame" ? `  ${item.envelope.runId}: ${item.envelope.kind}` : `  (${item._tag})`)

const program = Effect.gen(function* () {
  const bus = yield* EventBus.EventBus

  yield* Console.log("the dashboard is open:")
  const cursor = yield* Effect.scoped(
    Effect.gen(function* () {
      const live = yield* bus.subscribe(toolCalls)
      yield* record("monday")
      const items = yield* live.pipe(Stream.take(1), Stream.tap(show), Stream.runCollect)
      return items[0]?._tag === "Frame" ? items[0].cursor : undefined
    }),
  )

  yield* Effect.forEach(["tuesday", "wednesday"], record, { discard: true })

  yield* Console.log("open again, live alone:")
  const live = yield* bus.subscribe(toolCalls, { cursor })
  yield* live.pipe(Stream.take(2), Stream.runForEach(show))

  yield* Console.log("open again, repaired:")
  const whole = yield* bus.subscribe(toolCalls, { cursor, repair: true })
  yield* record("thursday")
  yield* whole.pipe(Stream.take(7), Stream.runForEach(show))
}).pipe(Effect.scoped)

// A ring this small forgets at once; by default it holds 8,192 frames.
NodeRuntime.runMain(Effect.provide(program, Throughline.layerMemory({ bus: { ringFrames: 4 } })))
