import type { Frame, Gap, OverflowNotice, OverflowPolicy, RepairPlace, RunId } from "../Envelope.ts"

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

/** Frames lost between two that are delivered: counted and named, not kept; and the gap that stands there, if one does. */
export class Loss {
  readonly _tag = "Loss"
  /** The source's own gap, the first where there were several. */
  gap: Gap["reason"] | undefined = undefined
  frames = 0
  #reason: Reason = "queueFull"
  #policy: OverflowPolicy | undefined = undefined
  #first = ""
  #last = ""
  /** Where the first is repaired from, the positions aside; of a frame it is worked out when it is told. */
  #from: Place | RepairPlace | undefined = undefined
  #terminals = false
  /** The lowest of all, which need not be the first one's. */
  #position: number | undefined = undefined
  #kind = ""
  /** Absent while all are of one kind. */
  #kinds: Map<string, number> | undefined = undefined

  /** One frame that was lost. */
  static of(frame: Frame, reason: Reason): Loss {
    const loss = new Loss()
    loss.#reason = reason
    loss.#first = frame.cursor
    loss.#last = frame.cursor
    loss.#from = placeOf(frame)
    loss.#terminals = frame.envelope.delivery === "terminal"
    loss.#position = frame.position
    loss.#kind = frame.envelope.kind
    loss.frames = 1
    return loss
  }

  /** What a source told as a gap. */
  static told(gap: Gap["reason"], notice: OverflowNotice | undefined): Loss {
    const loss = new Loss()
    loss.gap = gap
    if (notice === undefined || notice.frames === 0) return loss
    const { position, ...from } = notice.repair
    loss.#reason = notice.reason
    loss.#policy = notice.policy
    loss.#first = notice.first
    loss.#last = notice.last
    loss.#from = from
    loss.#terminals = !notice.terminalsSurvived
    loss.#position = position === undefined ? undefined : position + 1
    loss.#kinds = new Map()
    for (const [kind, frames] of Object.entries(notice.kinds)) loss.#count(kind, frames)
    loss.frames = notice.frames
    return loss
  }

  /** Loses the frame that follows. */
  add(frame: Frame, reason: Reason): void {
    if (this.frames === 0) return this.join(Loss.of(frame, reason))
    const { cursor, envelope, position } = frame
    this.#last = cursor
    this.#terminals ||= envelope.delivery === "terminal"
    this.#position = lower(this.#position, position)
    this.#count(envelope.kind, 1)
  }

  /** Takes in the loss that follows. */
  join(later: Loss): void {
    this.gap ??= later.gap
    if (later.frames === 0) return
    if (this.frames === 0) {
      this.#reason = later.#reason
      this.#policy = later.#policy
      this.#first = later.#first
      this.#from = later.#from
      this.#position = later.#position
      this.#kind = later.#kind
      if (later.#kinds !== undefined) this.#kinds = new Map()
    } else this.#position = lower(this.#position, later.#position)
    this.#last = later.#last
    this.#terminals ||= later.#terminals
    if (later.#kinds === undefined) this.#count(later.#kind, later.frames)
    else for (const [kind, frames] of later.#kinds) this.#count(kind, frames)
  }

  #count(kind: string, frames: number): void {
    if (this.#kinds === undefined && kind !== this.#kind) this.#kinds = new Map([[this.#kind, this.frames]])
    this.frames += frames
    if (this.#kinds === undefined) return
    const name = this.#kinds.has(kind) || this.#kinds.size < maxKinds ? kind : otherKinds
    this.#kinds.set(name, (this.#kinds.get(name) ?? 0) + frames)
  }

  /** The same frames, lost for another reason. */
  because(reason: Reason): Loss {
    this.#reason = reason
    return this
  }

  /** Reads from the first frame lost on, and every other one lost with it. */
  #repair(from: Place | RepairPlace): RepairPlace {
    const place =
      "seq" in from
        ? { runId: from.runId, after: `${from.seq - 1}${from.cursor.slice(from.cursor.indexOf("-"))}` }
        : from
    return this.#position === undefined ? place : { ...place, position: this.#position - 1 }
  }

  /** What is known of the frames; undefined where it is only known that some may be missing. */
  notice(policy: OverflowPolicy): OverflowNotice | undefined {
    if (this.#from === undefined) return undefined
    return {
      policy: this.#policy ?? policy,
      reason: this.#reason,
      frames: this.frames,
      kinds: this.#kinds === undefined ? { [this.#kind]: this.frames } : Object.fromEntries(this.#kinds),
      first: this.#first,
      last: this.#last,
      repair: this.#repair(this.#from),
      terminalsSurvived: !this.#terminals,
    }
  }

  /** The gap that tells of it. */
  toGap(policy: OverflowPolicy): Gap {
    const notice = this.notice(policy)
    const reason = this.gap ?? "overflow"
    return notice === undefined ? { _tag: "Gap", reason } : { _tag: "Gap", reason, notice }
  }
}
