import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import type { ServerResponse } from "node:http"
import { droppedOf, eventually, raw, responsesServed, said } from "./connections.ts"
import { mounted } from "./mounted.ts"
import { ask, delta, problemOf, serve, type Served } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const whole = `${path}?limit=1000`

const get = (target: string) => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`

/** A run whose page is of some 4 MB: more than the buffers of the system take. */
const largeRun = (server: Served) =>
  server.append(
    runId,
    Array.from({ length: 40 }, () => delta("x".repeat(100_000))),
  )
const pageBytes = 4_000_000

/** The same, where it can only be asked for. */
const postLarge = Effect.fnUntraced(function* (server: Pick<Served, "base">) {
  const headers = { "content-type": "application/json" }
  const body = JSON.stringify(Array.from({ length: 40 }, () => ({ event: delta("x".repeat(100_000)) })))
  assert.strictEqual((yield* ask(server.base, path, { method: "POST", headers, body })).status, 200)
})

const unread = (server: Pick<Served, "port">, text: string) => Effect.map(raw(server, text), (socket) => socket.pause())

const waitingIn = (responses: ReadonlyArray<ServerResponse>) =>
  responses.reduce((sum, { destroyed, writableLength }) => sum + (destroyed ? 0 : writableLength), 0)

describe("requests that are sent ahead on a connection", () => {
  for (const where of ["a server of its own", "an app"]) {
    it.live(`wait for the answer before them, which alone is made, on ${where}`, () =>
      Effect.gen(function* () {
        const responses = yield* responsesServed
        const server: Pick<Served, "base" | "port"> = yield* where === "an app" ? mounted({}) : serve()
        yield* postLarge(server)
        const ahead = 12
        yield* unread(server, get(whole).repeat(ahead))
        yield* eventually(() => Effect.sync(() => waitingIn(responses) > 0))
        // As many pages as the stuck reader asked for: it would have had the time to be made as many.
        for (let count = 0; count < ahead; count++) yield* ask(server.base, whole)
        assert.isAbove(waitingIn(responses), 0)
        // The last that was read may not be known as sent yet.
        assert.isBelow(waitingIn(responses), 3 * pageBytes)
      }),
    )
  }

  it.live("are answered one after the other as they are read", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* largeRun(server)
      const targets = [whole, "/runs", whole, "/runs/none/events", "/runs?limit=1"]
      const socket = yield* raw(server, targets.map(get).join(""))
      let text = ""
      const statuses = () => Array.from(text.matchAll(/HTTP\/1\.1 (\d+) /g), ([, status]) => status)
      socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")))
      yield* eventually(() => Effect.sync(() => statuses().length === targets.length))
      assert.deepStrictEqual(statuses(), ["200", "200", "200", "404", "200"])
    }),
  )

  it.live("past their bound are 429, and the connection ends", () =>
    Effect.gen(function* () {
      const server = yield* serve({ routes: { bounds: { ahead: 3 } } })
      const answers = yield* Effect.flatMap(raw(server, get("/runs").repeat(9)), said)
      const statuses = Array.from(answers.matchAll(/HTTP\/1\.1 (\d+) /g), ([, status]) => status)
      assert.deepStrictEqual(statuses, ["200", "200", "200", "200", "429"])
      assert.include(answers, "urn:throughline:problem:too-many-requests")
    }),
  )

  it.live("of a connection that is gone are given up", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [delta("a")])
      const stream = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`
      const body = JSON.stringify({ event: delta("b") })
      const post = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      const socket = yield* raw(server, stream + post)
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1))
      socket.destroy()
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 0))
      assert.strictEqual((yield* server.ask("/health")).status, 200)
      assert.strictEqual((yield* server.store.head(runId)).lastSeq, 1)
    }),
  )
})

describe("pages that wait for their readers", () => {
  for (const name of ["waitingBytes", "waitingBytesPerClient"] as const) {
    it.live(`are bounded in bytes by ${name}, past which there is 429 until they are read or given up`, () =>
      Effect.gen(function* () {
        const responses = yield* responsesServed
        const server = yield* serve({ routes: { bounds: { [name]: pageBytes } } })
        yield* largeRun(server)
        const socket = yield* unread(server, get(whole))
        yield* eventually(() => Effect.sync(() => waitingIn(responses) > 0))
        for (const target of [path, "/runs"]) {
          const refused = yield* server.ask(target)
          assert.deepStrictEqual([refused.status, problemOf(refused)], [429, "too-many-requests"], target)
          assert.isDefined(refused.headers["retry-after"])
        }
        // Streams hold a piece each, and have bounds of their own.
        const stream = yield* server.follow(path)
        yield* stream.untilText("caught-up")
        assert.strictEqual(stream.status, 200)
        socket.destroy()
        yield* eventually(() => Effect.map(server.ask(path), ({ status }) => status === 200))
        // What is read is given back.
        for (let count = 0; count < 5; count++) assert.strictEqual((yield* server.ask(whole)).status, 200)
      }),
    )
  }

  it.live("of very many connections are made a few at a time", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const server = yield* serve({ routes: { bounds: { waitingBytesPerClient: 3 * pageBytes } } })
      yield* largeRun(server)
      for (let count = 0; count < 40; count++) yield* unread(server, get(whole))
      yield* eventually(() => Effect.sync(() => responses.filter(({ headersSent }) => headersSent).length === 40))
      assert.isAbove(waitingIn(responses), 0)
      assert.isBelow(waitingIn(responses), (3 + 16) * pageBytes)
    }),
  )

  it.live("are dropped in an app too, once their reader takes nothing", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const app = yield* mounted({ bounds: { waitingBytes: pageBytes, slow: "300 millis" } })
      yield* postLarge(app)
      yield* unread(app, get(whole))
      yield* eventually(() => Effect.sync(() => droppedOf(responses) === 1))
      yield* eventually(() => Effect.map(ask(app.base, path), ({ status }) => status === 200))
    }),
  )

  it.live("are dropped once they had their time, however steadily a little of them is read", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const server = yield* serve({ routes: { bounds: { waitingBytes: pageBytes, pageTimeout: "500 millis" } } })
      yield* largeRun(server)
      const socket = yield* unread(server, get(whole))
      yield* Effect.raceFirst(
        Effect.forever(
          Effect.delay(
            Effect.sync(() => socket.read(1000)),
            "5 millis",
          ),
        ),
        eventually(() => Effect.sync(() => droppedOf(responses) === 1)),
      )
      yield* eventually(() => Effect.map(server.ask(path), ({ status }) => status === 200))
    }),
  )
})
