/** A run's row: what `AppendRules.RunState` and `RunHead` are stored as. */
import * as AppendRules from "@throughline/core/AppendRules"
import { generationPattern } from "@throughline/core/Cursor"
import { EncodedEvent, Ending, RunId, SessionId } from "@throughline/core/Envelope"
import { StoreBroken } from "@throughline/core/EventStoreError"
import type { RunHead } from "@throughline/core/RunHead"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

const RunRow = Schema.Struct({
  run_key: Schema.Int,
  run_id: RunId,
  generation: Schema.String.check(Schema.isPattern(generationPattern)),
  session_id: Schema.NullOr(SessionId),
  vocabulary_name: Schema.NonEmptyString,
  vocabulary_version: Schema.Int,
  first_seq: Count,
  last_seq: Count,
  /** The positions of the first event ever and of the last one. */
  first_position: Count,
  last_position: Count,
  /** The position of the last trimmed event, 0 where nothing was trimmed. */
  trimmed_position: Count,
  ending: Schema.NullOr(Ending),
  started_at: Schema.Finite,
  last_activity_at: Schema.Finite,
  lease_version: Count,
  lease_expires_at: Schema.NullOr(Schema.Finite),
  will: Schema.NullOr(Schema.String),
})
export type RunRow = typeof RunRow.Type

/** The columns of {@link RunRow}, of the table or its alias. */
export const columns = (alias: string): string =>
  Object.keys(RunRow.fields)
    .map((name) => `${alias}.${name}`)
    .join(", ")

const decodeRow = Schema.decodeUnknownResult(RunRow)
const decodeWill = Schema.decodeUnknownResult(Schema.fromJsonString(EncodedEvent))

const broken = (what: string, problem: unknown) =>
  new StoreBroken({ detail: `${what} can't be decoded (${String(problem)}); restore the database from a backup` })

/** Reads a row; `runId` names it where it can't be read. */
export const decode = (row: unknown, runId?: RunId): Result.Result<RunRow, StoreBroken> =>
  Result.mapError(decodeRow(row), (problem) => broken(runId === undefined ? "a run" : `run ${runId}`, problem))

/** The run as a reader needs it: without its will. */
export const readState = (row: RunRow): AppendRules.RunState => ({
  runId: row.run_id,
  generation: row.generation,
  sessionId: row.session_id ?? undefined,
  vocabulary: { name: row.vocabulary_name, version: row.vocabulary_version },
  firstSeq: row.first_seq,
  lastSeq: row.last_seq,
  ending: row.ending ?? undefined,
  startedAt: row.started_at,
  lastActivityAt: row.last_activity_at,
  leaseVersion: row.lease_version,
  leaseExpiresAt: row.lease_expires_at ?? undefined,
  will: undefined,
})

/** The run as a writer needs it. */
export const writeState = (row: RunRow): Result.Result<AppendRules.RunState, StoreBroken> => {
  const state = readState(row)
  if (row.will === null) return Result.succeed(state)
  return Result.mapBoth(decodeWill(row.will), {
    onFailure: (problem) => broken(`the will of run ${row.run_id}`, problem),
    onSuccess: (will) => ({ ...state, will }),
  })
}

/** The run's head; whether there is a will shows without decoding it. */
export const headOf = (row: RunRow): RunHead => {
  const head = AppendRules.headOf(readState(row))
  return head.lease === undefined ? head : { ...head, lease: { ...head.lease, hasWill: row.will !== null } }
}
