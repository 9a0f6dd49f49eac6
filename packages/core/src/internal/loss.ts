import type { Frame, OverflowNotice, OverflowPolicy, RepairPlace, Routing, RunId } from "../Envelope.ts"

type Reason = OverflowNotice["reason"]

/** A loss counts so many kinds by name; a vocabulary may have as many as it likes. */
const maxKinds = 64
const otherKinds = "other"

/** Where a frame is, without the frame. */
export interface Place {
  readonly runId: RunId
  readonly seq: number
  readonly cursor: string
  readonly position: number | undefined
}

export const placeOf = ({ cursor, envelope, position }: Frame): Place => ({
  runId: envelope.runId,
  seq: envelope.seq,
  cursor,
  position,
})

/** Reads on after a place. */
export const repairAfter = ({ cursor, position, runId }: Place): RepairPlace =>
  position === undefined ? { runId, after: cursor } : { runId, after: cursor, position }

/** Reads from a place on, its frame included. */
const repairFrom = ({ cursor, position, runId, seq }: Place): RepairPlace => {
  const after = `${seq - 1}${cursor.slice(cursor.indexOf("-"))}`
  return position === undefined ? { runId, after } : { runId, after, position: position - 1 }
}

/** Frames lost between two that are delivered: counted and named, not kept. */
export class Loss {
  readonly _tag = "Loss"
  readonly #reason: Reason
  readonly #first: Place
  #last: string
  #frames: number
  #terminals: boolean
  readonly #kind: string
  /** Absent while all are of one kind. */
  #kinds: Map<string, number> | undefined = undefined

  /** Loses one frame, or the `frames` from `first` to the cursor `last` that merged into one. */
  constructor(first: Place, reason: Reason, envelope: Routing, last = first.cursor, frames = 1) {
    this.#first = first
    this.#reason = reason
    this.#last = last
    this.#frames = frames
    this.#terminals = envelope.delivery === "terminal"
    this.#kind = envelope.kind
  }

  /** Loses the frame that follows. */
  add({ cursor, envelope }: Frame): void {
    this.addFrames(envelope, cursor, 1)
  }

  /** Loses `frames` that follow, merged into one. */
  addFrames(envelope: Routing, cursor: string, frames: number): void {
    this.#last = cursor
    if (envelope.delivery === "terminal") this.#terminals = true
    this.#count(envelope.kind, frames)
  }

  /** Takes in the loss that follows. */
  join(later: Loss): void {
    this.#last = later.#last
    this.#terminals ||= later.#terminals
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

  notice(policy: OverflowPolicy): OverflowNotice {
    return {
      policy,
      reason: this.#reason,
      frames: this.#frames,
      kinds: this.#kinds === undefined ? { [this.#kind]: this.#frames } : Object.fromEntries(this.#kinds),
      first: this.#first.cursor,
      last: this.#last,
      repair: repairFrom(this.#first),
      terminalsSurvived: !this.#terminals,
    }
  }
}
