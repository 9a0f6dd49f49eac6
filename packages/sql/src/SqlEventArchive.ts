/** Replay across the runs of an `SqlClient`'s database, in the order of positions. */
import * as Cursor from "@throughline/core/Cursor"
import { RunId } from "@throughline/core/Envelope"
import { type ArchiveItem, EventArchive } from "@throughline/core/EventArchive"
import * as EventFilter from "@throughline/core/EventFilter"
import { type CorruptRecord, ReadFailed, StoreBroken } from "@throughline/core/EventStoreError"
import { defaultBounds, type StoreOptions } from "@throughline/core/StoreOptions"
import type { Digest } from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import * as positionRows from "./internal/positionRows.ts"
import * as settings from "./internal/settings.ts"
import * as SqlDialect from "./SqlDialect.ts"
import * as SqlMigrations from "./SqlMigrations.ts"

/**
 * Positions that one page of a filtered replay looks through at most: what doesn't match costs a microsecond each, and the
 * event loop gets its turn between pages.
 */
const window = 10_000

const Truncated = Schema.Tuple([RunId, Schema.Int, Schema.Int])
type Truncated = typeof Truncated.Type
const decodeTruncated = Schema.decodeUnknownEffect(Truncated)

interface ReplayPage {
  readonly items: Array<ArchiveItem>
  /** All positions up to here have been looked at. */
  readonly reached: number
}

