/** Promises 7 and 12 of the bridge: an open run is kept alive, a run gets its end, and a stopped bridge leaves nothing. */
import { EventStore } from "@throughline/core/EventStore"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as World from "./bridgeWorld.ts"

const hour = 3_600_000

const step = (run: number, n: number): World.Input => ({
  runId: World.runIdOf(run),
  event: { _tag: "Step", n, text: "" },
})

/** Promise 7. */
export const keptAlive: Law.Law<World.Below> = Law.make({
  promise: 7,
  name: "a run that waits for an hour holds its lease and its will all the time, and can be written on",
  history: Arbitrary.all({
    runs: Generator.int(1, 3),
    store: Arbitrary.map(FaultPlan.arbitraryStore({ within: hour / 2, outages: [0, 2] }), (plan) => ({
      ...plan,
      late: 0,
      hang: plan.fail > 10 ? 5 : 0,
      inARow: 1,
    })),
  }),
  runs: 8,
  fixed: true,
  reaches: { "a failed renewal": 0.15 },
  property: Effect.fnUntraced(function* ({ runs, store: plan }, reach) {
    const store = yield* EventStore
    const process = yield* World.start({ ...World.calm, store: plan })
    const feed = yield* World.feed<World.Input>()
    const { handle } = yield* World.open(process, feed.stream)
    const runIds = Array.from({ length: runs }, (_, run) => World.runIdOf(run))
    for (let run = 0; run < runs; run++) yield* feed.give([step(run, run)])
    yield* World.until(() => process.probe.appends.filter(({ answer }) => answer === "stored").length >= runs, 60_000)
    for (let waited = 0; waited < hour; waited += 5_000) {
      const now = yield* Clock.currentTimeMillis
      for (const runId of runIds) {
        const { lease, status } = yield* Effect.orDie(store.head(runId))
        yield* Law.holds(status === "running", `${runId} is ${status}`)
        yield* Law.holds(
          lease !== undefined && lease.hasWill && lease.expiresAt > now,
          `after ${waited / 1000} s ${runId} is left without a lease that holds and has a will`,
        )
      }
      yield* World.pass(5_000)
    }
    for (let run = 0; run < runs; run++) yield* feed.give([step(run, 100)])
    yield* feed.end
    yield* World.finished(handle)
    for (const runId of runIds)
      yield* Law.holds((yield* World.stored(runId)).head.lastSeq === 2, `${runId} took no more`)
    const { calls, failed } = yield* process.storeFaults.counts
    if (failed > 0 && calls.renew > hour / 10_000) reach("a failed renewal")
  }),
})

/** Why a run is renewed no more. */
const leavings = ["ended", "end too large", "end refused", "end given up", "ended by another"] as const

