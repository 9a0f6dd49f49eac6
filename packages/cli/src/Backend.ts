/** The services over a store, as a URL names it. */
import type { DeadLetter } from "@throughline/core/EventBridge"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
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

/** The store can't be opened: its file is not ours, is newer than this version, can't be written, … */
export class StoreNotOpened extends Schema.TaggedError<StoreNotOpened>("@throughline/cli/Backend/StoreNotOpened")(
  "StoreNotOpened",
  { url: Schema.String, problem: Schema.String },
) {
  override get message() {
    return `${this.url}: ${this.problem}`
  }
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
      return SqliteThroughline.layer({ ...options, filename: url.path }).pipe(
        Layer.catchTag("OpenFailed", ({ reason }) =>
          Layer.effectContext(Effect.fail(new StoreNotOpened({ url: StoreUrl.format(url), problem: reason.message }))),
        ),
      )
    }),
  )
