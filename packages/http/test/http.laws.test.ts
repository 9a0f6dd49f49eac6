import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import { serve } from "./serving.ts"

const scope = Effect.runSync(Scope.make())

/** One server for all cases, started by the first. It looks at watched runs often, and counts no requests out. */
const served = Effect.runSync(
  Effect.cached(
    serve({
      throughline: { hub: { watchdog: 50 } },
      routes: { bounds: { rate: { limit: 1_000_000, window: "10 seconds" } } },
    }).pipe(Scope.provide(scope)),
  ),
)

afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

HttpLaws.suite(
  "memory",
  Layer.effect(
    HttpLaws.HttpUnderTest,
    // Outside of the case, whose clock and randomness are not the server's.
    Effect.promise(() => Effect.runPromise(Effect.map(served, ({ base }) => ({ url: base })))),
  ),
)
