/** What a caller may have set for statements of its own, and how the store's run instead. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { SqlDialect } from "../SqlDialect.ts"

const plain = Context.make(SqlClient.SafeIntegers, false)
const write = Context.add(plain, SqlClient.BeginTransaction, undefined)

/** A single statement: integers are numbers. */
export const reading = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideContext(effect, plain)

/** Reads that all see one moment. */
export const readingOnce = (sql: SqlClient.SqlClient, dialect: SqlDialect) => {
  const read = Context.add(plain, SqlClient.BeginTransaction, dialect.beginRead)
  return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
    Effect.provideContext(sql.withTransaction(effect), read)
}

/** One transaction that may write, however the caller begins its own. */
export const writing =
  (sql: SqlClient.SqlClient) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
    Effect.provideContext(sql.withTransaction(effect), write)
