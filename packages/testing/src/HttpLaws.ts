/**
 * The laws of a server that speaks PROTOCOL.md: each event of a run once, in order, to the end, and appends that are safe to
 * repeat, however the connections fail. Readers are both clients, `RunClient` and `@throughline/client`, and one as simple as a
 * browser's `EventSource`, which puts nothing right that the server does wrong.
 *
 * The server is real and so is its time: faults are put between it and the clients, into their `fetch`. Each case has a run
 * of its own, so a server that keeps them may be put to the laws too.
 *
 * ```ts
 * import * as HttpLaws from "@throughline/testing/HttpLaws"
 *
 * HttpLaws.suite("my server", "http://127.0.0.1:4096")
 * ```
 */
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import type { HttpLaw } from "./internal/httpLawsReading.ts"
import { anyPlace, caughtUp, endArrives, filtered, refused, removed, whole } from "./internal/httpLawsReading.ts"
import { checked, once, oneEnd, order } from "./internal/httpLawsWriting.ts"
import { oneText } from "./internal/httpLawsText.ts"
import { session } from "./internal/httpLawsSession.ts"
import { HttpUnderTest } from "./internal/httpWorld.ts"
import * as Law from "./Law.ts"

export {
  anyPlace,
  caughtUp,
  checked,
  endArrives,
  filtered,
  HttpUnderTest,
  once,
  oneEnd,
  oneText,
  order,
  refused,
  removed,
  session,
  whole,
}
export type { HttpLaw }

/** All laws of a server, in the order of the promises. */
export const laws: ReadonlyArray<HttpLaw> = [
  order,
  oneText,
  once,
  checked,
  oneEnd,
  whole,
  anyPlace,
  caughtUp,
  removed,
  session,
  endArrives,
  filtered,
  refused,
]

/** A layer that lives on the machine's clock, as the server of a case. */
export const live = <R, E, RIn>(layer: Layer.Layer<R, E, RIn>): Layer.Layer<R, E, RIn> =>
  Layer.effectContext(TestClock.withLive(Layer.build(layer)))

/**
 * Registers the laws over a server: its address, or a layer that serves one of its own to each case.
 *
 * It must let its clients in without a credential, take appends of `AgentEvents` and removals, and not count their requests
 * out. A removed run is waited for as long as the server takes to notice that it is gone, some seconds.
 */
export const suite = (
  name: string,
  server: string | Layer.Layer<HttpUnderTest, unknown, Law.Services>,
  options?: Law.SuiteOptions,
): void =>
  Law.suite(
    "HTTP",
    name,
    laws,
    typeof server === "string" ? Layer.succeed(HttpUnderTest, { url: server }) : live(server),
    options,
  )
