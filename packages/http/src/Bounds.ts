/** What one client, and all of them together, may ask of the server. Sizes are bytes, times are durations. */
import * as Duration from "effect/Duration"

export interface Bounds {
  /** Bytes of a request body; 4 MiB by default. Past it: 413. */
  readonly bodyBytes: number
  /** Events in one append; 1,000 by default. Past it: 413. */
  readonly batchEvents: number
  /** Levels of arrays and objects in a JSON body; 128 by default. Past it: 400. */
  readonly jsonDepth: number
  /** How long a body may take to arrive; 10 s by default. Past it: 408. */
  readonly bodyTimeout: Duration.Input
  /** Characters of path and query; 4,096 by default. Past it: 414. */
  readonly urlLength: number
  /** Characters of all headers' names and values; 16 KiB by default. Past it: 431. */
  readonly headerLength: number
  /** Streams that one client may have open; 1,000 by default. Past it: 429. */
  readonly streamsPerClient: number
  /** Streams that may be open in all; 10,000 by default. Past it: 429. */
  readonly streams: number
  /** Requests of one client in a window of time, as a token bucket; 2,000 in 10 s by default. Past it: 429. */
  readonly rate: { readonly limit: number; readonly window: Duration.Input }
  /** Requests that may wait on a connection for the answer to the one before them; 100 by default. Past it: 429. */
  readonly ahead: number
  /** Bytes of pages that one client's connections may be waited for to take; 64 MiB by default. Past it: 429. */
  readonly waitingBytesPerClient: number
  /** Bytes of pages that all connections may be waited for to take; 256 MiB by default. Past it: 429. */
  readonly waitingBytes: number
  /**
   * How long a socket may take nothing at all while bytes wait for it; 1 minute by default. Past it, within twice of it, a
   * stream is closed, and dropped when it takes nothing for as long again; a page is dropped at once. A system takes bytes again when a third of
   * its send buffer is free, so a reader that is slower than that third in this time isn't known from one that reads nothing.
   */
  readonly slow: Duration.Input
  /**
   * How long a page may take to be read; 5 minutes by default. Past it its connection is dropped, as it is by
   * {@link Bounds.slow} when it takes nothing at all.
   */
  readonly pageTimeout: Duration.Input
}

export const defaultBounds: Bounds = {
  bodyBytes: 4 * 1024 * 1024,
  batchEvents: 1000,
  jsonDepth: 128,
  bodyTimeout: "10 seconds",
  urlLength: 4096,
  headerLength: 16 * 1024,
  streamsPerClient: 1000,
  streams: 10_000,
  rate: { limit: 2000, window: "10 seconds" },
  ahead: 100,
  waitingBytesPerClient: 64 * 1024 * 1024,
  waitingBytes: 256 * 1024 * 1024,
  slow: "1 minute",
  pageTimeout: "5 minutes",
}
