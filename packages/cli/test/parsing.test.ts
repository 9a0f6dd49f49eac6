import { assert, describe, it } from "@effect/vitest"
import * as RunEnding from "@throughline/cli/RunEnding"
import { NotStarted } from "@throughline/cli/Source"
import * as StoreUrl from "@throughline/cli/StoreUrl"
import { type AgentEvent, vocabulary } from "@throughline/core/AgentEvents"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

const path = (text: string) =>
  Result.match(StoreUrl.parse(text, "--store"), {
    onFailure: ({ _tag }) => _tag,
    onSuccess: (url) => (url._tag === "Sqlite" ? url.path : url._tag),
  })

const resolve = (flag: string | undefined, env: Record<string, string>) =>
  StoreUrl.resolve(flag).pipe(
    Effect.map(({ isDefault, url }) => [StoreUrl.format(url), isDefault]),
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env })),
    Effect.provide(Path.layer),
  )

const redis = (text: string) => {
  const url = Result.getOrThrow(StoreUrl.parse(text, "--store"))
  return url._tag === "Redis" ? { ...url, address: Redacted.value(url.address) } : assert.fail(url._tag)
}

describe("StoreUrl", () => {
  it("names a file after sqlite:, or memory", () => {
    assert.strictEqual(path("sqlite:runs.db"), "runs.db")
    assert.strictEqual(path("sqlite:/var/lib/my runs.db"), "/var/lib/my runs.db")
    assert.strictEqual(path("sqlite:///var/lib/runs.db"), "/var/lib/runs.db")
    assert.strictEqual(path("memory:"), "Memory")
  })

  it("anything else is refused, with what was expected", () => {
    for (const text of ["", "runs.db", "sqlite:", "sqlite://host/runs.db", "memory", "memory:x"]) {
      assert.strictEqual(path(text), "InvalidStoreUrl", text)
    }
    const error = Result.getOrThrow(Result.flip(StoreUrl.parse("runs.db", "--store")))
    assert.include(error.message, "expected sqlite:PATH")
  })

  it("redis:// and rediss:// name a server, a user, a database and a prefix", () => {
    const plain = { _tag: "Redis" as const, sentinel: undefined, keyPrefix: undefined }
    assert.deepStrictEqual(redis("redis://host"), { ...plain, address: "redis://host/", shown: "redis://host" })
    assert.deepStrictEqual(redis("rediss://ana:p%40ss@[::1]:7000/2?prefix=team-a:"), {
      ...plain,
      address: "rediss://ana:p%40ss@[::1]:7000/2",
      keyPrefix: "team-a:",
      shown: "rediss://***@[::1]:7000/2?prefix=team-a:",
    })
  })

  it("redis+sentinel:// names the Sentinels and their master", () => {
    const { address, sentinel, shown } = redis("rediss+sentinel://:secret@one,[::1]:7001,three:7002/mymaster/1")
    assert.strictEqual(address, "rediss://:secret@sentinel/1")
    assert.deepStrictEqual(sentinel, {
      name: "mymaster",
      sentinels: [
        { host: "one", port: 26_379 },
        { host: "::1", port: 7001 },
        { host: "three", port: 7002 },
      ],
    })
    assert.strictEqual(shown, "rediss+sentinel://***@one,[::1]:7001,three:7002/mymaster/1")
  })

  it("a Redis URL that can't be read is refused, and no password of it is repeated", () => {
    const texts = [
      "redis:",
      "redis:secret@host",
      "redis://",
      "redis://:secret@",
      "redis://:se/cret@host",
      "redis://:secret@host:port",
      "redis://:secret@host/0/1",
      "redis://:secret@host/name",
      "redis://:secret@host/0?db=1",
      "redis://:secret@host/0?prefix=a&prefix=b",
      "redis://host?password=secret",
      "redis://host/0#secret",
      "redis://:secret@one,two/0",
      "redis+sentinel://:secret@one,two",
      "redis+sentinel://:secret@one,:x/mymaster",
      "redis+sentinel://:secret@one/mymaster/0/1",
      "REDIS://:secret@host",
      "postgres://:secret@host",
    ]
    for (const text of texts) {
      const error = Result.getOrThrow(Result.flip(StoreUrl.parse(text, "THROUGHLINE_STORE")))
      assert.include(error.message, "expected ", text)
      assert.notMatch(error.message, /se(\/)?cret/, text)
    }
  })

  it.effect("the flag wins over THROUGHLINE_STORE, which wins over the user's data directory", () =>
    Effect.gen(function* () {
      const env = { HOME: "/home/ana", THROUGHLINE_STORE: "sqlite:env.db" }
      assert.deepStrictEqual(yield* resolve("sqlite:flag.db", env), ["sqlite:flag.db", false])
      assert.deepStrictEqual(yield* resolve(undefined, env), ["sqlite:env.db", true])
      assert.deepStrictEqual(yield* resolve(undefined, { HOME: "/home/ana", XDG_DATA_HOME: "/data" }), [
        "sqlite:/data/throughline/throughline.db",
        true,
      ])
    }),
  )

  it.effect("a wrong THROUGHLINE_STORE is named as such", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(resolve(undefined, { HOME: "/home/ana", THROUGHLINE_STORE: "nope" }))
      assert.include(error.message, "THROUGHLINE_STORE")
    }),
  )
})

