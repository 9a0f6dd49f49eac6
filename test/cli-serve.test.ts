import { assert, describe, it } from "@effect/vitest"
import { join } from "node:path"
import { directory, run, script, start } from "./cli-harness.ts"

const json = async (url: string, init?: RequestInit) => {
  const response = await fetch(url, init)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

/** Reads a stream until it says something. */
const readUntil = async (url: string, said: string) => {
  const response = await fetch(url, { headers: { accept: "text/event-stream" } })
  let text = ""
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (text.includes(said)) break
  }
  return text
}

describe("serve", () => {
  it("prints its address, serves the store, and stops at a signal after telling its streams", async () => {
    const store = `sqlite:${join(await directory(), "runs.db")}`
    await run(["record", "--run", "r1", "--store", store, ...script("console.log('hello')")])
    const serving = start(["serve", "--port", "0", "--store", store])
    await serving.until("address", () => serving.stdout().includes("\n"))
    const base = serving.stdout().trim()
    assert.match(base, /^http:\/\/127\.0\.0\.1:\d+\/$/)
    const { body } = await json(`${base}runs`)
    assert.deepInclude((body["runs"] as ReadonlyArray<object>)[0], { runId: "r1", status: "completed" })
    // A run of another process, live.
    const recording = start(["record", "--run", "r2", "--store", store], { isOpenEnded: true })
    recording.child.stdin!.write("one\n")
    const text = await readUntil(`${base}runs/r2/events?wait`, '"line":"one"')
    assert.include(text, "id: ")
    const waiting = readUntil(`${base}runs/r2/events`, "closing")
    await recording.until("the line", () => recording.stdout().includes("one"))
    await readUntil(`${base}runs/r2/events`, "caught-up")
    serving.child.kill("SIGTERM")
    assert.include(await waiting, '{"reason":"shutdown"}')
    assert.strictEqual((await serving.ended).code, 0)
    recording.child.stdin!.end()
    assert.strictEqual((await recording.ended).code, 0)
  }, 90_000)

  it("asks for its token, from the flag or the environment", async () => {
    const token = "a-token-of-some-length"
    for (const given of [{ args: ["--token", token] }, { args: [], env: { THROUGHLINE_TOKEN: token } }]) {
      const { args, ...options } = given
      const serving = start(["serve", "--port", "0", "--store", "memory:", ...args], options)
      await serving.until("address", () => serving.stdout().includes("\n"))
      const base = serving.stdout().trim()
      assert.strictEqual((await json(`${base}runs`)).status, 401)
      const allowed = await json(`${base}runs`, { headers: { authorization: `Bearer ${token}` } })
      assert.strictEqual(allowed.status, 200)
      assert.notInclude(serving.stdout() + serving.stderr(), token)
      serving.child.kill("SIGINT")
      assert.strictEqual((await serving.ended).code, 0)
    }
  }, 90_000)

  it("refuses what would let anyone in, a weak token, and a port that is taken", async () => {
    const others = await run(["serve", "--port", "0", "--host", "0.0.0.0", "--store", "memory:"])
    assert.strictEqual(others.code, 2)
    assert.match(others.stderr, /open access is refused .*--open/)
    const weak = await run(["serve", "--port", "0", "--store", "memory:", "--token", "short"])
    assert.deepStrictEqual([weak.code, weak.stdout], [2, ""])
    const serving = start(["serve", "--port", "0", "--host", "0.0.0.0", "--open", "--store", "memory:"])
    await serving.until("address", () => serving.stdout().includes("\n"))
    const { port } = new URL(serving.stdout().trim())
    const taken = await run(["serve", "--port", port, "--store", "memory:"])
    assert.strictEqual(taken.code, 1)
    assert.include(taken.stderr, "EADDRINUSE")
    serving.child.kill("SIGTERM")
    await serving.ended
  }, 90_000)
})

describe("record --serve", () => {
  it("prints a link that reads this run to its end, and nothing else", async () => {
    const store = `sqlite:${join(await directory(), "runs.db")}`
    await run(["record", "--run", "other", "--store", store, ...script("console.log('secret')")])
    const recording = start(["record", "--serve", "--run", "r1", "--store", store], { isOpenEnded: true })
    await recording.until("link", () => /watch it at \S+\n/.test(recording.stderr()))
    const link = new URL(/watch it at (\S+)/.exec(recording.stderr())![1]!)
    const { run: id, token } = Object.fromEntries(new URLSearchParams(link.hash.slice(1)))
    assert.strictEqual(id, "r1")
    recording.child.stdin!.write("one\n")
    const path = `${link.origin}/runs/r1/events?token=${token}`
    // Replayed before the reader has caught up, or live after it.
    await readUntil(path, '"line":"one"')
    for (const refused of [`/runs?token=${token}`, `/runs/other/events?token=${token}`, "/runs/r1/events"]) {
      assert.strictEqual((await json(`${link.origin}${refused}`)).status, 401, refused)
    }
    const toItsEnd = readUntil(path, "event: end")
    await recording.until("the line", () => recording.stdout().includes("one"))
    await readUntil(path, "caught-up")
    recording.child.stdin!.end()
    assert.include(await toItsEnd, '"status":"completed"')
    const { code, stdout } = await recording.ended
    assert.deepStrictEqual([code, stdout], [0, "one\n"])
  }, 90_000)
})
