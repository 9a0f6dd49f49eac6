/**
 * The laws of the bridge: what it takes is stored once, in order, or is a dead letter; open runs are kept alive.
 *
 * The layer under test is what the bridge stands on, a store and an adapter. Each case puts faults between them and the
 * bridge and lets virtual time pass.
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as StreamAdapter from "@throughline/core/StreamAdapter"
 * import * as BridgeLaws from "@throughline/testing/BridgeLaws"
 * import * as Layer from "effect/Layer"
 *
 * BridgeLaws.suite("memory", Layer.mergeAll(EventStore.layerMemory(), StreamAdapter.layerMemory))
 * ```
 */
import type { StoreOptions } from "@throughline/core/StoreOptions"
import { keptAlive, nothingLeft, recorded, renewedNoMore } from "./internal/bridgeLawsLife.ts"
import { apart, cutAtTheEnd, once, storedBeforeLive } from "./internal/bridgeLawsOnce.ts"
import { conserved, fenced, unknownOutcome } from "./internal/bridgeLawsProducer.ts"
import type { Below } from "./internal/bridgeWorld.ts"
import * as Law from "./Law.ts"

export { type Below, BridgeUnderTest } from "./internal/bridgeWorld.ts"

export {
  apart,
  conserved,
  cutAtTheEnd,
  fenced,
  keptAlive,
  nothingLeft,
  once,
  recorded,
  renewedNoMore,
  storedBeforeLive,
  unknownOutcome,
}

/** All laws of the bridge. */
export const laws: ReadonlyArray<Law.Law<Below, StoreOptions>> = [
  once,
  fenced,
  unknownOutcome,
  cutAtTheEnd,
  storedBeforeLive,
  keptAlive,
  renewedNoMore,
  recorded,
  apart,
  conserved,
  nothingLeft,
]

/** Registers the laws of the bridge over a store and an adapter. */
export const suite = (name: string, subject: Law.Subject<Below, StoreOptions>, options?: Law.SuiteOptions): void =>
  Law.suite("EventBridge", name, laws, subject, options)
