import { assert, it } from "@effect/vitest"
import { append, runEvents } from "@throughline/client"
import * as RunClient from "@throughline/client/RunClient"
import * as Envelope from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { once } from "node:events"
import { createServer } from "node:net"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { directory, events, start } from "./cli-harness.ts"

const kills = Number(process.env["THROUGHLINE_KILLS"] ?? 20)
const clients = 50
const runId = Envelope.RunId.make("killed")

/** What a server that dies says nothing on is tried again after so many ms, as the test is no place to wait. */
const silence = 5_000

/** What a client received, over all its connections. */
interface Client {
  readonly seqs: Array<number>
  readonly done: Promise<unknown>
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" && address !== null ? address.port : 0
}

const plain = (url: string, signal: AbortSignal): Client => {
  const seqs: Array<number> = []
  const read = async () => {
    const items = runEvents(`${url}/runs/${runId}/events?wait`, {
      signal,
      attempts: Infinity,
      backoff: () => 20 + Math.random() * 100,
      idleTimeout: silence,
    })
    for await (const item of items) if (item._tag === "Event") seqs.push(item.envelope.seq)
  }
  return { seqs, done: read() }
}

const effect = (url: string, signal: AbortSignal): Client => {
  const seqs: Array<number> = []
  const read = Effect.gen(function* () {
    const client = yield* RunClient.RunClient
    yield* client.run(runId, { wait: true }).pipe(
      Stream.runForEach((item) =>
        Effect.sync(() => {
          if (item._tag === "Event") seqs.push(item.envelope.seq)
        }),
      ),
    )
  }).pipe(
    Effect.provide(
      RunClient.layer({ url, idleTimeout: silence, retry: Schedule.jittered(Schedule.spaced("60 millis")) }).pipe(
        Layer.provide([FetchHttpClient.layer, Throughline.layerCrypto]),
      ),
    ),
  )
  return { seqs, done: Effect.runPromise(read, { signal }) }
}

/** Waits until something holds. */
const until = async (what: string, condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 60_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`no ${what} in time`)
    await sleep(5)
  }
}

it(`a server killed ${kills} times under ${clients} clients: each ends with each seq once, and the end`, async ({
  signal,
}) => {
  const store = `sqlite:${join(await directory(), "runs.db")}`
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const serve = async () => {
    const server = start(["serve", "--port", String(port), "--store", store])
    await server.until("address", () => server.stdout().includes("\n"))
    return server
  }
  let server = await serve()
  const readers = Array.from({ length: clients }, (_, index) => (index % 2 === 0 ? plain : effect)(url, signal))

  const written: Array<string> = []
  let isLast = false
  const write = async () => {
    for (let number = 1; ; number++) {
      const texts = Array.from({ length: 1 + (number % 3) }, (_, index) => `${number}.${index}`)
      const last = isLast
      const batch = [
        ...texts.map((text) => ({ event: { _tag: "TextDelta", messageId: "m", text } })),
        ...(last ? [{ event: { _tag: "RunCompleted", finishReason: "stop", iterations: 1 } }] : []),
      ]
      await append<object>(`${url}/runs/${runId}/events`, batch, {
        producer: { id: "writer", epoch: 1, number },
        attempts: Infinity,
        backoff: () => 20 + Math.random() * 50,
        timeout: silence,
        signal,
      })
      written.push(...texts)
      if (last) return
      await sleep(5)
    }
  }
  const writing = write()

  /** Kills that came while most clients were being served. */
  let midway = 0
  for (let kill = 0; kill < kills; kill++) {
    const before = readers.map(({ seqs }) => seqs.length)
    const served = () => readers.filter(({ seqs }, index) => seqs.length > before[index]!).length
    // Every fourth comes while clients are still coming back.
    if (kill % 4 !== 3) await until("clients that go on", () => served() >= clients * 0.9)
    await sleep(Math.random() * 60)
    if (served() > clients / 2) midway++
    server.child.kill("SIGKILL")
    assert.strictEqual((await server.ended).signal, "SIGKILL")
    server = await serve()
  }
  isLast = true
  await writing
  await Promise.all(readers.map(({ done }) => done))

  const stored = await events(store, runId)
  assert.deepStrictEqual(
    stored.slice(0, -1).map(({ event }) => event["text"]),
    written,
    "an append was lost or doubled",
  )
  const seqs = stored.map(({ seq }) => seq)
  for (const [index, reader] of readers.entries()) {
    assert.deepStrictEqual(reader.seqs, seqs, `client ${index} is not whole`)
  }
  assert.isAtLeast(midway, Math.floor(kills * 0.6), "too few kills came while clients were served")
  server.child.kill("SIGTERM")
  await server.ended
}, 600_000)
