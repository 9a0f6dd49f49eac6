/** An event's row: what an `EncodedEnvelope` is stored as, beside what its run's row says. */
import { EncodedEnvelope, type FoundEnvelope, isEncoded, type RunId, type SessionId } from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Fragment } from "effect/sql/Statement"
import type { SqlDialect } from "../SqlDialect.ts"

/** A row as an array in the order of the columns: a page of them takes two thirds of the time of a page of objects. */
export type EventRow = ReadonlyArray<unknown>

const stored = [
  "seq",
  "event_id",
  "agent_id",
  "provider",
  "turn_id",
  "kind",
  "delivery",
  "ends_run",
  "emitted_at",
  "tags",
  "correlation",
  "event",
]

/** The columns that an insert writes. */
export const inserted = ["position", "run_key", ...stored]

/** The columns before the event's text. */
const routing = ["position", ...stored.slice(0, -1)]
const routingColumns = routing.map((name) => `e.${name}`).join(", ")

const eventAt = routing.length
const bytesAt = eventAt + 1

/** How many columns {@link columns} has. */
export const width = eventAt + 2

/**
 * What {@link decode} reads of `throughline_events AS e`: position, the stored columns, and the bytes of the event's text.
 *
 * The text isn't parsed here; the database looks through it, so that no reader hands on a text that isn't JSON. Where it
 * isn't, and where it has more than `largest` bytes, it is left out.
 */
export const columns = (sql: SqlClient, dialect: SqlDialect, largest: number): Fragment => {
  const bytes = sql.literal(dialect.bytes("e.event"))
  const isJson = sql.literal(dialect.isJson("e.event"))
  return sql`${sql.literal(routingColumns)}, CASE WHEN ${bytes} <= ${largest} AND ${isJson} = 1 THEN e.event END, ${bytes}`
}

/** Whether a row's event was left out. */
export const isLeftOut = (row: EventRow): boolean => row[eventAt] === null

/** What {@link withEvent} needs of an event that was left out. */
export const eventColumns = (dialect: SqlDialect): string => `e.position, e.event, ${dialect.isJson("e.event")}`

/** A row with the event that was left out, from one of {@link eventColumns}, unless it is no JSON. */
export const withEvent = (row: EventRow, [, event, isJson]: EventRow): EventRow =>
  isJson === 1 || isDeepJson(event) ? row.with(eventAt, event) : row

export const positionOf = (row: EventRow): number => Number(row[0])

/** UTF-8 bytes of a row's event. */
export const bytesOf = (row: EventRow): number => Number(row[bytesAt])

/** What an event's row needs from its run. */
export interface Run {
  readonly runId: RunId
  readonly sessionId: SessionId | undefined
  readonly schemaVersion: number
}

const decodeEnvelope = Schema.decodeUnknownResult(EncodedEnvelope)

/** The values of an envelope in the order of {@link inserted}. */
export const encode = (into: Array<unknown>, envelope: EncodedEnvelope, position: number, runKey: number): void => {
  into.push(
    position,
    runKey,
    envelope.seq,
    envelope.eventId,
    envelope.agentId ?? null,
    envelope.provider ?? null,
    envelope.turnId ?? null,
    envelope.kind,
    envelope.delivery,
    envelope.endsRun ?? null,
    envelope.emittedAt,
    envelope.tags.length === 0 ? null : JSON.stringify(envelope.tags),
    isEmpty(envelope.correlation) ? null : JSON.stringify(envelope.correlation),
    envelope.event,
  )
}

const isEmpty = (record: Readonly<Record<string, string>>): boolean => {
  for (const _ in record) return false
  return true
}

/** What isn't text is left for the schema to refuse. */
const parsed = (text: unknown, empty: unknown): unknown =>
  text === null ? empty : typeof text === "string" ? JSON.parse(text) : text

/** SQLite calls JSON that is nested deeper than 1,000 levels no JSON. What isn't text is left for the schema to refuse. */
const isDeepJson = (text: unknown): boolean => {
  try {
    if (typeof text === "string") JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The envelope of a row. */
export const decode = (row: EventRow, run: Run): Result.Result<EncodedEnvelope, CorruptRecord> => {
  try {
    const found = foundIn(row, run)
    if (isLeftOut(row)) return corrupt(row, run, "its event is not JSON")
    if (isEncoded(found)) return Result.succeed(found)
    return Result.mapError(decodeEnvelope(found), (problem) => corruptRecord(row, run, String(problem)))
  } catch (cause) {
    return corrupt(row, run, `its tags or correlation are not JSON (${String(cause)})`)
  }
}

/** A row as the envelope it should be, its fields in the order of the schema's. */
const foundIn = (row: EventRow, run: Run): FoundEnvelope => {
  // By index, and one field after the other: half the time of taking a row apart and spreading what may be absent.
  const found: FoundEnvelope = { eventId: row[2], seq: row[1], runId: run.runId }
  if (run.sessionId !== undefined) found.sessionId = run.sessionId
  if (row[3] !== null) found.agentId = row[3]
  if (row[4] !== null) found.provider = row[4]
  if (row[5] !== null) found.turnId = row[5]
  found.kind = row[6]
  found.delivery = row[7]
  if (row[8] !== null) found.endsRun = row[8]
  found.emittedAt = row[9]
  found.tags = parsed(row[10], noTags)
  found.correlation = parsed(row[11], noCorrelation)
  found.schemaVersion = run.schemaVersion
  found.event = row[eventAt]
  return found
}

const corruptRecord = ([, seq]: EventRow, { runId }: Run, problem: string): CorruptRecord =>
  new CorruptRecord({ runId, seq: Number.isSafeInteger(seq) ? (seq as number) : 0, problem })

const corrupt = (row: EventRow, run: Run, problem: string) => Result.fail(corruptRecord(row, run, problem))

// Shared by all envelopes without any.
const noTags: ReadonlyArray<string> = Object.freeze([])
const noCorrelation: Readonly<Record<string, string>> = Object.freeze({})
