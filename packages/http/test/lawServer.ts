/** One server for all cases of a suite of laws, started by the first. */
import type * as Throughline from "@throughline/core/Throughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import { serve } from "./serving.ts"

/** The hub of such a server looks at watched runs often: laws wait for what it notices. */
export const hub = { watchdog: 50 }

/** It counts no requests out, and ends after the file's last test. */
export const served = <E>(backend: Layer.Layer<Throughline.Throughline, E>) => {
  const scope = Effect.runSync(Scope.make())
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const server = Effect.runSync(
    Effect.cached(
      serve({
        backend: Layer.orDie(backend),
        routes: { bounds: { rate: { limit: 1_000_000, window: "10 seconds" } } },
      }).pipe(Scope.provide(scope)),
    ),
  )
  return Layer.effect(
    HttpLaws.HttpUnderTest,
    // Outside of the case, whose clock and randomness are not the server's.
    Effect.promise(() => Effect.runPromise(Effect.map(server, ({ base }) => ({ url: base })))),
  )
}
