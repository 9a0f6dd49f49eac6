/**
 * Frames by position, for live adapters that learn from the database that something was committed.
 *
 * Positions rise in the order they become visible, so whoever has read up to a position needs only what is after it.
 */
import type { Frame, Room } from "@throughline/core/Envelope"
import type { CorruptRecord, StoreBroken, StoreFull, StoreUnavailable } from "@throughline/core/EventStoreError"
import { defaultBounds } from "@throughline/core/StoreOptions"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import * as positionRows from "./internal/positionRows.ts"
import * as settings from "./internal/settings.ts"
import * as SqlDialect from "./SqlDialect.ts"
import * as SqlMigrations from "./SqlMigrations.ts"

export type FramesError = StoreUnavailable | StoreFull | StoreBroken

export interface SqlFrames {
  /** The last position that was given out, 0 in an empty store. */
  readonly head: Effect.Effect<number, FramesError>
  /**
   * The frames after a position up to another that belong to one of the rooms. `complete`: they are all there; otherwise
   * there are more than a page of them (1,000 frames, 4 MiB), and these are the first.
   */
  readonly read: (range: {
    readonly after: number
    readonly until: number
    readonly rooms: Iterable<Room>
  }) => Effect.Effect<
    { readonly frames: ReadonlyArray<Frame>; readonly complete: boolean },
    FramesError | CorruptRecord
  >
}

/** Rooms that a statement names; with more of them every frame is read and the reader sorts them out. */
const namedRooms = 1000

/** Brings the database to this version's tables and reads frames from it. */
export const make: Effect.Effect<SqlFrames, SqlMigrations.OpenFailed, SqlClient.SqlClient> = Effect.gen(function* () {
  const dialect = yield* SqlMigrations.migrate
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()

  const conditionOf = (rooms: Iterable<Room>): Fragment | undefined => {
    const ids = {
      run: new Array<string>(),
      session: new Array<string>(),
      agent: new Array<string>(),
      provider: new Array<string>(),
    }
    let count = 0
    for (const room of rooms) {
      if (room._tag === "All" || ++count > namedRooms) return undefined
      if (room._tag === "Run") ids.run.push(room.runId)
      else if (room._tag === "Session") ids.session.push(room.sessionId)
      else if (room._tag === "Agent") ids.agent.push(room.agentId)
      else ids.provider.push(room.provider)
    }
    const conditions: Array<Fragment> = []
    const isOneOf = (column: string, values: ReadonlyArray<string>) => {
      if (values.length > 0) {
        conditions.push(sql`${sql.literal(column)} IN (${dialect.strings(sql, JSON.stringify(values))})`)
      }
    }
    isOneOf("r.run_id", ids.run)
    isOneOf("r.session_id", ids.session)
    isOneOf("e.agent_id", ids.agent)
    isOneOf("e.provider", ids.provider)
    return sql.or(conditions)
  }

  const unavailable = (error: SqlError) => SqlDialect.reasonOf(dialect, error)

  return {
    head: settings.reading(Effect.mapError(positionRows.head(sql), unavailable)),
    read: Effect.fnUntraced(function* ({ after, rooms, until }) {
      const { more, rows } = yield* positionRows
        .page(sql, dialect, {
          after,
          until,
          condition: conditionOf(rooms),
          limit: defaultBounds.maxPageEvents,
          maxBytes: defaultBounds.maxPageBytes,
        })
        .pipe(settings.reading, Effect.mapError(unavailable))
      const decode = positionRows.decoder()
      const frames: Array<Frame> = []
      for (const row of rows) {
        const decoded = decode(row)
        if (Result.isFailure(decoded)) return yield* decoded.failure
        frames.push(positionRows.frameOf(decoded.success))
      }
      return { frames, complete: !more }
    }),
  }
})
