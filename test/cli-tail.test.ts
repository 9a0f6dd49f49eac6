import { assert, describe, it } from "@effect/vitest"
import { stat } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"
import { directory, envelopes, run, script, start, startNode } from "./cli-harness.ts"

/** A store with one run, `r`, of `count` lines. */
const recorded = async (count: number, line = "line") => {
  const store = `sqlite:${await directory()}/runs.db`
  const input = Array.from({ length: count }, (_, index) => `${line} ${index + 1}\n`).join("")
  const { code, stderr } = await run(["record", "--run", "r", "--session", "s", "--store", store], { input })
  assert.strictEqual(code, 0, stderr)
  return store
}

describe("throughline tail", () => {
  it("--json prints one envelope a line, from where it was asked to, and exits with 0 at the end", async () => {
    const store = await recorded(3)
    const whole = await run(["tail", "r", "--json", "--store", store])
    assert.deepStrictEqual([whole.code, whole.stderr], [0, ""])
    const all = envelopes(whole.stdout)
    assert.deepStrictEqual(
      all.map(({ kind, seq }) => [seq, kind]),
      [
        [1, "RunStarted"],
        [2, "OutputLine"],
        [3, "OutputLine"],
        [4, "OutputLine"],
        [5, "RunCompleted"],
      ],
    )
    assert.hasAllKeys(all[1], [
      ..."eventId seq runId sessionId kind delivery emittedAt tags correlation schemaVersion event".split(" "),
    ])
    const rest = await run(["tail", "r", "--after", "3", "--json", "--store", store])
    assert.strictEqual(rest.stdout, whole.stdout.split("\n").slice(3).join("\n"))
    const nothing = await run(["tail", "r", "--after", "5", "--follow", "--json", "--store", store])
    assert.deepStrictEqual([nothing.code, nothing.stdout], [0, ""])
  })

  it("without --follow it ends at the head of a run that goes on; with it, at the run's end", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const recorder = start([
      "record",
      "--run",
      "r",
      "--store",
      store,
      ...script('console.log("on"); setInterval(() => {}, 1000)'),
    ])
    await recorder.until("output", () => recorder.stdout() !== "")
    const follower = start(["tail", "r", "--follow", "--store", store])
    await follower.until("the line", () => follower.stdout().includes("on\n"))
    const head = await run(["tail", "r", "--store", store])
    assert.strictEqual(head.code, 0)
    assert.notInclude(head.stdout, "cancelled")
    recorder.child.kill("SIGTERM")
    const followed = await follower.ended
    assert.strictEqual(followed.code, 0)
    assert.include(followed.stdout, "cancelled")
  })

  it("an unknown run is 3, in a store that is there and in one that isn't, which is not made", async () => {
    const store = await recorded(1)
    for (const flags of [[], ["--follow"], ["--json"]]) {
      const result = await run(["tail", "nope", ...flags, "--store", store])
      assert.deepStrictEqual([result.code, result.stdout], [3, ""])
      assert.include(result.stderr, "nope")
    }
    const missing = `${await directory()}/missing.db`
    assert.strictEqual((await run(["tail", "nope", "--store", `sqlite:${missing}`])).code, 3)
    assert.strictEqual((await run(["rm", "nope", "--store", `sqlite:${missing}`])).code, 3)
    assert.strictEqual((await run(["ls", "--store", `sqlite:${missing}`])).code, 0)
    assert.isTrue(
      await stat(missing).then(
        () => false,
        () => true,
      ),
    )
  })

  it("--follow --wait waits for a run that isn't there yet, in a store that isn't there yet", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const waiting = start(["tail", "r", "--follow", "--wait", "--store", store])
    await run(["record", "--run", "r", "--store", store, "--", "echo", "here"])
    const { code, stdout } = await waiting.ended
    assert.strictEqual(code, 0)
    assert.include(stdout, "here")
    assert.include(stdout, "completed")
  })

  it("colours only where they are wanted: never in a pipe, with NO_COLOR not even when forced", async () => {
    const store = await recorded(1)
    const args = ["tail", "r", "--store", store]
    const piped = await run(args)
    assert.strictEqual(piped.stdout, stripVTControlCharacters(piped.stdout))
    const forced = await run(args, { env: { FORCE_COLOR: "1" } })
    assert.notStrictEqual(forced.stdout, piped.stdout)
    assert.strictEqual(stripVTControlCharacters(forced.stdout), piped.stdout)
    const refused = await run(args, { env: { FORCE_COLOR: "1", NO_COLOR: "1" } })
    assert.strictEqual(refused.stdout, piped.stdout)
  })

  it("what a run printed can't act on the terminal that shows it", async () => {
    const store = await recorded(1, "\u001b]0;owned\u0007\u001b[2J\u009b31m")
    const { stdout } = await run(["tail", "r", "--store", store])
    assert.include(stdout, "\\e]0;owned")
    assert.strictEqual(stdout, stripVTControlCharacters(stdout))
    assert.notInclude(stdout, "\u009b")
  })

  it("a reader that has enough closes the pipe, and that is no error", async () => {
    const store = await recorded(50_000)
    for (const flags of [[], ["--json"], ["--follow"]]) {
      const tail = start(["tail", "r", ...flags, "--store", store])
      await tail.until("output", () => tail.stdout() !== "")
      tail.child.stdout!.destroy()
      const { code, stderr } = await tail.ended
      assert.deepStrictEqual([code, stderr], [0, ""])
    }
  })

  it("a signal ends it with 128 and the signal", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const tail = start(["tail", "r", "--follow", "--wait", "--store", store])
    const recorder = start([
      "record",
      "--run",
      "r",
      "--store",
      store,
      ...script("console.log(1); setInterval(() => {}, 1000)"),
    ])
    await tail.until("output", () => tail.stdout() !== "")
    tail.child.kill("SIGTERM")
    assert.strictEqual((await tail.ended).code, 143)
    recorder.child.kill("SIGTERM")
    await recorder.ended
  })

  it("a place that is none in this run is 2, and says why", async () => {
    const store = await recorded(1)
    const ahead = await run(["tail", "r", "--after", "99", "--store", store])
    assert.deepStrictEqual([ahead.code, ahead.stdout], [2, ""])
    assert.include(ahead.stderr, "99")
    const stale = await run(["tail", "r", "--after", "1-zzzzzzzz", "--store", store])
    assert.strictEqual(stale.code, 2)
  })
})

