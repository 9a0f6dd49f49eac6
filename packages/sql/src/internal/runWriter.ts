/** What a transaction that writes does to a run: load it, store a decision, remove it. */
import * as AppendRules from "@throughline/core/AppendRules"
import type { RunId } from "@throughline/core/Envelope"
import type { AppendResult } from "@throughline/core/EventStore"
import { StoreBroken } from "@throughline/core/EventStoreError"
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { SqlDialect } from "../SqlDialect.ts"
import * as eventRows from "./eventRows.ts"
import * as runRow from "./runRow.ts"
import * as settings from "./settings.ts"

/** A run as a transaction found it. */
export interface Loaded {
  readonly row: runRow.RunRow
  readonly state: AppendRules.RunState
}

/** Rows deleted in one statement besides those that an append itself displaces: what a lock is held for stays short. */
const sweptRows = 1000

export const make = (sql: SqlClient, dialect: SqlDialect) => {
  const insertEvents = eventRows.makeInsert(sql, dialect)
  const runColumns = sql.literal(runRow.columns("r"))

  const load = Effect.fnUntraced(function* (
    runId: RunId,
  ): Effect.fn.Return<Loaded | undefined, SqlError | StoreBroken> {
    const rows = yield* sql`SELECT ${runColumns} FROM throughline_runs AS r WHERE r.run_id = ${runId}`
    if (rows.length === 0) return undefined
    const row = yield* Effect.fromResult(runRow.decode(rows[0], runId))
    return { row, state: yield* Effect.fromResult(runRow.writeState(row)) }
  })

  const takePositions = Effect.fnUntraced(function* (count: number): Effect.fn.Return<number, SqlError | StoreBroken> {
    const rows = yield* sql`UPDATE throughline_positions SET last = last + ${count} WHERE id = 1 RETURNING last`.values
    const last = rows[0]?.[0]
    if (!Number.isSafeInteger(last)) {
      return yield* new StoreBroken({
        detail: "throughline_positions has no last position; restore the database from a backup",
      })
    }
    return (last as number) - count + 1
  })

  const insertRun = (
    state: AppendRules.RunState,
    position: number,
    lastPosition: number,
    trimmedPosition: number,
  ): Effect.Effect<number, SqlError> =>
    Effect.map(
      sql`INSERT INTO throughline_runs (run_id, generation, session_id, vocabulary_name, vocabulary_version, first_seq, last_seq,
first_position, last_position, trimmed_position, ending, started_at, last_activity_at, lease_version, lease_expires_at, will)
VALUES (${state.runId}, ${state.generation}, ${state.sessionId ?? null}, ${state.vocabulary.name}, ${state.vocabulary.version},
${state.firstSeq}, ${state.lastSeq}, ${position}, ${lastPosition}, ${trimmedPosition}, ${state.ending ?? null}, ${state.startedAt},
${state.lastActivityAt}, ${state.leaseVersion}, ${state.leaseExpiresAt ?? null}, ${willText(state)}) RETURNING run_key`
        .values,
      (rows) => Number(rows[0]![0]),
    )

  const updateRun = (
    runKey: number,
    state: AppendRules.RunState,
    lastPosition: number,
    trimmedPosition: number,
  ): Effect.Effect<unknown, SqlError> => {
    // A column that is named is written to its indexes, changed or not; only an end is worth that.
    const ending = state.ending === undefined ? sql`` : sql`ending = ${state.ending}, `
    return sql`UPDATE throughline_runs SET ${ending}first_seq = ${state.firstSeq}, last_seq = ${state.lastSeq},
last_position = ${lastPosition}, trimmed_position = ${trimmedPosition}, last_activity_at = ${state.lastActivityAt},
lease_version = ${state.leaseVersion}, lease_expires_at = ${state.leaseExpiresAt ?? null}, will = ${willText(state)}
WHERE run_key = ${runKey}`
  }

  const updateLease = (runKey: number, state: AppendRules.RunState): Effect.Effect<unknown, SqlError> =>
    sql`UPDATE throughline_runs SET lease_version = ${state.leaseVersion}, lease_expires_at = ${state.leaseExpiresAt ?? null},
will = ${willText(state)} WHERE run_key = ${runKey}`

  const saveProducer = (
    runKey: number,
    { id, record }: NonNullable<AppendRules.Write["producer"]>,
  ): Effect.Effect<unknown, SqlError> =>
    sql`INSERT INTO throughline_producers (run_key, producer_id, epoch, last_number, first_seq, last_seq)
VALUES (${runKey}, ${id}, ${record.epoch}, ${record.lastNumber}, ${record.firstSeq}, ${record.lastSeq})
ON CONFLICT (run_key, producer_id) DO UPDATE SET epoch = excluded.epoch, last_number = excluded.last_number,
first_seq = excluded.first_seq, last_seq = excluded.last_seq`

  const positionBefore = (runKey: number, seq: number): Effect.Effect<number, SqlError> =>
    Effect.map(
      sql`SELECT position FROM throughline_events WHERE run_key = ${runKey} AND seq < ${seq} ORDER BY seq DESC LIMIT 1`
        .values,
      (rows) => Number(rows[0]?.[0] ?? 0),
    )

  const trim = (runKey: number, firstSeq: number, limit: number): Effect.Effect<unknown, SqlError> =>
    sql`DELETE FROM throughline_events WHERE position IN (SELECT position FROM throughline_events
WHERE run_key = ${runKey} AND seq < ${firstSeq} ORDER BY seq LIMIT ${limit})`

  /** Stores what was decided about a run as it was loaded in the same transaction. */
  const store = Effect.fnUntraced(function* (
    { envelopes, producer, state }: AppendRules.Write,
    loaded: Loaded | undefined,
  ): Effect.fn.Return<AppendResult, SqlError | StoreBroken> {
    const position = yield* takePositions(envelopes.length)
    const lastPosition = position + envelopes.length - 1
    const firstWritten = envelopes[0]!.seq
    const unkept = Math.max(0, state.firstSeq - firstWritten)
    const trims = loaded !== undefined && state.firstSeq > loaded.row.first_seq
    let trimmedPosition = loaded?.row.trimmed_position ?? 0
    if (unkept > 0) trimmedPosition = position + unkept - 1
    else if (trims) trimmedPosition = yield* positionBefore(loaded.row.run_key, state.firstSeq)
    let runKey: number
    if (loaded === undefined) {
      runKey = yield* insertRun(state, position, lastPosition, trimmedPosition)
    } else {
      runKey = loaded.row.run_key
      yield* updateRun(runKey, state, lastPosition, trimmedPosition)
    }
    yield* insertEvents(unkept === 0 ? envelopes : envelopes.slice(unkept), position + unkept, runKey)
    if (producer !== undefined) yield* saveProducer(runKey, producer)
    // What is left over where retention was shortened goes with the next appends; readers don't see it.
    if (trims) yield* trim(runKey, state.firstSeq, envelopes.length + sweptRows)
    return { frames: AppendRules.framesOf(envelopes, state.generation, position), published: [] }
  })

  /** Makes a run unknown; its events are left for `reclaim`. */
  const forget = Effect.fnUntraced(function* (runKey: number): Effect.fn.Return<boolean, SqlError> {
    const rows = yield* sql`DELETE FROM throughline_runs WHERE run_key = ${runKey} RETURNING run_key`.values
    if (rows.length === 0) return false
    yield* sql`INSERT INTO throughline_removed (run_key) VALUES (${runKey})`
    return true
  })

  const reclaimSome = settings.writing(sql)(
    Effect.gen(function* () {
      const removed = yield* sql`SELECT run_key FROM throughline_removed LIMIT 1`.values
      if (removed.length === 0) return false
      const runKey = Number(removed[0]![0])
      const deleted =
        yield* sql`DELETE FROM throughline_events WHERE position IN (SELECT position FROM throughline_events
WHERE run_key = ${runKey} LIMIT ${sweptRows}) RETURNING 1`.values
      if (deleted.length < sweptRows) {
        yield* sql`DELETE FROM throughline_producers WHERE run_key = ${runKey}`
        yield* sql`DELETE FROM throughline_removed WHERE run_key = ${runKey}`
      }
      return true
    }),
  )

  /**
   * Deletes what removed runs left behind, a bounded number of rows per transaction, so that removing a long run keeps
   * no writer waiting. Interrupted, it goes on where the store is opened next.
   */
  const reclaim: Effect.Effect<void, SqlError> = Effect.gen(function* () {
    const rows = yield* sql`SELECT 1 FROM throughline_removed LIMIT 1`.values
    if (rows.length === 0) return
    while (yield* reclaimSome) yield* Effect.yieldNow
  })

  return { forget, load, reclaim, runColumns, store, updateLease }
}

const willText = ({ will }: AppendRules.RunState): string | null => (will === undefined ? null : JSON.stringify(will))
