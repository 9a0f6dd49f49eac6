import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Access from "../src/Access.ts"
import { raw, said } from "./connections.ts"
import { delta, problemOf, type RequestOptions, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const token = Redacted.make("a token of some length")
const headers = { authorization: `Bearer ${Redacted.value(token)}`, connection: "keep-alive" }
const sse = { accept: "text/event-stream" }
const posted = { method: "POST", body: JSON.stringify({ event: delta("late") }) }

describe("a request to a server that is shutting down", () => {
  it.live(
    "is told to come back if it is for a stream that it may read, and refused otherwise, as its connection's last",
    () =>
      Effect.gen(function* () {
        const server = yield* serve({ access: Access.layerBearer({ token }) })
        yield* server.append(runId, [started])
        yield* server.streams.drain
        for (const target of [path, "/sessions/s1/events"]) {
          const answer = yield* server.ask(target, { headers: { ...headers, ...sse } })
          assert.strictEqual(answer.status, 200, target)
          assert.include(answer.body, 'data: {"reason":"shutdown"}')
          assert.strictEqual(answer.headers.connection, "close")
        }
        const refused: ReadonlyArray<readonly [string, RequestOptions]> = [
          [path, {}],
          [path, { headers: { authorization: "Bearer wrong", ...sse } }],
          [path, { ...posted, headers: { "content-type": "application/json" } }],
          [
            path,
            {
              ...posted,
              headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
            },
          ],
          ["/runs/r1", { method: "DELETE", headers: sse }],
          ["/runs", { headers: sse }],
          ["/nothing", { headers: sse }],
          [`${path}?what=1`, { headers: sse }],
          [path, { method: "PATCH", headers: sse }],
        ]
        for (const [target, options] of refused) {
          const answer = yield* server.ask(target, { ...options, headers: { ...headers, ...options.headers } })
          assert.deepStrictEqual([answer.status, problemOf(answer)], [503, "shutting-down"], JSON.stringify(options))
          assert.strictEqual(answer.headers.connection, "close")
          assert.isDefined(answer.headers["retry-after"])
        }
        const head = yield* server.ask(path, { method: "HEAD", headers: { ...headers, ...sse } })
        assert.strictEqual(head.status, 503)
        assert.strictEqual((yield* server.store.head(runId)).lastSeq, 1)
      }),
  )
})

/** A store that answers one of its methods only when it is let. */
const slowly = (method: "append" | "head") =>
  Effect.gen(function* () {
    const asked = yield* Deferred.make<void>()
    const goOn = yield* Deferred.make<void>()
    const wait = Effect.andThen(Deferred.succeed(asked, undefined), Deferred.await(goOn))
    const slow = Layer.effect(
      EventStore,
      Effect.map(EventStore, (store) => ({
        ...store,
        ...(method === "append"
          ? { append: (request: Parameters<typeof store.append>[0]) => Effect.andThen(wait, store.append(request)) }
          : { head: (id: RunId) => Effect.andThen(wait, store.head(id)) }),
      })),
    )
    return { asked, goOn, backend: Layer.provideMerge(slow, Throughline.layerMemory()) }
  })

describe("a request under way when the server shuts down", () => {
  it.live("to append is done and answered, and its connection ends", () =>
    Effect.gen(function* () {
      const { asked, backend, goOn } = yield* slowly("append")
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(serve({ backend, listen: { shutdownGrace: "1 hour" } }), scope)
      const answer = yield* Effect.forkChild(
        server.ask(path, { ...posted, headers: { "content-type": "application/json", connection: "keep-alive" } }),
      )
      yield* Deferred.await(asked)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      while (!(yield* server.streams.isDraining)) yield* Effect.yieldNow
      yield* Deferred.succeed(goOn, undefined)
      const { headers: answered, status } = yield* Fiber.join(answer)
      assert.deepStrictEqual([status, answered.connection], [200, "close"])
      yield* Fiber.join(closing)
      assert.strictEqual((yield* server.store.head(runId)).lastSeq, 1)
    }),
  )

  it.live("is its connection's last: what was sent ahead behind it isn't done", () =>
    Effect.gen(function* () {
      const { asked, backend, goOn } = yield* slowly("append")
      const server = yield* serve({ backend })
      const { body } = posted
      const post = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      const answers = yield* Effect.forkChild(Effect.flatMap(raw(server, post + post), said))
      yield* Deferred.await(asked)
      yield* server.streams.drain
      yield* Deferred.succeed(goOn, undefined)
      assert.strictEqual((yield* Fiber.join(answers)).split("HTTP/1.1 200").length, 2)
      assert.strictEqual((yield* server.store.head(runId)).lastSeq, 1)
    }),
  )

  it.live("for a stream is told to come back, as an EventSource that meets another status stays away", () =>
    Effect.gen(function* () {
      const { asked, backend, goOn } = yield* slowly("head")
      const server = yield* serve({ backend })
      const answer = yield* Effect.forkChild(server.ask(`${path}?wait`, { headers: sse }))
      yield* Deferred.await(asked)
      yield* server.streams.drain
      yield* Deferred.succeed(goOn, undefined)
      const { body, headers: answered, status } = yield* Fiber.join(answer)
      assert.deepStrictEqual([status, answered["content-type"]], [200, "text/event-stream"])
      assert.include(body, 'data: {"reason":"shutdown"}')
    }),
  )
})
