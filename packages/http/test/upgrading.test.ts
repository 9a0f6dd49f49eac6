import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import { droppedOf, eventually, raw, responsesServed, said } from "./connections.ts"
import { mounted } from "./mounted.ts"
import { ask, delta, serve } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n"

const get = (target: string, headers = "") => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}\r\n`
const stream = (headers = "") => get(path, `Accept: text/event-stream\r\n${headers}`)

const statusesOf = (text: string) => Array.from(text.matchAll(/HTTP\/1\.1 (\d+) /g), ([, status]) => status)

describe("a request for an upgrade", () => {
  it.live("is answered without one, also behind others, as the last of its connection", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [delta("a")])
      const body = JSON.stringify({ event: delta("b") })
      const post = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${upgrade}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      for (const text of [get("/runs", upgrade), get("/runs") + get("/runs?limit=1", upgrade), post]) {
        const answers = yield* Effect.flatMap(raw(server, text), said)
        assert.deepStrictEqual(
          statusesOf(answers),
          text
            .split("HTTP/1.1\r\n")
            .slice(1)
            .map(() => "200"),
        )
        assert.match(answers, /\r\nconnection: close\r\n/i)
      }
      assert.strictEqual((yield* server.store.head(runId)).lastSeq, 2)
    }),
  )

  it.live("is under the bounds of streams and of pages", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const bounds = { slow: "500 millis", waitingBytes: 4_000_000 } as const
      const server = yield* serve({
        routes: { heartbeat: "100 millis", bounds },
        listen: { idleTimeout: "1 second" },
      })
      yield* server.append(
        runId,
        Array.from({ length: 80 }, () => delta("x".repeat(100_000))),
      )
      const page = yield* raw(server, get(`${path}?limit=1000`, upgrade))
      page.pause()
      yield* eventually(() => Effect.sync(() => droppedOf(responses) === 1))
      yield* eventually(() => Effect.map(ask(server.base, "/runs"), ({ status }) => status === 200))
      const reader = yield* raw(server, stream(upgrade))
      reader.pause()
      yield* eventually(() => Effect.sync(() => droppedOf(responses) === 2))
      yield* eventually(() => Effect.map(server.streams.open, (open) => open === 0))
    }),
  )

  it.live("is refused in an app, whose server lets go of the connection, and ends it", () =>
    Effect.gen(function* () {
      const responses = yield* responsesServed
      const app = yield* mounted({})
      const answer = yield* Effect.flatMap(raw(app, stream(upgrade)), said)
      assert.match(answer, /^HTTP\/1\.1 400 /)
      assert.include(answer, "urn:throughline:problem:invalid-header")
      const headers = { "content-type": "application/json" }
      const posted = yield* ask(app.base, path, {
        method: "POST",
        headers,
        body: JSON.stringify({ event: delta("a") }),
      })
      assert.strictEqual(posted.status, 200)
      // Behind an answer that has no end, nothing but the end of the connection is left.
      const ended = yield* Effect.flatMap(raw(app, stream() + get("/runs", upgrade)), said)
      assert.notInclude(ended, "HTTP/1.1 400")
      yield* eventually(() => Effect.sync(() => responses.every(({ destroyed }) => destroyed)))
    }),
  )
})
