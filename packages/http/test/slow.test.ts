import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import { createServer } from "node:http"
import * as Chunk from "../src/internal/chunk.ts"
import * as Streams from "../src/Streams.ts"
import { eventually, raw, responsesServed, said } from "./connections.ts"

const head = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

/** A server whose one stream is a single write, of much more than the buffers of the system take, and nothing after it. */
const serveOneWrite = Effect.fnUntraced(function* (
  options: Omit<Streams.Options, "bounds">,
  length: number,
  slow: Duration.Input = "1 second",
) {
  const streams = yield* Streams.make({
    ...options,
    bounds: { streams: 10, streamsPerClient: 10, slow },
  })
  const handler = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
    Effect.orDie(
      streams.serve(
        request,
        new Streams.Streaming({
          client: "c",
          headers: {},
          stillAllowed: () => true,
          source: (sink) => sink.chunk(Chunk.of("x".repeat(length))),
        }),
      ),
    ).pipe(Effect.interruptible),
  )
  const context = yield* Layer.build(
    NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1", gracefulShutdownTimeout: "10 millis" }),
  )
  const server = Context.get(context, HttpServer.HttpServer)
  yield* server.serve(handler)
  return { streams, port: NetAddress.isInetAddress(server.address) ? server.address.port : 0 }
})

describe("a reader that is slow", () => {
  it.live("is kept as long as it takes some bytes, if only a part of a write", () =>
    Effect.gen(function* () {
      const length = 16_000_000
      const server = yield* serveOneWrite({ heartbeat: "40 millis" }, length)
      const socket = yield* raw(server, head)
      socket.pause()
      let received = 0
      // For longer than a reader that takes nothing is kept, in steps that are much shorter.
      while (!socket.readableEnded && received < length) {
        received += (socket.read() as Buffer | null)?.length ?? 0
        yield* Effect.sleep("10 millis")
      }
      assert.isAtLeast(received, length)
    }),
  )

  it.live("and takes something again is told why it was closed", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const server = yield* serveOneWrite({ heartbeat: "40 millis", closeGrace: "10 millis" }, 30_000_000)
      const socket = yield* raw(server, head)
      socket.pause()
      yield* eventually(() => Effect.sync(() => responses.some(({ writableEnded }) => writableEnded)))
      const text = yield* said(socket.resume())
      assert.include(text.slice(-200), 'event: closing\ndata: {"reason":"slow"}\n\n')
    }),
  )

  it.live("holds up no shutdown", () =>
    Effect.gen(function* () {
      const server = yield* serveOneWrite({ heartbeat: "40 millis", closeGrace: "10 millis" }, 30_000_000)
      const socket = yield* raw(server, head)
      socket.pause()
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1))
      yield* server.streams.drain
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 0))
    }),
  )

  it.live("holds up no shutdown of an app that didn't drain its streams", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(
        serveOneWrite({ heartbeat: "1 hour", closeGrace: "10 millis" }, 30_000_000, "1 hour"),
        scope,
      )
      const socket = yield* raw(server, head)
      socket.pause()
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 1))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* server.streams.open, 0)
    }),
  )
})
