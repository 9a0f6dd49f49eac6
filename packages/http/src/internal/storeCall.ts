/** Calls of the store on behalf of a request: bounded in time, told as problems. */
import { ReadFailed, StoreUnavailable } from "@throughline/core/EventStoreError"
import * as Effect from "effect/Effect"
import * as Problem from "../Problem.ts"

const patience = "10 seconds"

/** A read that answers in time or is refused. */
export const read = <A, E extends Problem.BackendError>(
  effect: Effect.Effect<A, E>,
): Effect.Effect<A, Problem.Refused> =>
  effect.pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.fail(new ReadFailed({ reason: new StoreUnavailable({ detail: "no answer in time" }) })),
    }),
    Effect.mapError(Problem.ofError),
  )
