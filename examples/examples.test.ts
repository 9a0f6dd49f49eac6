/** Every example is a program that a reader runs first, so each runs here, as its own process. */
import { assert, describe, it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import * as RedisServer from "../packages/redis/test/RedisServer.ts"

const redis = RedisServer.forFile()

const run = Effect.fnUntraced(function* (example: string, env: Readonly<Record<string, string>> = {}) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [fileURLToPath(new URL(`./${example}.ts`, import.meta.url))], {
      env,
      extendEnv: true,
    }),
  )
  const output = yield* handle.all.pipe(Stream.decodeText, Stream.mkString)
  assert.strictEqual(yield* handle.exitCode, 0, output)
  return output
})

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
  ] as const)("%s runs and prints what it says", ([example, expected]) =>
    Effect.gen(function* () {
      assert.match(yield* run(example), expected)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
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
    60_000,
  )
})
