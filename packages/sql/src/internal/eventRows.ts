/** Events as pages and as inserts: the statements that touch more than one event. */
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { SqlDialect } from "../SqlDialect.ts"
import * as eventRow from "./eventRow.ts"

/**
 * Rows per insert, largest first. One statement of many rows costs 0.9 of as many statements of one on bare
 * `node:sqlite`, and nearly nothing of what a statement costs on top of it here; few sizes keep the statements prepared.
 */
const sizes = [100, 50, 16, 8, 4, 2, 1]

const insertText = (dialect: SqlDialect, rows: number): string => {
  const { length } = eventRow.inserted
  const values = Array.from({ length: rows }, (_, row) => {
    const parameters = eventRow.inserted.map((_name, column) => dialect.parameter(row * length + column + 1))
    return `(${parameters.join(",")})`
  })
  return `INSERT INTO throughline_events (${eventRow.inserted.join(",")}) VALUES ${values.join(",")}`
}

/** Inserts envelopes of one run at the positions from `position` on. */
export const makeInsert = (sql: SqlClient, dialect: SqlDialect) => {
  const texts = new Map(sizes.map((size) => [size, insertText(dialect, size)]))
  return Effect.fnUntraced(function* (
    envelopes: ReadonlyArray<EncodedEnvelope>,
    position: number,
    runKey: number,
  ): Effect.fn.Return<void, SqlError> {
    for (let at = 0; at < envelopes.length;) {
      const size = sizes.find((candidate) => candidate <= envelopes.length - at)!
      const parameters: Array<unknown> = []
      for (const end = at + size; at < end; at++) eventRow.encode(parameters, envelopes[at]!, position + at, runKey)
      yield* sql.unsafe(texts.get(size)!, parameters)
    }
  })
}

/** Rows, and whether there may be more where they come from. */
export interface Rows {
  readonly rows: ReadonlyArray<eventRow.EventRow>
  readonly more: boolean
}

/**
 * Rows of `throughline_events AS e` that `source` (all from `FROM` to `ORDER BY`) finds, `limit` and `maxBytes` at most.
 *
 * The usual page is one statement: events of their share of the page fit it, however many they are. Larger ones are
 * left out at first, so that a page of large events is never loaded whole to be cut.
 */
export const page = Effect.fnUntraced(function* (
  sql: SqlClient,
  dialect: SqlDialect,
  options: {
    readonly source: Fragment
    /** Columns after those of the event. */
    readonly extra?: string | undefined
    readonly limit: number
    readonly maxBytes: number
  },
): Effect.fn.Return<Rows, SqlError> {
  const { extra, limit, maxBytes, source } = options
  const share = Math.floor(maxBytes / limit)
  const columns = eventRow.columns(sql, dialect, share)
  const found =
    yield* sql`SELECT ${columns}${sql.literal(extra === undefined ? "" : `, ${extra}`)} ${source} LIMIT ${limit}`.values
  const { count, leftOut } = fitting(found, maxBytes)
  const rows = count < found.length ? found.slice(0, count) : found
  return {
    rows: leftOut.length === 0 ? rows : yield* withEvents(sql, dialect, rows, leftOut),
    more: count === limit || count < found.length,
  }
})

/** How many rows from the first fit `maxBytes`, at least one; and the positions of those whose event was left out. */
const fitting = (rows: ReadonlyArray<eventRow.EventRow>, maxBytes: number) => {
  const leftOut: Array<number> = []
  let left = maxBytes
  for (let index = 0; index < rows.length; index++) {
    const row = rows[index]!
    left -= eventRow.bytesOf(row)
    if (left < 0 && index > 0) return { count: index, leftOut }
    if (eventRow.isLeftOut(row)) leftOut.push(eventRow.positionOf(row))
  }
  return { count: rows.length, leftOut }
}

/** Rows with the events that were left out. One that was removed meanwhile is gone, as if it had been before. */
const withEvents = Effect.fnUntraced(function* (
  sql: SqlClient,
  dialect: SqlDialect,
  rows: ReadonlyArray<eventRow.EventRow>,
  leftOut: ReadonlyArray<number>,
): Effect.fn.Return<ReadonlyArray<eventRow.EventRow>, SqlError> {
  const columns = sql.literal(eventRow.eventColumns(dialect))
  const positions = dialect.strings(sql, JSON.stringify(leftOut))
  const events = yield* sql`SELECT ${columns} FROM throughline_events AS e WHERE e.position IN (${positions})`.values
  const eventAt = new Map(events.map((event) => [eventRow.positionOf(event), event]))
  return rows.flatMap((row) => {
    if (!eventRow.isLeftOut(row)) return [row]
    const event = eventAt.get(eventRow.positionOf(row))
    return event === undefined ? [] : [eventRow.withEvent(row, event)]
  })
})

/**
 * The envelopes of rows that should be the seqs from `firstSeq` on, up to the first that is corrupt or missing; that one
 * is the failure where there is nothing before it.
 */
export const envelopesOf = (
  rows: ReadonlyArray<eventRow.EventRow>,
  run: eventRow.Run,
  firstSeq: number,
): Result.Result<Array<EncodedEnvelope>, CorruptRecord> => {
  const envelopes: Array<EncodedEnvelope> = []
  for (const row of rows) {
    const seq = firstSeq + envelopes.length
    const decoded = eventRow.decode(row, run)
    const envelope = Result.isSuccess(decoded) && decoded.success.seq !== seq ? missing(run, seq) : decoded
    if (Result.isFailure(envelope))
      return envelopes.length > 0 ? Result.succeed(envelopes) : Result.fail(envelope.failure)
    envelopes.push(envelope.success)
  }
  return Result.succeed(envelopes)
}

/** A seq between the first and the last that has no row. */
export const missing = ({ runId }: eventRow.Run, seq: number) =>
  Result.fail(new CorruptRecord({ runId, seq, problem: "it is missing" }))
