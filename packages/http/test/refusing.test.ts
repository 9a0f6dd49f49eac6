import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import type { Socket } from "node:net"
import { eventually, raw, said } from "./connections.ts"
import { mounted } from "./mounted.ts"
import { delta, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const request = (target: string, ...headers: ReadonlyArray<string>) =>
  [`GET ${target} HTTP/1.1`, ...headers, "", ""].join("\r\n")
const host = "Host: 127.0.0.1"
const close = "Connection: close"
const wide = `X-Wide: ${"x".repeat(20_000)}`

const isProblem = (answer: string, status: number, name: string) => {
  assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `))
  assert.match(answer, /\r\ncontent-type: application\/problem\+json/i)
  assert.include(answer, `"urn:throughline:problem:${name}"`)
}

/** What a connection has been told, as it comes. */
const heard = (socket: Socket) => {
  const so = { far: "" }
  socket.on("data", (chunk: Buffer) => (so.far += chunk.toString()))
  return so
}

describe("what is no good request of HTTP", () => {
  it.live("is a problem: no Host, two of them, CONNECT", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const answer = (text: string) => Effect.flatMap(raw(server, text), said)
      isProblem(yield* answer(request("/runs", close)), 400, "invalid-header")
      isProblem(yield* answer(request("/runs", host, "Host: evil.example", close)), 400, "invalid-header")
      const connect = yield* answer("CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n")
      isProblem(connect, 405, "method-not-allowed")
      assert.match(connect, /\r\nallow: GET, /i)
      assert.match(yield* answer("GET /health HTTP/1.0\r\n\r\n"), /^HTTP\/1\.1 200 /)
    }),
  )

  it.live("is a problem in an app too, where it gets that far", () =>
    Effect.gen(function* () {
      const app = yield* mounted({})
      const twice = yield* Effect.flatMap(raw(app, request("/runs", host, "Host: evil.example", close)), said)
      isProblem(twice, 400, "invalid-header")
    }),
  )

  it.live("is told on a connection that was kept, but never into the middle of an answer", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const kept = yield* raw(server, request("/health", host))
      const text = heard(kept)
      yield* eventually(() => Effect.sync(() => text.far.includes('"live":"ok"}')))
      const first = text.far.length
      kept.write(request("/runs", host, wide))
      yield* eventually(() => Effect.sync(() => kept.closed))
      isProblem(text.far.slice(first), 431, "headers-too-large")

      yield* server.append(runId, [started])
      const stream = yield* raw(server, request("/runs/r1/events", host, "Accept: text/event-stream"))
      const events = heard(stream)
      yield* eventually(() => Effect.sync(() => events.far.includes("caught-up")))
      stream.write(request("/runs", host, wide))
      yield* eventually(() => Effect.sync(() => stream.closed))
      assert.notInclude(events.far, "HTTP/1.1 431")
    }),
  )

  it.live("is not an expectation that nobody knows: it is passed over", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [delta("a")])
      const answer = yield* Effect.flatMap(raw(server, request("/runs/r1/events", host, "Expect: foo", close)), said)
      assert.match(answer, /^HTTP\/1\.1 200 /)
    }),
  )
})
