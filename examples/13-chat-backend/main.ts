/**
 * The chat of this folder, put to the test: a question is asked, the page is reloaded half-way, the server is killed
 * and started again, and the answer arrives whole, each word once.
 *
 * `node examples/13-chat-backend/server.ts` starts it for a browser.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { runEvents } from "@throughline/client"
import type { AgentEvents } from "@throughline/core"
import { Console, Effect, FileSystem, Schema, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { createServer, type AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"

const question = "Will it all arrive?"

/** A port that is free: the second server has the address of the first, as the one behind a name would. */
const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Starts a server; returns once it has said its address. */
const startServer = Effect.fnUntraced(function* (port: number, filename: string) {
  const server = yield* ChildProcess.make(process.execPath, [
    fileURLToPath(new URL("./server.ts", import.meta.url)),
    String(port),
    filename,
  ])
  yield* Effect.forkScoped(Stream.runDrain(server.stderr))
  yield* server.stdout.pipe(Stream.decodeText, Stream.runHead)
  return server
})

const Asked = Schema.Struct({ runId: Schema.String })

const program = Effect.gen(function* () {
  const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped({ prefix: "throughline-chat-" })
  const port = yield* freePort
  const base = `http://127.0.0.1:${port}`
  const server = yield* startServer(port, `${directory}/chat.db`)
  yield* Console.log("the server is up")

  const response = yield* Effect.promise(() =>
    fetch(`${base}/questions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ question }),
    }),
  )
  const { runId } = yield* Schema.decodeUnknownEffect(Asked)(yield* Effect.promise(() => response.json()))
  yield* Console.log(`asked: ${question}`)

  /** What a page does: it reads the run from its start. */
  const page = Stream.suspend(() =>
    Stream.fromAsyncIterable(
      runEvents<AgentEvents.AgentEvent>(`${base}/throughline/runs/${runId}/events?wait`),
      (cause) => cause,
    ),
  ).pipe(Stream.filter((item) => item._tag === "Event"))

  const before = yield* Stream.runCollect(Stream.take(page, 10))
  yield* Console.log(`the page had ${before.length} events when it was reloaded`)

  const seen = yield* Stream.runFoldEffect(
    page,
    () => [] as Array<AgentEvents.AgentEvent>,
    Effect.fnUntraced(function* (events, { envelope }) {
      events.push(envelope.event)
      if (envelope.seq !== events.length) return yield* Effect.fail(`seq ${envelope.seq} is number ${events.length}`)
      if (events.length === 20) {
        yield* server.kill({ killSignal: "SIGKILL" })
        yield* Console.log("the server was killed with 20 events read")
        yield* startServer(port, `${directory}/chat.db`)
        yield* Console.log("the server is up again")
      }
      return events
    }),
  )
  const text = seen.map((event) => (event._tag === "TextDelta" ? event.text : "")).join("")
  yield* Console.log(`the answer, each of its ${seen.length} events once: ${text}`)
  yield* Console.log(`it ended with ${seen.at(-1)?._tag}`)
}).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

NodeRuntime.runMain(program)
