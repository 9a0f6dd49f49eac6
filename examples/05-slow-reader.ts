/**
 * One slow reader per policy: each catches up with a run, looks away while all of it happens, and then prints what
 * its queue of four has for it. The first reader has no queue: it is served from the store and loses nothing.
 */
import { AgentEvents, Envelope, EventBridge, type RunItem, SubscriptionHub, Throughline } from "@throughline/core"
import { Console, Effect, Fiber, Latch, Stream } from "effect"

type Item = RunItem.RunItem<Envelope.Envelope<AgentEvents.AgentEvent>>

const words = (text: string): ReadonlyArray<AgentEvents.AgentEvent> =>
  text.split(" ").map((word) => ({ _tag: "TextDelta", messageId: "m1", text: `${word} ` }))

const missed: ReadonlyArray<AgentEvents.AgentEvent> = [
  { _tag: "RunStarted", name: "release" },
  ...words("Let me read the file first."),
  { _tag: "ToolCallStarted", messageId: "m1", toolCallId: "c1", name: "read" },
  { _tag: "ToolExecutionFinished", toolCallId: "c1", name: "read", outcome: { _tag: "Success", output: "ok" } },
  ...words("It says ok."),
  { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
]

const show = (item: Item): string => {
  switch (item._tag) {
    case "Dropped":
      return `(${item.notice.frames} lost)`
    case "Event": {
      const { event } = item.envelope
      const text = event._tag === "TextDelta" ? ` "${event.text.trim()}"` : ""
      return `${event._tag}${text}${item.merged === undefined ? "" : ` of ${item.merged.frames}`}`
    }
    default:
      return item._tag
  }
}

const read = (name: string, queue: SubscriptionHub.Queued["queue"]) =>
  Effect.gen(function* () {
    const bridge = yield* EventBridge.EventBridge
    const hub = yield* SubscriptionHub.SubscriptionHub
    const runId = Envelope.RunId.make(`slow-${name.replace(" ", "-")}`)
    const caughtUp = yield* Latch.make()
    const events = Stream.unwrap(Effect.as(caughtUp.await, Stream.fromIterable(missed)))
    const producer = yield* Effect.forkChild(
      bridge.record(
        AgentEvents.vocabulary,
        { runId },
        Stream.map(events, (event) => ({ event })),
      ),
    )
    const arrived: Array<string> = []
    const note = (line: string) =>
      Effect.sync(() => {
        arrived.push(line)
      })
    yield* hub.run(runId, { vocabulary: AgentEvents.vocabulary, queue }).pipe(
      Stream.runForEach((item) => {
        if (item._tag !== "CaughtUp") return note(show(item))
        // The reader looks away until the run is over.
        return Effect.andThen(caughtUp.open, Effect.asVoid(Fiber.join(producer)))
      }),
      Effect.catchTags({
        SubscriberOverflow: ({ repair }) => note(`failed, go on after ${repair.after}`),
        TerminalOverflow: ({ repair }) => note(`failed, go on after ${repair.after}`),
        InvalidOverflowPolicy: ({ message }) => note(message),
      }),
    )
    yield* Console.log(`${name}:\n  ${arrived.join("\n  ").replace(/-[a-z0-9]{8}$/, "-…")}\n`)
  })

const program = Effect.gen(function* () {
  yield* read("no queue", undefined)
  for (const overflow of ["dropNonTerminal", "dropProgress", "summarize", "failSubscriber", "backpressure"] as const) {
    yield* read(overflow, { capacity: 4, terminalReserve: 1, overflow })
  }
})

void Effect.runPromise(Effect.provide(program, Throughline.layerMemory()))
