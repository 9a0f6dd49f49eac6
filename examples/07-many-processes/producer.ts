/** Records one run, a line every few milliseconds: `node producer.ts RUN SESSION`. */
import { NodeRuntime } from "@effect/platform-node"
import { AgentEvents, Envelope, EventBridge } from "@throughline/core"
import { Effect, Stream } from "effect"
import { layer } from "./services.ts"

const [run = "", session = ""] = process.argv.slice(2)

const events = Stream.range(1, 25).pipe(
  Stream.tap(() => Effect.sleep("10 millis")),
  Stream.map((step): AgentEvents.AgentEvent => ({ _tag: "OutputLine", stream: "stdout", line: `step ${step}` })),
  Stream.concat(Stream.succeed<AgentEvents.AgentEvent>({ _tag: "RunCompleted", finishReason: "stop", iterations: 1 })),
)

const program = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  yield* bridge.record(
    AgentEvents.vocabulary,
    { runId: Envelope.RunId.make(run), sessionId: Envelope.SessionId.make(session) },
    Stream.map(events, (event) => ({ event })),
  )
})

NodeRuntime.runMain(Effect.provide(program, layer))
