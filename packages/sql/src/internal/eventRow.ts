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
const isJsonAt = eventAt + 1
const bytesAt = eventAt + 2

/** How many columns {@link columns} has. */
export const width = eventAt + 3

/**
 * What {@link decode} reads of `throughline_events AS e`: position, the stored columns, whether the event's text is JSON,
 * and its bytes. The text isn't parsed here; the database looks through it, so that no reader hands on a text that isn't
 * JSON.
 */
export const columns = (dialect: SqlDialect): string =>
  `${routingColumns}, e.event, ${dialect.isJson("e.event")}, ${dialect.bytes("e.event")}`

/** The same, but an event of more than `largest` bytes is left where it is until {@link withEvent}. */
export const columnsUpTo = (sql: SqlClient, dialect: SqlDialect, largest: number): Fragment => {
  const bytes = sql.literal(dialect.bytes("e.event"))
  const isJson = sql.literal(dialect.isJson("e.event"))
  return sql`${sql.literal(routingColumns)}, CASE WHEN ${bytes} <= ${largest} THEN e.event END, CASE WHEN ${bytes} <= ${largest} THEN ${isJson} END, ${bytes}`
}

/** What {@link withEvent} needs of an event that was left where it is. */
export const eventColumns = (dialect: SqlDialect): string => `e.position, e.event, ${dialect.isJson("e.event")}`

/** A row of {@link columnsUpTo} with its event, from a row of {@link eventColumns}. */
export const withEvent = (row: EventRow, [, event, isJson]: EventRow): EventRow =>
  row.with(eventAt, event).with(isJsonAt, isJson)

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

/** SQLite calls JSON that is nested deeper than 1,000 levels no JSON. */
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
    const event = row[eventAt]
    if (row[isJsonAt] !== 1 && !isDeepJson(event)) return corrupt(row, run, "its event is not JSON")
    if (isEncoded(found)) return Result.succeed(found)
    return Result.mapError(decodeEnvelope(found), (problem) => corruptRecord(row, run, String(problem)))
  } catch (cause) {
    return corrupt(row, run, `its tags or correlation are not JSON (${String(cause)})`)
  }
}

/** A row as the envelope it should be, its fields in the order of the schema's. */
const foundIn = (row: EventRow, run: Run): FoundEnvelope => {
  const [, seq, eventId, agentId, provider, turnId, kind, delivery, endsRun, emittedAt, tags, correlation, event] = row
  // One field after the other: twice as fast as spreading those that may be absent.
  const found: FoundEnvelope = { eventId, seq, runId: run.runId }
  if (run.sessionId !== undefined) found.sessionId = run.sessionId
  if (agentId !== null) found.agentId = agentId
  if (provider !== null) found.provider = provider
  if (turnId !== null) found.turnId = turnId
  found.kind = kind
  found.delivery = delivery
  if (endsRun !== null) found.endsRun = endsRun
  found.emittedAt = emittedAt
  found.tags = parsed(tags, noTags)
  found.correlation = parsed(correlation, noCorrelation)
  found.schemaVersion = run.schemaVersion
  found.event = event
  return found
}

const corruptRecord = ([, seq]: EventRow, { runId }: Run, problem: string): CorruptRecord =>
  new CorruptRecord({ runId, seq: Number.isSafeInteger(seq) ? (seq as number) : 0, problem })

const corrupt = (row: EventRow, run: Run, problem: string) => Result.fail(corruptRecord(row, run, problem))

// Shared by all envelopes without any.
const noTags: ReadonlyArray<string> = Object.freeze([])
const noCorrelation: Readonly<Record<string, string>> = Object.freeze({})
