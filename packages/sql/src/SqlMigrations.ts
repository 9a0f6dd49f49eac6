/**
 * The tables of Throughline, and how a database gets them.
 *
 * Each table's name begins with `throughline_`, so that they can live beside an application's own. A database that was
 * written by a newer version is refused before anything in it is touched.
 */
import { StoreBroken, StoreFull, StoreUnavailable } from "@throughline/core/EventStoreError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as jobTables from "./internal/jobTables.ts"
import * as SqlDialect from "./SqlDialect.ts"

/** The database was written by a newer version of this package. Upgrade, or name another database. */
export class NewerFormat extends Schema.TaggedError<NewerFormat>("@throughline/sql/SqlMigrations/NewerFormat")(
  "NewerFormat",
  {
    /** The migration the database is at. */
    found: Schema.Int,
    /** The last migration this version knows. */
    known: Schema.Int,
  },
) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `it has format ${this.found}, written by a newer version; this one knows formats up to ${this.known}. Upgrade @throughline/sql, or name another database`
  }
}

/** The database belongs to another application; nothing in it was touched. Name another file. */
export class ForeignDatabase extends Schema.TaggedError<ForeignDatabase>(
  "@throughline/sql/SqlMigrations/ForeignDatabase",
)("ForeignDatabase", { detail: Schema.String }) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `it belongs to another application (${this.detail}); name another file`
  }
}

/** The store can't be opened; the tagged `reason` says whether to try again. What is stored was not touched. */
export class OpenFailed extends Schema.TaggedError<OpenFailed>("@throughline/sql/SqlMigrations/OpenFailed")(
  "OpenFailed",
  { reason: Schema.Union([NewerFormat, ForeignDatabase, StoreUnavailable, StoreFull, StoreBroken]) },
) {
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message() {
    return `the store can't be opened: ${this.reason.message}`
  }
}

/** The name of the table that says which migrations a database has had. */
export const table = "throughline_migrations"

const events = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const dialect = yield* SqlDialect.of(sql)
  const create = (statement: string) => sql.unsafe(statement)

  yield* create(`CREATE TABLE throughline_runs (
  run_key ${dialect.serialKey},
  run_id TEXT NOT NULL UNIQUE,
  generation TEXT NOT NULL,
  session_id TEXT,
  vocabulary_name TEXT NOT NULL,
  vocabulary_version INTEGER NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  first_position BIGINT NOT NULL,
  last_position BIGINT NOT NULL,
  trimmed_position BIGINT NOT NULL,
  ending TEXT,
  started_at DOUBLE PRECISION NOT NULL,
  last_activity_at DOUBLE PRECISION NOT NULL,
  lease_version BIGINT NOT NULL,
  lease_expires_at DOUBLE PRECISION,
  will TEXT
)`)
  yield* create("CREATE INDEX throughline_runs_started ON throughline_runs (started_at, run_id)")
  yield* create("CREATE INDEX throughline_runs_session ON throughline_runs (session_id, started_at, run_id)")
  yield* create("CREATE INDEX throughline_runs_open ON throughline_runs (started_at, run_id) WHERE ending IS NULL")
  yield* create("CREATE INDEX throughline_runs_ended ON throughline_runs (last_activity_at) WHERE ending IS NOT NULL")
  yield* create(
    "CREATE INDEX throughline_runs_trimmed ON throughline_runs (trimmed_position) WHERE trimmed_position > 0",
  )

  // Positions are given out from throughline_positions: the row is locked until the append commits, so they rise in the
  // order they become visible, and what was removed never gives its position back.
  yield* create(`CREATE TABLE throughline_events (
  position ${dialect.key},
  run_key BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  event_id TEXT NOT NULL,
  agent_id TEXT,
  provider TEXT,
  turn_id TEXT,
  kind TEXT NOT NULL,
  delivery TEXT NOT NULL,
  ends_run TEXT,
  emitted_at TEXT NOT NULL,
  tags TEXT,
  correlation TEXT,
  event TEXT NOT NULL
)`)
  yield* create("CREATE UNIQUE INDEX throughline_events_seq ON throughline_events (run_key, seq)")
  yield* create("CREATE TABLE throughline_positions (id INTEGER PRIMARY KEY NOT NULL, last BIGINT NOT NULL)")
  yield* create("INSERT INTO throughline_positions (id, last) VALUES (1, 0)")

  yield* create(`CREATE TABLE throughline_producers (
  run_key BIGINT NOT NULL,
  producer_id TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  last_number BIGINT NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  PRIMARY KEY (run_key, producer_id)
) ${dialect.keyed}`)

  // Runs that were removed and whose events are still to be deleted.
  yield* create(`CREATE TABLE throughline_removed (run_key ${dialect.key})`)
})

const migrations: ReadonlyArray<Migrator.ResolvedMigration> = [
  [1, "events", Effect.succeed(events)],
  [2, "jobs", Effect.succeed(jobTables.create)],
]

const known = Math.max(...migrations.map(([id]) => id))

const applied = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, dialect: SqlDialect.SqlDialect) {
  if (!(yield* dialect.tableExists(sql, table))) return 0
  const rows = yield* sql`SELECT max(migration_id) FROM ${sql(table)}`.values
  const latest = Number(rows[0]?.[0] ?? 0)
  return latest > known ? yield* new NewerFormat({ found: latest, known }) : latest
})

/**
 * Brings the database to this version's format; a database that is there already is only looked at.
 *
 * Several processes may do so at once. Fails with `OpenFailed`: `NewerFormat` where the database is past this version.
 */
export const migrate: Effect.Effect<SqlDialect.SqlDialect, OpenFailed, SqlClient.SqlClient> = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const dialect = yield* SqlDialect.of(sql)
  const migrating = Effect.gen(function* () {
    if ((yield* applied(sql, dialect)) === known) return
    yield* Migrator.make({})({ loader: Effect.succeed(migrations), table })
    // A newer version may have been faster.
    yield* applied(sql, dialect)
  })
  yield* Effect.provideService(migrating, SqlClient.SqlClient, sql).pipe(
    Effect.catchTag("SqlError", (error) => Effect.fail(SqlDialect.reasonOf(dialect, error))),
    Effect.catchTag("MigrationError", (error) => Effect.fail(migrationReason(dialect, error))),
  )
  return dialect
}).pipe(Effect.mapError((reason) => new OpenFailed({ reason })))

const migrationReason = (dialect: SqlDialect.SqlDialect, error: Migrator.MigrationError) => {
  const cause = error.cause as SqlError | StoreBroken | undefined
  return cause?._tag === "SqlError"
    ? SqlDialect.reasonOf(dialect, cause)
    : new StoreBroken({ detail: error.message, cause: error })
}
