/** What every store can be configured with: bounds and retention. */
import * as Duration from "effect/Duration"

/**
 * How long events are kept. Without a bound they are kept until `remove`. Every number is a bound or none, the same for all
 * stores: see {@link retained}.
 */
export interface Retention {
  /** The newest n events of a run are kept; older ones are trimmed with each append. The run's end is never trimmed. */
  readonly eventsPerRun?: number | undefined
  /** A run is removed this long after its end. */
  readonly ageAfterEnd?: Duration.Input | undefined
}

/** What a store goes by: whole numbers that every backend can count with. */
export interface Retained {
  /** At least 1. */
  readonly eventsPerRun: number | undefined
  /** Milliseconds, at least 0. */
  readonly ageAfterEnd: number | undefined
}

/** Past this a sum with a time of today is no exact number any more, and nobody waits for it: 142,000 years. */
const longestAge = 2 ** 52

/**
 * What a configured retention comes to. A number of events is rounded down, and at least 1; an age is rounded up to
 * milliseconds, and at least 0. What is infinite, no number, or too large to count with bounds nothing.
 */
export const retained = (retention: Retention | undefined): Retained => {
  const { ageAfterEnd, eventsPerRun } = retention ?? {}
  const events = bounding(eventsPerRun, Number.MAX_SAFE_INTEGER)
  const age = bounding(
    ageAfterEnd === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(ageAfterEnd)),
    longestAge,
  )
  return {
    eventsPerRun: events === undefined ? undefined : Math.max(1, Math.floor(events)),
    ageAfterEnd: age === undefined ? undefined : Math.max(0, Math.ceil(age)),
  }
}

/** A number, unless it bounds nothing. */
const bounding = (value: number | undefined, most: number): number | undefined =>
  value !== undefined && Number.isFinite(value) && value <= most ? value : undefined

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
