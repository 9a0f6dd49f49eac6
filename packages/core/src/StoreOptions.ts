/** What every store can be configured with: bounds and retention. */
import type * as Duration from "effect/Duration"

/** How long events are kept. Without a bound they are kept until `remove`. */
export interface Retention {
  /** The newest n events of a run are kept; older ones are trimmed with each append. The run's end is never trimmed. */
  readonly eventsPerRun?: number | undefined
  /** A run is removed this long after its end. */
  readonly ageAfterEnd?: Duration.Input | undefined
}

/** Bounds of a store. */
export interface Bounds {
  /** UTF-8 bytes of one event's JSON; 262,144 by default. */
  readonly maxEventBytes: number
  /** Events in one append; 1,000 by default. */
  readonly maxAppendEvents: number
  /** Events in one page; 1,000 by default. */
  readonly maxPageEvents: number
  /** UTF-8 bytes of a page's events; 4 MiB by default. A page holds at least one event. */
  readonly maxPageBytes: number
}

export const defaultBounds: Bounds = {
  maxEventBytes: 256 * 1024,
  maxAppendEvents: 1000,
  maxPageEvents: 1000,
  maxPageBytes: 4 * 1024 * 1024,
}

/** What every store can be configured with. */
export interface StoreOptions {
  readonly bounds?: Partial<Bounds> | undefined
  readonly retention?: Retention | undefined
}
