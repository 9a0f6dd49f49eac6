import type { Ending, EncodedEnvelope, Frame } from "../Envelope.ts"
import type { RunHead } from "../RunHead.ts"
import type { Event } from "../RunItem.ts"
import type { VocabularyId } from "../Vocabulary.ts"

type Item = Event<EncodedEnvelope>

/** What came of a frame: `hole`: frames before it are missing; `foreign`: it is of another generation, or of a run that was unknown. */
export type Pushed = "pushed" | "known" | "hole" | "foreign"

/**
 * The newest events of one run, contiguous, shared by all its readers in the process.
 *
 * Holds the events after seq `base` up to seq `head`, between half of the bounds and the bounds. A reader whose place is
 * before `base` reads the store.
 */
export class RunWindow {
  base = 0
  head = 0
  /** Undefined: the run is unknown, or was not looked at yet. */
  generation: string | undefined = undefined
  vocabulary: VocabularyId | undefined = undefined
  ending: Ending | undefined = undefined
  /** The highest seq of this generation that a live frame named; above `head` there is a hole to repair. */
  seen = 0
  #items: Array<Item> = []
  #size = 0
  #slice: { readonly from: number; readonly items: ReadonlyArray<Item> } | undefined = undefined
  readonly #maxEvents: number
  readonly #maxSize: number

  constructor(maxEvents: number, maxSize: number) {
    this.#maxEvents = maxEvents
    this.#maxSize = maxSize
  }

  /** Starts over at a head of the store: everything up to it is for the store to serve. */
  jump(head: RunHead): void {
    this.base = head.lastSeq
    this.head = head.lastSeq
    if (this.generation !== head.generation) this.seen = 0
    this.generation = head.generation
    this.#items = []
    this.#size = 0
    this.#slice = undefined
    // An ending was the other generation's, or of a head that is gone; a head read before the end must not end the run.
    this.ending = undefined
    this.note(head)
  }

  /** Takes over what a head says of the run besides its seqs. */
  note(head: RunHead): void {
    this.vocabulary = head.vocabulary
    if (head.status !== "unknown" && head.status !== "running" && head.lastSeq === this.head) this.ending = head.status
    else if (head.status === "unknown") this.ending = undefined
  }

  pushFrame(frame: Frame): Pushed {
    const generation = this.generation
    if (generation === undefined || !frame.cursor.endsWith(generation)) return "foreign"
    const { seq } = frame.envelope
    if (seq <= this.head) return "known"
    if (seq > this.seen) this.seen = seq
    if (seq > this.head + 1) return "hole"
    this.push(frame.envelope, frame.cursor)
    return "pushed"
  }

  /** Adds the envelope that follows the head. */
  push(envelope: EncodedEnvelope, cursor: string): void {
    this.head = envelope.seq
    this.ending = envelope.endsRun
    this.#items.push({ _tag: "Event", envelope, cursor })
    this.#size += envelope.event.length
    while (this.#items.length > this.#maxEvents || (this.#size > this.#maxSize && this.#items.length > 1)) this.#evict()
  }

  #evict(): void {
    const evicted = this.#items.splice(0, Math.ceil(this.#items.length / 2))
    for (const item of evicted) this.#size -= item.envelope.event.length
    this.base += evicted.length
  }

  /** The events after a seq between `base` and `head`; readers at the same place get the same array. */
  after(seq: number): ReadonlyArray<Item> {
    const cached = this.#slice
    if (cached !== undefined && cached.from === seq && seq + cached.items.length === this.head) return cached.items
    const items = this.#items.slice(seq - this.base)
    this.#slice = { from: seq, items }
    return items
  }
}
