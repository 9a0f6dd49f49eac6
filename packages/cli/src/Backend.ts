/** The services over a store, as a URL names it. */
import type { DeadLetter } from "@throughline/core/EventBridge"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import type { RedisFailed } from "@throughline/redis/RedisFailed"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as RedisUrl from "./RedisUrl.ts"
import * as StoreUrl from "./StoreUrl.ts"

/**
 * How long a producer's silence lasts before its run is ended. Not for daily use: shorter than the defaults, a busy
 * machine is taken for a dead one.
 */
const timing = Config.all({
  lease: Config.Duration("THROUGHLINE_LEASE").pipe(Config.withDefault(Duration.seconds(30))),
  grace: Config.Duration("THROUGHLINE_GRACE").pipe(Config.withDefault(Duration.seconds(15))),
  watchdog: Config.Duration("THROUGHLINE_WATCHDOG").pipe(Config.withDefault(Duration.seconds(5))),
})

/** The store can't be opened: its file is not ours or can't be written, its server is away or refuses us, … */
export class StoreNotOpened extends Schema.TaggedError<StoreNotOpened>("@throughline/cli/Backend/StoreNotOpened")(
  "StoreNotOpened",
  { url: Schema.String, problem: Schema.String },
) {
  override get message() {
    return `${this.url}: ${this.problem}`
  }
}

const notOpened = (url: StoreUrl.StoreUrl, problem: string) =>
  new StoreNotOpened({ url: StoreUrl.format(url), problem })

/** Behind Sentinels that know no master, a client looks for one for ever. `record` gives up after 10 seconds by itself. */
const openFor = Duration.seconds(8)

/** Opens what is on a Redis. What it is made of is loaded before its time begins: that is slow on a busy machine. */
const openRedis = <A>(
  url: RedisUrl.RedisUrl,
  load: () => Promise<Layer.Layer<A, RedisFailed>>,
): Layer.Layer<A, StoreNotOpened> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const layer = yield* Effect.promise(load)
      return yield* Layer.build(layer).pipe(
        Effect.mapError(({ reason }) => notOpened(url, reason.message)),
        Effect.timeoutOrElse({
          duration: openFor,
          orElse: () => Effect.fail(notOpened(url, `no answer within ${Duration.toSeconds(openFor)} seconds`)),
        }),
      )
    }),
  )

const clientOf = ({ address, sentinel }: RedisUrl.RedisUrl) => ({ url: address, sentinel })

// The modules are loaded where they are needed: the client takes a quarter of the time that the command takes to start.

const redis = (url: RedisUrl.RedisUrl, options: Throughline.ThroughlineOptions) =>
  openRedis(url, async () => {
    const RedisThroughline = await import("@throughline/redis/RedisThroughline")
    return RedisThroughline.layer({ ...options, client: { ...clientOf(url), keyPrefix: url.keyPrefix } })
  })

/** The jobs beside the runs of a Redis: their prefix is that of the runs, and `jobs`. */
const jobsPrefix = ({ keyPrefix = "throughline:" }: RedisUrl.RedisUrl) => `${keyPrefix}jobs`

const redisJobs = (url: RedisUrl.RedisUrl) =>
  openRedis(url, async () => {
    const [BullmqJobEngine, IoRedis, RedisThroughline] = await Promise.all([
      import("@throughline/bullmq/BullmqJobEngine"),
      import("@throughline/redis/IoRedis"),
      import("@throughline/redis/RedisThroughline"),
    ])
    return pool.pipe(
      Layer.provide(BullmqJobEngine.layer({ ...clientOf(url), prefix: jobsPrefix(url) })),
      Layer.provide(RedisThroughline.layerBackend()),
      Layer.provide(IoRedis.layer({ ...clientOf(url), keyPrefix: url.keyPrefix })),
      Layer.provide(Throughline.layerCrypto),
    )
  })

const pool = JobPool.layer()

/** Opens a store; `onDeadLetter` receives what can't be stored. */
export const layer = (
  url: StoreUrl.StoreUrl,
  onDeadLetter?: (letter: DeadLetter) => Effect.Effect<void>,
): Layer.Layer<Throughline.Throughline, StoreNotOpened | Config.ConfigError> =>
  Layer.unwrap(
    Effect.map(timing, ({ grace, lease, watchdog }) => {
      const options: Throughline.ThroughlineOptions = {
        bridge: {
          lease: { ttl: lease, renewEvery: Duration.millis(Duration.toMillis(lease) / 3) },
          grace: "1 second",
          // A line can be as long as an event may be, and the recorder has a buffer of its own.
          maxPending: 2000,
          onDeadLetter,
        },
        hub: { grace, watchdog },
      }
      if (url._tag === "Memory") return Throughline.layerMemory(options)
      if (url._tag === "Redis") return redis(url, options)
      return SqliteThroughline.layer({ ...options, filename: url.path }).pipe(
        Layer.catchTag("OpenFailed", ({ reason }) => Layer.effectContext(Effect.fail(notOpened(url, reason.message)))),
      )
    }),
  )

/**
 * The jobs of a store: in a file those beside its runs, on Redis those of the BullMQ engine. A job that reports under a run of
 * the same store goes on doing so.
 */
export const layerJobs = (
  url: Exclude<StoreUrl.StoreUrl, { readonly _tag: "Memory" }>,
): Layer.Layer<JobPool.JobPool, StoreNotOpened> =>
  url._tag === "Redis"
    ? redisJobs(url)
    : pool.pipe(
        Layer.provide(SqliteJobEngine.layer()),
        Layer.provide(SqliteThroughline.layerBackend({ filename: url.path })),
        Layer.provide(Throughline.layerCrypto),
        Layer.catchTag("OpenFailed", ({ reason }) => Layer.effectContext(Effect.fail(notOpened(url, reason.message)))),
      )
