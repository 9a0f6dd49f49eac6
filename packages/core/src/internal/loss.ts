import type { Frame, OverflowNotice, OverflowPolicy, RepairPlace, RunId } from "../Envelope.ts"

type Reason = OverflowNotice["reason"]

/** A loss counts so many kinds by name; a vocabulary may have as many as it likes. */
const maxKinds = 64
const otherKinds = "other"

/** Where a frame is, without the frame. */
export interface Place {
  readonly runId: RunId
  readonly seq: number
  readonly cursor: string
}

export const placeOf = ({ cursor, envelope }: Frame): Place => ({ runId: envelope.runId, seq: envelope.seq, cursor })

/** Reads on after a place. Positions need not rise in the order of arrival, so none says what is still to come. */
export const repairAfter = ({ cursor, runId }: Place): RepairPlace => ({ runId, after: cursor })

/** The lower position; none where one has none, as no position then covers both. */
export const lower = (left: number | undefined, right: number | undefined): number | undefined =>
  left === undefined || right === undefined ? undefined : Math.min(left, right)

/** Frames lost between two that are delivered: counted and named, not kept. */
export class Loss {
  readonly _tag = "Loss"
  #reason: Reason
  readonly #first: Place
  #last: string
  #frames = 1
  #terminals: boolean
  /** The lowest of all, which need not be the first one's. */
  #position: number | undefined
  readonly #kind: string
  /** Absent while all are of one kind. */
  #kinds: Map<string, number> | undefined = undefined

  /** Loses one frame. */
  constructor(frame: Frame, reason: Reason) {
    const { envelope } = frame
    this.#first = placeOf(frame)
    this.#reason = reason
    this.#last = frame.cursor
    this.#position = frame.position
    this.#terminals = envelope.delivery === "terminal"
    this.#kind = envelope.kind
  }

  /** Loses the frame that follows. */
  add({ cursor, envelope, position }: Frame): void {
    this.#last = cursor
    this.#terminals ||= envelope.delivery === "terminal"
    this.#position = lower(this.#position, position)
    this.#count(envelope.kind, 1)
  }

  /** Takes in the loss that follows. */
  join(later: Loss): void {
    this.#last = later.#last
    this.#terminals ||= later.#terminals
    this.#position = lower(this.#position, later.#position)
    if (later.#kinds === undefined) this.#count(later.#kind, later.#frames)
    else for (const [kind, frames] of later.#kinds) this.#count(kind, frames)
  }

  #count(kind: string, frames: number): void {
    if (this.#kinds === undefined && kind !== this.#kind) this.#kinds = new Map([[this.#kind, this.#frames]])
    this.#frames += frames
    if (this.#kinds === undefined) return
    const name = this.#kinds.has(kind) || this.#kinds.size < maxKinds ? kind : otherKinds
    this.#kinds.set(name, (this.#kinds.get(name) ?? 0) + frames)
  }

  /** Reads from the first frame lost on, and every other one lost with it. */
  get #repair(): RepairPlace {
    const { cursor, runId, seq } = this.#first
    const after = `${seq - 1}${cursor.slice(cursor.indexOf("-"))}`
    return this.#position === undefined ? { runId, after } : { runId, after, position: this.#position - 1 }
  }

  /** The same frames, lost for another reason. */
  because(reason: Reason): Loss {
    this.#reason = reason
    return this
  }

  notice(policy: OverflowPolicy): OverflowNotice {
    return {
      policy,
      reason: this.#reason,
      frames: this.#frames,
      kinds: this.#kinds === undefined ? { [this.#kind]: this.#frames } : Object.fromEntries(this.#kinds),
      first: this.#first.cursor,
      last: this.#last,
      repair: this.#repair,
      terminalsSurvived: !this.#terminals,
    }
  }
}
