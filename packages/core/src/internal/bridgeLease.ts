/** How a bridge says that it is alive: all of its open runs are renewed, page by page, by one fiber. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { RunId } from "../Envelope.ts"
import type { EventStore } from "../EventStore.ts"
import { AppendFailed, StoreUnavailable } from "../EventStoreError.ts"

/** Runs renewed in one call. */
const runsPerCall = 1000

/** A lease lasts a few renewals, so a failed one is tried again well before the next is due. */
const retry = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")]).pipe(Schedule.jittered)

const noAnswer = new AppendFailed({ reason: new StoreUnavailable({ detail: "no answer to a renewal in time" }) })

/** Renews for ever. Runs that the store refuses to renew (ended or removed by somebody else) are told to `refused`. */
export const keepAlive = (
  store: EventStore["Service"],
  open: ReadonlySet<RunId>,
  lease: { readonly ttl: Duration.Input; readonly renewEvery: Duration.Input },
  refused: (runIds: ReadonlyArray<RunId>) => void,
): Effect.Effect<never> => {
  const renewEvery = Duration.fromInputUnsafe(lease.renewEvery)
  const renew = Effect.suspend(() => {
    const runIds = Array.from(open)
    const pages = Array.from({ length: Math.ceil(runIds.length / runsPerCall) }, (_, page) =>
      runIds.slice(page * runsPerCall, (page + 1) * runsPerCall),
    )
    return Effect.forEach(
      pages,
      (page) =>
        store.renew(page, { ttl: lease.ttl }).pipe(
          Effect.timeoutOrElse({ duration: Duration.divideUnsafe(renewEvery, 2), orElse: () => Effect.fail(noAnswer) }),
          Effect.map((answer) => refused(answer.refused)),
        ),
      { discard: true },
    )
  })
  return renew.pipe(
    Effect.retry({ schedule: retry, while: (error) => error.isRetryable }),
    Effect.catchCause((cause) => Effect.logWarning("open runs were not renewed", cause)),
    Effect.delay(renewEvery),
    Effect.forever,
  )
}
