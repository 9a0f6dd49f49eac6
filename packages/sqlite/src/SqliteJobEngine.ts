/**
 * The job engine in a SQLite file, shared by the processes of one machine: `SqlJobEngine` with SQLite's own way to see that
 * another process committed something.
 *
 * An idle process looks at the file every 20 ms, which costs about 1 % of a core; a job that another process enqueues starts
 * after half of that on average.
 *
 * **Example** (A pool whose jobs survive the process)
 *
 * ```ts
 * import * as JobPool from "@throughline/core/JobPool"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as SqliteClient from "@throughline/sqlite/SqliteClient"
 * import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
 * import * as Layer from "effect/Layer"
 *
 * export const pool = JobPool.layer().pipe(
 *   Layer.provide(SqliteJobEngine.layer()),
 *   Layer.provideMerge(SqliteClient.layer({ filename: "app.db" })),
 *   Layer.provide(Throughline.layerCrypto),
 * )
 * ```
 */
import * as JobEngine from "@throughline/core/JobEngine"
import * as SqlJobEngine from "@throughline/sql/SqlJobEngine"
import type * as SqlMigrations from "@throughline/sql/SqlMigrations"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { SqliteClient } from "./SqliteClient.ts"

export type Options = Omit<SqlJobEngine.Options, "version">

/** Opens the engine of a file until the scope closes, as `SqlJobEngine.make` does. */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<
  JobEngine.JobEngine["Service"],
  SqlMigrations.OpenFailed,
  SqliteClient | SqlClient | SecureRandom | Scope.Scope
> {
  const client = yield* SqliteClient
  return yield* SqlJobEngine.make({ ...options, version: client.dataVersion })
})

/** The engine of the file of the `SqliteClient`. */
export const layer = (
  options?: Options,
): Layer.Layer<JobEngine.JobEngine, SqlMigrations.OpenFailed, SqliteClient | SqlClient | SecureRandom> =>
  Layer.effect(JobEngine.JobEngine, make(options))
