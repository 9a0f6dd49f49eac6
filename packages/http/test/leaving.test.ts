import { assert, describe, it } from "@effect/vitest"
import * as Throughline from "@throughline/core/Throughline"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpServer from "effect/http/HttpServer"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Scheduler from "effect/Scheduler"
import { IncomingMessage, ServerResponse } from "node:http"
import { Socket } from "node:net"
import * as Access from "../src/Access.ts"
import * as Server from "../src/Server.ts"
import * as Streams from "../src/Streams.ts"
import { eventually, raw, responsesServed } from "./connections.ts"
import { ask } from "./serving.ts"

const stream = "GET /runs/none/events?wait HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"

const make = Streams.make({ bounds: { streams: 1000, streamsPerClient: 1000, slow: "1 minute" } })

/** A request that has a response of Node's, and no client. */
const lonely = () => {
  const socket = new Socket()
  const response = new ServerResponse(new IncomingMessage(socket))
  response.assignSocket(socket)
  // All that streams ask of a request.
  return { response, request: { response } as unknown as HttpServerRequest }
}

const streaming = (source: Streams.StreamOptions["source"]) =>
  new Streams.Streaming({ client: "c", headers: {}, stillAllowed: () => true, source })

describe("the place of a stream", () => {
  it.live("is given back wherever its request is interrupted", () =>
    Effect.gen(function* () {
      const streams = yield* make
      let entered = 0
      // A fiber yields after so many steps, which is where it is interrupted.
      for (let steps = 2; steps < 60; steps++) {
        const { request, response } = lonely()
        const fiber = Effect.runFork(
          streams
            .serve(
              request,
              streaming(() => Effect.never),
            )
            .pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, steps)),
        )
        entered += yield* streams.open
        fiber.interruptUnsafe()
        response.destroy()
        yield* Fiber.await(fiber)
        assert.strictEqual(yield* streams.open, 0, `interrupted after ${steps} steps`)
      }
      assert.isAbove(entered, 0)
    }),
  )

  it.live("is given back where its source throws", () =>
    Effect.gen(function* () {
      const streams = yield* make
      const throwing = streaming(() => {
        throw new Error("no source")
      })
      const failure = yield* Effect.flip(streams.serve(lonely().request, throwing))
      assert.strictEqual(failure.name, "internal-error")
      assert.strictEqual(yield* streams.open, 0)
    }),
  )

  it.live("is not taken for a client that is gone before there are routes", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const listening = yield* Layer.build(Server.layerListen({ port: 0 }))
      const { address } = Context.get(listening, HttpServer.HttpServer)
      const port = NetAddress.isInetAddress(address) ? address.port : 0
      const early = yield* raw({ port }, stream)
      yield* eventually(() => Effect.sync(() => responses.length === 1))
      early.destroy()
      yield* eventually(() => Effect.sync(() => responses[0]!.destroyed))
      const app = Server.layer().pipe(
        Layer.provide(Throughline.layerMemory()),
        Layer.provide(Access.layerOpen()),
        Layer.provide(Layer.succeedContext(listening)),
      )
      const streams = Context.get(yield* Layer.build(app), Streams.Streams)
      for (let count = 0; count < 10; count++) yield* ask(`http://127.0.0.1:${port}`, "/health")
      assert.strictEqual(yield* streams.open, 0)
    }),
  )
})
