/** Reads a run, whole, whatever happens to its connections. */
import { follow } from "./internal/follow.ts"
import { isWhole } from "./internal/place.ts"
import { plain, Reading } from "./internal/reading.ts"
import type { RequestOptions } from "./RequestOptions.ts"
import type { RunItem } from "./RunItem.ts"

/** How the connection of a reader is. */
export type Connection =
  | { readonly state: "connecting" | "open" }
  /** Lost; the next try is in `delay` ms. */
  | { readonly state: "waiting"; readonly delay: number; readonly cause: unknown }

export interface ReadOptions extends RequestOptions {
  /** A cursor, or a bare seq: what follows it. From the start where absent. */
  readonly after?: string | number | undefined
  /** A connection on which no byte came for so many ms is lost; 45,000 by default, three times the server's heartbeat. */
  readonly idleTimeout?: number | undefined
  /** Characters that the lines of one event may have; 16 Mi by default. */
  readonly maxEventSize?: number | undefined
  /** Is told of each change of the connection. */
  readonly onConnection?: ((connection: Connection) => void) | undefined
}

/**
 * The run at `url` (`…/runs/{runId}/events`, relative to the page in a browser): every event after `after`, once each, in
 * order, to the end, where the iteration ends. A lost connection is made again and goes on after what was received; one that
 * closes before the run's end is a lost one. Leaving the loop, `return()` and aborting `signal` close the connection at once.
 *
 * A query of `url` goes along: `kinds` and `delivery` filter, `overflow` prefers fresh to whole, `wait` waits for a run that
 * isn't there yet, `token` is that of a signed link.
 *
 * Throws {@link RunError}: what the server refuses for good, `unreachable` after too many tries in a row that brought
 * nothing, `protocol-violation` after three answers in a row that break the protocol. Throws the reason of `signal`.
 *
 * **Example** (Showing a run)
 *
 * ```ts
 * import { runEvents } from "@throughline/client"
 *
 * for await (const item of runEvents("/runs/build-2041/events")) {
 *   if (item._tag === "Event") console.log(item.envelope.seq, item.envelope.kind)
 * }
 * console.log("the run has ended")
 * ```
 */
export const runEvents = <E = unknown>(
  url: string | URL,
  options: ReadOptions = {},
): AsyncGenerator<RunItem<E>, void, undefined> => {
  const base = new URL(url, globalThis.location?.href)
  const { searchParams } = base
  const reading = new Reading(options.after ?? searchParams.get("after") ?? undefined, {
    wire: plain,
    isWhole: isWhole(searchParams),
  })
  // The caller says what the events of the run are.
  return follow(base, reading, options) as AsyncGenerator<RunItem<E>, void, undefined>
}
