/**
 * Cursors: where a reader is, as text.
 *
 * A run cursor is plain: `<seq>-<generation>`, for example `42-k3v9x1q0`. A bare seq is taken wherever a run cursor is;
 * it is unguarded until the first read, which binds the reader to the generation it found.
 *
 * The cursors of the archive and of the bus are opaque: text of `A-Z a-z 0-9 . _ ~ -` under 512 characters, versioned,
 * cut for one {@link Scope}, with a checksum that guards against accidents, not against forgery.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as codec from "./internal/cursorCodec.ts"

/** The text is no cursor. Pass a cursor exactly as it was received, or none to start from the beginning. */
export class InvalidCursor extends Schema.TaggedError<InvalidCursor>("@throughline/core/Cursor/InvalidCursor")(
  "InvalidCursor",
  { text: Schema.String, problem: Schema.String },
) {
  override get message() {
    return `${JSON.stringify(this.text.slice(0, 80))} is not a cursor: ${this.problem}`
  }
}

/** The cursor was cut for another scope. Use it where it was cut, or start the new scope without a cursor. */
export class CursorScopeMismatch extends Schema.TaggedError<CursorScopeMismatch>(
  "@throughline/core/Cursor/CursorScopeMismatch",
)("CursorScopeMismatch", { expected: Schema.String, actual: Schema.String }) {
  override get message() {
    return `the cursor was cut for ${this.actual} and can't resume ${this.expected}`
  }
}

/**
 * The cursor is after a position that the store has not reached: it was cut from another store, or this one lost what it
 * had acknowledged. Start over without a cursor, or restore the store.
 */
export class CursorBeyondEnd extends Schema.TaggedError<CursorBeyondEnd>("@throughline/core/Cursor/CursorBeyondEnd")(
  "CursorBeyondEnd",
  { position: Schema.Int, end: Schema.Int },
) {
  override get message() {
    return `the cursor is after position ${this.position}, but the store ends at position ${this.end}`
  }
}

/** A place in a run: everything after `seq`. Without a generation it is unguarded. */
export interface RunPlace {
  readonly seq: number
  readonly generation?: string
}

/** A run cursor as callers give it: `<seq>-<generation>`, or a bare seq as text or number. */
export type RunCursor = string | number

/** A generation: 8 characters of `a-z 0-9`. */
export const generationPattern = /^[a-z0-9]{8}$/

const runPattern = /^(0|[1-9][0-9]{0,15})(?:-([a-z0-9]{8}))?$/

/** The cursor after `seq` of a run's generation. */
export const run = (seq: number, generation: string): string => `${seq}-${generation}`

/** The place a run cursor names; fails {@link InvalidCursor} on anything else. `undefined` is the start of the run. */
export const runPlace = (cursor: RunCursor | undefined): Effect.Effect<RunPlace, InvalidCursor> => {
  if (cursor === undefined) return Effect.succeed({ seq: 0 })
  const match = runPattern.exec(String(cursor))
  const seq = match === null ? Number.NaN : Number(match[1])
  if (match === null || !Number.isSafeInteger(seq)) {
    return Effect.fail(
      new InvalidCursor({ text: String(cursor), problem: "expected <seq>-<generation>, or a seq from 0 up" }),
    )
  }
  return Effect.succeed(match[2] === undefined ? { seq } : { seq, generation: match[2] })
}

/** What a cursor of the archive or the bus was cut for. */
export interface Scope {
  readonly kind: "All" | "Run" | "Session" | "Agent" | "Filter"
  /** The id of the run, session or agent; the filter's fingerprint; empty for `All`. */
  readonly id: string
}

/** The place after all envelopes up to `position`. */
export interface ArchivePlace {
  readonly _tag: "Archive"
  readonly position: number
}

/** A place in the stream of one bus, and what is needed to go on elsewhere. */
export interface BusPlace {
  readonly _tag: "Bus"
  /** The bus that cut the cursor: 8 characters of `a-z 0-9`. */
  readonly instance: string
  /** How many frames the bus had taken in. */
  readonly place: number
  /**
   * In what order the reader was served: `arrival` means it has what arrived up to `place`, `position` means it has the
   * positions that `repair` says, `place` being where to look on.
   */
  readonly order: "arrival" | "position"
  /** Where the archive goes on; absent where frames have no positions. */
  readonly repair: RepairPlace | undefined
  /** The run cursor of the last frame, on cursors cut for a run. */
  readonly run: string | undefined
}

/**
 * All positions up to `position`, and the ranges beyond it (`[first, last, first, last, …]`, rising). The text of a cursor
 * has room for some 40 to 70 ranges; of more it leaves out the newest, which are then read twice.
 */
export interface RepairPlace {
  readonly position: number
  readonly ahead: ReadonlyArray<number>
}

export type Place = ArchivePlace | BusPlace

const scopeName = (scope: Scope): string => (scope.kind === "All" ? "All" : `${scope.kind} ${scope.id}`)

/** Writes cursors of one scope; what they share is worked out once. */
export const encoder: (scope: Scope) => (place: Place) => string = codec.encoder

/** The archive cursor after `position`, for a scope. */
export const archive = (scope: Scope, position: number): string => encoder(scope)({ _tag: "Archive", position })

/** The scope and the place in a text, or what is wrong with it. */
export const decode = (text: string): Result.Result<{ readonly scope: Scope; readonly place: Place }, InvalidCursor> =>
  Result.mapError(codec.decode(text), (problem) => new InvalidCursor({ text: text.slice(0, 512), problem }))

/** The place in a cursor of a scope; fails {@link CursorScopeMismatch} on a cursor that was cut for another one. */
export const resume = (text: string, scope: Scope): Result.Result<Place, InvalidCursor | CursorScopeMismatch> =>
  Result.flatMap(decode(text), (cursor): Result.Result<Place, CursorScopeMismatch> =>
    cursor.scope.kind === scope.kind && cursor.scope.id === scope.id
      ? Result.succeed(cursor.place)
      : Result.fail(new CursorScopeMismatch({ expected: scopeName(scope), actual: scopeName(cursor.scope) })),
  )

/**
 * The position an archive cursor names.
 *
 * Fails {@link InvalidCursor} on text that is no archive cursor (altered and truncated ones included), and
 * {@link CursorScopeMismatch} on one cut for another scope.
 */
export const archivePosition = (
  text: string,
  scope: Scope,
): Effect.Effect<number, InvalidCursor | CursorScopeMismatch> =>
  Effect.fromResult(
    Result.flatMap(resume(text, scope), (place) =>
      place._tag === "Archive"
        ? Result.succeed(place.position)
        : Result.fail(new InvalidCursor({ text, problem: "it is a cursor of a bus, not of an archive" })),
    ),
  )
