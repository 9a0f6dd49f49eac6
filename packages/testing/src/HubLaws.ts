/**
 * The laws of the hub: each event of a run once, in order, to the end, whatever goes wrong below.
 *
 * The layer under test is what the hub stands on, a store with its archive and an adapter. Each case puts faults between
 * them and the hub and lets virtual time pass.
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as StreamAdapter from "@throughline/core/StreamAdapter"
 * import * as HubLaws from "@throughline/testing/HubLaws"
 * import * as Layer from "effect/Layer"
 *
 * HubLaws.suite("memory", (options) => Layer.mergeAll(EventStore.layerMemory(options), StreamAdapter.layerMemory))
 * ```
 */
import type { StoreOptions } from "@throughline/core/StoreOptions"
import { bounded, burst, nothingLeft, notHeldUp, shared } from "./internal/hubLawsApart.ts"
import { anyPlace, caughtUp, refused, removed, trimmed, twoParts, typed } from "./internal/hubLawsPlaces.ts"
import { leavesOut, notHoles, ownCursor, session } from "./internal/hubLawsSession.ts"
import {
  askedToLook,
  atOnce,
  endArrives,
  leftAlone,
  mayNotWrite,
  outlasts,
  takenUp,
  willOnce,
} from "./internal/hubLawsTime.ts"
import { oldAnswers, whole } from "./internal/hubLawsWhole.ts"
import type { Below } from "./internal/hubWorld.ts"
import * as Law from "./Law.ts"

export { type Below, HubUnderTest } from "./internal/hubWorld.ts"

export type HubLaw = Law.Law<Below, StoreOptions>

export {
  anyPlace,
  askedToLook,
  atOnce,
  bounded,
  burst,
  caughtUp,
  endArrives,
  leavesOut,
  leftAlone,
  mayNotWrite,
  notHeldUp,
  notHoles,
  nothingLeft,
  oldAnswers,
  outlasts,
  ownCursor,
  refused,
  removed,
  session,
  shared,
  takenUp,
  trimmed,
  twoParts,
  typed,
  whole,
  willOnce,
}

/** All laws of the hub, in the order of the promises. */
export const laws: ReadonlyArray<HubLaw> = [
  whole,
  oldAnswers,
  anyPlace,
  twoParts,
  caughtUp,
  session,
  outlasts,
  removed,
  atOnce,
  askedToLook,
  endArrives,
  takenUp,
  willOnce,
  leftAlone,
  mayNotWrite,
  notHeldUp,
  bounded,
  shared,
  trimmed,
  typed,
  notHoles,
  leavesOut,
  burst,
  refused,
  ownCursor,
  nothingLeft,
]

/** Registers the laws of the hub over a store, its archive and an adapter. */
export const suite = (name: string, subject: Law.Subject<Below, StoreOptions>, options?: Law.SuiteOptions): void =>
  Law.suite("SubscriptionHub", name, laws, subject, options)
