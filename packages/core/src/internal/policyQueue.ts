/**
 * What a subscriber's queue holds, and what leaves it.
 *
 * ```text
 *  slots, in the order of the offers:   frame  frame  Loss  frame  Pending  frame  Loss
 * ```
 *
 * A queue without pressure is an array of frames that is handed over as it is. Under pressure a frame that leaves gives
 * its slot to a `Loss`, or to a `Pending` node of the summary, so everything keeps its place; the next take puts the
 * losses into the notices of the frames after them.
 *
 * Each operation is O(1) amortised. The oldest frame of a class is found by a mark that only moves forward: what joins
 * later is behind it. Slots that were left are cleared away when they are the most of all.
 */
import type { Frame, Gap, OverflowNotice, OverflowPolicy, RepairPlace } from "../Envelope.ts"
import { Loss, lower, type Place, placeOf, repairAfter } from "./loss.ts"
import { type Coalescer, Pending } from "./pendingSummary.ts"

/** `undefined`: what was here has joined what follows. */
type Slot = Frame | Loss | Pending | undefined

export interface PolicyOptions {
  readonly capacity: number
  readonly terminalReserve: number
  readonly overflow: OverflowPolicy
  readonly summaryBytes: number
  readonly coalescer: Coalescer | undefined
  /** The reader repairs itself: a loss is a `Gap` in its place, and nothing detaches. */
  readonly gaps: boolean
}

/** Why a subscriber is no longer served. */
export type Detached = "SubscriberOverflow" | "TerminalOverflow"

/** Slots under which clearing them away isn't worth the walk. */
const minSlots = 16

export class PolicyQueue {
  /** Set once; what is offered from then on is not taken. */
  detached: Detached | undefined = undefined
  /** Frames and nodes to deliver. */
  waiting = 0
  /** Lost before the first slot. */
  #unreported: Loss | undefined = undefined
  #slots: Array<Slot> = []
  /** Nothing was lost and nothing is pending: the slots are what a take delivers. */
  #plain = true
  /** A gap of the source's stands among the losses, which tells of them without a frame after it. */
  #gap = false
  #queued = 0
  #progress = 0
  #normal = 0
  /** No queued frame of the class is in a slot before its mark. */
  #progressMark = 0
  #normalMark = 0
  /** Nodes made of queued frames come before nodes made of frames that were offered to a full queue. */
  #convertedNodes = 0
  #convertedMark = 0
  #tailMark = 0
  #pendingBytes = 0
  #lastPlace: Place | undefined = undefined
  /** The lowest position that was offered once it was detached. */
  #refused: number | undefined = Infinity
  readonly #capacity: number
  /** The most non-terminals. */
  readonly #room: number
  readonly #options: PolicyOptions

  constructor(options: PolicyOptions) {
    this.#capacity = options.capacity
    this.#room = options.capacity - options.terminalReserve
    this.#options = options
  }

  offer(frame: Frame): void {
    if (this.detached !== undefined) {
      this.#refused = lower(this.#refused, frame.position)
      return
    }
    const { delivery } = frame.envelope
    if (this.#queued < this.#capacity && (delivery === "terminal" || this.#progress + this.#normal < this.#room)) {
      this.#push(frame)
      return
    }
    this.#plain = false
    if (delivery === "terminal") this.#offerTerminal(frame)
    else this.#offerNonTerminal(frame, delivery)
    this.#tidy()
  }

  /** Frames may be missing here, those of the notice are; what was lost beside it is told together with it. */
  gap(reason: Gap["reason"], notice?: OverflowNotice): void {
    const slots = this.#slots
    const last = slots[slots.length - 1]
    const told = Loss.told(reason, notice)
    this.#plain = false
    this.#gap = true
    if (last?._tag === "Loss") last.join(told)
    else slots.push(told)
    this.#tidy()
  }

