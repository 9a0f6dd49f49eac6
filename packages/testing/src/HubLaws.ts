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
import type { Below } from "./internal/hubWorld.ts"
import { whole } from "./internal/hubLawsWhole.ts"
import * as Law from "./Law.ts"

export { type Below, HubUnderTest } from "./internal/hubWorld.ts"

/** All laws of the hub. */
export const laws: ReadonlyArray<Law.Law<Below, StoreOptions>> = [whole]

/** Registers the laws of the hub over a store, its archive and an adapter. */
export const suite = (name: string, subject: Law.Subject<Below, StoreOptions>, options?: Law.SuiteOptions): void =>
  Law.suite("SubscriptionHub", name, laws, subject, options)
