/**
 * What differs between databases, in one place: types of columns, functions, how a read begins, and what an error means.
 *
 * Everything else in this package is SQL that SQLite and Postgres both speak. A dialect that isn't here is refused when
 * the store opens.
 */
import * as Effect from "effect/Effect"
import { StoreBroken, StoreFull, StoreUnavailable } from "@throughline/core/EventStoreError"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"

export interface SqlDialect {
  /** A column that numbers rows from 1 and never gives a number twice. */
  readonly serialKey: string
  /** A column that numbers rows as the store says. */
  readonly key: string
  /** Ends the definition of a table that is only read by its primary key. */
  readonly keyed: string
  /** Opens a transaction whose reads all see one moment. */
  readonly beginRead: string
  /** 1 where the text in a column is JSON, else 0. */
  readonly isJson: (column: string) => string
  /** UTF-8 bytes of the text in a column, without loading it. */
  readonly bytes: (column: string) => string
  /** The largest of some numbers. */
  readonly greatest: (...values: ReadonlyArray<string>) => string
  /** The n-th parameter of a statement, from 1. */
  readonly parameter: (index: number) => string
  /** The rows of a text that is a JSON array of strings: for `IN`, whatever the number of values. */
  readonly strings: (sql: SqlClient, json: string) => Fragment
  /** The same of a text that is a JSON array of whole numbers and a parameter of the statement. */
  readonly keys: string
  readonly tableExists: (sql: SqlClient, name: string) => Effect.Effect<boolean, SqlError>
  /** Whether the database refused a write because it has no room left. */
  readonly isFull: (error: SqlError) => boolean
}

/** SQLite 3.43 and newer. */
export const sqlite: SqlDialect = {
  serialKey: "INTEGER PRIMARY KEY AUTOINCREMENT",
  key: "INTEGER PRIMARY KEY NOT NULL",
  keyed: "WITHOUT ROWID",
  beginRead: "BEGIN",
  isJson: (column) => `json_valid(${column})`,
  bytes: (column) => `octet_length(${column})`,
  greatest: (...values) => `max(${values.join(", ")})`,
  parameter: () => "?",
  keys: "SELECT value FROM json_each(?)",
  strings: (sql, json) => sql`SELECT value FROM json_each(${json})`,
  tableExists: (sql, name) =>
    Effect.map(
      sql`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ${name}`.values,
      (rows) => rows.length > 0,
    ),
  // Drivers name SQLite's result code differently; the low byte of the number is the primary code, 13 is SQLITE_FULL.
  isFull: ({ reason: { cause } }) => {
    if (typeof cause !== "object" || cause === null) return false
    const { code, errcode, errno } = cause as { code?: unknown; errcode?: unknown; errno?: unknown }
    return code === "SQLITE_FULL" || (Number(errcode ?? errno ?? 0) & 0xff) === 13
  },
}

/** The dialect of a client; fails where this package doesn't speak it. */
export const of = (sql: SqlClient): Effect.Effect<SqlDialect, StoreBroken> =>
  sql.onDialectOrElse({
    sqlite: () => Effect.succeed(sqlite),
    orElse: () =>
      Effect.fail(
        new StoreBroken({ detail: `@throughline/sql can't use ${sql.driver}: it speaks SQLite, use a client of that` }),
      ),
  })

/** What an error of the database means to whoever uses the store. */
export const reasonOf = (dialect: SqlDialect, error: SqlError): StoreUnavailable | StoreFull | StoreBroken => {
  const detail = error.reason.message ?? error.message
  if (dialect.isFull(error)) return new StoreFull({ detail, cause: error })
  return error.isRetryable ? new StoreUnavailable({ detail, cause: error }) : new StoreBroken({ detail, cause: error })
}
