/**
 * What a reader has of a run, over all its connections: each frame moves it on, is a repeat, or breaks the protocol.
 *
 * It knows nothing of connections, so that both readers are one: the async iterable and the Effect stream.
 */
import type { CaughtUp, Dropped, Envelope, Truncated } from "../RunItem.ts"
import type { Frame } from "./eventStream.ts"
import { Lost, problemIn, refusal, Violation } from "./failure.ts"
import type { Progress } from "./place.ts"

const cursorPattern = /^(0|[1-9]\d{0,15})-([a-z0-9]{8})$/
const startPattern = /^(0|[1-9]\d{0,15})(?:-([a-z0-9]{8}))?$/

export const isSeq = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const isEnding = (value: unknown): boolean => value === "completed" || value === "failed" || value === "cancelled"

/** The data of a frame, before anything in it is checked. */
export type Fields = Readonly<Record<string, unknown>>

/** What becomes of the fields of an envelope and of a notice; both throw `Violation` on what is none. */
export interface Wire<A, N> {
  readonly envelope: (fields: Fields) => A
  readonly notice: (fields: Fields) => N
}

/** An item of a run whose envelopes are read as `A`, and whose notices as `N`. */
export type Item<A, N> =
  | { readonly _tag: "Event"; readonly envelope: A; readonly cursor: string }
  | CaughtUp
  | Truncated
  | { readonly _tag: "Dropped"; readonly notice: N }

export const isText = (value: unknown): value is string => typeof value === "string"

const isDelivery = (value: unknown): boolean => value === "progress" || value === "normal" || value === "terminal"

/** The fields that every envelope has, beside its seq. */
const checks = Object.entries<(value: unknown) => boolean>({
  eventId: isText,
  runId: isText,
  kind: isText,
  delivery: isDelivery,
  emittedAt: isText,
  tags: Array.isArray,
  correlation: (value) => typeof value === "object" && value !== null,
  schemaVersion: isSeq,
  event: (value) => value !== undefined,
})

/** Looks at the shape of envelopes, and leaves them as they are. */
export const plain: Wire<Envelope, Dropped["notice"]> = {
  envelope: (fields) => {
    for (const [name, isGood] of checks) {
      if (!isGood(fields[name])) throw new Violation(`seq ${String(fields["seq"])} can't be read: ${name} is not valid`)
    }
    return fields as unknown as Envelope
  },
  // What is in it is only told on.
  notice: (fields) => fields as unknown as Dropped["notice"],
}

/** The data of a frame, which is a JSON object. */
export const fieldsOf = (frame: Frame): Fields => {
  let value: unknown
  try {
    value = JSON.parse(frame.data)
  } catch {
    value = undefined
  }
  if (typeof value === "object" && value !== null) return value as Fields
  throw new Violation(`the data of ${frame.event === "" ? "an envelope" : `"${frame.event}"`} is no JSON object`)
}

/** The frames that end a connection, whatever it reads: throws what they say. */
export const stopAt = (frame: Frame): void => {
  if (frame.event === "closing") throw new Lost(`the server closes the stream: ${String(fieldsOf(frame)["reason"])}`)
  if (frame.event === "failed") throw refusal(problemIn(frame.data)?.status ?? 500, frame.data)
}

export class Reading<A, N> implements Progress<Item<A, N>> {
  /** What to resume after; `undefined`: the start. Envelopes move it, and the head that the reader has caught up with. */
  cursor: string | undefined
  /** The run has ended, and everything up to its end was received. */
  isOver = false
  /** The event that ends the run was received: nothing follows it, so the frame that says so is not needed. */
  hasEnd = false
  /** A connection has brought something new, or said that there is nothing new; the reader of this puts it back. */
  isAlive = false
  readonly #wire: Wire<A, N>
  readonly #isWhole: boolean
  /** Where the reader came from. */
  readonly #start: number = 0
  #seq = 0
  #generation: string | undefined
  #runId: string | undefined
  #hasCaughtUp = false

  /** `isWhole`: every seq is due, as neither a filter nor a policy takes any. `runId`: that of its first envelope if absent. */
  constructor(
    after: string | number | undefined,
    options: { readonly wire: Wire<A, N>; readonly isWhole: boolean; readonly runId?: string },
  ) {
    this.#wire = options.wire
    this.#isWhole = options.isWhole
    this.#runId = options.runId
    if (after === undefined) return
    this.cursor = String(after)
    const match = startPattern.exec(this.cursor)
    // The server says what is wrong with a text that is no cursor.
    if (match === null) return
    this.#start = this.#seq = Number(match[1])
    this.#generation = match[2]
  }

  /** The generation of the run, once it is known. */
  get generation(): string | undefined {
    return this.#generation
  }

