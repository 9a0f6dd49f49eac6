/** The computer's own time, which locks and Redis go by: no server waits for a virtual one. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

export const onRealTime = Effect.provideService(Clock.Clock, Context.get(Context.empty(), Clock.Clock))