/** Promise 7. */
export const renewedNoMore: Law.Law<World.Below> = Law.make({
  promise: 7,
  name: "a run is renewed no more once it ended, its end is a dead letter, or its bridge stopped",
  history: Arbitrary.all({
    runs: Arbitrary.array(Generator.weighted(leavings.map((leaving) => [1, leaving] as const)), {
      minLength: 1,
      maxLength: 5,
    }),
    finish: Generator.weighted([
      [1, "stop"],
      [1, "close"],
      [1, "end"],
      [1, "drain"],
    ]),
    /** Whether something is still given to the runs after they were left. */
    more: Generator.boolean,
  }),
  runs: 40,
  enough: 20,
  property: Effect.fnUntraced(function* ({ finish, more, runs }) {
    const store = yield* EventStore
    const gone = "gone"
    const process = yield* World.start(
      World.calm,
      { retry: Schedule.upTo(Schedule.spaced("100 millis"), { times: 2 }) },
      (request, append) =>
        request.events.some(({ event }) => event.includes(gone)) ? World.unavailable(request.runId) : append,
    )
    const feed = yield* World.feed<World.Input>()
    const { close, handle } = yield* World.open(process, feed.stream)
    const staying = World.runIdOf(runs.length)
    for (let run = 0; run <= runs.length; run++) yield* feed.give([step(run, run)])
    yield* World.pass(15_000)
    for (const [run, leaving] of runs.entries()) {
      const runId = World.runIdOf(run)
      if (leaving === "ended by another") {
        const end = { eventId: `01890a5d-ac96-774b-bcce-b302099a805${run}`, kind: "Lost", event: `{"_tag":"Lost"}` }
        const lost = { ...end, delivery: "terminal", endsRun: "failed", emittedAt: "1970-01-01T00:00:00.000Z" }
        yield* Effect.orDie(
          store.append({
            runId,
            vocabulary: World.vocabulary.id,
            // Ids and JSON by hand; the store checks neither.
            events: [{ ...lost, tags: [], correlation: {} } as never],
          }),
        )
        continue
      }
      const text = leaving === "end too large" ? World.tooLarge : leaving === "end given up" ? gone : ""
      yield* feed.give([{ runId, event: { _tag: "Done", n: leaving === "end refused" ? Number.NaN : 50, text } }])
    }
    yield* World.pass(12_000)
    const leftAt = yield* Clock.currentTimeMillis
    if (more) for (let run = 0; run < runs.length; run++) yield* feed.give([step(run, 70)])
    yield* World.pass(60_000)
    const since = (from: number) =>
      new Set(process.probe.renewals.filter(({ at }) => at >= from).flatMap(({ runIds }) => runIds))
    yield* Law.same("the runs renewed after all but one were left", [...since(leftAt)], [staying])
    if (finish === "end") yield* feed.end
    const finishing = finish === "stop" ? handle.stop : finish === "drain" ? handle.drain : handle.await
    if (finish === "close") yield* World.within(10_000, "closing", close)
    else yield* World.within(10_000, finish, finishing)
    const stoppedAt = yield* Clock.currentTimeMillis
    yield* World.pass(1)
    const calls = process.probe.calls
    yield* World.pass(120_000)
    yield* Law.same("the runs renewed after the bridge stopped", [...since(stoppedAt + 1)], [])
    yield* Law.same("calls made by a stopped bridge", process.probe.calls - calls, 0)
    yield* close
  }),
})

const endings = ["own end", "stream ends", "stream fails", "stream dies", "interrupted"] as const

