import { assert, describe, it } from "@effect/vitest"
import { stat } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"
import { directory, envelopes, run, script, start, startNode } from "./cli-harness.ts"

/** The runs that `ls --json` printed. */
const ids = (text: string) => Array.from(text.matchAll(/"runId":"(.*?)"/g), ([, id]) => id)

/** A store with one run, `r`, of `count` lines. */
const recorded = async (count: number, line = "line") => {
  const store = `sqlite:${await directory()}/runs.db`
  const input = Array.from({ length: count }, (_, index) => `${line} ${index + 1}\n`).join("")
  const { code, stderr } = await run(["record", "--run", "r", "--session", "s", "--store", store], { input })
  assert.strictEqual(code, 0, stderr)
  return store
}

describe("throughline tail", { timeout: 300_000 }, () => {
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
    const fields = "eventId seq runId sessionId kind delivery emittedAt tags correlation schemaVersion event"
    assert.hasAllKeys(all[1], fields.split(" "))
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
    const result = await run(["tail", "nope", "--follow", "--store", store])
    assert.deepStrictEqual([result.code, result.stdout], [3, ""])
    assert.include(result.stderr, "nope")
    const missing = `${await directory()}/missing.db`
    const elsewhere = await Promise.all(
      [["tail", "nope"], ["rm", "nope"], ["ls"]].map((args) => run([...args, "--store", `sqlite:${missing}`])),
    )
    assert.deepStrictEqual(
      elsewhere.map(({ code }) => code),
      [3, 3, 0],
    )
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

describe("throughline ls and rm", { timeout: 300_000 }, () => {
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
    const [session, failed, running] = await Promise.all(
      [
        ["--session", "s"],
        ["--status", "failed"],
        ["--status", "running"],
      ].map((flags) => run(["ls", "--json", ...flags, "--store", store])),
    )
    assert.deepStrictEqual(
      [session, failed, running].map((result) => ids(result!.stdout)),
      [["r"], ["bad"], []],
    )

    assert.strictEqual((await run(["rm", "r", "--store", store])).code, 0)
    const gone = await Promise.all(["rm", "tail"].map((name) => run([name, "r", "--store", store])))
    assert.deepStrictEqual(
      gone.map(({ code }) => code),
      [3, 3],
    )
  })
})

describe("throughline", { timeout: 300_000 }, () => {
  it("what is wrong on the command line is 2, on standard error", async () => {
    const { code, stderr, stdout } = await run(["record", "--bogus"])
    assert.deepStrictEqual([code, stdout], [2, ""])
    assert.include(stderr, "expected --run, --session")
  })

  it("--help says how to use it, on standard output", async () => {
    const { code, stderr, stdout } = await run(["record", "--help"])
    assert.deepStrictEqual([code, stderr], [0, ""])
    assert.include(stdout, "--store URL")
    assert.include(stdout, "throughline record -- npm test")
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

describe("the demo", { timeout: 300_000 }, () => {
  it("shows that two readers together saw the run", async () => {
    const demo = startNode([fileURLToPath(new URL("../examples/demo/main.ts", import.meta.url))])
    const { code, stdout } = await demo.ended
    assert.strictEqual(code, 0, stdout)
    assert.match(stdout, /together: \d+ events, each once, in order, to the end/)
  })
})
