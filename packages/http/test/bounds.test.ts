import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { Streams } from "../src/Streams.ts"
import { answered, eventually, raw, responsesServed, said } from "./connections.ts"
import { completed, delta, problemOf, serve, type Served, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const sse = { accept: "text/event-stream" }

describe("a request past its bounds", () => {
  it.live("is told which: body, batch, depth, address, headers", () =>
    Effect.gen(function* () {
      const server = yield* serve({
        routes: { bounds: { bodyBytes: 2000, batchEvents: 3, jsonDepth: 8, urlLength: 200, headerLength: 1000 } },
      })
      const refused = Effect.fnUntraced(function* (body: unknown, headers = {}) {
        const answer = yield* server.post(path, body, headers)
        return [answer.status, problemOf(answer), JSON.parse(answer.body).limit]
      })
      const event = { event: started }
      assert.deepStrictEqual(yield* refused({ event: delta("x".repeat(2000)) }), [413, "too-large", 2000])
      const chunked = { "transfer-encoding": "chunked" }
      assert.deepStrictEqual(yield* refused({ event: delta("x".repeat(2000)) }, chunked), [413, "too-large", 2000])
      assert.deepStrictEqual(yield* refused([event, event, event, event]), [413, "too-large", 3])
      const lines = yield* server.ask(path, {
        method: "POST",
        headers: { "content-type": "application/x-ndjson" },
        body: "x\n".repeat(4),
      })
      assert.deepStrictEqual([lines.status, problemOf(lines)], [413, "too-large"])
      const deep = JSON.parse(`${"[".repeat(9)}${"]".repeat(9)}`)
      assert.deepStrictEqual((yield* refused({ event: { _tag: "Custom", name: "x", data: deep } })).slice(0, 2), [
        400,
        "invalid-body",
      ])
      const brackets = { event: delta("[".repeat(20)) }
      assert.strictEqual((yield* server.post(path, brackets)).status, 200, "brackets in a text are no depth")
      const long = yield* server.ask(`${path}?kinds=${"x".repeat(300)}`)
      assert.deepStrictEqual([long.status, problemOf(long)], [414, "uri-too-long"])
      const wide = yield* server.ask(path, { headers: { "x-wide": "x".repeat(1000) } })
      assert.deepStrictEqual([wide.status, problemOf(wide)], [431, "headers-too-large"])
    }),
  )

  it.live("of Node's own is told as a problem too", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const wide = yield* raw(server, `GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${"x".repeat(20_000)}\r\n\r\n`)
      const answer = yield* said(wide)
      assert.match(answer, /^HTTP\/1\.1 431 /)
      assert.include(answer, "urn:throughline:problem:headers-too-large")
      const garbage = yield* raw(server, "this is no HTTP\r\n\r\n")
      assert.match(yield* said(garbage), /^HTTP\/1\.1 400 /)
    }),
  )

  it.live("that sends its body too slowly is 408", () =>
    Effect.gen(function* () {
      const server = yield* serve({ routes: { bounds: { bodyTimeout: "50 millis" } } })
      const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n`
      const socket = yield* raw(server, `${head}{"event"`)
      const answer = yield* Effect.callback<string>((resume) => {
        socket.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString())))
      })
      assert.match(answer, /^HTTP\/1\.1 408 /)
      assert.include(answer, "urn:throughline:problem:request-timeout")
    }),
  )

  it.live("that never ends its headers, or its body, is told and cut off, and holds up no other", () =>
    Effect.gen(function* () {
      const server = yield* serve({ listen: { headersTimeout: "500 millis", requestTimeout: "600 millis" } })
      const heads = [
        "GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
      ]
      const stuck = yield* Effect.forEach(heads, (head) => raw(server, head))
      assert.strictEqual((yield* server.ask("/runs")).status, 200)
      for (const socket of stuck) assert.match(yield* said(socket), /^HTTP\/1\.1 408 [^]*request-timeout/)
    }),
  )

  it.live("of streams, of one client or of all, is 429 until one is closed", () =>
    Effect.gen(function* () {
      for (const bounds of [{ streamsPerClient: 2 }, { streams: 2 }]) {
        const server = yield* serve({ routes: { bounds } })
        yield* server.append(runId, [started])
        const first = yield* server.follow(path)
        const second = yield* server.follow(path)
        yield* first.untilText("caught-up")
        yield* second.untilText("caught-up")
        const refused = yield* server.ask(path, { headers: sse })
        assert.deepStrictEqual([refused.status, problemOf(refused)], [429, "too-many-streams"])
        assert.match(String(refused.headers["retry-after"]), /^\d+$/)
        first.request.destroy()
        yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1))
        const third = yield* server.follow(path)
        yield* third.untilText("caught-up")
        assert.strictEqual(third.status, 200)
      }
    }),
  )

  it.live("of requests in a time is 429, by the limiter of the context where there is one", () =>
    Effect.gen(function* () {
      const bounds = { rate: { limit: 3, window: "1 hour" } } as const
      const server = yield* serve({ routes: { bounds } })
      for (let count = 0; count < 3; count++) assert.strictEqual((yield* server.ask("/runs")).status, 200)
      const refused = yield* server.ask("/runs")
      assert.deepStrictEqual([refused.status, problemOf(refused)], [429, "too-many-requests"])
      assert.match(String(refused.headers["retry-after"]), /^\d+$/)

      const limiter = Context.get(
        yield* Layer.build(Layer.provide(RateLimiter.layer, RateLimiter.layerStoreMemory)),
        RateLimiter.RateLimiter,
      )
      const shared = Effect.provideService(serve({ routes: { bounds } }), RateLimiter.RateLimiter, limiter)
      const [one, other] = [yield* shared, yield* shared]
      for (const { ask } of [one, other, one]) assert.strictEqual((yield* ask("/runs")).status, 200)
      assert.strictEqual((yield* other.ask("/runs")).status, 429)
    }),
  )
})

const stuck = (server: Served, query = "") =>
  Effect.map(
    raw(server, `GET ${path}${query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`),
    (socket) => socket.pause(),
  )

describe("a reader that takes nothing", () => {
  it.live("is closed after a while, lossless or with a policy, and holds up no other", () =>
    Effect.gen(function* () {
      const server = yield* serve({
        routes: { heartbeat: "100 millis", bounds: { slow: "1 second" }, closeGrace: "20 millis" },
      })
      yield* server.append(runId, [started])
      yield* stuck(server)
      yield* stuck(server, "?overflow=dropProgress&capacity=10")
      const quick = yield* server.follow(path)
      yield* quick.untilText("caught-up")
      // More than the buffers of the system take.
      const text = "x".repeat(100_000)
      for (let round = 0; round < 200; round++) {
        yield* server.append(runId, [delta(text)])
        if (round % 10 === 0) yield* quick.untilText(`"head"`)
      }
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1))
      yield* server.append(runId, [completed])
      yield* quick.closed
      assert.strictEqual(quick.seqs.length, 202)
      assert.strictEqual(quick.control("end").length, 1)
    }),
  )

  it.live("far behind has a page at most waiting in this process", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const server = yield* serve()
      // More than the buffers of the system take.
      const text = "x".repeat(100_000)
      yield* server.append(runId, [started])
      for (let round = 0; round < 20; round++) {
        yield* server.append(
          runId,
          Array.from({ length: 10 }, () => delta(text)),
        )
      }
      yield* server.append(runId, [completed])
      yield* stuck(server)
      yield* eventually(() => Effect.sync(() => responses.some(({ socket }) => socket?.writableNeedDrain === true)))
      // As long as a reader takes for all of it, the stuck one has the time to be sent too much.
      assert.include((yield* server.ask(path, { headers: sse })).body, "event: end")
      const waiting = responses.map(({ writableLength }) => writableLength)
      assert.isAbove(Math.max(...waiting), 0, "the stuck reader was sent everything")
      assert.isBelow(Math.max(...waiting), 512 * 1024)
    }),
  )

  it.live(
    "a thousand times doesn't stop a fast one",
    () =>
      Effect.gen(function* () {
        const server = yield* serve({ routes: { bounds: { streamsPerClient: 2000 } } })
        yield* server.append(runId, [started, ...Array.from({ length: 200 }, () => delta("x".repeat(2000)))])
        yield* Effect.forEach(Array.from({ length: 1000 }), () => stuck(server), { concurrency: 50, discard: true })
        yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1000))
        const quick = yield* server.follow(path)
        yield* quick.untilText("caught-up")
        yield* server.append(runId, [delta("live")])
        yield* server.append(runId, [completed])
        yield* quick.closed
        assert.strictEqual(quick.seqs.length, 203)
        const page = yield* server.ask(`${path}?limit=1`)
        assert.strictEqual(page.status, 200)
      }),
    60_000,
  )
})

describe("a shutdown", () => {
  it.live("tells every stream to come back later, at times of their own, and closes it", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(serve({ routes: { comeBackWithin: "60 seconds" } }), scope)
      yield* server.append(runId, [started])
      const clients = yield* Effect.forEach(Array.from({ length: 20 }), () => server.follow(path))
      const session = yield* server.follow("/sessions/s1/events")
      for (const client of [...clients, session]) yield* client.untilText("caught-up")
      yield* Scope.close(scope, Exit.void)
      const delays = new Set<number>()
      for (const client of [...clients, session]) {
        yield* client.closed
        assert.deepStrictEqual(client.control("closing"), [{ reason: "shutdown" }])
        assert.deepStrictEqual(client.control("end"), [])
        const retries = client.frames.flatMap(({ retry }) => (retry === undefined ? [] : [Number(retry)]))
        assert.strictEqual(retries.length, 2)
        assert.isTrue(retries[1]! >= 0 && retries[1]! <= 60_000)
        delays.add(retries[1]!)
      }
      assert.isAbove(delays.size, 15, "they all come back at once")
    }),
  )

  it.live("begins with a drain, after which nothing new is taken", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const client = yield* server.follow(path)
      yield* client.untilText("caught-up")
      yield* server.streams.drain
      yield* client.closed
      const refused = yield* server.ask(path)
      assert.deepStrictEqual([refused.status, problemOf(refused)], [503, "shutting-down"])
      assert.isDefined(refused.headers["retry-after"])
      // An `EventSource` that meets any other status stays away for good.
      const sent = yield* server.ask(path, { headers: sse })
      assert.strictEqual(sent.status, 200)
      assert.match(sent.body, /^retry: \d+(\.\d+)?\n\nevent: closing\ndata: {"reason":"shutdown"}\n\n$/)
      assert.strictEqual(yield* server.streams.open, 0)
    }),
  )

  it.live("is not held up by a reader that takes nothing", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(serve({ routes: { closeGrace: "20 millis" } }), scope)
      yield* server.append(runId, [started, ...Array.from({ length: 150 }, () => delta("x".repeat(100_000)))])
      const socket = yield* raw(server, `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`)
      socket.pause()
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* Fiber.join(closing)
    }),
  )

  it.live("waits for requests under way, and for no other connection", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(
        serve({ listen: { headersTimeout: "1 hour", requestTimeout: "1 hour", shutdownGrace: "1 hour" } }),
        scope,
      )
      const silent = yield* raw(server, "")
      const half = yield* raw(server, "GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\n")
      const kept = yield* raw(server, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
      yield* answered(kept)
      const body = JSON.stringify({ event: started })
      const posts = yield* Effect.forEach(["", "Expect: 100-continue\r\n"], (header) =>
        raw(
          server,
          `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n${header}\r\n`,
        ),
      )
      yield* answered(posts[1]!)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* Effect.forEach([silent, half, kept], said, { concurrency: "unbounded", discard: true })
      const answers = yield* Effect.forEach(
        posts,
        (socket) => {
          socket.write(body)
          return said(socket)
        },
        { concurrency: "unbounded" },
      )
      for (const answer of answers) {
        assert.match(answer, /HTTP\/1.1 200 /)
        assert.match(answer, /\r\nconnection: close\r\n/i)
      }
      yield* Fiber.join(closing)
    }),
  )

  it.live("cuts off what takes longer than the grace", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(
        serve({ listen: { requestTimeout: "1 hour", idleTimeout: "1 hour", shutdownGrace: "10 millis" } }),
        scope,
      )
      yield* server.append(
        runId,
        Array.from({ length: 100 }, () => delta("x".repeat(40_000))),
      )
      const slow = yield* raw(
        server,
        `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n`,
      )
      yield* answered(slow)
      // More than the buffers of the system take.
      const unread = yield* raw(server, `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`.repeat(5))
      unread.pause()
      yield* eventually(() => Effect.sync(() => responses.some(({ writableLength }) => writableLength > 0)))
      yield* Effect.all([Scope.close(scope, Exit.void), said(slow)], { concurrency: "unbounded" })
    }),
  )

  it.live("of one instance and the start of the next lose and double nothing", () =>
    Effect.gen(function* () {
      const store = yield* serve()
      const backend = Layer.succeedContext(Context.omit(HttpServer.HttpServer, Streams)(store.context))
      const seen: Array<number> = []
      let last = ""
      for (let round = 0; round < 4; round++) {
        const scope = yield* Scope.make()
        const instance = yield* Scope.provide(serve({ backend }), scope)
        const client = yield* instance.follow(`${path}?wait`, { "last-event-id": last })
        yield* client.untilText("caught-up")
        yield* instance.append(runId, [delta(`round ${round}`), delta("more")])
        yield* client.until(({ text }) => text.includes("more"))
        yield* Scope.close(scope, Exit.void)
        yield* client.closed
        seen.push(...client.seqs)
        last = client.frames.findLast(({ id }) => id !== undefined)!.id!
        // Written while nobody serves.
        yield* store.append(runId, [delta("between")])
      }
      yield* store.append(runId, [completed])
      const rest = yield* store.follow(path, { "last-event-id": last })
      yield* rest.closed
      assert.deepStrictEqual(
        [...seen, ...rest.seqs],
        Array.from({ length: 13 }, (_, index) => index + 1),
      )
    }),
  )
})
