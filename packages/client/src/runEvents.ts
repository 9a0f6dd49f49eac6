/** Reads a run, whole, whatever happens to its connections. */
import { EventStreamParser } from "./internal/eventStream.ts"
import { givenUp, isEventStream, Lost, refusal, Violation } from "./internal/failure.ts"
import {
  defaultAttempts,
  defaultIdleTimeout,
  defaultMaxEventSize,
  delayOf,
  sleep,
  violationsAllowed,
  within,
} from "./internal/patience.ts"
import { isWhole, nextRequest } from "./internal/place.ts"
import { Reading } from "./internal/reading.ts"
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
  /** Characters that one event may have; 16 Mi by default. */
  readonly maxEventSize?: number | undefined
  /** Is told of each change of the connection. */
  readonly onConnection?: ((connection: Connection) => void) | undefined
}

const ignore = (): void => {}

/** One connection, until the run is over; throws what else ended it. `asked` is told what the server says of the next. */
async function* connect(
  url: URL,
  reading: Reading,
  options: ReadOptions,
  asked: { retry: number | undefined },
): AsyncGenerator<RunItem, void, undefined> {
  const { fetch = globalThis.fetch, idleTimeout = defaultIdleTimeout, signal } = options
  const request = new AbortController()
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined
  try {
    const { patience, target } = nextRequest(url, reading)
    const response = await within(
      fetch(target, {
        headers: { ...options.headers, accept: "text/event-stream" },
        cache: "no-store",
        signal: request.signal,
      }),
      Math.max(idleTimeout, patience),
      signal,
    )
    const { body, headers, status } = response
    if (status === 204) return reading.nothingFollows()
    if (status >= 400) {
      throw refusal(status, await within(response.text(), idleTimeout, signal), headers.get("retry-after"))
    }
    const type = headers.get("content-type")
    if (status !== 200 || body === null || !isEventStream(type)) {
      throw new Violation(`the server answered ${status} with ${type ?? "nothing"}, not with an event stream`, status)
    }
    options.onConnection?.({ state: "open" })
    const parser = new EventStreamParser(options.maxEventSize ?? defaultMaxEventSize)
    reader = body.getReader()
    while (!reading.isOver) {
      const { done, value } = await within(reader.read(), idleTimeout, signal)
      if (done) throw new Lost("the server closed the connection before the end of the run")
      const frames = parser.push(value)
      asked.retry = parser.retry ?? asked.retry
      for (const frame of frames) {
        const item = reading.take(frame)
        if (item !== undefined) yield item
      }
    }
  } finally {
    request.abort()
    // Of a response that doesn't heed the signal of its request.
    reader?.cancel().catch(ignore)
  }
}

/**
 * The run at `url` (`…/runs/{runId}/events`, relative to the page in a browser): every event after `after`, once each, in
 * order, to the end, where the iteration ends. A lost connection is made again and goes on after what was received; one that
 * closes before the run's end is a lost one. Leaving the loop, or aborting `signal`, closes the connection.
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
export async function* runEvents<E = unknown>(
  url: string | URL,
  options: ReadOptions = {},
): AsyncGenerator<RunItem<E>, void, undefined> {
  const base = new URL(url, globalThis.location?.href)
  const reading = new Reading(options.after ?? base.searchParams.get("after") ?? undefined, isWhole(base.searchParams))
  const { attempts = defaultAttempts, onConnection, signal } = options
  const asked = { retry: undefined }
  let failures = 0
  let violations = 0
  for (;;) {
    const had = reading.events
    try {
      signal?.throwIfAborted()
      onConnection?.({ state: "connecting" })
      // The caller says what the events of the run are.
      yield* connect(base, reading, options, asked) as AsyncGenerator<RunItem<E>, void, undefined>
      break
    } catch (cause) {
      const isLost = cause instanceof Lost
      if (isLost && reading.hasEnd) break
      if (!isLost && !(cause instanceof Violation)) throw cause
      if (reading.isAlive) failures = 0
      if (reading.events > had) violations = 0
      reading.isAlive = false
      failures++
      if (!isLost && ++violations >= violationsAllowed) throw givenUp("protocol-violation", cause)
      if (failures >= attempts) throw givenUp("unreachable", cause)
      const delay = delayOf(options, failures, (isLost ? cause.after : undefined) ?? asked.retry)
      onConnection?.({ state: "waiting", delay, cause })
      await sleep(delay, signal)
    }
  }
  yield* reading.rest() as ReadonlyArray<RunItem<E>>
}
