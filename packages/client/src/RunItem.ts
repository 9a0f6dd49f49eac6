/** What a reader of a run receives. */

/** An event with its routing fields, as the protocol names them; `event` is the vocabulary's JSON. */
export interface Envelope<E = unknown> {
  readonly eventId: string
  /** The position in the run: 1, 2, 3 …, no holes. */
  readonly seq: number
  readonly runId: string
  readonly sessionId?: string
  readonly agentId?: string
  readonly provider?: string
  readonly turnId?: string
  readonly kind: string
  readonly delivery: "progress" | "normal" | "terminal"
  /** Present on the last event of the run. */
  readonly endsRun?: "completed" | "failed" | "cancelled"
  /** ISO 8601, UTC, milliseconds. */
  readonly emittedAt: string
  readonly tags: ReadonlyArray<string>
  readonly correlation: Readonly<Record<string, string>>
  readonly schemaVersion: number
  readonly event: E
  /** The events that this one stands for, where the query asked for `overflow=summarize`. */
  readonly merged?: { readonly firstSeq: number; readonly lastSeq: number; readonly frames: number }
}

/** An event; `cursor` is what to go on after. */
export interface Event<E = unknown> {
  readonly _tag: "Event"
  readonly envelope: Envelope<E>
  readonly cursor: string
}

/** What was stored has been received, up to `head`; the rest is live. Once per reader, before it completes at the latest. */
export interface CaughtUp {
  readonly _tag: "CaughtUp"
  readonly head: number
  /** What to go on after; absent of a run that has no events yet. */
  readonly cursor?: string
}

/** Retention took seqs `from` to `to`; the reader goes on after them. */
export interface Truncated {
  readonly _tag: "Truncated"
  readonly from: number
  readonly to: number
}

/** What the reader's `overflow` policy took. */
export interface Dropped {
  readonly _tag: "Dropped"
  readonly notice: {
    readonly policy: string
    readonly reason: string
    readonly frames: number
    readonly kinds: Readonly<Record<string, number>>
    readonly first: string
    readonly last: string
    readonly terminalsSurvived: boolean
  }
}

export type RunItem<E = unknown> = Event<E> | CaughtUp | Truncated | Dropped
