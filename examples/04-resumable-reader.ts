/**
 * A reader that loses its connection and comes back: it keeps the cursor of the last event it has dealt with, and
 * resumes there. Together the two readings are the run, each event once.
 */
import { NodeRuntime } from "@effect/platform-node"
import { AgentEvents, Envelope, EventBridge, SubscriptionHub, Throughline } from "@throughline/core"
import { Console, Effect, Fiber, Ref, Stream } from "effect"

const lines = 10
const runId = Envelope.RunId.make("build-7")

const events = Stream.range(1, lines).pipe(
  Stream.tap(() => Effect.sleep("20 millis")),
  Stream.map((index): AgentEvents.AgentEvent => ({ _tag: "OutputLine", stream: "stdout", line: `step ${index}` })),
  Stream.concat(
    Stream.succeed<AgentEvents.AgentEvent>({ _tag: "RunCompleted", finishReason: "exit 0", iterations: 1 }),
  ),
)

const program = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const hub = yield* SubscriptionHub.SubscriptionHub
  /** What a client would keep across its own restarts. */
  const place = yield* Ref.make<string | undefined>(undefined)
  const seen = yield* Ref.make<ReadonlyArray<number>>([])

  const read = (name: string) =>
    Effect.gen(function* () {
      const after = yield* Ref.get(place)
      yield* Console.log(`${name} reads after ${after ?? "the beginning"}`)
      yield* Stream.runForEach(hub.run(runId, { vocabulary: AgentEvents.vocabulary, after }), (item) =>
        item._tag === "Event"
          ? Effect.andThen(
              Ref.update(seen, (seqs) => [...seqs, item.envelope.seq]),
              Ref.set(place, item.cursor),
            )
          : Effect.void,
      )
    })

  const producer = yield* Effect.forkChild(
    bridge.record(
      AgentEvents.vocabulary,
      { runId },
      Stream.map(events, (event) => ({ event })),
    ),
  )
  const first = yield* Effect.forkChild(read("the first reader"))
  yield* Effect.sleep("110 millis")
  yield* Fiber.interrupt(first)
  yield* read("the second reader")
  yield* Fiber.join(producer)
  yield* Console.log(`together they saw ${(yield* Ref.get(seen)).join(" ")}`)
})

NodeRuntime.runMain(Effect.provide(program, Throughline.layerMemory()))
