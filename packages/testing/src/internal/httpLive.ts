/** Cases of real servers, which don't live in virtual time. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type * as Law from "../Law.ts"
import type { HttpUnderTest } from "./httpWorld.ts"

type Property<A> = (history: A, reach: Law.Reach) => Effect.Effect<void, unknown, HttpUnderTest | Scope.Scope>

/** A property on the machine's clock. */
export const live =
  <A>(property: Property<A>): Property<A> =>
  (history, reach) =>
    TestClock.withLive(property(history, reach))
