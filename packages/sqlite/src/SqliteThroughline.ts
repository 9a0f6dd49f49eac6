/**
 * Throughline in one SQLite file: the log, its archive and live fan-out between the processes that share the file.
 *
 * **Example** (Recording and following runs in a file)
 *
 * ```ts
 * import * as AgentEvents from "@throughline/core/AgentEvents"
 * import * as Envelope from "@throughline/core/Envelope"
 * import * as EventBridge from "@throughline/core/EventBridge"
 * import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
 * import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * const program = Effect.gen(function* () {
 *   const bridge = yield* EventBridge.EventBridge
 *   const hub = yield* SubscriptionHub.SubscriptionHub
 *   const runId = Envelope.RunId.make("hello")
 *   yield* bridge.record(AgentEvents.vocabulary, { runId }, Stream.empty)
 *   return yield* Stream.runCollect(hub.run(runId))
 * }).pipe(Effect.provide(SqliteThroughline.layer({ filename: "runs.db" })))
 * ```
 */
import type { EventArchive } from "@throughline/core/EventArchive"
import type { EventStore } from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as SqlDialect from "@throughline/sql/SqlDialect"
import * as SqlEventArchive from "@throughline/sql/SqlEventArchive"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqlMigrations from "@throughline/sql/SqlMigrations"
import * as Context from "effect/Context"
import type { Digest } from "effect/crypto/Digest"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as ownership from "./internal/ownership.ts"
import * as SqliteClient from "./SqliteClient.ts"
import * as SqliteStreamAdapter from "./SqliteStreamAdapter.ts"

/** Which file, and how it is written, kept and followed. */
export interface FileOptions {
  /** A path; missing directories are created. Or `":memory:"`: a store of this process alone, gone with it. */
  readonly filename: string
  /**
   * What an append has survived when it is acknowledged: `"normal"`, the default, a kill of the process; `"full"` a power
   * cut too.
   */
  readonly synchronous?: "normal" | "full" | undefined
  /** How events of other processes are found. */
  readonly live?: SqliteStreamAdapter.Options | undefined
}

export interface Options extends FileOptions, Throughline.ThroughlineOptions {}

const inMemory = ":memory:"

const open = Effect.fnUntraced(function* (
  options: FileOptions,
): Effect.fn.Return<
  Context.Context<SqliteClient.SqliteClient | SqlClient.SqlClient>,
  SqlMigrations.OpenFailed,
  Scope.Scope | Reactivity.Reactivity
> {
  const { filename, synchronous } = options
  const isFile = filename !== inMemory
  const opened = Effect.gen(function* () {
    if (isFile) yield* ownership.checkFile(filename)
    const client = yield* SqliteClient.make({ filename, synchronous })
    if (isFile) yield* ownership.checkClient(client, filename)
    yield* Effect.provideService(SqlMigrations.migrate, SqlClient.SqlClient, client)
    if (isFile) yield* ownership.mark(client)
    return Context.make(SqliteClient.SqliteClient, client).pipe(Context.add(SqlClient.SqlClient, client))
  })
  return yield* Effect.mapError(opened, (error) => {
    if (error._tag === "OpenFailed") return error
    const reason = error._tag === "SqlError" ? SqlDialect.reasonOf(SqlDialect.sqlite, error) : error
    return new SqlMigrations.OpenFailed({ reason })
  })
})

/**
 * The event store, the archive and the live adapter of one file.
 *
 * Fails with `OpenFailed`, whose reason says what to do: `ForeignDatabase` for another application's file and `NewerFormat`
 * for a newer version's, both left as they are; `StoreBroken` for a file that is no database or can't be written;
 * `StoreFull`; and `StoreUnavailable`, which is worth another try.
 */
export const layerBackend = (
  options: FileOptions & Pick<Throughline.ThroughlineOptions, "store">,
): Layer.Layer<
  EventStore | EventArchive | StreamAdapter.StreamAdapter | SqliteClient.SqliteClient | SqlClient.SqlClient,
  SqlMigrations.OpenFailed,
  SecureRandom | Digest
> =>
  Layer.mergeAll(
    SqlEventStore.layer(options.store),
    SqlEventArchive.layer(options.store),
    options.filename === inMemory ? StreamAdapter.layerMemory : SqliteStreamAdapter.layer(options.live),
  ).pipe(Layer.provideMerge(Layer.effectContext(open(options))), Layer.provide(Reactivity.layer))

/**
 * Everything of one file, the way in and the way out included. Fails as `layerBackend` does.
 *
 * Of a file that is removed, moved, replaced or damaged while it is open, appends fail with `StoreBroken`, as `SqliteClient` says.
 */
export const layer = (options: Options): Layer.Layer<Throughline.Throughline, SqlMigrations.OpenFailed> =>
  Throughline.layer(layerBackend(options), options)
