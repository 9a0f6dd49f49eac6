/** The services over a store, as a URL names it. */
import type { DeadLetter } from "@throughline/core/EventBridge"
import * as Throughline from "@throughline/core/Throughline"
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

/** The module is loaded where it is needed: its client takes a quarter of the time that the command takes to start. */
const redis = (
  url: RedisUrl.RedisUrl,
  options: Throughline.ThroughlineOptions,
): Layer.Layer<Throughline.Throughline, StoreNotOpened> => {
  const client = { url: url.address, sentinel: url.sentinel, keyPrefix: url.keyPrefix }
  const problem = `no answer within ${Duration.toSeconds(openFor)} seconds`
  return Layer.effectContext(
    Effect.gen(function* () {
      const RedisThroughline = yield* Effect.promise(() => import("@throughline/redis/RedisThroughline"))
      return yield* Layer.build(RedisThroughline.layer({ ...options, client })).pipe(
        Effect.mapError(({ reason }) => notOpened(url, reason.message)),
        Effect.timeoutOrElse({ duration: openFor, orElse: () => Effect.fail(notOpened(url, problem)) }),
      )
    }),
  )
}

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
