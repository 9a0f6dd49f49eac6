import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Law from "@throughline/testing/Law"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import { serve } from "./serving.ts"

const scope = Effect.runSync(Scope.make())

/** One server for all cases, started by the first. It looks at watched runs often, and counts no requests out. */
const served = (backend: Layer.Layer<Throughline.Throughline>) => {
  const server = Effect.runSync(
    Effect.cached(
      serve({ backend, routes: { bounds: { rate: { limit: 1_000_000, window: "10 seconds" } } } }).pipe(
        Scope.provide(scope),
      ),
    ),
  )
  return Layer.effect(
    HttpLaws.HttpUnderTest,
    // Outside of the case, whose clock and randomness are not the server's.
    Effect.promise(() => Effect.runPromise(Effect.map(server, ({ base }) => ({ url: base })))),
  )
}

afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const hub = { watchdog: 50 }

HttpLaws.suite("memory", served(Throughline.layerMemory({ hub })))

// What another store can change of what goes over the wire.
Law.suite(
  "HTTP",
  "sqlite",
  [HttpLaws.oneText],
  served(Layer.orDie(SqliteThroughline.layer({ filename: ":memory:", hub }))),
)
