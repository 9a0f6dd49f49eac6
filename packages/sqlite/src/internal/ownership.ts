/** Whose file it is: a database of another application is left as it is. */
import { ForeignDatabase, table as migrationsTable } from "@throughline/sql/SqlMigrations"
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { DatabaseSync } from "node:sqlite"

/** "Thrl": what `PRAGMA application_id` says of a file that this package made. */
const applicationId = 0x5468726c

interface Marks {
  readonly applicationId: number
  readonly tables: number
  readonly ours: number
}

const tablesQuery = `SELECT count(*) AS tables, coalesce(sum(name = '${migrationsTable}'), 0) AS ours
FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'`

const check = (path: string, marks: Marks): Effect.Effect<void, ForeignDatabase> => {
  if (marks.applicationId === applicationId) return Effect.void
  const id = marks.applicationId >>> 0
  if (id !== 0) {
    return Effect.fail(new ForeignDatabase({ detail: `${path} has the application id 0x${id.toString(16)}` }))
  }
  return marks.tables === 0 || marks.ours > 0
    ? Effect.void
    : Effect.fail(new ForeignDatabase({ detail: `${path} has ${marks.tables} tables and none of Throughline's` }))
}

/**
 * Fails where a file is another application's, before anything opens it to write: the pragmas of a writer already change a
 * file. What can't be read here is left for the writer, which says why.
 */
export const checkFile = (path: string): Effect.Effect<void, ForeignDatabase> =>
  Effect.suspend(() => {
    let database: DatabaseSync | undefined
    try {
      database = new DatabaseSync(path, { readOnly: true, timeout: 0 })
      const id = Number(database.prepare("PRAGMA application_id").get()?.["application_id"])
      const counts = database.prepare(tablesQuery).get()
      return check(path, { applicationId: id, tables: Number(counts?.["tables"]), ours: Number(counts?.["ours"]) })
    } catch {
      return Effect.void
    } finally {
      database?.close()
    }
  })

/** The same look through a client, which sees what a reader alone may not: a file that was left in the middle of a write. */
export const checkClient = Effect.fnUntraced(function* (
  sql: SqlClient,
  path: string,
): Effect.fn.Return<void, ForeignDatabase | SqlError> {
  const id = yield* readId(sql)
  const [counts] = yield* sql.unsafe(tablesQuery).values
  yield* check(path, { applicationId: id, tables: Number(counts?.[0]), ours: Number(counts?.[1]) })
})

/** Marks the file as this package's. */
export const mark = Effect.fnUntraced(function* (sql: SqlClient): Effect.fn.Return<void, SqlError> {
  if ((yield* readId(sql)) !== applicationId) yield* sql.unsafe(`PRAGMA application_id = ${applicationId}`)
})

const readId = (sql: SqlClient): Effect.Effect<number, SqlError> =>
  Effect.map(sql`SELECT application_id FROM pragma_application_id`.values, (rows) => Number(rows[0]?.[0]))
