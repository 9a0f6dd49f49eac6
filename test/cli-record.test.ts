import { assert, describe, expect, it } from "@effect/vitest"
import { existsSync } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { onTestFinished } from "vitest"
import { directory, type Envelope, events, main, run, script, start, startNode } from "./cli-harness.ts"

const lines = (found: Awaited<ReturnType<typeof events>>, stream: string) =>
  found.filter(({ event }) => event._tag === "OutputLine" && event.stream === stream).map(({ event }) => event.line)

/** Whether there is such a process, one whose end nobody has asked for included. */
const isThere = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("throughline record", { timeout: 300_000 }, () => {
  it("passes the output through byte for byte, and records each line of both streams", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const source = `
      const bytes = Buffer.from(Array.from({ length: 100000 }, (_, index) => (index * 7919) % 256))
      process.stdout.write(bytes)
      process.stderr.write("one\\r\\ntwo without an end")`
    const recorder = start([
      "record",
      "--run",
      "r",
      "--session",
      "s",
      "--agent",
      "a",
      "--store",
      store,
      ...script(source),
    ])
    const { code, stderr } = await recorder.ended
    assert.strictEqual(code, 0)
    const expected = Buffer.from(Array.from({ length: 100000 }, (_, index) => (index * 7919) % 256))
    assert.isTrue(expected.equals(recorder.bytes()))
    assert.include(stderr, "one\r\ntwo without an end")
    assert.include(stderr, "throughline tail r --follow --store")

    const found = await events(store, "r")
    assert.deepStrictEqual(
      found.map(({ seq }) => seq),
      found.map((_, index) => index + 1),
    )
    assert.deepStrictEqual(lines(found, "stderr"), ["one\r", "two without an end"])
    assert.strictEqual(lines(found, "stdout").join("\n"), expected.toString("utf8"))
    assert.strictEqual(found[0]?.kind, "RunStarted")
    assert.isTrue(found.every(({ agentId, runId, sessionId }) => runId === "r" && sessionId === "s" && agentId === "a"))
    assert.deepStrictEqual(found.at(-1)?.event, { _tag: "RunCompleted", finishReason: "exit", iterations: 0 })
  })

  it("exits as the command did, and the run's end says how that was", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const cases = [
      ["code", ["sh", "-c", "exit 7"], 7, "failed", "exit"],
      ["signal", ["sh", "-c", "kill -KILL $$"], 137, "failed", "signal"],
      ["missing", ["no-such-command-anywhere"], 127, "failed", "not started"],
    ] as const
    for (const [name, command, code, ending, reason] of cases) {
      const result = await run(["record", "--run", name, "--store", store, "--", ...command])
      assert.strictEqual(result.code, code, name)
      const end = (await events(store, name)).at(-1)
      assert.deepStrictEqual([end?.endsRun, end?.event.reason], [ending, reason], name)
    }
  })

  it("the command finds what it would find without us: its arguments, /dev/stdout, and SIGPIPE", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const command = ["sh", "-c", 'printf "%s|" "$@"; echo > /dev/stdout', "sh", "--json", "--", "a b"]
    const result = await run(["record", "--store", store, "--", ...command])
    assert.deepStrictEqual([result.stdout, result.code], ["--json|--|a b|\n", 0])

    const endless = start([
      "record",
      "--run",
      "endless",
      "--store",
      store,
      "--",
      "sh",
      "-c",
      "while :; do echo y; done",
    ])
    await endless.until("output", () => endless.stdout() !== "")
    endless.child.stdout!.destroy()
    const { code } = await endless.ended
    assert.strictEqual(code, 141)
    assert.strictEqual((await events(store, "endless")).at(-1)?.event.reason, "signal")
  })

  it("hands SIGINT and SIGTERM on, exits as the command then does, and records that the run was cancelled", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const source = `
        process.on("${signal}", () => { console.log("stopping"); process.exit(9) })
        setInterval(() => {}, 1000)
        console.log("ready")`
      const recorder = start(["record", "--run", signal, "--store", store, ...script(source)])
      await recorder.until("ready", () => recorder.stdout().includes("ready"))
      recorder.child.kill(signal)
      const { code, stdout } = await recorder.ended
      assert.deepStrictEqual([code, stdout], [9, "ready\nstopping\n"])
      const found = await events(store, signal)
      assert.deepStrictEqual(lines(found, "stdout"), ["ready", "stopping"])
      assert.deepStrictEqual(found.at(-1)?.event, { _tag: "RunCancelled", reason: signal })
    }
  })

  it("a command that dies of the signal makes it 128 and the signal", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const recorder = start([
      "record",
      "--run",
      "r",
      "--store",
      store,
      ...script("console.log(1); setInterval(() => {}, 1000)"),
    ])
    await recorder.until("output", () => recorder.stdout() !== "")
    recorder.child.kill("SIGTERM")
    assert.strictEqual((await recorder.ended).code, 143)
    assert.strictEqual((await events(store, "r")).at(-1)?.kind, "RunCancelled")
  })

  it("output that outlives the command is waited for, and a signal ends the wait", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const recorder = start(["record", "--run", "r", "--store", store, "--", "sh", "-c", "sleep 600 & echo $! $$"])
    await recorder.until("output", () => recorder.stdout().endsWith("\n"))
    const [outlives, command] = recorder.stdout().split(" ").map(Number)
    onTestFinished(() => void process.kill(outlives!, "SIGKILL"))
    // A command that is still there would get the signal.
    await expect.poll(() => isThere(command!), { timeout: 60_000 }).toBe(false)
    recorder.child.kill("SIGTERM")
    assert.strictEqual((await recorder.ended).code, 0)
    assert.strictEqual((await events(store, "r")).at(-1)?.kind, "RunCancelled")
  })

  it("without a command it records standard input, whose end completes the run", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const result = await run(["record", "--run", "r", "--store", store], { input: "one\ntwo" })
    assert.deepStrictEqual([result.code, result.stdout], [0, "one\ntwo"])
    const found = await events(store, "r")
    assert.deepStrictEqual(lines(found, "stdout"), ["one", "two"])
    assert.strictEqual(found.at(-1)?.endsRun, "completed")
  })

  it("a signal ends the reading of standard input, and the run is cancelled", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const recorder = start(["record", "--run", "r", "--store", store], { input: "one\ntwo", isOpenEnded: true })
    await recorder.until("the input", () => recorder.stdout() === "one\ntwo")
    recorder.child.kill("SIGTERM")
    assert.strictEqual((await recorder.ended).code, 143)
    const found = await events(store, "r")
    assert.deepStrictEqual(lines(found, "stdout"), ["one", "two"])
    assert.deepStrictEqual(found.at(-1)?.event, { _tag: "RunCancelled", reason: "SIGTERM" })
  })

  it("a line nested too deeply to encode is recorded as text, and the run goes on to its end", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    for (const [format, depth] of [
      ["ndjson", 60_000],
      ["ndjson", 8_000],
      ["agent", 8_000],
    ] as const) {
      const data = "[".repeat(depth) + "]".repeat(depth)
      const input = `${format === "agent" ? `{"_tag":"Custom","name":"n","data":${data}}` : data}\n`
      const id = `${format}-${depth}`
      const result = await run(["record", "--run", id, "--format", format, "--store", store], { input })
      assert.deepStrictEqual([result.code, result.stdout], [0, input])
      const found = await events(store, id)
      assert.strictEqual(lines(found, "stdout").join(""), input.trimEnd())
      assert.strictEqual(found.at(-1)?.endsRun, "completed")
    }
  })

  it.skipIf(!existsSync("/proc/self"))(
    "a store that can't be made anywhere is told, and holds up nothing",
    async () => {
      const result = await run(["record", "--store", "sqlite:/proc/x/y.db", "--", "echo", "done"])
      assert.deepStrictEqual([result.code, result.stdout], [4, "done\n"])
      assert.include(result.stderr, "/proc/x/y.db can't be created")
    },
  )

  it("what nobody foresaw is told on standard error, exits with 1, and leaves standard output alone", async () => {
    const preload =
      "TextDecoder.prototype.decode = new Proxy(TextDecoder.prototype.decode, { apply(decode, self, args) {" +
      " if (args[1]?.stream) throw new Error('unforeseen'); return Reflect.apply(decode, self, args) } })"
    const result = await startNode(
      ["--import", `data:text/javascript,${encodeURIComponent(preload)}`, main, "record", "--store", "memory:"],
      { input: "line\n" },
    ).ended
    assert.deepStrictEqual([result.code, result.stdout], [1, "line\n"])
    assert.include(result.stderr, "unforeseen")
  })

  it("ndjson and agent lines are recorded as what they are; others as text, with a warning and a count", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const ndjson = await run(["record", "--run", "n", "--format", "ndjson", "--store", store], {
      input: '{"a":1}\n[2]\nbad1\nbad2\nbad3\nbad4\n"last"',
    })
    assert.strictEqual(ndjson.code, 0)
    assert.include(ndjson.stderr, "not JSON")
    assert.include(ndjson.stderr, "4 lines in all were recorded as text")
    const found = await events(store, "n")
    assert.deepStrictEqual(
      found.slice(1, -1).map(({ event }) => (event._tag === "Custom" ? event.data : event.line)),
      [{ a: 1 }, [2], "bad1", "bad2", "bad3", "bad4", "last"],
    )

    const said: ReadonlyArray<Envelope["event"]> = [
      { _tag: "RunStarted", name: "agent" },
      { _tag: "TextDelta", messageId: "m", text: "hi" },
      { _tag: "RunCompleted", finishReason: "stop", iterations: 2 },
    ]
    const input = `${said.map((event) => JSON.stringify(event)).join("\n")}\n{"_tag":"Nonsense"}\n`
    const agent = await run(["record", "--run", "a", "--format", "agent", "--store", store], { input })
    assert.deepStrictEqual([agent.code, agent.stdout], [0, input])
    assert.include(agent.stderr, "not an agent event")
    const stored = (await events(store, "a")).map(({ event }) => event)
    // The agent's own end is the run's, and comes last.
    assert.deepStrictEqual(stored, [
      said[0],
      said[1],
      { _tag: "OutputLine", stream: "stdout", line: '{"_tag":"Nonsense"}' },
      said[2],
    ])
  })

  it("a line over the event bound is split, its pieces marked continued", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const input = `${"ab\u00e4\u0001".repeat(100_000)}\nshort\n`
    const result = await run(["record", "--run", "r", "--store", store], { input })
    assert.deepStrictEqual([result.code, result.stdout === input], [0, true])
    const found = (await events(store, "r")).slice(1, -1).map(({ event }) => event)
    assert.isAbove(found.length, 3)
    assert.strictEqual(
      found.map(({ continued, line }) => (continued === true ? line : `${String(line)}\n`)).join(""),
      input,
    )
    assert.isTrue(found.slice(0, -2).every(({ continued }) => continued === true))
  })

  it("a store that can't be used doesn't touch the command; what was not stored is said, and the exit is 4", async () => {
    const path = await directory()
    await writeFile(join(path, "text.db"), "this is no database, and it stays as it is\n".repeat(100))
    await mkdir(join(path, "directory.db"))
    for (const name of ["text.db", "directory.db"]) {
      const result = await run([
        "record",
        "--store",
        `sqlite:${path}/${name}`,
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2",
      ])
      assert.deepStrictEqual([result.code, result.stdout], [4, "out\n"], result.stderr)
      assert.include(result.stderr, "err\n")
      assert.include(result.stderr, `nothing will be recorded: sqlite:${path}/${name}: `)
      assert.include(result.stderr, "nothing of this run was stored")
    }
    const failing = await run(["record", "--store", `sqlite:${path}/text.db`, "--", "sh", "-c", "exit 7"])
    assert.strictEqual(failing.code, 7)
  })

  it("a run id that is taken is refused before anything is started", async () => {
    const path = await directory()
    const store = `sqlite:${path}/runs.db`
    await run(["record", "--run", "r", "--store", store, "--", "true"])
    const again = await run(["record", "--run", "r", "--store", store, "--", "sh", "-c", "echo started"])
    assert.deepStrictEqual([again.code, again.stdout], [2, ""])
    assert.include(again.stderr, "expected the id of a new run")
  })

  it("memory: records and leaves nothing behind", async () => {
    const result = await run(["record", "--store", "memory:", "--", "echo", "hi"])
    assert.deepStrictEqual([result.code, result.stdout], [0, "hi\n"])
  })

  it("the end of a recorder that is killed reaches whoever watches: producer lost", async () => {
    const store = `sqlite:${await directory()}/runs.db`
    const env = {
      // Long enough to be renewed in time on a busy machine.
      THROUGHLINE_LEASE: "6 seconds",
      THROUGHLINE_GRACE: "1 second",
      THROUGHLINE_WATCHDOG: "200 millis",
    }
    const source = "console.log(process.pid); setInterval(() => console.log(1), 20)"
    const recorder = start(["record", "--run", "r", "--store", store, ...script(source)], { env })
    const watcher = start(["tail", "r", "--follow", "--wait", "--json", "--store", store], { env })
    await watcher.until("20 events", () => watcher.stdout().split("\n").length > 20)
    recorder.child.kill("SIGKILL")
    const { code, stdout } = await watcher.ended
    const found = stdout.split("\n").slice(0, -1)
    const end = JSON.parse(found.at(-1)!) as { seq: number; event: { _tag: string; reason: string } }
    assert.deepStrictEqual(
      [code, end.event._tag, end.event.reason, end.seq],
      [0, "RunFailed", "producer lost", found.length],
    )
  })
})
