/** Whether the store and the live path answer, asked when the request comes. */
import { RunId } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { Services } from "./services.ts"

const patience = "2 seconds"

/** No run has this name for long, and reading the head of one that isn't there writes nothing. */
const probe = RunId.make("throughline:health")

const answers = <A, E>(effect: Effect.Effect<A, E>) =>
  effect.pipe(
    Effect.timeout(patience),
    Effect.as("ok" as const),
    Effect.catchCause((cause) => Effect.as(Effect.logDebug("a health check failed", cause), "failing" as const)),
  )

export const check = Effect.fnUntraced(function* ({ adapter, store }: Services) {
  const [storeStatus, live] = yield* Effect.all(
    [
      answers(store.head(probe)),
      answers(Effect.scoped(adapter.subscribe({ _tag: "Run", runId: probe }, { capacity: 1 }))),
    ],
    { concurrency: 2 },
  )
  const status = storeStatus === "ok" && live === "ok" ? "ok" : "failing"
  return HttpServerResponse.jsonUnsafe(
    { status, store: storeStatus, live },
    { status: status === "ok" ? 200 : 503, headers: { "cache-control": "no-store" } },
  )
})
