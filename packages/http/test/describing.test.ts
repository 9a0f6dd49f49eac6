import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { RunId, SessionId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import { AppendFailed, ReadFailed, StoreBroken, StoreFull, StoreUnavailable } from "@throughline/core/EventStoreError"
import { AdapterUnavailable, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as Layer from "effect/Layer"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Api } from "../src/Api.ts"
import * as Page from "../src/Page.ts"
import * as Problem from "../src/Problem.ts"
import { problemOf, serve, started } from "./serving.ts"

const runId = RunId.make("r1")

interface Described {
  readonly responses: Readonly<Record<string, { readonly content?: unknown }>>
}

describe("the OpenAPI document", () => {
  it.live("names every path, method and representation that is served, and no other", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const document = JSON.parse((yield* server.ask("/openapi.json")).body)
      const read = document.paths["/runs/{runId}/events"].get.responses["200"].content
      assert.sameMembers(Object.keys(read), ["application/json", "application/x-ndjson", "text/event-stream"])
      const append = document.paths["/runs/{runId}/events"].post.requestBody.content
      assert.sameMembers(Object.keys(append), ["application/json", "application/x-ndjson"])
      for (const [path, methods] of Object.entries<Record<string, Described>>(document.paths)) {
        const target = path.replace("{runId}", "r1").replace("{sessionId}", "s1")
        const { headers } = yield* server.ask(target, { method: "PATCH" })
        const described = Object.keys(methods).map((method) => method.toUpperCase())
        assert.sameMembers(headers.allow!.split(", "), described, path)
        for (const [method, { responses }] of Object.entries(methods)) {
          const bodies = Object.values(responses).filter(({ content }) => content !== undefined)
          if (method === "head") assert.deepStrictEqual(bodies, [], path)
        }
      }
      const { get, head } = document.paths["/runs/{runId}/events"]
      for (const { parameters, responses } of [get, head]) {
        assert.includeMembers(Object.keys(responses), ["200", "304", "400", "404"])
        const names = parameters.map(({ name }: { name: string }) => name)
        assert.includeMembers(names, ["after", "kinds", "if-none-match"])
      }
    }),
  )

  it.live("lists the type of every problem that can be met", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { body } = yield* server.ask("/openapi.json")
      for (const name of Object.keys(Problem.problems) as ReadonlyArray<Problem.ProblemName>) {
        assert.include(body, `"${Problem.typeOf(name)}"`)
      }
    }),
  )

  it.live("is of an API that a typed client can be derived from", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const client = yield* HttpApiClient.make(Api, { baseUrl: server.base }).pipe(
        Effect.provide(FetchHttpClient.layer),
      )
      const appended = yield* client.runs.append({
        params: { runId },
        query: { sessionId: "s1" },
        headers: {},
        payload: { event: started },
      })
      assert.strictEqual(appended.events[0]!.seq, 1)
      const { runs } = yield* client.runs.list({ query: { limit: 10 } })
      assert.deepInclude(runs[0], { runId, status: "running", sessionId: SessionId.make("s1"), lastSeq: 1 })
      assert.deepStrictEqual(yield* client.server.health(), { status: "ok", store: "ok", live: "ok" })
      yield* client.runs.remove({ params: { runId } })
      const refused = yield* Effect.flip(client.runs.remove({ params: { runId } }))
      assert.deepInclude(refused, { type: "urn:throughline:problem:run-unknown", status: 404 })
    }),
  )
})

describe("health", () => {
  it.live("asks store and live path when it is asked, and says which is down", () =>
    Effect.gen(function* () {
      const broken = Layer.effect(
        StreamAdapter,
        Effect.map(StreamAdapter, (adapter) => ({
          ...adapter,
          subscribe: () => Effect.fail(new AdapterUnavailable({ detail: "at a secret address", isRetryable: true })),
        })),
      )
      const server = yield* serve({ backend: Layer.provideMerge(broken, Throughline.layerMemory()) })
      const answer = yield* server.ask("/health")
      assert.deepStrictEqual(
        [answer.status, JSON.parse(answer.body)],
        [503, { status: "failing", store: "ok", live: "failing" }],
      )
      const well = yield* (yield* serve()).ask("/health")
      assert.deepStrictEqual([well.status, JSON.parse(well.body)], [200, { status: "ok", store: "ok", live: "ok" }])
    }),
  )
})

