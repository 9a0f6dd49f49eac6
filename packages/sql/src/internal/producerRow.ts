/** A producer's row: what a run remembers of its last append. */
import type { ProducerRecord } from "@throughline/core/AppendRules"
import type { RunId } from "@throughline/core/Envelope"
import { StoreBroken } from "@throughline/core/EventStoreError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))

const decode = Schema.decodeUnknownEffect(
  Schema.Struct({ epoch: Count, lastNumber: Count, firstSeq: Count, lastSeq: Count }),
)

/** What is kept of a producer in a run; `undefined` where it never appended to it. */
export const load = Effect.fnUntraced(function* (
  sql: SqlClient,
  runId: RunId,
  producerId: string,
): Effect.fn.Return<ProducerRecord | undefined, SqlError | StoreBroken> {
  const rows = yield* sql`SELECT p.epoch, p.last_number, p.first_seq, p.last_seq FROM throughline_producers AS p
JOIN throughline_runs AS r ON r.run_key = p.run_key WHERE r.run_id = ${runId} AND p.producer_id = ${producerId}`.values
  if (rows.length === 0) return undefined
  const [epoch, lastNumber, firstSeq, lastSeq] = rows[0]!
  return yield* Effect.mapError(decode({ epoch, lastNumber, firstSeq, lastSeq }), (problem) => {
    const detail = `producer ${producerId} of run ${runId} can't be decoded (${String(problem)}); restore the database from a backup`
    return new StoreBroken({ detail })
  })
})
