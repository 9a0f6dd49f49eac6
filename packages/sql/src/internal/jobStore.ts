/** What is done to jobs within one transaction; whoever calls it opens that. */
import { StoreBroken } from "@throughline/core/EventStoreError"
import type { Enqueued, Outcome, Settlement } from "@throughline/core/JobEngine"
import {
  isLive,
  JobId,
  type JobJson,
  JobName,
  type JobRecord,
  JobResult,
  type NewJob,
} from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { SqlDialect } from "../SqlDialect.ts"
import * as jobRow from "./jobRow.ts"

type Stored = jobRow.Stored

/** A name and how many of its jobs may start. */
export interface Free {
  readonly name: JobName
  readonly slots: number
}

/** Names asked for in one statement: databases bound how many parts one has. */
const namesAtOnce = 50

const ranks = [1, 2, 3, 4]

/** What is kept of a damaged job among the dead letters. */
const damaged = (now: number, problem: string) =>
  JSON.stringify([{ _tag: "PayloadRefused", at: now, problem: `the stored record is damaged: ${problem}` }])

const isJobId = Schema.is(JobId)
const isJobName = Schema.is(JobName)
const decodeResult = Schema.decodeUnknownResult(JobResult)

/** Rows of one statement; a power of two, as the sizes are. */
const mostRows = 32

/** A statement over rows of parameters, for each size. */
const manyRows = (width: number, text: (rows: string) => string) => {
  const row = `(${Array.from({ length: width }, () => "?").join(", ")})`
  const texts = new Map<number, string>()
  return (rows: number): string => {
    const known = texts.get(rows)
    if (known !== undefined) return known
    const made = text(Array.from({ length: rows }, () => row).join(", "))
    texts.set(rows, made)
    return made
  }
}

const readyText = (rank: number) => `SELECT * FROM (
SELECT job_key, priority, ready_at, name FROM throughline_jobs
WHERE state = 'pending' AND name = ? AND priority = ${rank} AND ready_at <= ? ORDER BY ready_at, job_key LIMIT ?)`
const readyParts = ranks.map(readyText).join(" UNION ALL ")

