/**
 * The event store on an `SqlClient`: every append is one transaction, decided by core's `AppendRules`.
 *
 * What an acknowledged append survives is what a commit of the database survives.
 *
 * **Example** (Beside an application's own tables)
 *
 * ```ts
 * import * as SqlEventArchive from "@throughline/sql/SqlEventArchive"
 * import * as SqlEventStore from "@throughline/sql/SqlEventStore"
 * import * as SqliteClient from "@throughline/sqlite/SqliteClient"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Layer from "effect/Layer"
 *
 * export const layer = Layer.mergeAll(
 *   SqlEventStore.layer({ retention: { ageAfterEnd: "30 days" } }),
 *   SqlEventArchive.layer(),
 * ).pipe(
 *   Layer.provideMerge(SqliteClient.layer({ filename: "app.db" })),
 *   Layer.provide(Throughline.layerCrypto),
 * )
 * ```
 */
import * as AppendRules from "@throughline/core/AppendRules"
import * as Cursor from "@throughline/core/Cursor"
import type { EventId, RunId } from "@throughline/core/Envelope"
import {
  type AppendError,
  type AppendRequest,
  type AppendResult,
  type AppendWillError,
  EventStore,
  type Page,
  type ReadError,
  type RenewResult,
} from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import { unknownHead } from "@throughline/core/RunHead"
import { defaultBounds, retained, type StoreOptions } from "@throughline/core/StoreOptions"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as eventRow from "./internal/eventRow.ts"
import * as eventRows from "./internal/eventRows.ts"
import * as producerRow from "./internal/producerRow.ts"
import * as runRow from "./internal/runRow.ts"
import * as runWriter from "./internal/runWriter.ts"
import * as settings from "./internal/settings.ts"
import * as SqlDialect from "./SqlDialect.ts"
import * as SqlMigrations from "./SqlMigrations.ts"

/**
 * Brings the database to this version's tables and opens the store until the scope closes.
 *
 * Fails with `OpenFailed` where that can't be done; the reason says whether trying again can help.
 */
