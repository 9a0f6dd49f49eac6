/**
 * Reads every run of the plan to its end and writes down what it was given, in the order it was given; may be killed at
 * any moment. Started again, it goes on after the last event of each run that it has written down.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import { RunId } from "@throughline/core/Envelope"
import type { RunItem } from "@throughline/core/RunItem"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Received from "./Received.ts"
import * as Process from "./Process.ts"

const { index, journal, path, told, url } = Process.begin("reader")

/** The first reader is slow: it lags behind every run and is served from the store. */
const dawdle = index === 0 ? Effect.sleep("20 millis") : Effect.void

const program = Effect.gen(function* () {
  const hub = yield* SubscriptionHub.SubscriptionHub
  const before = Received.read(path)
  const follow = (name: string, at: number) => {
    const runId = RunId.make(name)
    const known = before.get(name)
    if (known?.isComplete === true) return Effect.void
    const cursor = known?.events[known.events.length - 1]?.cursor
    // A bare seq and a cursor with a generation both resume.
    const after = at % 2 === 0 || cursor === undefined ? cursor : Number(cursor.split("-")[0])
    return hub.run(runId, after === undefined ? {} : { after }).pipe(
      Stream.runForEachArray((items: ReadonlyArray<RunItem<EncodedEnvelope>>) => {
        const lines = items.flatMap((item) => (item._tag === "Event" ? [Received.eventLine(item)] : []))
        return Effect.andThen(
          Effect.sync(() => journal.write(lines)),
          dawdle,
        )
      }),
      Effect.andThen(Effect.sync(() => journal.write([Received.completeLine(name)]))),
    )
  }
  yield* Effect.forEach(told.runs, (run, at) => follow(run.runId, at), { concurrency: "unbounded", discard: true })
})

const layer = SubscriptionHub.layer({ watchdog: told.watchdogMillis, grace: told.graceMillis }).pipe(
  Layer.provide(Process.layerRedis(url)),
)

NodeRuntime.runMain(Effect.provide(program, layer))