  #push(frame: Frame): void {
    const { delivery } = frame.envelope
    if (delivery === "progress") this.#progress++
    else if (delivery === "normal") this.#normal++
    this.#queued++
    this.waiting++
    this.#slots.push(frame)
  }

  #offerTerminal(frame: Frame): void {
    const { gaps, overflow } = this.#options
    if (this.#makeRoom()) {
      this.#push(frame)
      if (overflow === "failSubscriber") this.#detach("SubscriberOverflow", frame)
      return
    }
    this.#loseLast(frame, "queueFull")
    if (!gaps) this.#detach("TerminalOverflow", frame)
  }

  /** The policies' rows for a terminal: whether something left. */
  #makeRoom(): boolean {
    const { overflow } = this.#options
    if (this.#progress + this.#normal === 0) return false
    if (overflow === "dropProgress" || overflow === "summarize") {
      if (this.#progress > 0) this.#displaceProgress()
      else this.#evict(this.#oldestNormal())
    } else if (this.#progress === 0) this.#evict(this.#oldestNormal())
    else if (this.#normal === 0) this.#evict(this.#oldestProgress())
    else this.#evict(Math.min(this.#oldestProgress(), this.#oldestNormal()))
    return true
  }

  #offerNonTerminal(frame: Frame, delivery: "progress" | "normal"): void {
    const { overflow } = this.#options
    if (delivery === "progress" && overflow === "summarize") {
      this.#summarizeLast(frame)
    } else if (
      delivery === "normal" &&
      this.#progress > 0 &&
      (overflow === "dropProgress" || overflow === "summarize")
    ) {
      this.#displaceProgress()
      this.#push(frame)
    } else {
      this.#loseLast(frame, "queueFull")
      if (overflow === "failSubscriber") this.#detach("SubscriberOverflow", frame)
    }
  }

  #detach(why: Detached, last: Frame): void {
    this.detached = why
    this.#lastPlace = placeOf(last)
  }

  // --- what leaves ---

  #oldestProgress(): number {
    return (this.#progressMark = this.#seek("progress", this.#progressMark))
  }

  #oldestNormal(): number {
    return (this.#normalMark = this.#seek("normal", this.#normalMark))
  }

  /** The first queued frame of a class from a slot on; there is one. */
  #seek(delivery: "progress" | "normal", from: number): number {
    for (let index = from; ; index++) {
      const slot = this.#slots[index]
      if (slot !== undefined && slot._tag === "Frame" && slot.envelope.delivery === delivery) return index
    }
  }

  /** The frame leaves the queue and is no longer counted in it. */
  #remove(index: number): Frame {
    const frame = this.#slots[index] as Frame
    if (frame.envelope.delivery === "progress") this.#progress--
    else this.#normal--
    this.#queued--
    this.waiting--
    return frame
  }

  #evict(index: number): void {
    const frame = this.#remove(index)
    this.#lose(index, Loss.of(frame, "queueFull"))
  }

  /** The oldest progress frame makes room, by the policy's way. */
  #displaceProgress(): void {
    const index = this.#oldestProgress()
    if (this.#options.overflow === "summarize") this.#summarize(index, this.#remove(index))
    else this.#evict(index)
  }

  #loseLast(frame: Frame, reason: OverflowNotice["reason"]): void {
    const slots = this.#slots
    const last = slots[slots.length - 1]
    if (last?._tag === "Loss") last.add(frame, reason)
    else slots.push(Loss.of(frame, reason))
  }

  /** Puts a loss into a slot; a loss right before it comes along, so that those of a row are one. */
  #lose(index: number, loss: Loss): void {
    const slots = this.#slots
    const before = slots[index - 1]
    if (before?._tag === "Loss") {
      before.join(loss)
      slots[index - 1] = undefined
      slots[index] = before
    } else slots[index] = loss
  }

  // --- the pending summary ---

  #summarizeLast(frame: Frame): void {
    const { coalescer } = this.#options
    const mergeable = coalescer?.read(frame.envelope)
    if (coalescer === undefined || mergeable === undefined) {
      this.#loseLast(frame, "notMergeable")
      return
    }
    const slots = this.#slots
    const last = slots[slots.length - 1]
    const added = last?._tag === "Pending" && last.accepts(frame, mergeable) ? last.add(frame, mergeable) : undefined
    if (added !== undefined) this.#pendingBytes += added
    else slots.push(this.#addNode(new Pending(coalescer, frame, mergeable)))
    this.#shrinkSummary()
  }

  /**
   * The frame of a slot becomes a node. Nodes that merge end up in the later slot, and progress frames are converted
   * oldest first, so no slot beside a queued progress frame has been left empty by a merge. Once a frame didn't fit, no
   * progress frame is queued until the next take, so the node after this one, if any, was never queued.
   */
  #summarize(index: number, frame: Frame): void {
    const { coalescer } = this.#options
    const mergeable = coalescer?.read(frame.envelope)
    if (coalescer === undefined || mergeable === undefined) {
      this.#lose(index, Loss.of(frame, "notMergeable"))
      return
    }
    const slots = this.#slots
    const before = slots[index - 1]
    let node: Pending
    const added =
      before?._tag === "Pending" && before.accepts(frame, mergeable) ? before.add(frame, mergeable) : undefined
    if (added !== undefined) {
      this.#pendingBytes += added
      slots[index - 1] = undefined
      node = before as Pending
    } else {
      node = this.#addNode(new Pending(coalescer, frame, mergeable))
      this.#convertedNodes++
    }
    slots[index] = node
    const after = slots[index + 1]
    const joined = after?._tag === "Pending" && node.acceptsNode(after) ? node.addNode(after) : undefined
    if (after?._tag === "Pending" && joined !== undefined) {
      this.#pendingBytes += joined - after.bytes
      this.waiting--
      this.#convertedNodes--
      slots[index] = undefined
      slots[index + 1] = node
    }
    this.#shrinkSummary()
  }

  #addNode(node: Pending): Pending {
    this.waiting++
    this.#pendingBytes += node.bytes
    return node
  }

  /** Past the bound the oldest nodes are lost. */
  #shrinkSummary(): void {
    while (this.#pendingBytes > this.#options.summaryBytes) {
      if (this.#convertedNodes > 0) {
        this.#convertedNodes--
        this.#loseNode((this.#convertedMark = this.#seekNode(this.#convertedMark)))
      } else this.#loseNode((this.#tailMark = this.#seekNode(this.#tailMark)))
    }
  }

  /** The first node from a slot on; there is one. */
  #seekNode(from: number): number {
    for (let index = from; ; index++) if (this.#slots[index]?._tag === "Pending") return index
  }

  #loseNode(index: number): void {
    const node = this.#slots[index] as Pending
    this.#pendingBytes -= node.bytes
    this.waiting--
    const before = this.#slots[index - 1]
    // Most nodes that are lost follow one that is; that one's loss takes them in.
    if (before?._tag === "Loss") {
      before.join(node.lose("summaryFull"))
      this.#slots[index - 1] = undefined
      this.#slots[index] = before
    } else this.#slots[index] = node.lose("summaryFull")
  }

  #tidy(): void {
    if (this.#slots.length > minSlots + 3 * this.waiting) this.#clear()
  }

  /** Clears away empty slots and makes neighbouring losses one. */
  #clear(): void {
    const slots = this.#slots
    let kept = 0
    for (const slot of slots) {
      if (slot === undefined) continue
      const last = slots[kept - 1]
      if (slot._tag === "Loss" && kept > 0 && last?._tag === "Loss") last.join(slot)
      else slots[kept++] = slot
    }
    slots.length = kept
    this.#resetMarks()
  }

  #resetMarks(): void {
    this.#progressMark = 0
    this.#normalMark = 0
    this.#convertedMark = 0
    this.#tailMark = 0
  }

  // --- what is delivered ---

  /** All that is waiting, in order, each frame with the notice of what was lost before it. */
  take(): Array<Frame | Gap> {
    const slots = this.#slots
    this.#slots = []
    this.waiting = 0
    this.#queued = 0
    this.#progress = 0
    this.#normal = 0
    // A queue that is plain has frames alone.
    if (this.#plain) return slots as Array<Frame>
    this.#gap = false
    this.#resetMarks()
    this.#convertedNodes = 0
    this.#pendingBytes = 0
    return this.#deliver(slots)
  }

  #deliver(slots: ReadonlyArray<Slot>): Array<Frame | Gap> {
    const out: Array<Frame | Gap> = []
    let loss = this.#unreported
    for (const slot of slots) {
      if (slot === undefined) continue
      const frame = slot._tag === "Frame" ? slot : slot._tag === "Pending" ? slot.frame() : undefined
      if (frame === undefined) {
        const more = slot._tag === "Pending" ? slot.lose("notMergeable") : (slot as Loss)
        if (loss === undefined) loss = more
        else loss.join(more)
      } else if (loss === undefined) out.push(frame)
      else {
        this.#deliverAfter(loss, frame, out)
        loss = undefined
      }
    }
    this.#unreported = loss
    this.#plain = loss === undefined
    if (loss === undefined) return out
    if (loss.gap !== undefined && this.detached !== undefined) {
      // The failure that follows tells what was lost.
      out.push({ _tag: "Gap", reason: loss.gap })
      loss.gap = undefined
      if (loss.frames > 0) return out
      this.#forget()
    } else if (this.#options.gaps || loss.gap !== undefined) {
      out.push(loss.toGap(this.#options.overflow))
      this.#forget()
    }
    return out
  }

  #deliverAfter(loss: Loss, frame: Frame, out: Array<Frame | Gap>): void {
    const { gaps, overflow } = this.#options
    const notice = gaps || loss.gap !== undefined ? undefined : loss.notice(overflow)
    if (notice === undefined) out.push(loss.toGap(overflow), frame)
    else out.push({ ...frame, notice })
  }

  #forget(): void {
    this.#unreported = undefined
    this.#plain = true
  }

  /** Whether a take delivers something: a reader that repairs itself is told of a loss at once. */
  get ready(): boolean {
    return this.waiting > 0 || this.#gap || (this.#options.gaps && !this.#plain)
  }

  /** What a drained queue has lost since the last frame; it is told once. */
  rest(): OverflowNotice | undefined {
    // Nothing is waiting, so what is in the slots was lost.
    this.take()
    const notice = this.#unreported?.notice(this.#options.overflow)
    this.#forget()
    return notice
  }

  /** Where a detached subscriber goes on that has received everything and the notice. */
  repair(notice: OverflowNotice | undefined): RepairPlace {
    const { position: lost, ...place } = notice === undefined ? repairAfter(this.#lastPlace!) : notice.repair
    const missed = notice === undefined ? this.#refused : lower(this.#refused, lost === undefined ? lost : lost + 1)
    return missed === undefined || missed === Infinity ? place : { ...place, position: missed - 1 }
  }
}