/** Brings the database to this version's tables and opens the archive; bounds are those of its pages. */
export const make = Effect.fnUntraced(function* (
  options: Pick<StoreOptions, "bounds"> = {},
): Effect.fn.Return<EventArchive["Service"], SqlMigrations.OpenFailed, SqlClient.SqlClient | Digest> {
  const { maxPageBytes, maxPageEvents } = { ...defaultBounds, ...options.bounds }
  const dialect = yield* SqlMigrations.migrate
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const context = yield* Effect.context<Digest>()

  const inOneMoment = settings.readingOnce(sql, dialect)

  /** What the runs' own rows say; the rest of the filter is asked of each envelope. */
  const conditionOf = ({ filter: { runIds, sessionIds } }: EventFilter.CompiledFilter): Fragment | undefined => {
    const conditions: Array<Fragment> = []
    if (runIds !== undefined) conditions.push(sql`r.run_id IN (${dialect.strings(sql, JSON.stringify(runIds))})`)
    if (sessionIds !== undefined) {
      conditions.push(sql`r.session_id IN (${dialect.strings(sql, JSON.stringify(sessionIds))})`)
    }
    return conditions.length === 0 ? undefined : sql.and(conditions)
  }

  /** The next positions worth looking through: runs say where their first and last events are. */
  const nextWindow = Effect.fnUntraced(function* (
    condition: Fragment | undefined,
    after: number,
    until: number,
  ): Effect.fn.Return<{ readonly after: number; readonly until: number }, SqlError> {
    if (condition === undefined) return { after, until }
    const first = sql.literal(dialect.greatest("r.first_position", "r.trimmed_position + 1"))
    const rows = yield* sql`SELECT min(${first}), max(r.last_position) FROM throughline_runs AS r
WHERE r.last_position > ${after} AND ${condition}`.values
    const [from, to] = rows[0] as readonly [number | null, number | null]
    if (from === null || to === null) return { after: until, until }
    const begin = Math.max(after, from - 1)
    return { after: begin, until: Math.min(until, to, begin + window) }
  })

  /**
   * What was trimmed is told at the place of its last position: there every reader whose cursor is before it comes by,
   * and nobody else.
   */
  const truncatedBetween = Effect.fnUntraced(function* (
    condition: Fragment | undefined,
    after: number,
    reached: number,
  ): Effect.fn.Return<Array<Truncated>, SqlError | StoreBroken> {
    const rows = yield* sql`SELECT r.run_id, r.first_seq, r.trimmed_position FROM throughline_runs AS r
WHERE r.trimmed_position > ${after} AND r.trimmed_position <= ${reached} AND r.trimmed_position > 0
AND ${condition ?? sql`1 = 1`} ORDER BY r.trimmed_position`.values
    return yield* Effect.forEach(rows, (row) =>
      Effect.mapError(
        decodeTruncated(row),
        (problem) => new StoreBroken({ detail: `a trimmed run can't be decoded (${String(problem)})` }),
      ),
    )
  })

  const replayPage = Effect.fnUntraced(function* (
    filter: EventFilter.CompiledFilter,
    from: number,
    until: number,
  ): Effect.fn.Return<ReplayPage, CorruptRecord | SqlError | StoreBroken> {
    const condition = conditionOf(filter)
    const range = yield* nextWindow(condition, from, until)
    const page = { ...range, condition, limit: maxPageEvents, maxBytes: maxPageBytes }
    const { more, rows } =
      range.after < range.until ? yield* positionRows.page(sql, dialect, page) : { more: false, rows: [] }
    const events: Array<positionRows.Positioned> = []
    const decode = positionRows.decoder()
    let reached = range.until
    for (const row of rows) {
      const decoded = decode(row)
      if (Result.isSuccess(decoded)) {
        events.push(decoded.success)
        continue
      }
      // What is before it goes out first; the next page begins with the failure.
      if (events.length === 0) return yield* decoded.failure
      break
    }
    if (more || events.length < rows.length) reached = events[events.length - 1]!.position
    const truncated = yield* truncatedBetween(condition, from, reached)
    return { items: itemsOf(filter, events, truncated), reached }
  })

  const replay: EventArchive["Service"]["replay"] = ({ after, filter }) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const compiled = yield* EventFilter.compile(filter)
        const start = after === undefined ? 0 : yield* Cursor.archivePosition(after, compiled.scope)
        const until = yield* settings.reading(positionRows.head(sql))
        if (start > until) return yield* new Cursor.CursorBeyondEnd({ position: start, end: until })
        return Stream.paginate(start, (from) =>
          Effect.map(inOneMoment(replayPage(compiled, from, until)), ({ items, reached }) => {
            if (reached < until) return [items, Option.some(reached)] as const
            items.push({ _tag: "Checkpoint", position: until, cursor: Cursor.archive(compiled.scope, until) })
            return [items, Option.none<number>()] as const
          }),
        )
      }),
    ).pipe(
      Stream.catchTag(["SqlError", "StoreBroken"], (error) => {
        const reason = error._tag === "SqlError" ? SqlDialect.reasonOf(dialect, error) : error
        return Stream.fail(new ReadFailed({ reason }))
      }),
      Stream.provideContext(context),
    )

  return EventArchive.of({ replay })
})

/** The items of a page, each notice of what was trimmed before the events that follow its place. */
const itemsOf = (
  filter: EventFilter.CompiledFilter,
  events: ReadonlyArray<positionRows.Positioned>,
  truncated: ReadonlyArray<Truncated>,
): Array<ArchiveItem> => {
  const items: Array<ArchiveItem> = []
  let told = 0
  const tell = (before: number): void => {
    for (; told < truncated.length && truncated[told]![2] < before; told++) {
      const [runId, firstSeq] = truncated[told]!
      items.push({ _tag: "Truncated", runId, from: 1, to: firstSeq - 1 })
    }
  }
  for (const { envelope, generation, position } of events) {
    if (!filter.matches(envelope)) continue
    tell(position)
    const cursor = Cursor.archive(filter.scope, position)
    items.push({ _tag: "Event", envelope, position, cursor, runCursor: Cursor.run(envelope.seq, generation) })
  }
  tell(Number.POSITIVE_INFINITY)
  return items
}

/** The archive of the database of the `SqlClient`. */
export const layer = (
  options?: Pick<StoreOptions, "bounds">,
): Layer.Layer<EventArchive, SqlMigrations.OpenFailed, SqlClient.SqlClient | Digest> =>
  Layer.effect(EventArchive, make(options))
