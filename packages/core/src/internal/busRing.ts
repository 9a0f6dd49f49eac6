/**
 * The recent frames of a bus: bounded by count and size. A frame that was taken in before is left out.
 *
 * Every event of a process goes through here, mostly with nobody listening, so nothing is kept per frame but what is there
 * already: a frame is made again when somebody wants it.
 */
import * as Cursor from "../Cursor.ts"
import type { EncodedEnvelope, Frame } from "../Envelope.ts"
import { BusTaken, type RunTaken } from "./busTaken.ts"
import { PositionSet, union } from "./positionSet.ts"

/** A frame as the bus hands it on: one object, shared by everyone it is delivered to. */
export interface RingFrame extends Frame {
  /** 1, 2, 3 … in the order of arrival. */
  readonly place: number
  /** The positions that had arrived by then; `floor` is absent where frames have no positions. */
  readonly floor: number | undefined
  readonly ahead: ReadonlyArray<number>
}

/** What a frame costs beside its event's JSON, in UTF-16 units. */
const frameSize = 512

const sizeOf = (envelope: EncodedEnvelope): number => envelope.event.length + frameSize

/** Runs at least that are told from what comes again, however small the ring is. */
const minRuns = 8192

export class BusRing {
  readonly seen: PositionSet
  /** The place of the oldest frame in the ring; `next` where it is empty. */
  first = 1
  /** The place of the next frame to arrive. */
  next = 1
  size = 0
  /** What had arrived before the oldest frame. */
  before: Pick<RingFrame, "floor" | "ahead">
  readonly #maxFrames: number
  readonly #maxSize: number
  // A frame's parts, each at its place modulo the most there are; NaN stands for no number.
  readonly #envelopes: Array<EncodedEnvelope | undefined> = []
  readonly #runs: Array<RunTaken | undefined> = []
  readonly #positions: Array<number> = []
  readonly #floors: Array<number> = []
  readonly #aheads: Array<ReadonlyArray<number> | undefined> = []
  readonly #taken: BusTaken

  constructor(maxFrames: number, maxSize: number, position: number | undefined) {
    this.seen = new PositionSet(position)
    this.before = { floor: position, ahead: [] }
    this.#maxFrames = maxFrames
    this.#maxSize = maxSize
    this.#taken = new BusTaken(Math.max(minRuns, maxFrames))
  }

  get length(): number {
    return this.next - this.first
  }

  /** The frame at a place from `first` to before `next`. */
  at(place: number): RingFrame {
    const slot = place % this.#maxFrames
    const envelope = this.#envelopes[slot]!
    const floor = this.#floors[slot]!
    const position = this.#positions[slot]!
    const frame: { -readonly [Field in keyof RingFrame]: RingFrame[Field] } = {
      _tag: "Frame",
      envelope,
      cursor: Cursor.run(envelope.seq, this.#runs[slot]!.generation),
      place,
      floor: Number.isNaN(floor) ? undefined : floor,
      ahead: this.#aheads[slot]!,
    }
    if (!Number.isNaN(position)) frame.position = position
    return frame
  }

  /**
   * The positions that had arrived up to a place, from before the oldest frame on. Where more holes were open than a frame
   * knows, the ring's own frames tell; what is older than they is taken for missing.
   */
  hadAt(place: number): PositionSet {
    const { ahead, floor } = place < this.first ? this.before : this.at(place)
    const known = new PositionSet(floor, ahead)
    return floor === undefined || !known.isFull ? known : union(floor, ahead, this.#positionsTo(place))
  }

  /**
   * What a reader that starts now has no interest in. A hole that was open before the oldest frame came is given up once
   * there are more than a frame knows: else a bus that shares its store would read all of its past to every newcomer.
   */
  hadNow(): PositionSet {
    const had = this.hadAt(this.next - 1)
    if (!this.seen.isFull) return had
    const positions = this.#positionsTo(this.next - 1)
    if (positions.length > 0) had.raiseTo(positions.reduce((least, position) => Math.min(least, position)) - 1)
    return had
  }

  #positionsTo(place: number): Array<number> {
    const positions: Array<number> = []
    for (let at = this.first; at <= place; at++) {
      const position = this.#positions[at % this.#maxFrames]!
      if (!Number.isNaN(position)) positions.push(position)
    }
    return positions
  }

  /** Takes a frame in; its place, or 0: it was taken in before. A frame larger than the ring leaves it at once. */
  add({ cursor, envelope, position }: Frame): number {
    const run = this.#taken.add(cursor, envelope)
    if (run === undefined) return 0
    if (position !== undefined) this.seen.add(position)
    const { ahead, floor } = this.seen
    if (this.length === this.#maxFrames) this.#evict()
    const place = this.next++
    const slot = place % this.#maxFrames
    this.#envelopes[slot] = envelope
    this.#runs[slot] = run
    this.#positions[slot] = position ?? Number.NaN
    this.#floors[slot] = floor ?? Number.NaN
    this.#aheads[slot] = ahead
    this.size += sizeOf(envelope)
    return place
  }

  /** Drops the oldest frames until the rest fits. */
  trim(): void {
    while (this.size > this.#maxSize) this.#evict()
  }

  #evict(): void {
    const slot = this.first++ % this.#maxFrames
    const envelope = this.#envelopes[slot]!
    const floor = this.#floors[slot]!
    this.before = { floor: Number.isNaN(floor) ? undefined : floor, ahead: this.#aheads[slot]! }
    this.size -= sizeOf(envelope)
    this.#envelopes[slot] = undefined
    this.#runs[slot] = undefined
    this.#aheads[slot] = undefined
  }
}
