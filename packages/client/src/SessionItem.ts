/** What a reader of a session receives. */
import type { Event } from "./RunItem.ts"

/** What was stored has been received; the rest is live. Once per reader; `cursor` is what to go on after. */
export interface SessionCaughtUp {
  readonly _tag: "CaughtUp"
  readonly cursor: string
}

/** Retention took seqs `from` to `to` of one of the session's runs; the reader goes on after them. */
export interface SessionTruncated {
  readonly _tag: "Truncated"
  readonly runId: string
  readonly from: number
  readonly to: number
}

/** The `cursor` of an event is the session's: what to go on after in all its runs. */
export type SessionItem<E = unknown> = Event<E> | SessionCaughtUp | SessionTruncated
