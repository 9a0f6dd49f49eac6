/** Reads a session: all its runs, whatever happens to the connections. */
import { follow } from "./internal/follow.ts"
import { plain } from "./internal/reading.ts"
import { SessionReading } from "./internal/sessionReading.ts"
import type { ReadOptions } from "./runEvents.ts"
import type { SessionItem } from "./SessionItem.ts"

export interface SessionOptions extends Omit<ReadOptions, "after"> {
  /** The cursor of a session's item: what follows it. From the start where absent. */
  readonly after?: string | undefined
}

/**
 * The session at `url` (`…/sessions/{sessionId}/events`, relative to the page in a browser): every event of all its runs
 * after `after`, those to come too, in the order in which they were stored. It has no end: leaving the loop, `return()` and
 * aborting `signal` close the connection at once. A lost connection is made again and goes on after what was received.
 *
 * A query of `url` goes along: `kinds` and `delivery` filter, `token` is a credential where the server takes one there.
 *
 * Throws as `runEvents` does; `no-archive` is the code where the server's store keeps no sessions.
 *
 * **Example** (Showing all runs of a chat)
 *
 * ```ts
 * import { sessionEvents } from "@throughline/client"
 *
 * for await (const item of sessionEvents("/sessions/chat-7/events")) {
 *   if (item._tag === "Event") console.log(item.envelope.runId, item.envelope.seq, item.envelope.kind)
 * }
 * ```
 */
export const sessionEvents = <E = unknown>(
  url: string | URL,
  options: SessionOptions = {},
): AsyncGenerator<SessionItem<E>, void, undefined> => {
  const base = new URL(url, globalThis.location?.href)
  const reading = new SessionReading(options.after ?? base.searchParams.get("after") ?? undefined, plain)
  // The caller says what the events of the session are.
  return follow(base, reading, options) as AsyncGenerator<SessionItem<E>, void, undefined>
}
