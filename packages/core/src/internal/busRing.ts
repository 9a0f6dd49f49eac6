/** The recent frames of a bus: bounded by count and size, each frame of a run once. */
import type { Frame } from "../Envelope.ts"
import { PositionSet } from "./positionSet.ts"

/** A frame as the bus keeps it: one object, shared by everyone it is delivered to. */
export interface RingFrame extends Frame {
  /** 1, 2, 3 … in the order of arrival. */
  readonly place: number
  /** The positions that had arrived by then; `floor` is absent where frames have no positions. */
  readonly floor: number | undefined
  readonly ahead: ReadonlyArray<number>
}

/** The seqs of a run's generation that are in the ring. */
interface RunInRing {
  readonly generation: string
  readonly seqs: Set<number>
}

/** What a frame costs beside its event's JSON, in UTF-16 units. */
const frameSize = 512

const sizeOf = (frame: Frame): number => frame.envelope.event.length + frameSize

const generationOf = (cursor: string): string => cursor.slice(cursor.indexOf("-") + 1)

export class BusRing {
  readonly seen: PositionSet
  /** The place of the oldest frame in the ring; `next` where it is empty. */
  first = 1
  /** The place of the next frame to arrive. */
  next = 1
  size = 0
  /** What had arrived before the oldest frame. */
  before: Pick<RingFrame, "floor" | "ahead">
  readonly #frames: Array<RingFrame | undefined> = []
  readonly #maxFrames: number
  readonly #maxSize: number
  /** By run; the generations of a run that was removed and is written again are apart. */
  readonly #runs = new Map<string, Array<RunInRing>>()

  constructor(maxFrames: number, maxSize: number, position: number | undefined) {
    this.seen = new PositionSet(position)
    this.before = { floor: position, ahead: [] }
    this.#maxFrames = maxFrames
    this.#maxSize = maxSize
  }

  get length(): number {
    return this.next - this.first
  }

  /** The frame at a place from `first` to before `next`. */
  at(place: number): RingFrame {
    return this.#frames[place % this.#maxFrames]!
  }

  /** Takes a frame in; `undefined`: it is there already. */
  add(frame: Frame): RingFrame | undefined {
    if (!this.#enter(frame)) return undefined
    if (frame.position !== undefined) this.seen.add(frame.position)
    const { ahead, floor } = this.seen
    const place = this.next
    const taken: RingFrame =
      frame.position === undefined
        ? { _tag: "Frame", envelope: frame.envelope, cursor: frame.cursor, place, floor, ahead }
        : {
            _tag: "Frame",
            envelope: frame.envelope,
            cursor: frame.cursor,
            position: frame.position,
            place,
            floor,
            ahead,
          }
    if (this.length === this.#maxFrames) this.#evict()
    this.next++
    this.#frames[place % this.#maxFrames] = taken
    this.size += sizeOf(taken)
    // A frame larger than the ring is not kept at all.
    while (this.size > this.#maxSize) this.#evict()
    return taken
  }

  #evict(): void {
    const slot = this.first++ % this.#maxFrames
    const frame = this.#frames[slot]!
    this.#frames[slot] = undefined
    this.size -= sizeOf(frame)
    this.before = frame
    this.#leave(frame)
  }

  #enter({ cursor, envelope: { runId, seq } }: Frame): boolean {
    const generation = generationOf(cursor)
    const runs = this.#runs.get(runId)
    if (runs === undefined) {
      this.#runs.set(runId, [{ generation, seqs: new Set([seq]) }])
      return true
    }
    for (const run of runs) {
      if (run.generation !== generation) continue
      if (run.seqs.has(seq)) return false
      run.seqs.add(seq)
      return true
    }
    runs.push({ generation, seqs: new Set([seq]) })
    return true
  }

  #leave({ cursor, envelope: { runId, seq } }: Frame): void {
    const runs = this.#runs.get(runId)!
    const generation = generationOf(cursor)
    const index = runs.findIndex((run) => run.generation === generation)
    const { seqs } = runs[index]!
    seqs.delete(seq)
    if (seqs.size > 0) return
    if (runs.length === 1) this.#runs.delete(runId)
    else runs.splice(index, 1)
  }
}
