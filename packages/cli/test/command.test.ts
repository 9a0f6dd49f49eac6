import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Command from "@throughline/cli/Command"
import * as Output from "@throughline/cli/Output"
import * as Signals from "@throughline/cli/Signals"
import * as ConfigProvider from "effect/ConfigProvider"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as TestConsole from "effect/testing/TestConsole"

/** Runs the command in this process: its exit code and what it wrote. */
const run = Effect.fnUntraced(function* (args: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const written = { stdout: "", stderr: "" }
  const services = Layer.mergeAll(
    NodeServices.layer,
    SecureRandom.layerWebCrypto,
    Layer.succeed(Signals.Signals, Signals.make().service),
    Layer.succeed(Output.Output, {
      write: (stream, data) =>
        Effect.sync(() => {
          written[stream] += String(data)
        }),
    }),
    ConfigProvider.layer(ConfigProvider.fromEnv({ env: { HOME: "/nowhere", ...env } })),
  )
  const exit = yield* Effect.exit(
    Command.run(args, "1.2.3").pipe(
      Effect.as(0),
      Effect.catchTag("Exited", ({ code }) => Effect.succeed(code)),
      Effect.provide(services),
    ),
  )
  return { code: Exit.isSuccess(exit) ? exit.value : String(exit.cause), ...written }
})

describe("the command line", () => {
  const wrong = [
    [["record", "--bogus"], "--run, --session, --agent, --store, --format"],
    [["record", "--run", "a b", "--", "true"], "1 to 128 characters of A-Z a-z 0-9 . _ : -"],
    [["record", "--run", "x".repeat(129), "--", "true"], "1 to 128 characters"],
    [["record", "--session", "", "--", "true"], "1 to 128 characters"],
    [["record", "--agent", "\u001b[31m", "--", "true"], "1 to 128 characters"],
    [["record", "--format", "xml", "--", "true"], '"lines" | "ndjson" | "agent"'],
    [["record", "--store", "postgres://x", "--", "true"], "expected sqlite:PATH"],
    [["tail"], "throughline tail [flags] <run>"],
    [["tail", "a", "b"], "throughline tail [flags] <run>"],
    [["tail", "a/b"], "1 to 128 characters"],
    [["tail", "r", "--after", "x"], "a seq from 0 up"],
    [["tail", "r", "--after=-1"], "a seq from 0 up"],
    [["tail", "r", "--wait"], "--follow --wait"],
    [["tail", "r", "--store", "memory:"], "expected sqlite:PATH"],
    [["ls", "--status", "odd"], '"running" | "completed" | "failed" | "cancelled"'],
    [["ls", "--store", "memory:"], "expected sqlite:PATH"],
    [["serve", "--port", "65536"], "65535"],
    [["serve", "--port", "x", "--store", "memory:"], "--port"],
    [["serve", "--store", "postgres://x"], "expected sqlite:PATH"],
    [["serve", "here"], "throughline serve"],
    [["rm"], "throughline rm [flags] <run>"],
    [["nonsense"], "record, serve, tail, ls, rm, jobs"],
    [["jobs", "nonsense"], "list, show, retry, cancel, counts"],
    [["jobs", "list", "--state", "lost"], '"delayed" | "waiting" | "running" | "succeeded" | "dead" | "cancelled"'],
    [["jobs", "list", "--limit", "0"], "between 1 and 1000"],
    [["jobs", "list", "--name", "a:b"], "1 to 100 characters of A-Z a-z 0-9 . _ -"],
    [["jobs", "counts", "--store", "memory:"], "expected sqlite:PATH"],
    [["jobs", "show"], "throughline jobs show [flags] <job>"],
    [["jobs", "show", "7"], "UUIDv7"],
    [["jobs", "retry"], "throughline jobs retry [flags] <job...>"],
    [["jobs", "cancel", "x"], "UUIDv7"],
  ] as const
  for (const [args, expected] of wrong) {
    it.effect(
      `throughline ${args.map((arg) => JSON.stringify(arg).slice(0, 20)).join(" ")} is told what was expected`,
      () =>
        Effect.gen(function* () {
          const { code, stderr, stdout } = yield* run(args)
          assert.deepStrictEqual([code, stdout], [2, ""])
          assert.include(stderr, expected)
          assert.notInclude(stderr, "\u001b")
        }),
    )
  }

  it.effect("a wrong THROUGHLINE_STORE or timing is named", () =>
    Effect.gen(function* () {
      const store = yield* run(["ls"], { THROUGHLINE_STORE: "nope" })
      assert.strictEqual(store.code, 2)
      assert.include(store.stderr, "THROUGHLINE_STORE")
      const lease = yield* run(["record", "--store", "memory:", "--", "true"], { THROUGHLINE_LEASE: "soon" })
      assert.include(lease.stderr, "THROUGHLINE_LEASE")
    }),
  )

  it.effect("--help of each command is enough to use it", () =>
    Effect.gen(function* () {
      const promised = {
        record: [
          "--run",
          "for one recorder",
          "--session",
          "--agent",
          "--store",
          "--format",
          "lines, ndjson, agent",
          "npm test",
          "128 + n",
        ],
        tail: [
          "--after",
          "--follow",
          "--wait",
          "--store",
          "--json",
          "with 3 if the run is not known",
          "on read-only media",
        ],
        ls: ["--session", "--status", "--store", "--json"],
        rm: ["--store", "Exits with 3", "its recorder isn't stopped"],
        "jobs list": ["--state", "--name", "--limit", "--after", "--store", "--json"],
        "jobs retry": ["--store", "--json", "Exits with 3", "with 5 if one is not dead", "xargs"],
        "jobs cancel": ["--store", "--json", "told to interrupt it"],
      }
      for (const [name, words] of Object.entries(promised)) {
        assert.strictEqual((yield* run([...name.split(" "), "--help"])).code, 0)
        const text = (yield* TestConsole.logLines).join("\n")
        for (const word of words) assert.include(text, word, name)
      }
    }).pipe(Effect.provide(TestConsole.layer)),
  )
})
