/** The command over real Redis servers, each test with one of its own. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo, Server } from "node:net"
import { join } from "node:path"
import { onTestFinished } from "vitest"
import * as RedisServer from "../packages/redis/test/RedisServer.ts"
import * as Certificate from "./certificate.ts"
import { directory, envelopes, run, script, start } from "./cli-harness.ts"

/** A server that ends with the test. */
const server = async (options?: RedisServer.Options): Promise<RedisServer.RedisServer> => {
  const scope = Scope.makeUnsafe()
  onTestFinished(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return Effect.runPromise(Scope.provide(RedisServer.make(options), scope))
}

const admin = (url: string): Redis => {
  const client = new Redis(url)
  onTestFinished(() => client.disconnect())
  return client
}

/** A command that prints lines of what it is told on standard input, and ends with it. */
const echo = script("process.stdin.pipe(process.stdout)")

const seqs = (text: string) => envelopes(text).map(({ seq }) => seq)
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

/** A certificate, and what a server that has it is told. */
const certified = async () => {
  const at = await directory()
  const [file, keyFile] = [join(at, "cert.pem"), join(at, "key.pem")]
  const { certificate, key } = Certificate.make()
  await Promise.all([writeFile(file, certificate), writeFile(keyFile, key)])
  const args = ["--tls-cert-file", file, "--tls-key-file", keyFile, "--tls-ca-cert-file", file]
  return { file, args: [...args, "--tls-auth-clients", "no"] }
}

/** A port that nothing listens on. */
const freePort = async (): Promise<number> => {
  const probe = createServer()
  const { port } = await listening(probe)
  await new Promise((resolve) => probe.close(resolve))
  return port
}

const listening = (socket: Server): Promise<AddressInfo> =>
  new Promise((resolve) => socket.listen(0, "127.0.0.1", () => resolve(socket.address() as AddressInfo)))

describe("throughline over Redis", { timeout: 120_000 }, () => {
  it("what one process records another follows to its end; ls lists it, rm removes it and leaves no key of it", async () => {
    const { url } = await server()
    const waiting = start(["tail", "r", "--follow", "--wait", "--json", "--store", url])
    const recorder = await run(["record", "--run", "r", "--session", "s", "--store", url, "--", "echo", "here"])
    assert.strictEqual(recorder.code, 0, recorder.stderr)
    assert.include(recorder.stderr, `throughline tail r --follow --store ${url}`)
    const followed = await waiting.ended
    assert.deepStrictEqual([followed.code, followed.stderr], [0, ""])
    assert.deepStrictEqual(
      envelopes(followed.stdout).map(({ kind, seq }) => [seq, kind]),
      [
        [1, "RunStarted"],
        [2, "OutputLine"],
        [3, "RunCompleted"],
      ],
    )
    const resumed = await run(["tail", "r", "--after", "2", "--json", "--store", url])
    assert.strictEqual(resumed.stdout, followed.stdout.split("\n").slice(2).join("\n"))
    const listed = await run(["ls", "--session", "s", "--json", "--store", url])
    assert.include(listed.stdout, '"runId":"r"')
    assert.strictEqual((await run(["rm", "r", "--store", url])).code, 0)
    const gone = await Promise.all(["rm", "tail"].map((name) => run([name, "r", "--store", url])))
    assert.deepStrictEqual(
      gone.map(({ code, stderr }) => [code, stderr]),
      [1, 2].map(() => [3, "throughline: no run r in this store\n"]),
    )
    assert.deepStrictEqual(await admin(url).keys("*"), ["throughline:{@}:index"])
  })

  it("databases and prefixes are stores of their own", async () => {
    const { url } = await server()
    const stores = [url, `${url}/3`, `${url}/3?prefix=team:`]
    for (const [index, store] of stores.entries()) {
      const { code, stderr } = await run(["record", "--run", `r${index}`, "--store", store, "--", "true"])
      assert.strictEqual(code, 0, stderr)
    }
    const listed = await Promise.all(stores.map((store) => run(["ls", "--json", "--store", store])))
    assert.deepStrictEqual(
      listed.map(({ stdout }) => Array.from(stdout.matchAll(/"runId":"(.*?)"/g), ([, id]) => id)),
      [["r0"], ["r1"], ["r2"]],
      listed.map(({ stderr }) => stderr).join(""),
    )
  })

  it("recording and following go on over a restart of Redis, and nothing is missing or there twice", async () => {
    const redis = await server({ appendfsync: "always" })
    const recorder = start(["record", "--run", "r", "--store", redis.url, ...echo], { isOpenEnded: true })
    await recorder.until("the announcement", () => recorder.stderr().includes("recording run r"))
    const follower = start(["tail", "r", "--follow", "--wait", "--json", "--store", redis.url])
    recorder.child.stdin!.write("one\ntwo\n")
    await follower.until("the first lines", () => follower.stdout().includes("two"))
    await Effect.runPromise(redis.kill())
    recorder.child.stdin!.write("three\nfour\n")
    await recorder.until("the line", () => recorder.stdout().includes("four"))
    await Effect.runPromise(redis.start)
    await follower.until("what was recorded meanwhile", () => follower.stdout().includes("four"))
    recorder.child.stdin!.end("five\n")
    const [recorded, followed] = await Promise.all([recorder.ended, follower.ended])
    assert.deepStrictEqual([recorded.code, followed.code], [0, 0], recorded.stderr + followed.stderr)
    assert.deepStrictEqual(seqs(followed.stdout), upTo(7))
    assert.deepStrictEqual(
      envelopes(followed.stdout).flatMap(({ event }) => (event._tag === "OutputLine" ? [event.line] : [])),
      ["one", "two", "three", "four", "five"],
    )
  })

  it("a run whose recorder was killed ends for whoever follows it", async () => {
    const { url } = await server()
    const env = { THROUGHLINE_LEASE: "5 seconds", THROUGHLINE_GRACE: "2 seconds", THROUGHLINE_WATCHDOG: "300 millis" }
    const recorder = start(["record", "--run", "r", "--store", url, ...echo], { env, isOpenEnded: true })
    recorder.child.stdin!.write("one\n")
    const follower = start(["tail", "r", "--follow", "--wait", "--json", "--store", url], { env })
    await follower.until("the line", () => follower.stdout().includes("one"))
    recorder.child.kill("SIGKILL")
    const followed = await follower.ended
    assert.strictEqual(followed.code, 0, followed.stderr)
    assert.deepStrictEqual(
      envelopes(followed.stdout).map(({ endsRun }) => endsRun),
      [undefined, undefined, "failed"],
    )
  })

  it("a password opens the store, a wrong one is refused, and neither is in any output", async () => {
    const { port } = await server({ requirepass: "s3cret" })
    const at = (password: string) => `redis://:${password}@127.0.0.1:${port}`
    const outputs: Array<string> = []
    const tried = async (args: ReadonlyArray<string>, env?: Readonly<Record<string, string>>) => {
      const { code, stderr, stdout } = await run(args, env === undefined ? {} : { env })
      outputs.push(stdout, stderr)
      return { code, stderr }
    }
    const right = await tried(["record", "--run", "r", "--store", at("s3cret"), "--", "true"])
    assert.strictEqual(right.code, 0)
    assert.include(right.stderr, `--store 'redis://***@127.0.0.1:${port}'`)
    const variable = await tried(["tail", "r"], { THROUGHLINE_STORE: at("s3cret") })
    assert.strictEqual(variable.code, 0, variable.stderr)
    for (const args of [["tail", "r", "--follow"], ["ls"], ["rm", "r"]]) {
      const wrong = await tried([...args, "--store", at("wr0ng")])
      assert.strictEqual(wrong.code, 1)
      assert.include(wrong.stderr, `throughline: redis://***@127.0.0.1:${port}: `)
      assert.include(wrong.stderr, "WRONGPASS")
    }
    const none = await tried(["ls", "--store", `redis://127.0.0.1:${port}`])
    assert.strictEqual(none.code, 1)
    assert.include(none.stderr, "NOAUTH")
    const recorder = await tried(["record", "--store", at("wr0ng"), "--", "echo", "still"])
    assert.strictEqual(recorder.code, 4)
    assert.include(recorder.stderr, "nothing will be recorded")
    assert.include(outputs.join(""), "still")
    const unreadable = await tried(["ls", "--store", `redis://:s3cret@127.0.0.1:${port}/name`])
    assert.strictEqual(unreadable.code, 2)
    assert.notMatch(outputs.join(""), /s3cret|wr0ng/)
  })

  it("a server that isn't there, isn't Redis, or hasn't the database is named, with what is wrong", async () => {
    const redis = await server()
    const away = await server()
    await Effect.runPromise(away.kill())
    const web = createServer((_, response) => response.end("hello"))
    const { port } = await listening(web)
    onTestFinished(() => void web.close())
    const problems = [
      [away.url, "ECONNREFUSED"],
      [`redis://127.0.0.1:${port}`, "not connected to Redis"],
      [`${redis.url}/99`, "DB index is out of range"],
    ] as const
    for (const [store, problem] of problems) {
      const { code, stderr, stdout } = await run(["tail", "r", "--store", store])
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.include(stderr, `throughline: ${store}: `)
      assert.include(stderr, problem)
    }
  })

  it("rediss:// is TLS, to a server whose certificate is trusted", async () => {
    const { args, file } = await certified()
    const tlsPort = await freePort()
    await server({ args: [...args, "--tls-port", String(tlsPort)] })
    const store = `rediss://127.0.0.1:${tlsPort}`
    const env = { NODE_EXTRA_CA_CERTS: file }
    const recorder = await run(["record", "--run", "r", "--store", store, "--", "echo", "hidden"], { env })
    assert.strictEqual(recorder.code, 0, recorder.stderr)
    const followed = await run(["tail", "r", "--follow", "--json", "--store", store], { env })
    assert.strictEqual(followed.code, 0, followed.stderr)
    assert.deepStrictEqual(seqs(followed.stdout), upTo(3))
    const untrusted = await run(["tail", "r", "--store", store])
    assert.strictEqual(untrusted.code, 1)
    assert.match(untrusted.stderr, /certificate/)
    const plain = await run(["tail", "r", "--store", `redis://127.0.0.1:${tlsPort}`])
    assert.strictEqual(plain.code, 1)
  })

  it("redis+sentinel:// asks the Sentinels for the master; that none of them answers is told", async () => {
    const master = await server()
    const sentinel = await server({ sentinel: [`sentinel monitor mymaster 127.0.0.1 ${master.port} 1`] })
    const store = `redis+sentinel://127.0.0.1:1,127.0.0.1:${sentinel.port}/mymaster/2`
    const recorder = await run(["record", "--run", "r", "--store", store, "--", "true"])
    assert.strictEqual(recorder.code, 0, recorder.stderr)
    assert.strictEqual((await run(["tail", "r", "--follow", "--store", `${master.url}/2`])).code, 0)
    const nobody = await run(["ls", "--store", "redis+sentinel://127.0.0.1:1/mymaster"])
    assert.strictEqual(nobody.code, 1)
    assert.include(nobody.stderr, "throughline: redis+sentinel://127.0.0.1:1/mymaster: no answer within 8 seconds")
  })
})
