/** The services over a store, as a URL names it. */
import type { DeadLetter } from "@throughline/core/EventBridge"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreUrl } from "./StoreUrl.ts"

/**
 * How long a producer's silence lasts before its run is ended. Not for daily use: shorter than the defaults, a busy
 * machine is taken for a dead one.
 */
const timing = Config.all({
  lease: Config.Duration("THROUGHLINE_LEASE").pipe(Config.withDefault(Duration.seconds(30))),
  grace: Config.Duration("THROUGHLINE_GRACE").pipe(Config.withDefault(Duration.seconds(15))),
  watchdog: Config.Duration("THROUGHLINE_WATCHDOG").pipe(Config.withDefault(Duration.seconds(5))),
})

/** Opens a store; `onDeadLetter` receives what can't be stored. */
export const layer = (url: StoreUrl, onDeadLetter?: (letter: DeadLetter) => Effect.Effect<void>) =>
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
      return url._tag === "Memory"
        ? Throughline.layerMemory(options)
        : SqliteThroughline.layer({ ...options, filename: url.path })
    }),
  )