export const make = Effect.fnUntraced(function* (
  options: StoreOptions = {},
): Effect.fn.Return<
  EventStore["Service"],
  SqlMigrations.OpenFailed,
  SqlClient.SqlClient | SecureRandom.SecureRandom | Scope.Scope
> {
  const bounds = { ...defaultBounds, ...options.bounds }
  const { ageAfterEnd, eventsPerRun } = retained(options.retention)
  const dialect = yield* SqlMigrations.migrate
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const random = yield* SecureRandom.SecureRandom
  const runs = runWriter.make(sql, dialect)
  const inTransaction = settings.writing(sql)
  const inOneMoment = settings.readingOnce(sql, dialect)

  const appendFailed =
    (runId: RunId | undefined) =>
    (error: Below): StoreError.AppendFailed =>
      new StoreError.AppendFailed({
        ...(runId === undefined ? undefined : { runId }),
        reason: error._tag === "SqlError" ? SqlDialect.reasonOf(dialect, error) : error,
      })

  const readFailed =
    (runId: RunId | undefined) =>
    (error: Below): StoreError.ReadFailed =>
      new StoreError.ReadFailed({
        ...(runId === undefined ? undefined : { runId }),
        reason: error._tag === "SqlError" ? SqlDialect.reasonOf(dialect, error) : error,
      })

  /** One transaction; what the database says no to becomes `AppendFailed`. */
  const writing = <A, E extends AppendError | AppendWillError>(
    runId: RunId | undefined,
    effect: Effect.Effect<A, E | Below>,
  ): Effect.Effect<A, E | StoreError.AppendFailed> =>
    Effect.mapError(inTransaction(effect), (error) =>
      error._tag === "SqlError" || error._tag === "StoreBroken" ? appendFailed(runId)(error) : error,
    )

  const append: EventStore["Service"]["append"] = Effect.fnUntraced(function* (request) {
    const { producer, runId } = request
    const invalid = AppendRules.checkRequest(request, bounds)
    if (invalid !== undefined) return yield* invalid
    return yield* writing(
      runId,
      Effect.gen(function* () {
        const loaded = yield* runs.load(runId)
        const record = loaded && producer && (yield* producerRow.load(sql, runId, producer.id))
        const generation = loaded === undefined ? yield* AppendRules.makeGeneration(random) : loaded.state.generation
        const now = yield* Clock.currentTimeMillis
        const decision = yield* Effect.fromResult(
          AppendRules.decide(loaded?.state, record, request, { now, generation, eventsPerRun }),
        )
        return decision._tag === "Write"
          ? yield* runs.store(decision, loaded)
          : yield* repeat(decision, request, loaded!)
      }),
    )
  })

  const repeat = Effect.fnUntraced(function* (
    decision: AppendRules.Repeat,
    request: AppendRequest,
    { row }: runWriter.Loaded,
  ): Effect.fn.Return<AppendResult, AppendError | Below> {
    const firstKept = Math.max(decision.record.firstSeq, row.first_seq)
    const { rows } = yield* eventRows.page(sql, dialect, {
      source: sql`FROM throughline_events AS e
WHERE e.run_key = ${row.run_key} AND e.seq >= ${firstKept} AND e.seq <= ${decision.record.lastSeq} ORDER BY e.seq`,
      limit: Math.max(1, decision.record.lastSeq - firstKept + 1),
      maxBytes: Number.MAX_SAFE_INTEGER,
    })
    const stored = yield* Effect.fromResult(
      Result.mapError(
        eventRows.envelopesOf(rows, runOf(row), firstKept),
        (corrupt) => new StoreError.StoreBroken({ detail: corrupt.message }),
      ),
    )
    const envelopes = yield* Effect.fromResult(AppendRules.repeated(decision, request, stored))
    const positions = new Map(stored.map((envelope, index) => [envelope.seq, eventRow.positionOf(rows[index]!)]))
    return {
      frames: AppendRules.framesOf(envelopes, row.generation, undefined).map((frame) => {
        const position = positions.get(frame.envelope.seq)
        return position === undefined ? frame : { ...frame, position }
      }),
      published: [],
    }
  })

  const loadHead = Effect.fnUntraced(function* (runId: RunId) {
    const rows = yield* sql`SELECT ${runs.runColumns} FROM throughline_runs AS r WHERE r.run_id = ${runId}`
    return rows.length === 0 ? undefined : yield* Effect.fromResult(runRow.decode(rows[0], runId))
  })

  const readPage = Effect.fnUntraced(function* (
    runId: RunId,
    place: Cursor.RunPlace,
    limit: number,
  ): Effect.fn.Return<Page, ReadError | Below> {
    const row = yield* loadHead(runId)
    const refused = AppendRules.checkPlace(runId, row && runRow.readState(row), place)
    if (refused !== undefined) return yield* refused
    if (row === undefined) return { envelopes: [], head: unknownHead(runId) }
    const head = runRow.headOf(row)
    if (place.seq === row.last_seq) return { envelopes: [], head }
    const run = runOf(row)
    const { rows } = yield* eventRows.page(sql, dialect, {
      source: sql`FROM throughline_events AS e WHERE e.run_key = ${row.run_key} AND e.seq > ${place.seq} ORDER BY e.seq`,
      limit: Math.min(limit, bounds.maxPageEvents),
      maxBytes: bounds.maxPageBytes,
    })
    const envelopes = yield* Effect.fromResult(
      rows.length === 0 ? eventRows.missing(run, place.seq + 1) : eventRows.envelopesOf(rows, run, place.seq + 1),
    )
    return { envelopes, head }
  })

  const read: EventStore["Service"]["read"] = Effect.fnUntraced(function* ({ after, limit, runId }) {
    const invalid = AppendRules.checkLimit(runId, limit)
    if (invalid !== undefined) return yield* invalid
    const place = yield* Cursor.runPlace(after)
    // The head and the page are of one moment.
    return yield* inOneMoment(readPage(runId, place, limit)).pipe(
      Effect.catchTag(["SqlError", "StoreBroken"], (error) => Effect.fail(readFailed(runId)(error))),
    )
  })

  const heads: EventStore["Service"]["runs"] = Effect.fnUntraced(function* ({ before, limit, sessionId, status }) {
    const invalid = AppendRules.checkLimit(undefined, limit)
    if (invalid !== undefined) return yield* invalid
    const conditions = [sql`1 = 1`]
    if (sessionId !== undefined) conditions.push(sql`r.session_id = ${sessionId}`)
    if (status === "running") conditions.push(sql`r.ending IS NULL`)
    else if (status !== undefined) conditions.push(sql`r.ending = ${status}`)
    if (before !== undefined) {
      conditions.push(sql`(r.started_at, r.run_id) < (${before.startedAt}, ${before.runId})`)
    }
    const rows = yield* sql`SELECT ${runs.runColumns} FROM throughline_runs AS r WHERE ${sql.and(conditions)}
ORDER BY r.started_at DESC, r.run_id DESC LIMIT ${Math.min(limit, 1000)}`.pipe(
      settings.reading,
      Effect.mapError(readFailed(undefined)),
    )
    return yield* Effect.forEach(rows, (row) =>
      Effect.fromResult(
        Result.mapBoth(runRow.decode(row), { onFailure: readFailed(undefined), onSuccess: runRow.headOf }),
      ),
    )
  })

  const producer: EventStore["Service"]["producer"] = Effect.fnUntraced(function* (runId, producerId) {
    const record = yield* producerRow
      .load(sql, runId, producerId)
      .pipe(settings.reading, Effect.mapError(readFailed(runId)))
    return record === undefined
      ? Option.none()
      : Option.some({ epoch: record.epoch, lastNumber: record.lastNumber, lastSeq: record.lastSeq })
  })

  const renew: EventStore["Service"]["renew"] = Effect.fnUntraced(function* (runIds, lease) {
    const invalid = AppendRules.checkLease(undefined, lease, bounds)
    if (invalid !== undefined && invalid._tag === "AppendFailed") return yield* invalid
    return yield* writing<RenewResult, never>(
      undefined,
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const renewed: Array<RunId> = []
        const refused: Array<RunId> = []
        for (const runId of new Set(runIds)) {
          const loaded = yield* runs.load(runId)
          const state = AppendRules.renewed(loaded?.state, lease, now)
          if (loaded === undefined || state === undefined) refused.push(runId)
          else {
            yield* runs.updateLease(loaded.row.run_key, state)
            renewed.push(runId)
          }
        }
        return { renewed, refused }
      }),
    )
  })

  const appendWill: EventStore["Service"]["appendWill"] = (runId, expected) =>
    writing(
      runId,
      Effect.gen(function* () {
        const loaded = yield* runs.load(runId)
        const now = yield* Clock.currentTimeMillis
        const decision = AppendRules.decideWill(runId, loaded?.state, expected, now, eventsPerRun)
        return yield* runs.store(yield* Effect.fromResult(decision), loaded)
      }),
    )

  const endAbandoned: EventStore["Service"]["endAbandoned"] = Effect.fnUntraced(function* ({ event, idleFor }) {
    const invalid = AppendRules.checkAbandoned(event, bounds)
    if (invalid !== undefined) return yield* invalid
    return yield* writing<Array<AppendResult>, never>(
      undefined,
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const idleSince = now - Duration.toMillis(Duration.fromInputUnsafe(idleFor))
        const found = yield* sql`SELECT r.run_id FROM throughline_runs AS r
WHERE r.ending IS NULL AND r.lease_version = 0 AND r.last_activity_at <= ${idleSince} ORDER BY r.run_key`.values
        const results: Array<AppendResult> = []
        for (const [runId] of found) {
          const loaded = yield* runs.load(runId as RunId)
          if (loaded === undefined || !AppendRules.isAbandoned(loaded.state, idleSince)) continue
          const eventId = (yield* random.uuidV7()) as EventId
          const write = AppendRules.ending(loaded.state, { ...event, eventId }, now, eventsPerRun)
          results.push(yield* runs.store(write, loaded))
        }
        return results
      }),
    )
  })

  const remove: EventStore["Service"]["remove"] = (runId) =>
    writing<boolean, never>(
      runId,
      Effect.gen(function* () {
        const rows = yield* sql`SELECT run_key FROM throughline_runs WHERE run_id = ${runId}`.values
        return rows.length > 0 && (yield* runs.forget(Number(rows[0]![0])))
      }),
    ).pipe(Effect.tap((removed) => (removed ? reclaim : Effect.void)))

  /** The run is gone whether or not this succeeds; what it leaves behind goes when the store is opened next. */
  const reclaim = runs.reclaim.pipe(Effect.catch((error) => Effect.logWarning("Removed runs still take space", error)))

  yield* Effect.forkScoped(reclaim)

  if (ageAfterEnd !== undefined) {
    const sweep = Effect.gen(function* () {
      const endedBy = (yield* Clock.currentTimeMillis) - ageAfterEnd
      const rows = yield* sql`SELECT run_key FROM throughline_runs
WHERE ending IS NOT NULL AND last_activity_at <= ${endedBy}`.values
      yield* Effect.forEach(rows, ([runKey]) => inTransaction(runs.forget(Number(runKey))), { discard: true })
      if (rows.length > 0) yield* runs.reclaim
    }).pipe(
      Effect.catch((error) => Effect.logWarning("Runs past their age were not removed; trying again later", error)),
    )
    yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(Math.min(Math.max(ageAfterEnd / 4, 10), 60_000))))
  }

  return EventStore.of({
    append,
    read,
    head: (runId) =>
      Effect.mapBoth(settings.reading(loadHead(runId)), {
        onFailure: readFailed(runId),
        onSuccess: (row) => (row === undefined ? unknownHead(runId) : runRow.headOf(row)),
      }),
    runs: heads,
    producer,
    renew,
    appendWill,
    endAbandoned,
    remove,
  })
})

/** The store on the database of the `SqlClient`. */
export const layer = (
  options?: StoreOptions,
): Layer.Layer<EventStore, SqlMigrations.OpenFailed, SqlClient.SqlClient | SecureRandom.SecureRandom> =>
  Layer.effect(EventStore, make(options))

/** What goes wrong below the store's own answers. */
type Below = SqlError | StoreError.StoreBroken

const runOf = (row: runRow.RunRow): eventRow.Run => ({
  runId: row.run_id,
  sessionId: row.session_id ?? undefined,
  schemaVersion: row.vocabulary_version,
})
