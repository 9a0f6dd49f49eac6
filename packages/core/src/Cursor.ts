/**
 * Cursors: where a reader is, as text.
 *
 * A run cursor is plain: `<seq>-<generation>`, for example `42-k3v9x1q0`. A bare seq is taken wherever a run cursor is;
 * it is unguarded until the first read, which binds the reader to the generation it found. Archive cursors are opaque,
 * versioned, url-safe text with a checksum, cut for one scope.
 */
import * as Base64Url from "effect/encoding/Base64Url"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

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

/** What an archive cursor was cut for. */
export interface ArchiveScope {
  readonly kind: "All" | "Session" | "Filter"
  /** The session's id or the filter's fingerprint; empty for `All`. */
  readonly id: string
}

const version = "1"

/** FNV-1a: tells altered text from a cursor; it guards against accidents, not against forgery. */
const checksum = (text: string): string => {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  return (hash >>> 0).toString(36).padStart(7, "0")
}

const scopeName = (scope: ArchiveScope): string => (scope.kind === "All" ? "All" : `${scope.kind} ${scope.id}`)

/** The archive cursor after `position`, for a scope. */
export const archive = (scope: ArchiveScope, position: number): string => {
  const body = `${version}|${scope.kind}|${position}|${scope.id}`
  return Base64Url.encode(`${checksum(body)}|${body}`)
}

const archivePattern = /^([0-9a-z]{7})\|((\d+)\|(All|Session|Filter)\|(0|[1-9][0-9]{0,15})\|([\s\S]*))$/

/**
 * The position an archive cursor names.
 *
 * Fails {@link InvalidCursor} on text that is no archive cursor (altered and truncated ones included), and
 * {@link CursorScopeMismatch} on one cut for another scope.
 */
export const archivePosition = (
  text: string,
  scope: ArchiveScope,
): Effect.Effect<number, InvalidCursor | CursorScopeMismatch> => {
  const decoded = Base64Url.decodeString(text)
  const match = Result.isSuccess(decoded) ? archivePattern.exec(decoded.success) : null
  const position = match === null ? Number.NaN : Number(match[5])
  if (match === null || match[1] !== checksum(match[2]!) || !Number.isSafeInteger(position)) {
    return Effect.fail(new InvalidCursor({ text, problem: "it was altered, cut short, or never an archive cursor" }))
  }
  if (match[3] !== version) {
    return Effect.fail(new InvalidCursor({ text, problem: `its version ${match[3]} is not ${version}` }))
  }
  const actual: ArchiveScope = { kind: match[4] as ArchiveScope["kind"], id: match[6]! }
  if (actual.kind !== scope.kind || actual.id !== scope.id) {
    return Effect.fail(new CursorScopeMismatch({ expected: scopeName(scope), actual: scopeName(actual) }))
  }
  // The same cursor has other spellings in base64 (spare bits, padding); only the canonical one is ours.
  return archive(scope, position) === text
    ? Effect.succeed(position)
    : Effect.fail(new InvalidCursor({ text, problem: "it was altered" }))
}
