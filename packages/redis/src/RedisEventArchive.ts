/**
 * Replay across the runs of a Redis, in the order of positions.
 *
 * It goes by the index that the append script writes in the same step as the events: one entry an append, and one in the
 * session's own index where the run has a session. A page is one read-only script in one round trip, which a replica and a
 * full server run too. It holds at most `maxPageEvents` events and `maxPageBytes` bytes, of at most 250 appends, so that
 * no replay holds up the server for more than a few milliseconds.
 *
 * A filter of one session reads that session's index alone. One of runs skips to where they begin and ends where they do.
 * Everything else of a filter is asked of the events here, so what it leaves out is sent by Redis all the same.
 *
 * **Example** (The archive beside its store)
 *
 * ```ts
 * import * as IoRedis from "@throughline/redis/IoRedis"
 * import * as RedisEventArchive from "@throughline/redis/RedisEventArchive"
 * import * as RedisEventStore from "@throughline/redis/RedisEventStore"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Config from "effect/Config"
 * import * as Layer from "effect/Layer"
 *
 * export const layer = Layer.mergeAll(RedisEventStore.layer(), RedisEventArchive.layer()).pipe(
 *   Layer.provide(IoRedis.layerConfig({ url: Config.Redacted("REDIS_URL") })),
 *   Layer.provide(Throughline.layerCrypto),
 * )
 * ```
 */
import * as Cursor from "@throughline/core/Cursor"
import { type ArchiveItem, EventArchive, type ReplayError } from "@throughline/core/EventArchive"
import * as EventFilter from "@throughline/core/EventFilter"
import { ReadFailed, StoreBroken } from "@throughline/core/EventStoreError"
import { defaultBounds } from "@throughline/core/StoreOptions"
import * as Clock from "effect/Clock"
import type { Digest } from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as archivePage from "./internal/archivePage.ts"
import { IoRedis } from "./IoRedis.ts"
import type { RedisStoreOptions } from "./RedisEventStore.ts"
import { toStoreReason } from "./RedisFailed.ts"

/**
 * Those of the store that the archive needs: bounds are those of its pages, and the clock says which runs are past their
 * age. With `index: false` every replay fails with `ReadFailed`, its reason `StoreBroken`.
 */
export interface RedisArchiveOptions extends Pick<RedisStoreOptions, "bounds" | "clock" | "index"> {}

/** Where a replay is, and the last entry of the index that it looks at. */
interface Place {
  readonly after: number
  readonly until: number | undefined
}

/**
 * The archive of the store on the same server and prefix.
 *
 * Beside what `EventArchive` says, a replay fails with `ReadFailed`, its reason `StoreBroken`, at a run of which Redis evicted
 * a part, until the run is removed, and at once where there are runs and no index of them: they were written with
 * `index: false`, or Redis evicted it.
 */
export const make = Effect.fnUntraced(function* (
  options: RedisArchiveOptions = {},
): Effect.fn.Return<EventArchive["Service"], never, IoRedis | Digest> {
  const redis = yield* IoRedis
  const context = yield* Effect.context<Digest>()
  const { maxPageBytes, maxPageEvents } = { ...defaultBounds, ...options.bounds }
  const clock: Effect.Effect<number | undefined> =
    options.clock === "client" ? Clock.currentTimeMillis : Effect.succeed(undefined)

  const pageAfter = Effect.fnUntraced(function* (
    { filter: { runIds = [], sessionIds = [] } }: EventFilter.CompiledFilter,
    { after, until }: Place,
  ): Effect.fn.Return<archivePage.Page, ReplayError> {
    const bounds = { prefix: redis.keyPrefix, maxEvents: maxPageEvents, maxBytes: maxPageBytes }
    const answer = yield* Effect.mapError(
      redis.run(archivePage.script, { ...bounds, after, until, now: yield* clock, runIds, sessionIds }),
      (error) => new ReadFailed({ reason: toStoreReason(error) }),
    )
    const page = yield* Effect.mapError(Effect.fromResult(archivePage.pageOf(answer)), (error) =>
      error._tag === "StoreBroken" ? new ReadFailed({ reason: error }) : error,
    )
    if (page._tag === "Page") return page
    const position = until === undefined ? after : archivePage.endOf(until)
    return yield* new Cursor.CursorBeyondEnd({ position, end: page.end })
  })

  const replay: EventArchive["Service"]["replay"] = ({ after, filter }) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const compiled = yield* EventFilter.compile(filter)
        const start = after === undefined ? 0 : yield* Cursor.archivePosition(after, compiled.scope)
        if (options.index === false) return yield* new ReadFailed({ reason: notIndexed })
        const from: Place = { after: start, until: undefined }
        return Stream.paginate(from, (place) =>
          Effect.map(pageAfter(compiled, place), ({ found, reached, until }) => {
            const items = itemsOf(compiled, found)
            const end = archivePage.endOf(until)
            if (reached < end) return [items, Option.some<Place>({ after: reached, until })] as const
            items.push({ _tag: "Checkpoint", position: end, cursor: Cursor.archive(compiled.scope, end) })
            return [items, Option.none<Place>()] as const
          }),
        )
      }),
    ).pipe(Stream.provideContext(context))

  return EventArchive.of({ replay })
})

/** The archive of the store on the server of the `IoRedis`. See {@link make}. */
export const layer = (options?: RedisArchiveOptions): Layer.Layer<EventArchive, never, IoRedis | Digest> =>
  Layer.effect(EventArchive, make(options))

const notIndexed = new StoreBroken({ detail: "it is opened with `index: false`; without an index there is no archive" })

const itemsOf = (filter: EventFilter.CompiledFilter, found: ReadonlyArray<archivePage.Found>): Array<ArchiveItem> => {
  const items: Array<ArchiveItem> = []
  const encode = Cursor.encoder(filter.scope)
  for (const one of found) {
    if (one._tag === "Truncated") items.push({ _tag: "Truncated", runId: one.runId, from: 1, to: one.to })
    else if (filter.matches(one.envelope)) {
      const { envelope, generation, position } = one
      const cursor = encode({ _tag: "Archive", position })
      items.push({ _tag: "Event", envelope, position, cursor, runCursor: Cursor.run(envelope.seq, generation) })
    }
  }
  return items
}