export const make = (sql: SqlClient, dialect: SqlDialect, maxResults: number) => {
  const all = (statement: string, parameters: ReadonlyArray<unknown>) => sql.unsafe(statement, parameters).values

  const loadText = `SELECT ${jobRow.columns} FROM throughline_jobs WHERE id = ? AND (kept_until IS NULL OR kept_until > ?)`
  const moveText = `UPDATE throughline_jobs SET ${jobRow.moved.map((name) => `${name} = ?`).join(", ")}, ${jobRow.unclaimed}
WHERE job_key = ?`
  const insertText = manyRows(
    jobRow.insertedWidth,
    (rows) => `INSERT INTO throughline_jobs (${jobRow.inserted}) VALUES ${rows} ON CONFLICT DO NOTHING RETURNING id`,
  )
  const settleText = manyRows(
    jobRow.moved.length + 3,
    (rows) => `WITH v (k, c, r, ${jobRow.moved.join(", ")}) AS (VALUES ${rows})
UPDATE throughline_jobs SET ${jobRow.moved.map((name) => `${name} = v.${name}`).join(", ")}, ${jobRow.unclaimed}
FROM v WHERE job_key = v.k AND claim = v.c AND throughline_jobs.state = 'running' AND cancel_requested <= v.r RETURNING job_key`,
  )
  const logText = manyRows(
    8,
    (rows) => `INSERT INTO throughline_job_results
(position, id, name, outcome, settled_at, failed_attempts, result, failure) VALUES ${rows}`,
  )

  /** Runs a statement of many rows over as many as there are, in as few as its sizes allow. */
  const overRows = Effect.fnUntraced(function* (
    text: (rows: number) => string,
    rows: ReadonlyArray<ReadonlyArray<unknown>>,
  ): Effect.fn.Return<Array<ReadonlyArray<unknown>>, SqlError> {
    const answers: Array<ReadonlyArray<unknown>> = []
    let from = 0
    while (from < rows.length) {
      const size = Math.min(mostRows, 2 ** Math.floor(Math.log2(rows.length - from)))
      for (const row of yield* all(text(size), rows.slice(from, from + size).flat())) answers.push(row)
      from += size
    }
    return answers
  })

  const load = Effect.fnUntraced(function* (
    id: JobId,
    now: number,
  ): Effect.fn.Return<Stored | undefined, SqlError | StoreBroken> {
    const rows = yield* all(loadText, [id, now])
    return rows.length === 0 ? undefined : yield* Effect.fromResult(jobRow.decode(rows[0]!, now))
  })

  /** The live job of its name that holds a unique key. */
  const holderOf = Effect.fnUntraced(function* (job: Pick<NewJob, "name" | "uniqueKey">) {
    if (job.uniqueKey === undefined) return undefined
    const rows = yield* sql`SELECT id FROM throughline_jobs
WHERE name = ${job.name} AND unique_key = ${job.uniqueKey} AND state IN ('pending', 'running')`.values
    return rows[0]?.[0] as JobId | undefined
  })

  const isKept = (id: JobId) =>
    Effect.map(sql`SELECT 1 FROM throughline_jobs WHERE id = ${id}`.values, (rows) => rows.length > 0)

  /** Jobs that wait or are delayed, counted no further than `most`. */
  const waiting = (most: number) =>
    Effect.map(
      all("SELECT count(*) FROM (SELECT 1 FROM throughline_jobs WHERE state = 'pending' LIMIT ?)", [most]),
      (rows) => Number(rows[0]![0]),
    )

  /** How many jobs of a batch would be stored. */
  const fresh = Effect.fnUntraced(function* (batch: ReadonlyArray<NewJob>) {
    const ids = new Set<string>()
    const keys = new Set<string>()
    for (const job of batch) {
      const key = job.uniqueKey === undefined ? undefined : `${job.name}\n${job.uniqueKey}`
      if (key !== undefined && keys.has(key)) continue
      if ((yield* isKept(job.id)) || (yield* holderOf(job)) !== undefined) continue
      if (key !== undefined) keys.add(key)
      ids.add(job.id)
    }
    return ids.size
  })

  /** Stores jobs, and says of each what runs for it. */
  const accept = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<NewJob>,
    now: number,
    pending: boolean,
  ): Effect.fn.Return<Array<Enqueued>, SqlError> {
    const rows = yield* overRows(
      insertText,
      jobs.map((job) => jobRow.encode(JobRules.accepted(job, now))),
    )
    const isNew = new Set(rows.map(([id]) => id))
    const answers: Array<Enqueued> = []
    for (const job of jobs) {
      // The same job a second time in one batch is the first one's.
      if (isNew.delete(job.id)) answers.push({ id: job.id, created: true, pending })
      else {
        const holder = (yield* isKept(job.id)) ? job.id : yield* holderOf(job)
        answers.push({ id: holder ?? job.id, created: false, pending })
      }
    }
    return answers
  })

  // The results log

  const openLog = Effect.map(
    sql`SELECT generation, trimmed, last FROM throughline_job_log WHERE id = 1`.values,
    ([row]) => ({
      generation: row?.[0] as string | null | undefined,
      trimmed: Number(row?.[1] ?? 0),
      last: Number(row?.[2] ?? 0),
    }),
  )

  /** The log as it is; the engine that opens it first names it. */
  const log = Effect.flatMap(openLog, ({ generation, last, trimmed }) =>
    typeof generation === "string"
      ? Effect.succeed<JobRules.ResultsLog>({ generation, last, trimmed })
      : Effect.fail(
          new StoreBroken({ detail: "the results log has no generation; restore the database from a backup" }),
        ),
  )

  const nameLog = (generation: string) =>
    sql`UPDATE throughline_job_log SET generation = ${generation} WHERE id = 1 AND generation IS NULL`

  const append = Effect.fnUntraced(function* (settled: ReadonlyArray<JobRecord>): Effect.fn.Return<void, SqlError> {
    if (settled.length === 0) return
    const { last, trimmed } = yield* openLog
    const position = last + settled.length
    const rows = settled.map((job, index) => {
      const entry = JobRules.resultOf(job, last + 1 + index)
      const { at, failedAttempts, failure, id, name, outcome, result } = entry
      const told = failure === undefined ? null : JSON.stringify(failure)
      return [entry.position, id, name, outcome, at, failedAttempts, result ?? null, told]
    })
    yield* overRows(logText, rows)
    const oldest = Math.max(trimmed, position - maxResults)
    if (oldest > trimmed) yield* sql`DELETE FROM throughline_job_results WHERE position <= ${oldest}`
    yield* sql`UPDATE throughline_job_log SET last = ${position}, trimmed = ${oldest} WHERE id = 1`
  })

  const resultsAfter = Effect.fnUntraced(function* (
    place: number,
    limit: number,
  ): Effect.fn.Return<ReadonlyArray<JobResult>, SqlError | StoreBroken> {
    const rows = yield* sql`SELECT position, id, name, outcome, settled_at, failed_attempts, result, failure
FROM throughline_job_results WHERE position > ${place} ORDER BY position LIMIT ${limit}`.values
    const entries: Array<JobResult> = []
    for (const row of rows) {
      const [position, id, name, outcome, at, failedAttempts, result, failure] = row
      const entry = Result.try(() => ({
        position,
        id,
        name,
        outcome,
        at,
        failedAttempts,
        ...(result === null ? undefined : { result }),
        ...(failure === null
          ? undefined
          : { failure: typeof failure === "string" ? (JSON.parse(failure) as unknown) : failure }),
      })).pipe(Result.flatMap(decodeResult))
      if (Result.isFailure(entry) || entry.success.position !== place + 1 + entries.length) {
        const why = Result.isFailure(entry) ? String(entry.failure) : "entries before it are missing"
        return yield* new StoreBroken({ detail: `entry ${String(position)} of the results log is damaged: ${why}` })
      }
      entries.push(entry.success)
    }
    return entries
  })

  // Moving on

  const move = ({ key }: Pick<Stored, "key">, job: JobRecord) => all(moveText, [...jobRow.encodeMove(job), key])

  /** Moves claims on, each fenced by its number, where no cancellation forbids it; gives the keys of those that it did. */
  const moveClaims = (
    moves: ReadonlyArray<{ readonly stored: Stored; readonly job: JobRecord; readonly evenCancelled: boolean }>,
  ) =>
    Effect.map(
      overRows(
        settleText,
        moves.map(({ evenCancelled, job, stored }) => [
          stored.key,
          stored.claim,
          evenCancelled ? 1 : 0,
          ...jobRow.encodeMove(job),
        ]),
      ),
      (rows) => new Set(rows.map(([key]) => Number(key))),
    )

  /** Stores what became of claims, and gives what was stored of each. */
  const settle = Effect.fnUntraced(function* (
    claims: ReadonlyArray<{ readonly stored: Stored; readonly outcome: Outcome }>,
    now: number,
  ): Effect.fn.Return<Array<readonly [JobRecord, Settlement]>, SqlError> {
    const moves = claims.map(({ outcome, stored }) => ({
      stored,
      job: JobRules.settled(stored.job, outcome, now),
      // Whose cancellation was asked for keeps nothing but a success.
      evenCancelled: JobRules.settlementOf(outcome, true) === outcome,
    }))
    const moved = yield* moveClaims(moves)
    const refused = claims.filter(({ stored }) => !moved.has(stored.key))
    const cancellations = refused.map(({ stored }) => ({
      stored,
      evenCancelled: true,
      job: JobRules.settled(stored.job, { _tag: "Cancelled" }, now),
    }))
    const cancelled = yield* moveClaims(cancellations)
    const cancelledJobs = new Map(cancellations.map(({ job, stored }) => [stored.key, job]))

    const answers = claims.map(({ outcome, stored }, index): readonly [JobRecord, Settlement] => {
      if (moved.has(stored.key)) return [moves[index]!.job, outcome]
      return cancelled.has(stored.key)
        ? [cancelledJobs.get(stored.key)!, { _tag: "Cancelled" }]
        : [stored.job, { _tag: "Lost" }]
    })
    yield* append(answers.flatMap(([job, { _tag }]) => (_tag !== "Lost" && !isLive(job.state) ? [job] : [])))
    return answers
  })

  const heldBy = ({ claim: number, key }: Stored) => sql`job_key = ${key} AND claim = ${number} AND state = 'running'`

  const progress = (stored: Stored, value: JobJson) =>
    sql`UPDATE throughline_jobs SET progress = ${value} WHERE ${heldBy(stored)}`

  /** Ends a claim's lease. */
  const release = (stored: Stored, now: number) =>
    sql`UPDATE throughline_jobs SET lease_until = ${now} WHERE ${heldBy(stored)}`

  /** Ends the leases of some claims of a worker. */
  const releaseAll = (keys: ReadonlyArray<number>, worker: string, now: number) =>
    all(
      `UPDATE throughline_jobs SET lease_until = ? WHERE state = 'running' AND worker = ? AND job_key IN (${dialect.keys})`,
      [now, worker, JSON.stringify(keys)],
    )

  /** Lays rows that can't be decoded among the dead letters, so that they hold up no other. */
  const buryDamaged = Effect.fnUntraced(function* (row: jobRow.JobRow, now: number, problem: string) {
    const { id, key, name } = jobRow.placeOf(row)
    const failures = damaged(now, problem)
    yield* sql`UPDATE throughline_jobs SET state = 'dead', failures = ${failures}, report = NULL, trace = NULL, settled_at = ${now},
kept_until = ${now} + keep_dead, worker = NULL, lease_until = NULL, cancel_requested = 0 WHERE job_key = ${key}`
    const { last } = yield* openLog
    const failure = JSON.stringify((JSON.parse(failures) as ReadonlyArray<unknown>)[0])
    // An entry that nobody can read would hold up every reader of the log.
    if (!isJobId(id) || !isJobName(name)) return
    yield* all(logText(1), [last + 1, id, name, "dead", now, 0, null, failure])
    yield* sql`UPDATE throughline_job_log SET last = ${last + 1} WHERE id = 1`
  })

  // Claiming

  /** The ready jobs to start: by priority, then since when, then by acceptance; as many as there are slots. */
  const ready = Effect.fnUntraced(function* (free: ReadonlyArray<Free>, slots: number, now: number) {
    const found: Array<readonly [key: number, priority: number, readyAt: number, name: string]> = []
    for (let from = 0; from < free.length; from += namesAtOnce) {
      const names = free.slice(from, from + namesAtOnce)
      const parameters = names.flatMap(({ name, slots: own }) => ranks.flatMap(() => [name, now, Math.min(own, slots)]))
      const rows = yield* all(names.map(() => readyParts).join(" UNION ALL "), parameters)
      for (const row of rows) found.push([Number(row[0]), Number(row[1]), Number(row[2]), String(row[3])])
    }
    found.sort((a, b) => a[1] - b[1] || a[2] - b[2] || a[0] - b[0])
    const left = new Map<string, number>(free.map(({ name, slots: own }) => [name, own]))
    const chosen: Array<number> = []
    for (const [key, , , name] of found) {
      const own = left.get(name)!
      if (own === 0) continue
      left.set(name, own - 1)
      chosen.push(key)
      if (chosen.length === slots) break
    }
    return chosen
  })

  const claimText = `UPDATE throughline_jobs SET state = 'running', claim = claim + 1, worker = ?, lease_until = ?, started_at = ?,
cancel_requested = 0 WHERE job_key IN (${dialect.keys}) RETURNING ${jobRow.columns}`

  /** Claims ready jobs for a worker until `leaseUntil`, in the order in which they are to start. */
  const claim = Effect.fnUntraced(function* (
    free: ReadonlyArray<Free>,
    slots: number,
    worker: string,
    leaseUntil: number,
    now: number,
  ): Effect.fn.Return<Array<Stored>, SqlError> {
    const keys = yield* ready(free, slots, now)
    if (keys.length === 0) return []
    const rows = yield* all(claimText, [worker, leaseUntil, now, JSON.stringify(keys)])
    const claimed = new Map<number, Stored>()
    for (const row of rows) {
      const stored = jobRow.decode(row, now)
      if (Result.isSuccess(stored)) claimed.set(stored.success.key, stored.success)
      else yield* buryDamaged(row, now, stored.failure.detail)
    }
    return keys.flatMap((key) => claimed.get(key) ?? [])
  })

  const nextText = ranks
    .map(
      (rank) =>
        `SELECT min(ready_at) AS at FROM throughline_jobs WHERE state = 'pending' AND name = ? AND priority = ${rank} AND ready_at > ?`,
    )
    .join(" UNION ALL ")

  /** When the next delayed job of some names becomes ready; never is infinity. */
  const nextReady = Effect.fnUntraced(function* (names: ReadonlyArray<JobName>, now: number) {
    let at = Number.POSITIVE_INFINITY
    for (let from = 0; from < names.length; from += namesAtOnce) {
      const some = names.slice(from, from + namesAtOnce)
      const rows = yield* all(
        some.map(() => nextText).join(" UNION ALL "),
        some.flatMap((name) => ranks.flatMap(() => [name, now])),
      )
      for (const [readyAt] of rows) if (readyAt !== null) at = Math.min(at, Number(readyAt))
    }
    return at
  })

  // Holding on

  /** Extends the leases of a worker; gives the keys of the claims it still holds. */
  const renew = (worker: string, leaseUntil: number) =>
    Effect.map(
      sql`UPDATE throughline_jobs SET lease_until = ${leaseUntil} WHERE state = 'running' AND worker = ${worker}
RETURNING job_key, claim`.values,
      (rows) => new Map(rows.map(([key, number]) => [Number(key), Number(number)])),
    )

  /** The claims of a worker that are asked to be cancelled. */
  const cancelled = (worker: string) =>
    Effect.map(
      sql`SELECT job_key FROM throughline_jobs WHERE state = 'running' AND worker = ${worker} AND cancel_requested = 1`
        .values,
      (rows) => rows.map(([key]) => Number(key)),
    )

  /** Takes jobs from workers whose lease is over: how many, those that ended by it, and when the next lease is over. */
  const expire = Effect.fnUntraced(function* (
    maxCrashes: number,
    now: number,
  ): Effect.fn.Return<{ readonly found: number; readonly ended: Array<JobRecord>; readonly next: number }, SqlError> {
    const rows = yield* all(
      `SELECT ${jobRow.columns} FROM throughline_jobs WHERE state = 'running' AND lease_until <= ? ORDER BY lease_until LIMIT 256`,
      [now],
    )
    const ended: Array<JobRecord> = []
    for (const row of rows) {
      const decoded = jobRow.decode(row, now)
      if (Result.isFailure(decoded)) {
        yield* buryDamaged(row, now, decoded.failure.detail)
        continue
      }
      const { cancelRequested, job } = decoded.success
      // Nobody is left to interrupt.
      const next = cancelRequested
        ? JobRules.settled(job, { _tag: "Cancelled" }, now)
        : JobRules.crashed(job, maxCrashes, now)
      yield* move(decoded.success, next)
      if (!isLive(next.state)) ended.push(next)
    }
    yield* append(ended)
    const [row] = yield* sql`SELECT min(lease_until) FROM throughline_jobs WHERE state = 'running'`.values
    return { found: rows.length, ended, next: typeof row?.[0] === "number" ? row[0] : Number.POSITIVE_INFINITY }
  })

  return {
    accept,
    append,
    cancelled,
    claim,
    expire,
    fresh,
    holderOf,
    load,
    log,
    move,
    nameLog,
    nextReady,
    progress,
    release,
    releaseAll,
    renew,
    resultsAfter,
    settle,
    waiting,
  }
}

/** The operations on the jobs of one database. */
export interface JobStore extends ReturnType<typeof make> {}