describe("metrics", () => {
  it.live("are Prometheus text, and count requests and streams", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const client = yield* server.follow("/runs/r1/events")
      yield* client.untilText("caught-up")
      yield* server.ask("/runs/other/events")
      const answer = yield* server.ask("/metrics")
      assert.strictEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
      assert.match(answer.body, /^# TYPE throughline_http_streams_open gauge$/m)
      assert.match(answer.body, /^throughline_http_streams_open 1$/m)
      assert.match(answer.body, /^throughline_http_requests_total\{method="GET",status="404"\} [1-9]\d*$/m)
    }),
  )
})

const pageAt = (root: string) =>
  Page.layer({ directory: root }).pipe(Layer.provide([NodeServices.layer, Throughline.layerCrypto]))

describe("the page", () => {
  const directory = Effect.acquireRelease(
    Effect.sync(() => {
      const root = mkdtempSync(join(tmpdir(), "throughline-page-"))
      mkdirSync(join(root, "page", "assets"), { recursive: true })
      writeFileSync(join(root, "page", "index.html"), "<!doctype html><title>runs</title>")
      writeFileSync(join(root, "page", "assets", "main.js"), "export {}")
      writeFileSync(join(root, "secret.txt"), "not the page's")
      return root
    }),
    (root) => Effect.sync(() => rmSync(root, { recursive: true })),
  )
  it.live("is served at / from what was there at the start, under a strict policy, and only that", () =>
    Effect.gen(function* () {
      const root = yield* directory
      const server = yield* Effect.provide(serve(), pageAt(join(root, "page")))
      const index = yield* server.ask("/")
      assert.strictEqual(index.status, 200)
      assert.strictEqual(index.headers["content-type"], "text/html; charset=utf-8")
      const policy = index.headers["content-security-policy"] as string
      for (const directive of [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
      ]) {
        assert.include(policy, directive)
      }
      assert.notInclude(policy, "unsafe")
      assert.strictEqual(index.headers["x-content-type-options"], "nosniff")
      const script = yield* server.ask("/assets/main.js")
      assert.strictEqual(script.headers["content-type"], "text/javascript; charset=utf-8")
      const same = yield* server.ask("/assets/main.js", { headers: { "if-none-match": script.headers.etag! } })
      assert.deepStrictEqual([same.status, same.body], [304, ""])
      const posted = yield* server.ask("/", { method: "POST" })
      assert.deepStrictEqual([posted.status, posted.headers.allow], [405, "GET, HEAD"])
      for (const path of [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets",
        "/assets/",
        "/package.json",
        "/index.html/",
      ]) {
        assert.strictEqual(problemOf(yield* server.ask(path)), "not-found", path)
      }
    }),
  )

  it.live("that can't be read is told at the start", () =>
    Effect.gen(function* () {
      const root = yield* directory
      for (const missing of [join(root, "nothing"), join(root, "page", "assets")]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(pageAt(missing))))
        assert.strictEqual(error._tag, "PageNotLoaded")
      }
    }),
  )
})

describe("what went wrong below", () => {
  it.live("stays on the server, whatever the store says of itself", () =>
    Effect.gen(function* () {
      const detail = "/var/lib/secret.db is broken"
      for (const [reason, name] of [
        [new StoreBroken({ detail }), "store-broken"],
        [new StoreFull({ detail }), "store-full"],
        [new StoreUnavailable({ detail }), "store-unavailable"],
      ] as const) {
        const broken = Layer.effect(
          EventStore,
          Effect.map(EventStore, (store) => ({
            ...store,
            head: () => Effect.fail(new ReadFailed({ reason })),
            read: () => Effect.fail(new ReadFailed({ reason })),
            append: () => Effect.fail(new AppendFailed({ reason })),
          })),
        )
        const server = yield* serve({ backend: Layer.provideMerge(broken, Throughline.layerMemory()) })
        for (const answer of [
          yield* server.ask("/runs/r1/events"),
          yield* server.ask("/runs/r1/events", { headers: { accept: "text/event-stream" } }),
          yield* server.post("/runs/r1/events", { event: started }),
        ]) {
          assert.strictEqual(problemOf(answer), name)
          assert.strictEqual(answer.status, Problem.problems[name].status)
          assert.notInclude(answer.body, "secret")
        }
      }
    }),
  )
})