describe("throughline ls and rm", () => {
  it("ls says how each run stands, last started first, and selects; rm removes one", async () => {
    const store = await recorded(2)
    await run(["record", "--run", "bad", "--store", store, "--", "sh", "-c", "exit 1"])
    const table = await run(["ls", "--store", store])
    assert.deepStrictEqual(
      table.stdout.split("\n").map((line) => line.split(/\s+/).slice(0, 3)),
      [["RUN", "STATUS", "EVENTS"], ["bad", "failed", "2"], ["r", "completed", "4"], [""]],
    )
    const json = await run(["ls", "--json", "--store", store])
    const runs = json.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.deepStrictEqual(
      runs.map(({ events, runId, sessionId, status }) => [runId, sessionId, status, events]),
      [
        ["bad", undefined, "failed", 2],
        ["r", "s", "completed", 4],
      ],
    )
    for (const { ageMs, durationMs } of runs) assert.isTrue(Number(ageMs) >= 0 && Number(durationMs) >= 0)
    const selected = await run(["ls", "--json", "--session", "s", "--store", store])
    assert.include(selected.stdout, '"r"')
    assert.notInclude(selected.stdout, '"bad"')
    assert.include((await run(["ls", "--json", "--status", "failed", "--store", store])).stdout, '"bad"')
    assert.strictEqual((await run(["ls", "--json", "--status", "running", "--store", store])).stdout, "")

    assert.strictEqual((await run(["rm", "r", "--store", store])).code, 0)
    assert.strictEqual((await run(["rm", "r", "--store", store])).code, 3)
    assert.strictEqual((await run(["tail", "r", "--store", store])).code, 3)
  })
})

describe("throughline", () => {
  it("what is wrong on the command line is 2, on standard error, with what was expected", async () => {
    const cases = [
      [["record", "--bogus"], "--run, --session, --agent, --store, --format"],
      [["record", "--run", "a b", "--", "true"], "1 to 128 characters of A-Z a-z 0-9 . _ : -"],
      [["record", "--session", "", "--", "true"], "1 to 128 characters"],
      [["record", "--format", "xml", "--", "true"], '"lines" | "ndjson" | "agent"'],
      [["record", "--store", "postgres://x", "--", "true"], "expected sqlite:PATH"],
      [["tail"], "throughline tail [flags] <run>"],
      [["tail", "a", "b"], "throughline tail [flags] <run>"],
      [["tail", "r", "--after", "x"], "a seq from 0 up"],
      [["tail", "r", "--wait"], "--follow --wait"],
      [["tail", "r", "--store", "memory:"], "expected sqlite:PATH"],
      [["ls", "--status", "odd"], '"running" | "completed" | "failed" | "cancelled"'],
      [["nonsense"], "record, tail, ls, rm"],
    ] as const
    const results = await Promise.all(cases.map(([args]) => run(args)))
    results.forEach(({ code, stderr, stdout }, index) => {
      const [args, expected] = cases[index]!
      assert.deepStrictEqual([code, stdout], [2, ""], args.join(" "))
      assert.include(stderr, expected, args.join(" "))
    })
    const variable = await run(["ls"], { env: { THROUGHLINE_STORE: "nope" } })
    assert.strictEqual(variable.code, 2)
    assert.include(variable.stderr, "THROUGHLINE_STORE")
  })

  it("--help says how to use each command", async () => {
    const help = await Promise.all(["record", "tail", "ls", "rm"].map((name) => run([name, "--help"])))
    for (const { code, stderr, stdout } of help) {
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.include(stdout, "--store URL")
    }
    assert.include(help[0]!.stdout, "throughline record -- npm test")
  })

  it("THROUGHLINE_STORE names the store, else it is in the user's data directory", async () => {
    const path = await directory()
    const env = { THROUGHLINE_STORE: `sqlite:${path}/named.db`, XDG_DATA_HOME: `${path}/data` }
    await run(["record", "--run", "r", "--", "true"], { env })
    assert.isTrue((await stat(`${path}/named.db`)).isFile())
    await run(["record", "--run", "r", "--", "true"], { env: { XDG_DATA_HOME: `${path}/data` } })
    assert.isTrue((await stat(`${path}/data/throughline/throughline.db`)).isFile())
  })
})

describe("the demo", () => {
  it("shows that two readers together saw the run", { timeout: 60_000 }, async () => {
    const demo = startNode([fileURLToPath(new URL("../examples/demo/main.ts", import.meta.url))])
    const { code, stdout } = await demo.ended
    assert.strictEqual(code, 0, stdout)
    assert.match(stdout, /together: \d+ events, each once, in order, to the end/)
  })
})
