/**
 * Writes one answer: `node examples/13-chat-backend/answer.ts FILE RUN QUESTION`.
 *
 * With `OPENAI_API_KEY` set, the answer is a stream of Effect's `LanguageModel`; otherwise a local process speaks. If this
 * process is killed, whoever reads the run ends it once the lease on it is over, so no reader waits for ever.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { AgentEvents, Envelope, EventBridge } from "@throughline/core"
import { SqliteThroughline } from "@throughline/sqlite"
import { Config, Effect, Layer, Redacted, Stream } from "effect"
import { LanguageModel } from "effect/ai"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import * as ChatModel from "./ChatModel.ts"

const [filename, run, question] = process.argv.slice(2)
if (filename === undefined || run === undefined || question === undefined) throw new Error("FILE RUN QUESTION")

const runId = Envelope.RunId.make(run)
const messageId = "answer"

type Events = Stream.Stream<
  AgentEvents.AgentEvent,
  { readonly message: string },
  ChildProcessSpawner.ChildProcessSpawner
>

/** Text as it comes, then how it ended. */
const spoken = (
  text: Stream.Stream<string, { readonly message: string }, ChildProcessSpawner.ChildProcessSpawner>,
): Events =>
  Stream.concat(
    Stream.map(text, (delta): AgentEvents.AgentEvent => ({ _tag: "TextDelta", messageId, text: delta })),
    Stream.succeed<AgentEvents.AgentEvent>({ _tag: "RunCompleted", finishReason: "stop", iterations: 1 }),
  )

const fromModel = (key: Redacted.Redacted): Events =>
  spoken(
    LanguageModel.streamText({ prompt: question }).pipe(
      Stream.filter((part) => part.type === "text-delta"),
      Stream.map((part) => part.delta),
      Stream.provide(ChatModel.layer(key)),
    ),
  )

const fromProcess: Events = spoken(
  Stream.unwrap(
    Effect.map(
      ChildProcess.make(process.execPath, [fileURLToPath(new URL("./parrot.ts", import.meta.url)), question]),
      (parrot) =>
        parrot.stdout.pipe(
          Stream.decodeText,
          Stream.splitLines,
          Stream.map((word) => `${word} `),
        ),
    ),
  ),
)

const program = Effect.gen(function* () {
  const key = yield* Config.Redacted("OPENAI_API_KEY").pipe(Config.withDefault(undefined))
  const bridge = yield* EventBridge.EventBridge
  const started: AgentEvents.AgentEvent = { _tag: "RunStarted", name: "answer", input: question }
  const answer = (key === undefined ? fromProcess : fromModel(key)).pipe(
    // What went wrong is an end too, for readers to see.
    Stream.catch(({ message }) =>
      Stream.succeed<AgentEvents.AgentEvent>({ _tag: "RunFailed", error: { message }, reason: "error" }),
    ),
  )
  yield* bridge.record(
    AgentEvents.vocabulary,
    { runId, sessionId: Envelope.SessionId.make("chat") },
    Stream.map(Stream.concat(Stream.succeed(started), answer), (event) => ({ event })),
  )
})

program.pipe(
  Effect.provide(Layer.mergeAll(SqliteThroughline.layer({ filename }), NodeServices.layer)),
  NodeRuntime.runMain,
)
