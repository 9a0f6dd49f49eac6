/** Promises 6, 8, 10 and 12: what readers share, that they don't hold each other up, and that nothing is left of them. */
import * as Envelope from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Reader from "./hubReader.ts"
import * as World from "./hubWorld.ts"

type HubLaw = Law.Law<World.Below, StoreOptions>

const runId = World.runIdOf(0)
const room = Envelope.roomName(World.runRoom(runId))

export const notHeldUp: HubLaw = Law.make({
  promise: 8,
  name: "a slow, stuck or leaving reader holds up no other",
  history: Arbitrary.all({
    hub: Arbitrary.all({ pageEvents: Generator.int(1, 10), bufferEvents: Generator.int(1, 20) }),
    before: Generator.int(0, 30),
    bursts: Arbitrary.array(Generator.int(1, 30), { minLength: 1, maxLength: 5 }),
    /** What the others do on each event: nothing ever again, wait some ms, or leave. */
    others: Arbitrary.array(
      Generator.frequency<"stuck" | "leaving" | number>([
        [1, Arbitrary.Constant("stuck" as const)],
        [1, Arbitrary.Constant("leaving" as const)],
        [1, Generator.int(1, 10_000)],
      ]),
      { minLength: 1, maxLength: 4 },
    ),
    readers: Generator.int(1, 3),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ before, bursts, hub, others, readers }) {
    const process = yield* World.start(World.calm, hub)
    if (before > 0) yield* World.write(process.adapter, runId, yield* World.steps(before))
    yield* Effect.forEach(others, (other) => {
      const stream = process.hub.run(runId)
      const onItem = other === "stuck" ? Effect.never : other === "leaving" ? Effect.void : Effect.sleep(other)
      return Reader.collect(Stream.tap(other === "leaving" ? Stream.take(stream, 3) : stream, () => onItem))
    })
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    yield* World.settle
    let stored = before
    for (const burst of bursts) {
      yield* World.write(process.adapter, runId, yield* World.steps(burst))
      stored += burst
      const arrived = yield* World.atOnce(() => seen.every(({ envelopes }) => envelopes.length === stored))
      yield* Law.holds(arrived, () => {
        const places = seen.map(({ envelopes }) => envelopes.length).join(", ")
        return `${stored} events were stored and published, the quick readers are at seq ${places}`
      })
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.atOnce(() => seen.every(({ finishedAt }) => finishedAt !== undefined))
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of seen) yield* Reader.sawWhole("a quick reader", reader, envelopes)
  }),
})

export const bounded: HubLaw = Law.make({
  promise: 8,
  name: "a reader far behind costs a few pages, however far it is and however little it takes",
  history: Arbitrary.all({
    pageEvents: Generator.int(1, 20),
    bufferEvents: Generator.int(1, 20),
    stored: Generator.int(100, 600),
    takes: Generator.int(0, 40),
    minutes: Generator.int(0, 2),
  }),
  runs: 50,
  enough: 20,
  property: Effect.fnUntraced(function* ({ bufferEvents, minutes, pageEvents, stored, takes }) {
    const process = yield* World.start(World.calm, { pageEvents, bufferEvents })
    yield* World.write(process.adapter, runId, yield* World.steps(stored))
    let taken = 0
    yield* process.hub.run(runId).pipe(
      Stream.runForEach(() => (taken++ < takes ? Effect.void : Effect.never)),
      Effect.forkScoped({ startImmediately: true }),
    )
    yield* World.settle
    yield* TestClock.adjust(minutes * 60_000)
    const held = process.probe.reads.reduce((sum, { returned }) => sum + returned, 0) - Math.min(taken, takes)
    yield* Law.holds(
      held <= 3 * pageEvents + bufferEvents,
      `${held} events were read and not taken: page ${pageEvents}, buffer ${bufferEvents}`,
    )
    const asked = Math.max(...process.probe.reads.map(({ limit }) => limit))
    yield* Law.holds(asked <= pageEvents, `a page of ${asked} events was asked for, the bound is ${pageEvents}`)
  }),
})

export const shared: HubLaw = Law.make({
  promise: 8,
  name: "readers of one run share one live subscription and one repair read",
  history: Arbitrary.all({
    readers: Generator.int(2, 30),
    before: Generator.int(0, 20),
    holes: Arbitrary.array(Generator.int(1, 10), { minLength: 1, maxLength: 4 }),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ before, holes, readers }) {
    const process = yield* World.start()
    const { probe } = process
    if (before > 0) yield* World.write(process.adapter, runId, yield* World.steps(before))
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    let stored = before
    const arrived = () => seen.every(({ caughtUp, envelopes }) => caughtUp.length === 1 && envelopes.length === stored)
    yield* World.atOnce(arrived)
    for (const lost of holes) {
      const reads = probe.reads.length
      yield* World.write(undefined, runId, yield* World.steps(lost))
      yield* World.write(process.adapter, runId, yield* World.steps(1))
      stored += lost + 1
      yield* Law.holds(yield* World.atOnce(arrived), `a hole of ${lost} events was not repaired at once`)
      const repairs = probe.reads.length - reads
      yield* Law.holds(repairs <= 2, `${repairs} reads repaired one hole for ${readers} readers`)
    }
    yield* Law.same("subscriptions of the run", probe.subscribes.get(room), 1)
    yield* Law.holds(probe.mostReads <= 1 || before > 0, `${probe.mostReads} reads of the run were under way at once`)
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.atOnce(() => seen.every(({ finishedAt }) => finishedAt !== undefined))
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of seen) yield* Reader.sawWhole("a reader", reader, envelopes)
  }),
})

