/**
 * Reads every run of the plan to its end, some readers the sessions too, and writes down what it was given, in the order
 * it was given; may be killed at any moment. Started again, it goes on after the last event that it has written down of
 * each run and session.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import { RunId, SessionId } from "@throughline/core/Envelope"
import type { RunError, RunItem, SessionItem } from "@throughline/core/RunItem"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Plan from "./Plan.ts"
import * as Received from "./Received.ts"
import * as Process from "./Process.ts"

const { index, journal, path, told, url } = Process.begin("reader")

/** The first reader is slow: it lags behind every run and is served from the store. */
const dawdle = index === 0 ? Effect.sleep("20 millis") : Effect.void

const program = Effect.gen(function* () {
  const hub = yield* SubscriptionHub.SubscriptionHub
  const { runs, sessions } = Received.read(path)
  const lastSeqs = new Map([...runs].map(([name, { events }]) => [name, events[events.length - 1]?.seq ?? 0]))
  const follow = (name: string, at: number) => {
    const runId = RunId.make(name)
    const known = runs.get(name)
    if (known?.isComplete === true) return Effect.void
    const cursor = known?.events[known.events.length - 1]?.cursor
    // A bare seq and a cursor with a generation both resume.
    const after = at % 2 === 0 || cursor === undefined ? cursor : Number(cursor.split("-")[0])
    return hub.run(runId, after === undefined ? {} : { after }).pipe(
      Stream.runForEachArray((items: ReadonlyArray<RunItem<EncodedEnvelope>>) => {
        const lines = items.flatMap((item) => (item._tag === "Event" ? [Received.eventLine(item)] : []))
        for (const item of items) if (item._tag === "Event") lastSeqs.set(name, item.envelope.seq)
        return Effect.andThen(
          Effect.sync(() => journal.write(lines)),
          dawdle,
        )
      }),
      Effect.andThen(Effect.sync(() => journal.write([Received.completeLine(name)]))),
    )
  }
  /** Follows a session until it has given as much as its runs have, which `readAll` knows. */
  const followSession = Effect.fnUntraced(function* (name: string, readAll: Effect.Effect<unknown, RunError>) {
    const known = sessions.get(name)
    if (known?.isComplete === true) return
    let count = 0
    for (const { events } of known?.runs.values() ?? []) count += events.length
    const following = hub
      .session(SessionId.make(name), known?.cursor === undefined ? {} : { after: known.cursor })
      .pipe(
        Stream.runForEachArray((items: ReadonlyArray<SessionItem<EncodedEnvelope>>) =>
          Effect.sync(() => {
            const lines = items.flatMap((item) =>
              item._tag === "Event" ? [Received.sessionEventLine(name, item)] : [],
            )
            journal.write(lines)
            count += lines.length
          }),
        ),
      )
    const isWhole = Effect.sync(() => {
      const ours = told.runs.filter((run) => Plan.sessionOf(run) === name)
      return count >= ours.reduce((sum, { runId }) => sum + (lastSeqs.get(runId) ?? 0), 0)
    })
    yield* readAll.pipe(
      Effect.andThen(Effect.repeat(isWhole, { until: (is) => is, schedule: Schedule.spaced("50 millis") })),
      Effect.raceFirst(following),
    )
    journal.write([Received.sessionCompleteLine(name)])
  })
  const readingRuns = yield* Effect.forkChild(
    Effect.forEach(told.runs, (run, at) => follow(run.runId, at), { concurrency: "unbounded", discard: true }),
  )
  const readAll = Fiber.join(readingRuns)
  const names = Plan.readsSessions(index) ? Plan.sessionsOf(told) : []
  yield* Effect.forEach(names, (name) => followSession(name, readAll), { concurrency: "unbounded", discard: true })
  yield* readAll
})

const layer = SubscriptionHub.layer({ watchdog: told.watchdogMillis, grace: told.graceMillis }).pipe(
  Layer.provideMerge(Process.layerRedis(url)),
)

NodeRuntime.runMain(Effect.provide(program, layer))