const exited = (code: number): RunEnding.Circumstances["ended"] => ({ _tag: "Exited", code })
const completed: AgentEvent = { _tag: "RunCompleted", finishReason: "stop", iterations: 4 }
const failed: AgentEvent = { _tag: "RunFailed", reason: "error", error: { message: "budget" } }

/** The code in the error of a run that ended like this. */
const code = (ended: RunEnding.Circumstances["ended"]) => {
  const event = RunEnding.eventOf({ ended, cancelledBy: undefined, own: undefined })
  return event._tag === "RunFailed" ? event.error.code : undefined
}

describe("RunEnding", () => {
  const cases: ReadonlyArray<
    readonly [name: string, RunEnding.Circumstances, ending: string, reason: string | undefined, exit: number]
  > = [
    ["exit 0 completes", { ended: exited(0), cancelledBy: undefined, own: undefined }, "completed", "exit", 0],
    ["another code fails", { ended: exited(3), cancelledBy: undefined, own: undefined }, "failed", "exit", 3],
    [
      "a signal fails",
      { ended: { _tag: "Killed", signal: "SIGKILL" }, cancelledBy: undefined, own: undefined },
      "failed",
      "signal",
      137,
    ],
    [
      "a signal through us cancels, whatever the code",
      { ended: exited(0), cancelledBy: "SIGTERM", own: undefined },
      "cancelled",
      "SIGTERM",
      0,
    ],
    [
      "a signal through us cancels, and the exit tells the signal",
      { ended: { _tag: "Killed", signal: "SIGINT" }, cancelledBy: "SIGINT", own: undefined },
      "cancelled",
      "SIGINT",
      130,
    ],
    [
      "the end of input completes",
      { ended: { _tag: "EndOfInput" }, cancelledBy: undefined, own: undefined },
      "completed",
      "end of input",
      0,
    ],
    [
      "a signal while reading cancels",
      { ended: { _tag: "EndOfInput" }, cancelledBy: "SIGTERM", own: undefined },
      "cancelled",
      "SIGTERM",
      143,
    ],
    [
      "a command that can't start fails",
      {
        ended: { _tag: "NotStarted", error: new NotStarted({ command: "x", code: 127, problem: "command not found" }) },
        cancelledBy: undefined,
        own: undefined,
      },
      "failed",
      "not started",
      127,
    ],
    [
      "the source's own end stands",
      { ended: exited(0), cancelledBy: undefined, own: completed },
      "completed",
      "stop",
      0,
    ],
    ["its own failure stands", { ended: exited(1), cancelledBy: undefined, own: failed }, "failed", "error", 1],
    [
      "its own failure stands after a signal",
      { ended: exited(1), cancelledBy: "SIGINT", own: failed },
      "failed",
      "error",
      1,
    ],
    [
      "its completion doesn't outweigh a bad exit",
      { ended: exited(1), cancelledBy: undefined, own: completed },
      "failed",
      "exit",
      1,
    ],
  ]
  for (const [name, circumstances, ending, reason, exit] of cases) {
    it(name, () => {
      const event = RunEnding.eventOf(circumstances)
      assert.strictEqual(vocabulary.endsRun(event), ending)
      assert.strictEqual(
        "finishReason" in event ? event.finishReason : "reason" in event ? event.reason : undefined,
        reason,
      )
      assert.strictEqual(RunEnding.exitCodeOf(circumstances), exit)
    })
  }

  it("a failure names the code or the signal, for programs", () => {
    assert.strictEqual(code(exited(3)), 3)
    assert.strictEqual(code({ _tag: "Killed", signal: "SIGKILL" }), "SIGKILL")
  })
})
