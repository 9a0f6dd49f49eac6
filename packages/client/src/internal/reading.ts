/**
 * What a reader has of a run, over all its connections: each frame moves it on, is a repeat, or breaks the protocol.
 *
 * It knows nothing of connections, so that both readers are one: the async iterable and the Effect stream.
 */
import type { Dropped, Envelope, RunItem } from "../RunItem.ts"
import type { Frame } from "./eventStream.ts"
import { Lost, problemIn, refusal, Violation } from "./failure.ts"
import type { Progress } from "./place.ts"

const cursorPattern = /^(0|[1-9]\d{0,15})-([a-z0-9]{8})$/
const startPattern = /^(0|[1-9]\d{0,15})(?:-([a-z0-9]{8}))?$/

const isSeq = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

type Fields = Readonly<Record<string, unknown>>

const fieldsOf = (frame: Frame): Fields => {
  let value: unknown
  try {
    value = JSON.parse(frame.data)
  } catch {
    value = undefined
  }
  if (typeof value === "object" && value !== null) return value as Fields
  throw new Violation(`the data of ${frame.event === "" ? "an envelope" : `"${frame.event}"`} is no JSON object`)
}

export class Reading implements Progress<RunItem> {
  /** What to resume after; `undefined`: the start. Only envelopes move it. */
  cursor: string | undefined
  /** The run has ended, and everything up to its end was received. */
  isOver = false
  /** The event that ends the run was received: nothing follows it, so the frame that says so is not needed. */
  hasEnd = false
  /** A connection has brought something new, or said that there is nothing new; the reader of this puts it back. */
  isAlive = false
  /** Envelopes received. */
  events = 0
  readonly #isWhole: boolean
  #seq = 0
  #generation: string | undefined
  #hasCaughtUp = false

  /** `isWhole`: every seq is due, as neither a filter nor a policy takes any. */
  constructor(after: string | number | undefined, isWhole: boolean) {
    this.#isWhole = isWhole
    if (after === undefined) return
    this.cursor = String(after)
    const match = startPattern.exec(this.cursor)
    // The server says what is wrong with a text that is no cursor.
    if (match === null) return
    this.#seq = Number(match[1])
    this.#generation = match[2]
  }

  /** The generation of the run, once it is known. */
  get generation(): string | undefined {
    return this.#generation
  }

  /** The item in a frame, unless the reader has it. Throws `Lost`, `Violation`, or the `RunError` that the server sent. */
  take(frame: Frame): RunItem | undefined {
    switch (frame.event) {
      case "":
      case "message":
        return this.#envelope(frame)
      case "caught-up":
        return this.#caughtUp(fieldsOf(frame))
      case "truncated":
        return this.#truncated(fieldsOf(frame))
      case "dropped":
        // What is in it is only told on.
        return { _tag: "Dropped", notice: fieldsOf(frame) as unknown as Dropped["notice"] }
      case "end":
        return this.#end(fieldsOf(frame))
      case "closing":
        throw new Lost(`the server closes the stream: ${String(fieldsOf(frame)["reason"])}`)
      case "failed":
        throw refusal(problemIn(frame.data)?.status ?? 500, frame.data)
    }
    return undefined
  }

  /** The server says that nothing follows what the reader has. */
  nothingFollows(): void {
    if (this.#seq === 0 || (this.events > 0 && !this.hasEnd)) {
      throw new Violation("the server says 204, but the end of the run has not come", 204)
    }
    this.isOver = true
  }

  /** What is left to tell of a run that is over. */
  rest(): ReadonlyArray<RunItem> {
    if (this.#hasCaughtUp) return []
    this.#hasCaughtUp = true
    return [{ _tag: "CaughtUp", head: this.#seq }]
  }

  #envelope(frame: Frame): RunItem | undefined {
    const match = cursorPattern.exec(frame.id ?? "")
    const fields = fieldsOf(frame)
    const { seq } = fields
    if (match === null || !isSeq(seq) || seq === 0 || String(seq) !== match[1]) {
      throw new Violation(`an envelope with seq ${String(seq)} has id ${JSON.stringify(frame.id)}`)
    }
    const generation = match[2]!
    if (this.#generation !== undefined && generation !== this.#generation) {
      throw new Violation(`seq ${seq} is of generation ${generation}, what was read before of ${this.#generation}`)
    }
    if (seq <= this.#seq) return undefined
    if (this.hasEnd) throw new Violation(`seq ${seq} follows the end of the run`)
    if (this.#isWhole && seq !== this.#seq + 1) throw new Violation(`seq ${seq} follows seq ${this.#seq}`)
    this.#seq = seq
    this.#generation = generation
    this.hasEnd = fields["endsRun"] !== undefined
    this.cursor = frame.id
    this.isAlive = true
    this.events++
    // Its seq and cursor are checked; the rest is what the server stored.
    return { _tag: "Event", envelope: fields as unknown as Envelope, cursor: frame.id! }
  }

  #caughtUp({ head }: Fields): RunItem | undefined {
    if (!isSeq(head) || head < this.#seq || (this.#isWhole && head > this.#seq)) {
      throw new Violation(
        `the server says that ${String(head)} is the head, but seq ${this.#seq} was the last that came`,
      )
    }
    this.isAlive = true
    if (this.#hasCaughtUp) return undefined
    this.#hasCaughtUp = true
    return { _tag: "CaughtUp", head }
  }

  #truncated({ from, to }: Fields): RunItem | undefined {
    const next = this.#seq + 1
    if (!isSeq(from) || !isSeq(to) || from === 0 || from > to || (this.#isWhole && from > next)) {
      throw new Violation(`the server says that ${String(from)} to ${String(to)} are gone, after seq ${this.#seq}`)
    }
    // The cursor is where it was, so a connection after this one says it again.
    if (to < next) return undefined
    this.#seq = to
    this.isAlive = true
    return { _tag: "Truncated", from: Math.max(from, next), to }
  }

  #end({ cursor }: Fields): undefined {
    const match = cursorPattern.exec(String(cursor))
    if (match === null || Number(match[1]) !== this.#seq || (this.events > 0 && !this.hasEnd)) {
      throw new Violation(
        `the server says that the run ended at ${String(cursor)}, but seq ${this.#seq} was the last that came`,
      )
    }
    this.isOver = true
  }
}
