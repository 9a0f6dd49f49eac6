import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as http2 from "node:http2"
import { connect } from "node:net"
import * as Access from "../src/Access.ts"
import * as Server from "../src/Server.ts"
import { completed, delta, serve, type Served, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"

/** All that comes over a connection, as Latin-1: chunks are counted in bytes. */
const exchange = (port: number, text: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const socket = connect(port, "127.0.0.1", () => socket.write(text))
      const client = { socket, received: "", closed: false }
      socket.on("data", (bytes: Buffer) => {
        client.received += bytes.toString("latin1")
      })
      socket.on("close", () => {
        client.closed = true
      })
      socket.on("error", () => {})
      return client
    }),
    ({ socket }) => Effect.sync(() => socket.destroy()),
  )

const eventually = (holds: () => boolean) =>
  Effect.gen(function* () {
    while (!holds()) yield* Effect.sleep("5 millis")
  })

/** The bodies of answers one after the other, which come in chunks. */
const bodiesOf = (received: string): ReadonlyArray<string> => {
  const bodies: Array<string> = []
  let at = 0
  while (at < received.length) {
    let body = ""
    at = received.indexOf("\r\n\r\n", at) + 4
    for (;;) {
      const end = received.indexOf("\r\n", at)
      const size = Number.parseInt(received.slice(at, end), 16)
      const content = received.slice(end + 2, end + 2 + size)
      assert.strictEqual(received.slice(end + 2 + size, end + 4 + size), "\r\n", "a chunk is as long as it says")
      at = end + 4 + size
      if (size === 0) break
      body += content
    }
    bodies.push(Buffer.from(body, "latin1").toString())
  }
  return bodies
}

const get = (at: string, version: "1.0" | "1.1") =>
  `GET ${at} HTTP/${version}\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`

/** An ended run with characters of every length in UTF-8, and the text of its stream. */
const told = Effect.fnUntraced(function* (server: Served) {
  yield* server.append(runId, [started, delta("aé€🎈"), delta("x".repeat(70_000)), completed])
  const client = yield* server.follow(path)
  yield* client.closed
  return client.text
})

describe("a stream is the same", () => {
  it.live("where a client speaks HTTP/1.0, which has no chunks", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const text = yield* told(server)
      const client = yield* exchange(server.port, get(path, "1.0"))
      yield* eventually(() => client.closed)
      const [head = "", ...body] = client.received.split("\r\n\r\n")
      assert.match(head, /^HTTP\/1\.1 200 OK/)
      assert.notMatch(head, /transfer-encoding/i)
      assert.strictEqual(Buffer.from(body.join("\r\n\r\n"), "latin1").toString(), text)
    }),
  )

  it.live("live, replayed, and behind another on its connection, which goes on after them", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const text = yield* told(server)
      const running = RunId.make("r2")
      yield* server.append(running, [started])
      const client = yield* exchange(
        server.port,
        get("/runs/r2/events", "1.1") + get(path, "1.1") + get("/runs/r2/events?after=1", "1.1"),
      )
      yield* eventually(() => client.received.includes("caught-up"))
      yield* server.append(running, [delta("live é")])
      yield* eventually(() => client.received.includes("live"))
      yield* server.append(running, [completed])
      yield* eventually(() => client.received.split("event: end").length === 4)
      yield* eventually(() => client.received.endsWith("0\r\n\r\n"))
      const [first, second, third] = bodiesOf(client.received)
      assert.match(first!, /"live é"/)
      assert.strictEqual(second, text)
      assert.match(third!, /"live é"/)
    }),
  )

  it.live("over HTTP/2", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const text = yield* told(server)
      const app = Server.layer().pipe(
        Layer.provide(Layer.succeedContext(Context.omit(HttpServer.HttpServer)(server.context))),
        Layer.provide(Access.layerOpen()),
        Layer.provideMerge(NodeHttpServer.layerServer(() => http2.createServer(), { port: 0, host: "127.0.0.1" })),
      )
      const { address } = Context.get(yield* Layer.build(app), HttpServer.HttpServer)
      const port = NetAddress.isInetAddress(address) ? address.port : 0
      const session = yield* Effect.acquireRelease(
        Effect.sync(() => http2.connect(`http://127.0.0.1:${port}`)),
        (client) => Effect.sync(() => client.destroy()),
      )
      const received = yield* Effect.callback<string, Error>((resume) => {
        const request = session.request({ ":path": path, accept: "text/event-stream" })
        const parts: Array<Buffer> = []
        request.on("data", (part: Buffer) => parts.push(part))
        request.on("error", (error) => resume(Effect.fail(error)))
        request.on("end", () => resume(Effect.succeed(Buffer.concat(parts).toString())))
      })
      assert.strictEqual(received, text)
    }),
  )
})
