/**
 * What a reader has of a session, over all its connections: all up to the last cursor it was given. The cursors are the
 * server's to understand, so it is believed that what it sends follows them.
 */
import type { SessionCaughtUp, SessionTruncated } from "../SessionItem.ts"
import type { Frame } from "./eventStream.ts"
import { Violation } from "./failure.ts"
import type { Progress } from "./place.ts"
import { type Fields, fieldsOf, isSeq, isText, stopAt, type Wire } from "./reading.ts"

/** An item of a session whose envelopes are read as `A`. */
export type SessionItem<A> =
  | { readonly _tag: "Event"; readonly envelope: A; readonly cursor: string }
  | SessionCaughtUp
  | SessionTruncated

export class SessionReading<A> implements Progress<SessionItem<A>> {
  cursor: string | undefined
  isAlive = false
  // A session has many runs, and no end.
  readonly generation = undefined
  readonly isOver = false
  readonly hasEnd = false
  readonly #envelope: Wire<A, unknown>["envelope"]
  #sessionId: string | undefined
  #hasCaughtUp = false
  /** What retention took of each run, as told since the cursor was moved: a connection after this one says it again. */
  readonly #taken = new Map<string, number>()

  /** `sessionId`: that of its first envelope if absent. */
  constructor(after: string | undefined, { envelope }: Pick<Wire<A, unknown>, "envelope">, sessionId?: string) {
    this.cursor = after
    this.#envelope = envelope
    this.#sessionId = sessionId
  }

  take(frame: Frame): SessionItem<A> | undefined {
    switch (frame.event) {
      case "":
      case "message":
        return this.#event(frame)
      case "caught-up":
        return this.#caughtUp(fieldsOf(frame))
      case "truncated":
        return this.#truncated(fieldsOf(frame))
      default:
        stopAt(frame)
        return undefined
    }
  }

  nothingFollows(): void {
    throw new Violation("the server says 204, but a session has no end", 204)
  }

  rest(): [] {
    return []
  }

  #move(cursor: unknown): string {
    if (!isText(cursor) || cursor === "") throw new Violation("the server gives no cursor")
    this.#taken.clear()
    this.isAlive = true
    return (this.cursor = cursor)
  }

  #event(frame: Frame): SessionItem<A> | undefined {
    const fields = fieldsOf(frame)
    const { sessionId } = fields
    if (!isText(sessionId) || sessionId !== (this.#sessionId ?? sessionId)) {
      throw new Violation(`an envelope is of session ${String(sessionId)}`)
    }
    const envelope = this.#envelope(fields)
    if (frame.id !== undefined && frame.id === this.cursor) return undefined
    this.#sessionId = sessionId
    return { _tag: "Event", envelope, cursor: this.#move(frame.id) }
  }

  #caughtUp(fields: Fields): SessionCaughtUp | undefined {
    const cursor = this.#move(fields["cursor"])
    if (this.#hasCaughtUp) return undefined
    this.#hasCaughtUp = true
    return { _tag: "CaughtUp", cursor }
  }

  #truncated({ from, runId, to }: Fields): SessionTruncated | undefined {
    if (!isText(runId) || !isSeq(from) || !isSeq(to) || from === 0 || from > to) {
      throw new Violation(`the server says that ${String(from)} to ${String(to)} of run ${String(runId)} are gone`)
    }
    if (to <= (this.#taken.get(runId) ?? 0)) return undefined
    this.#taken.set(runId, to)
    this.isAlive = true
    return { _tag: "Truncated", runId, from, to }
  }
}