export const burst: HubLaw = Law.make({
  promise: 10,
  name: "a burst past every buffer loses no event, terminal ones included, and is repaired at once",
  history: Arbitrary.all({
    hub: Arbitrary.all({ pageEvents: Generator.int(1, 20), bufferEvents: Generator.int(1, 4) }),
    bursts: Arbitrary.array(Generator.int(1, 80), { minLength: 1, maxLength: 4 }),
    readers: Generator.int(1, 4),
  }),
  reaches: { "an overflow": 0.5 },
  property: Effect.fnUntraced(function* ({ bursts, hub, readers }, reach) {
    const process = yield* World.start(World.calm, hub)
    yield* World.write(process.adapter, runId, yield* World.steps(1))
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    yield* World.atOnce(() => seen.every(({ caughtUp }) => caughtUp.length === 1))
    let stored = 1
    for (const events of bursts) {
      yield* World.write(process.adapter, runId, yield* World.steps(events))
      stored += events
      if (events > hub.bufferEvents) reach("an overflow")
      // What was lost at the end of the burst shows no hole: only the gap tells of it.
      const arrived = yield* World.atOnce(() => seen.every(({ envelopes }) => envelopes.length === stored))
      yield* Law.holds(arrived, `a burst of ${events} events was not repaired at once`)
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.atOnce(() => seen.every(({ finishedAt }) => finishedAt !== undefined))
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of seen) yield* Reader.sawWhole("a reader", reader, envelopes)
  }),
})

const rounds = 10_000

export const nothingLeft: HubLaw = Law.make({
  promise: 12,
  name: "ten thousand readers that came and went leave no fiber, subscription, room or timer",
  history: Arbitrary.Constant({ rounds }),
  runs: 1,
  fixed: true,
  hangsAfter: 200_000,
  property: Effect.fnUntraced(function* () {
    let fibers = 0
    const counted = Effect.provideService(Metric.FiberRuntimeMetrics, {
      recordFiberStart: () => {
        fibers++
      },
      recordFiberEnd: () => {
        fibers--
      },
    })
    const sessionId = Envelope.SessionId.make("session-0")
    yield* Effect.gen(function* () {
      const process = yield* World.start()
      const { archive, hub, probe } = process
      const openRun = World.runIdOf(0)
      const endedRun = World.runIdOf(1)
      yield* World.write(process.adapter, openRun, yield* World.steps(3), { sessionId })
      yield* World.write(process.adapter, endedRun, [...(yield* World.steps(3)), yield* World.done])
      yield* World.settle
      const before = fibers
      const session = Stream.provideService(hub.session(sessionId), EventArchive, archive)
      const visits: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        Stream.runDrain(Stream.take(hub.run(openRun), 4)),
        Stream.runDrain(hub.run(endedRun)),
        Stream.runDrain(hub.run(openRun)),
        Stream.runDrain(hub.run(World.runIdOf(2))),
        Stream.runDrain(Stream.take(hub.run(endedRun), 2)),
        Stream.runDrain(hub.run(openRun, { after: 1000 })),
        Stream.runDrain(Stream.take(session, 1)),
        Stream.runDrain(session),
        Effect.flatMap(hub.subscribeRun(openRun, { limit: 2 }), ({ live }) => Stream.runDrain(Stream.take(live, 1))),
      ]
      for (let round = 0; round < rounds; round++) {
        if (round === rounds / 2) yield* process.adapterFaults.down("fail")
        const visit = yield* Effect.forkScoped(Effect.ignore(visits[round % visits.length]), {
          startImmediately: true,
        })
        if (round % 3 === 0) yield* World.settle
        visit.interruptUnsafe()
      }
      yield* TestClock.adjust("10 seconds")
      yield* World.settle
      yield* Law.same("subscriptions left", probe.open.size, 0)
      yield* Law.same("rooms left", (yield* process.adapterFaults.counts).open, 0)
      yield* Law.same("fibers left", fibers - before, 0)
      const { calls } = probe
      yield* TestClock.adjust("10 minutes")
      yield* Law.same("calls of the store and the adapter in the minutes after", probe.calls - calls, 0)
      yield* process.adapterFaults.up
      const late = yield* Reader.follow(process, endedRun, Reader.plain)
      yield* World.until(() => late.finishedAt !== undefined, 10_000)
      const { envelopes } = yield* World.canonical(endedRun)
      yield* Reader.sawWhole("the last reader", late, envelopes)
    }).pipe(counted)
  }),
})
