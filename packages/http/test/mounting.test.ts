import { assert, describe, it } from "@effect/vitest"
import * as Throughline from "@throughline/core/Throughline"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { inspect } from "node:util"
import * as Access from "../src/Access.ts"
import * as Routes from "../src/Routes.ts"
import { mounted } from "./mounted.ts"
import { ask, problemOf } from "./serving.ts"

const posted = {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ event: { _tag: "RunStarted", name: "x" } }),
}

describe("mounted in an app", () => {
  for (const prefix of [undefined, "/deep/er"] as const) {
    it.live(`the routes work beside the app's own, under ${prefix ?? "no prefix"}`, () =>
      Effect.gen(function* () {
        const { base } = yield* mounted(prefix === undefined ? {} : { prefix })
        const at = prefix ?? ""
        assert.strictEqual((yield* ask(base, "/hello")).body, "hello")
        assert.strictEqual((yield* ask(base, "/other")).body, "the app's own")
        for (const runId of ["r1", "x".repeat(100), "x".repeat(128), "A.b_c:d-1"]) {
          assert.strictEqual((yield* ask(base, `${at}/runs/${runId}/events`, posted)).status, 200, runId)
          const page = yield* ask(base, `${at}/runs/${encodeURIComponent(runId)}/events`)
          assert.strictEqual(page.status, 200)
          assert.strictEqual(JSON.parse(page.body).head.runId, runId)
        }
        assert.strictEqual(problemOf(yield* ask(base, `${at}/runs/${"x".repeat(129)}/events`)), "invalid-id")
        assert.strictEqual((yield* ask(base, `${at}/health`)).status, 200)
        assert.strictEqual(JSON.parse((yield* ask(base, `${at}/openapi.json`)).body).openapi, "3.1.0")
        assert.strictEqual(problemOf(yield* ask(base, `${at}/runs/r1`)), "method-not-allowed")
        if (prefix !== undefined) {
          assert.strictEqual(problemOf(yield* ask(base, `${prefix}/nothing`)), "not-found")
          assert.strictEqual((yield* ask(base, "/runs")).body, "the app's own")
        }
      }),
    )
  }
})

it.live("on another platform than Node's the routes say in the log why they can't work", () =>
  Effect.gen(function* () {
    const logged: Array<unknown> = []
    const logger = Logger.make<unknown, void>(({ message }) => void logged.push(message))
    const app = Routes.layer().pipe(
      Layer.provide(Throughline.layerMemory()),
      Layer.provide(Layer.succeed(Access.Access, { decide: () => Effect.succeed(Access.allowed) })),
    )
    const { dispose, handler } = HttpRouter.toWebHandler(Layer.provideMerge(app, Logger.layer([logger])), {
      disableLogger: true,
    })
    const response = yield* Effect.promise(() => handler(new Request("http://127.0.0.1/runs")))
    assert.strictEqual(response.status, 500)
    assert.match(inspect(logged), /work on Node's HTTP servers alone/)
    yield* Effect.promise(dispose)
  }),
)