/** Promise 7. */
export const recorded: Law.Law<World.Below> = Law.make({
  promise: 7,
  name: "a recorded run is its stream to the last event, then its end: the stream's own, or the will at once",
  history: Arbitrary.all({
    ending: Generator.weighted(endings.map((ending) => [1, ending] as const)),
    events: Generator.int(0, 12),
    wait: Generator.int(0, 300),
    named: Generator.boolean,
    store: Arbitrary.map(FaultPlan.arbitraryStore(), (plan) => ({ ...plan, outages: [], lateMillis: 100, inARow: 2 })),
  }),
  runs: 60,
  enough: 30,
  reaches: { "a retry": 0.15 },
  property: Effect.fnUntraced(function* ({ ending, events, named, store, wait }, reach) {
    const process = yield* World.start({ ...World.calm, store }, { maxBatchEvents: 4 })
    const run = { runId: World.runIdOf(0), sessionId: `s-${events}` as never }
    const feed = yield* World.feed<{ readonly event: World.LawEvent }>()
    const stream = ending === "stream dies" ? Stream.concat(feed.stream, Stream.die("the source died")) : feed.stream
    const options = named ? { producerId: "mine" } : {}
    const recording = yield* World.fork(process.bridge.record(World.vocabulary, run, stream, options))
    const names = Array.from({ length: events }, (_, n) => n)
    for (const n of names) {
      yield* feed.give([{ event: { _tag: "Step", n, text: "" } }])
      if (n % 3 === 2) yield* World.pass(wait)
    }
    yield* World.settle
    const beforeEnd = yield* Clock.currentTimeMillis
    if (ending === "own end") yield* feed.give([{ event: { _tag: "Done", n: events, text: "" } }])
    if (ending === "stream fails") yield* feed.fail
    if (ending === "interrupted") recording.interruptUnsafe()
    else yield* feed.end
    const exit = (yield* World.within(60_000, "record", Fiber.await(recording))) as Exit.Exit<
      Exit.Exit<{ readonly ended: boolean; readonly stored: number; readonly dead: number }, string>
    >
    if (Exit.isFailure(exit)) return yield* Law.broken("the fiber of record can't be awaited")

    const taken = feed.taken.flatMap(({ event }) => (event._tag === "Lost" ? [] : [event.n]))
    const expected: Array<number | "Lost"> = ending === "own end" ? taken : [...taken, "Lost"]
    yield* Law.same("what the stream gave", taken, ending === "own end" ? [...names, events] : names)
    const { envelopes, head } = yield* World.stored(run.runId)
    yield* Law.same(
      "the recorded run",
      envelopes.map(({ event }) => World.nameOf(event)),
      expected,
    )
    yield* Law.same("how it ended", head.status, ending === "own end" ? "completed" : "failed")
    yield* Law.holds(
      envelopes.at(-1)!.emittedAt >= Vocabulary.timestamp(beforeEnd),
      "the end is dated before the stream was over",
    )
    yield* Law.holds(
      envelopes.every(({ sessionId }) => sessionId === run.sessionId),
      "an event of the run is in no session",
    )
    const { probe } = process
    if (probe.appends.some(({ answer }) => answer === "AppendFailed")) reach("a retry")
    const came = exit.value
    if (ending === "own end" || ending === "stream ends") {
      yield* Law.holds(
        Exit.isSuccess(came) && came.value.ended && came.value.stored === expected.length && came.value.dead === 0,
        "the result doesn't say what was stored",
      )
    } else if (ending === "stream fails") {
      yield* Law.same("the failure", came, Exit.fail("the source broke"))
    } else yield* Law.holds(Exit.isFailure(came), "it ended well")
  }),
})

/** Promise 12. */
export const nothingLeft: Law.Law<World.Below> = Law.make({
  promise: 12,
  name: "bridges that were started and stopped many times leave nothing that still calls the store or takes from a source",
  history: Arbitrary.all({
    rounds: Generator.int(20, 60),
    finish: Generator.weighted([
      [1, "close"],
      [1, "stop"],
      [1, "interrupt"],
    ]),
    stuck: Generator.boolean,
  }),
  runs: 10,
  fixed: true,
  property: Effect.fnUntraced(function* ({ finish, rounds, stuck }) {
    const process = yield* World.start(World.calm, { grace: "100 millis" }, (_, append) =>
      stuck ? Effect.never : append,
    )
    const feeds: Array<World.Feed<World.Input>> = []
    for (let round = 0; round < rounds; round++) {
      const feed = yield* World.feed<World.Input>()
      feeds.push(feed)
      const life = Effect.scoped(
        Effect.gen(function* () {
          const handle = yield* process.bridge.start(World.vocabulary, feed.stream)
          yield* feed.give([step(round, 0)])
          yield* World.settle
          if (finish === "stop") yield* handle.stop
          if (finish === "interrupt") return yield* Effect.never
        }),
      )
      const fiber = yield* World.fork(life)
      yield* World.settle
      if (finish === "interrupt") fiber.interruptUnsafe()
      yield* World.until(() => fiber.pollUnsafe() !== undefined, 1_000)
      yield* Law.holds(fiber.pollUnsafe() !== undefined, `round ${round} was not over within its grace time`)
    }
    const calls = process.probe.calls
    for (const [round, feed] of feeds.entries()) yield* feed.give([step(round, 1)])
    yield* World.pass(hour)
    yield* Law.same("calls afterwards", process.probe.calls - calls, 0)
    yield* Law.same(
      "events taken",
      feeds.map(({ taken }) => taken.length),
      feeds.map(() => 1),
    )
    yield* Law.same("dead letters", process.letters.length, stuck ? rounds : 0)
  }),
})
