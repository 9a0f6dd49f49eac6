/** Events of all runs by position, with what each needs from its run. */
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope, Frame } from "@throughline/core/Envelope"
import { RunId, SessionId } from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { SqlDialect } from "../SqlDialect.ts"
import * as eventRow from "./eventRow.ts"
import * as eventRows from "./eventRows.ts"

const runColumns = ["run_id", "session_id", "vocabulary_version", "generation"]
const extra = runColumns.map((name) => `r.${name}`).join(", ")

const RunColumns = Schema.Tuple([
  RunId,
  Schema.NullOr(SessionId),
  Schema.Int,
  Schema.String.check(Schema.isPattern(Cursor.generationPattern)),
])
const decodeRun = Schema.decodeUnknownResult(RunColumns)

/** An event with its position and what its run's row says of it. */
export interface Positioned {
  readonly position: number
  readonly envelope: EncodedEnvelope
  readonly generation: string
}

/** The last position that was given out. */
export const head = (sql: SqlClient): Effect.Effect<number, SqlError> =>
  Effect.map(sql`SELECT last FROM throughline_positions WHERE id = 1`.values, (rows) => Number(rows[0]?.[0] ?? 0))

/** Rows at the positions after `after` up to `until`, of runs that `condition` (over `r` and `e`) is true for. */
export const page = (
  sql: SqlClient,
  dialect: SqlDialect,
  options: {
    readonly after: number
    readonly until: number
    readonly condition?: Fragment | undefined
    readonly limit: number
    readonly maxBytes: number
  },
): Effect.Effect<eventRows.Rows, SqlError> => {
  const { after, condition, limit, maxBytes, until } = options
  return eventRows.page(sql, dialect, {
    // Events first, each with its run: positions are what the page is cut by.
    source: sql`FROM throughline_events AS e CROSS JOIN throughline_runs AS r
WHERE e.position > ${after} AND e.position <= ${until} AND r.run_key = e.run_key AND e.seq >= r.first_seq
AND ${condition ?? sql`1 = 1`} ORDER BY e.position`,
    extra,
    limit,
    maxBytes,
  })
}

/** Decodes the rows of one page, in which the columns of a run are the same wherever it comes up. */
export const decoder = (): ((row: eventRow.EventRow) => Result.Result<Positioned, CorruptRecord>) => {
  const runs = new Map<unknown, Run>()
  return (row) => {
    let run = runs.get(row[eventRow.width])
    if (run === undefined) {
      const decoded = decodeRun(row.slice(eventRow.width))
      if (Result.isFailure(decoded)) return Result.fail(corruptRun(row, decoded.failure))
      const [runId, sessionId, schemaVersion, generation] = decoded.success
      run = { runId, sessionId: sessionId ?? undefined, schemaVersion, generation }
      runs.set(runId, run)
    }
    const envelope = eventRow.decode(row, run)
    return Result.isFailure(envelope)
      ? Result.fail(envelope.failure)
      : Result.succeed({
          position: eventRow.positionOf(row),
          envelope: envelope.success,
          generation: run.generation,
        })
  }
}

interface Run extends eventRow.Run {
  readonly generation: string
}

const corruptRun = (row: eventRow.EventRow, problem: Schema.SchemaError): CorruptRecord =>
  new CorruptRecord({
    // An id that is none can't be named; the position says where the row is.
    runId: "unknown" as RunId,
    seq: Number.isSafeInteger(row[1]) ? (row[1] as number) : 0,
    problem: `the run of the event at position ${eventRow.positionOf(row)} can't be decoded: ${String(problem)}`,
  })

export const frameOf = ({ envelope, generation, position }: Positioned): Frame => ({
  _tag: "Frame",
  envelope,
  cursor: Cursor.run(envelope.seq, generation),
  position,
})