  take(frame: Frame): Item<A, N> | undefined {
    switch (frame.event) {
      case "":
      case "message":
        return this.#envelope(frame)
      case "caught-up":
        return this.#caughtUp(fieldsOf(frame))
      case "truncated":
        return this.#truncated(fieldsOf(frame))
      case "dropped":
        return { _tag: "Dropped", notice: this.#wire.notice(fieldsOf(frame)) }
      case "end":
        return this.#end(fieldsOf(frame))
      default:
        stopAt(frame)
        return undefined
    }
  }

  nothingFollows(): void {
    if (!this.#canBeOver()) throw new Violation("the server says 204, but the end of the run has not come", 204)
    this.isOver = true
  }

  rest(): ReadonlyArray<CaughtUp> {
    const generation = this.#generation
    return this.#hasCaughtUp
      ? []
      : [this.#caughtUpAt(this.#seq, generation === undefined ? undefined : `${this.#seq}-${generation}`)]
  }

  /** The end has come, or the reader came with it. */
  #canBeOver(): boolean {
    return this.hasEnd || (this.#seq > 0 && this.#seq === this.#start)
  }

  /** Whether a value is the cursor of a seq, in the generation that is read. */
  #isAt(cursor: unknown, seq: number): cursor is string {
    const match = typeof cursor === "string" ? cursorPattern.exec(cursor) : null
    return match !== null && match[1] === String(seq) && match[2] === (this.#generation ?? match[2])
  }

  #move(cursor: string, seq: number): void {
    this.#seq = seq
    this.cursor = cursor
    // It has eight characters.
    this.#generation = cursor.slice(-8)
  }

  #envelope(frame: Frame): Item<A, N> | undefined {
    const { id } = frame
    const fields = fieldsOf(frame)
    const { endsRun, runId, seq } = fields
    if (!isSeq(seq) || seq === 0 || !this.#isAt(id, seq)) {
      throw new Violation(`an envelope with seq ${String(seq)} has id ${JSON.stringify(id)}, after ${this.cursor ?? 0}`)
    }
    if (seq <= this.#seq) return undefined
    if (this.hasEnd) throw new Violation(`seq ${seq} follows the end of the run`)
    if (this.#isWhole && seq !== this.#seq + 1) throw new Violation(`seq ${seq} follows seq ${this.#seq}`)
    if (runId !== (this.#runId ?? runId)) throw new Violation(`seq ${seq} is of run ${String(runId)}`)
    const isEnd = endsRun !== undefined
    if (isEnd && !isEnding(endsRun)) throw new Violation(`seq ${seq} ends the run as ${JSON.stringify(endsRun)}`)
    const envelope = this.#wire.envelope(fields)
    this.#move(id, seq)
    // One that is no text was refused with the rest of the envelope.
    this.#runId = runId as string
    this.hasEnd = isEnd
    this.isAlive = true
    return { _tag: "Event", envelope, cursor: id }
  }

  #caughtUp({ cursor, head }: Fields): CaughtUp | undefined {
    // Of a reader of some events, the head may be one that it isn't due.
    const isDue = this.#isWhole || this.hasEnd
    if (!isSeq(head) || head < this.#seq || (isDue && head > this.#seq)) {
      throw new Violation(
        `the server says that ${String(head)} is the head, but seq ${this.#seq} was the last that came`,
      )
    }
    if (cursor !== undefined) {
      if (!this.#isAt(cursor, head)) {
        throw new Violation(
          `the server says that ${JSON.stringify(cursor)} is the cursor of the head, ${head}, after ${this.cursor ?? 0}`,
        )
      }
      this.#move(cursor, head)
    }
    this.isAlive = true
    return this.#hasCaughtUp ? undefined : this.#caughtUpAt(head, cursor)
  }

  #caughtUpAt(head: number, cursor: string | undefined): CaughtUp {
    this.#hasCaughtUp = true
    return { _tag: "CaughtUp", head, ...(cursor === undefined ? undefined : { cursor }) }
  }

  #truncated({ from, to }: Fields): Truncated | undefined {
    const next = this.#seq + 1
    if (!isSeq(from) || !isSeq(to) || from === 0 || from > to || (this.#isWhole && from > next)) {
      throw new Violation(`the server says that ${String(from)} to ${String(to)} are gone, after seq ${this.#seq}`)
    }
    // The cursor is where it was, so a connection after this one says it again.
    if (to < next) return undefined
    if (this.hasEnd) throw new Violation(`the server says that seq ${to} is gone, after the end of the run`)
    this.#seq = to
    this.isAlive = true
    return { _tag: "Truncated", from: Math.max(from, next), to }
  }

  #end({ cursor, status }: Fields): undefined {
    if (!this.#isAt(cursor, this.#seq) || !isEnding(status) || !this.#canBeOver()) {
      throw new Violation(
        `the server says that the run is ${String(status)} at ${String(cursor)}, but seq ${this.#seq} was the last that came`,
      )
    }
    this.isOver = true
  }
}
