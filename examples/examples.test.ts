/** Every example is a program that a reader runs first, so each runs here, as its own process. */
import { assert, describe, it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import * as RedisServer from "../packages/redis/test/RedisServer.ts"

const redis = RedisServer.forFile()

/** Runs an example; no key of the machine's makes it ask a model that costs. */
const run = Effect.fnUntraced(function* (example: string, env: Readonly<Record<string, string>> = {}) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [fileURLToPath(new URL(`./${example}.ts`, import.meta.url))], {
      env: { OPENAI_API_KEY: undefined, ...env },
      extendEnv: true,
    }),
  )
  const output = yield* handle.all.pipe(Stream.decodeText, Stream.mkString)
  assert.strictEqual(yield* handle.exitCode, 0, output)
  return output
})

const wholeAnswer = (text: RegExp) =>
  new RegExp(`had 10 events[^]*killed with 20 events[^]*up again[^]*once: ${text.source}\n[^]*with RunCompleted\n`)

/** Of each: some start processes several times, which takes long where the machine has other things to do. */
const timeout = 60_000

const words = Array.from({ length: 60 }, (_, index) => `word${index}`)

/** An API that speaks OpenAI's chat completions, and says some words. */
const modelApi = Effect.acquireRelease(
  Effect.callback<ReturnType<typeof createServer>>((resume) => {
    const server = createServer(async (request, response) => {
      if (request.url !== "/v1/chat/completions" || request.headers.authorization !== "Bearer a-key") {
        response.writeHead(401).end()
        return
      }
      request.resume()
      response.writeHead(200, { "content-type": "text/event-stream" })
      for (const word of words) {
        response.write(`data: ${JSON.stringify({ choices: [{ delta: { content: `${word} ` } }] })}\n\n`)
        // As a model would: the example is about what happens while it speaks.
        await setTimeout(40)
      }
      response.end("data: [DONE]\n\n")
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close()),
)

describe("examples", () => {
  it.live.each([
    ["01-first-program", /seq: 2[\s\S]*seq: 3[\s\S]*CaughtUp/],
    ["02-your-own-events", /on SQLite\n {2}1 compile started\n[\s\S]*4 the build is done/],
    ["04-resumable-reader", /together they saw 1 2 3 4 5 6 7 8 9 10 11\n/],
    [
      "08-mail",
      /attempt 3 to send "Welcome"\nWelcome was sent\n[\s\S]*dead after 1 attempt[\s\S]*Your invoice was sent\n/,
    ],
    ["09-nightly-job", /2026-10-24T02:30\S* succeeded\n2026-10-25T02:30\S* succeeded\n2026-10-26T02:30/],
    ["10-outbox", /order o-2: OutOfStock\n[\s\S]*orders: o-1\njobs: \{"order":"o-1"\} succeeded\n/],
    ["12-mounted-routes", /hello from the app[\s\S]*3 \{ _tag: 'RunCompleted'[\s\S]*401, [^\n]* 404, [^\n]* 404\n/],
    ["13-chat-backend/main", wholeAnswer(/You asked: Will it all arrive\? [^\n]* again: Will it all arrive\? /)],
  ] as const)(
    "%s runs and prints what it says",
    ([example, expected]) =>
      Effect.gen(function* () {
        assert.match(yield* run(example), expected)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout,
  )

  it.live(
    "13-chat-backend runs with a language model where a key is set",
    () =>
      Effect.gen(function* () {
        const { port } = (yield* modelApi).address() as AddressInfo
        const output = yield* run("13-chat-backend/main", {
          OPENAI_API_KEY: "a-key",
          OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`,
        })
        assert.match(output, wholeAnswer(new RegExp(`${words.join(" ")} `)))
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout,
  )

  it.live("11-three-engines runs the same on memory, SQLite and BullMQ", () =>
    Effect.gen(function* () {
      const output = yield* run("11-three-engines", { REDIS_URL: yield* redis })
      const said = output.split(/^on .*\n/m).slice(1)
      assert.match(said[0]!, /lake.png hill.png sea.png[\s\S]*succeeded succeeded succeeded cancelled\n/)
      assert.deepStrictEqual(said, [said[0], said[0], said[0]])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  )

  it.live(
    "07-many-processes runs over one Redis and prints what each reader saw",
    () =>
      Effect.gen(function* () {
        const output = yield* run("07-many-processes/main", { REDIS_URL: yield* redis })
        assert.match(output, /reader of session \S+ saw 52 events, each once, in order, to the end\n/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout,
  )
})
