/** The tables of the job engine. */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlDialect from "../SqlDialect.ts"

/** Makes the tables; the second migration. */
export const create = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const dialect = yield* SqlDialect.of(sql)
  const statement = (text: string) => sql.unsafe(text)

  // A job that waits for its time and one that is ready differ by `ready_at` alone: nothing has to move a job from one to the other.
  yield* statement(`CREATE TABLE throughline_jobs (
  job_key ${dialect.serialKey},
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  priority INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL,
  unique_key TEXT,
  keep_result DOUBLE PRECISION NOT NULL,
  keep_dead DOUBLE PRECISION NOT NULL,
  report TEXT,
  trace TEXT,
  state TEXT NOT NULL,
  enqueued_at DOUBLE PRECISION NOT NULL,
  ready_at DOUBLE PRECISION NOT NULL,
  failures TEXT,
  crashes INTEGER NOT NULL,
  started_at DOUBLE PRECISION,
  settled_at DOUBLE PRECISION,
  kept_until DOUBLE PRECISION,
  progress TEXT,
  result TEXT,
  claim BIGINT NOT NULL,
  worker TEXT,
  lease_until DOUBLE PRECISION,
  cancel_requested INTEGER NOT NULL
)`)
  // In the order of claiming, a name and a priority at a time.
  yield* statement(`CREATE INDEX throughline_jobs_pending ON throughline_jobs (name, priority, ready_at, job_key)
WHERE state = 'pending'`)
  yield* statement(`CREATE UNIQUE INDEX throughline_jobs_unique ON throughline_jobs (name, unique_key)
WHERE unique_key IS NOT NULL AND state IN ('pending', 'running')`)
  yield* statement("CREATE INDEX throughline_jobs_running ON throughline_jobs (lease_until) WHERE state = 'running'")
  yield* statement("CREATE INDEX throughline_jobs_dead ON throughline_jobs (id) WHERE state = 'dead'")
  // What is kept is counted, and found when its time is over, without reading payloads.
  yield* statement(`CREATE INDEX throughline_jobs_kept ON throughline_jobs (kept_until, state, name)
WHERE kept_until IS NOT NULL`)

  yield* statement(`CREATE TABLE throughline_job_results (
  position ${dialect.key},
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  outcome TEXT NOT NULL,
  settled_at DOUBLE PRECISION NOT NULL,
  failed_attempts INTEGER NOT NULL,
  result TEXT,
  failure TEXT
)`)
  // One row; its generation is written when an engine first opens the log.
  yield* statement(`CREATE TABLE throughline_job_log (
  id INTEGER PRIMARY KEY NOT NULL,
  generation TEXT,
  trimmed BIGINT NOT NULL,
  last BIGINT NOT NULL
)`)
  yield* statement("INSERT INTO throughline_job_log (id, generation, trimmed, last) VALUES (1, NULL, 0, 0)")

  yield* statement(`CREATE TABLE throughline_job_schedules (
  schedule TEXT PRIMARY KEY NOT NULL,
  last_at DOUBLE PRECISION NOT NULL
) ${dialect.keyed}`)
})
