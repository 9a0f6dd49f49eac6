import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { serve } from "./serving.ts"

// A watched run is looked at often, as that is how long a reader waits for word that its run was removed.
HttpLaws.suite(
  "memory",
  Layer.effect(
    HttpLaws.HttpUnderTest,
    Effect.map(serve({ throughline: { hub: { watchdog: 50 } } }), ({ base }) => ({ url: base })),
  ),
)
