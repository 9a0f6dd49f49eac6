/** Promise 6: the run, whole, while everything below goes wrong. */
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Envelope from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Reader from "./hubReader.ts"
import * as World from "./hubWorld.ts"

const arbitraryHub = Arbitrary.all({ pageEvents: Generator.int(1, 10), bufferEvents: Generator.int(2, 20) })

/** Most answers are seconds old when they come, and the live path has told more by then. */
const slowStore = Arbitrary.map(
  Arbitrary.all({
    seed: Generator.int(0, 1_000_000),
    late: Generator.int(50, 100),
    lateMillis: Generator.int(100, 5_000),
  }),
  (slow): FaultPlan.StorePlan => ({ ...FaultPlan.calmStore, ...slow }),
)

const arbitraryTrouble = Arbitrary.all({
  store: Generator.frequency([
    [3, FaultPlan.arbitraryStore({ within: 8_000, outages: [0, 2], hang: true })],
    [1, slowStore],
  ]),
  adapter: Generator.frequency([
    [5, FaultPlan.arbitraryAdapter({ within: 8_000, outages: [1, 3] })],
    [1, Arbitrary.Constant(FaultPlan.calmAdapter)],
  ]),
})

/** How long a reader may need for what is stored, once all outages are over: several refused reads and a slow pace. */
const patience = 300_000

/** A repair: after some reader had caught up, the store served events that the live path should have brought. */
const repaired = (probe: World.Probe, runId: Envelope.RunId, readers: ReadonlyArray<Reader.Seen>): boolean => {
  const first = readers.flatMap((seen) => seen.caughtUp).toSorted((left, right) => left.at - right.at)[0]
  if (first === undefined) return false
  return probe.reads.some(
    (read) =>
      read.runId === runId &&
      read.returned > 0 &&
      read.at > first.at &&
      Number.parseInt(String(read.after ?? 0), 10) >= first.head,
  )
}

const tell = Effect.fnUntraced(function* (
  process: World.Process,
  readers: ReadonlyArray<{ readonly runId: Envelope.RunId; readonly seen: Reader.Seen }>,
  reach: Law.Reach,
) {
  const adapter = yield* process.adapterFaults.counts
  const store = yield* process.storeFaults.counts
  const resubscribed = Array.from(process.probe.subscribes.values()).some((subscribes) => subscribes > 1)
  if (adapter.broken + adapter.reconnected > 0) reach("an outage of the live path")
  if (store.refused > 0) reach("an outage of the store")
  if (adapter.reconnected > 0 || (adapter.broken > 0 && resubscribed)) reach("a reconnect")
  if (adapter.lost > 0) reach("a lost message")
  if (adapter.doubled > 0) reach("a doubled message")
  if (adapter.delayed + adapter.reordered > 0) reach("a late message")
  if (store.failedAfter > 0) reach("an answer after the work was done")
  if (readers.some(({ seen }) => seen.visits > 1)) reach("a reader that came back")
  const runIds = new Set(readers.map(({ runId }) => runId))
  for (const runId of runIds) {
    const seen = readers.filter((reader) => reader.runId === runId).map((reader) => reader.seen)
    if (repaired(process.probe, runId, seen)) reach("a repair")
  }
})

export const whole: Law.Law<World.Below, StoreOptions> = Law.make({
  promise: 6,
  name: "a reader sees each seq after its place once, in order, to the end, whatever goes wrong below",
  history: Arbitrary.all({
    trouble: arbitraryTrouble,
    hub: arbitraryHub,
    producers: Arbitrary.array(
      Arbitrary.array(
        Arbitrary.all({ wait: Generator.int(0, 3_000), run: Generator.int(0, 1), events: Generator.int(1, 8) }),
        {
          minLength: 3,
          maxLength: 8,
        },
      ),
      { minLength: 1, maxLength: 3 },
    ),
    ends: Generator.int(0, 3_000),
    readers: Arbitrary.array(Arbitrary.all({ run: Generator.int(0, 1), plan: Reader.arbitraryReader }), {
      minLength: 1,
      maxLength: 5,
    }),
  }),
  runs: 1000,
  enough: 100,
  reaches: {
    "a repair": 0.2,
    "an outage of the live path": 0.2,
    "an outage of the store": 0.2,
    "a reconnect": 0.2,
    "a lost message": 0.2,
    "a doubled message": 0.2,
    "a late message": 0.2,
    "an answer after the work was done": 0.2,
    "a reader that came back": 0.2,
  },
  property: Effect.fnUntraced(function* (history, reach) {
    const process = yield* World.start(history.trouble, history.hub)
    const readers = yield* Effect.forEach(history.readers, ({ plan, run }, index) =>
      Effect.map(Reader.follow(process, World.runIdOf(run), plan), (seen) => ({
        name: `reader ${index}`,
        runId: World.runIdOf(run),
        seen,
      })),
    )
    const runIds = [0, 1].map(World.runIdOf)
    const producing = yield* Effect.forkChild(
      Effect.gen(function* () {
        yield* Effect.forEach(
          history.producers,
          Effect.fnUntraced(function* (steps, index) {
            const append = World.producer(`producer-${index}`, process)
            for (const { events, run, wait } of steps) {
              yield* Effect.sleep(wait)
              yield* append(World.runIdOf(run), yield* Effect.forEach(Array(events).keys(), World.step))
            }
          }),
          { concurrency: "unbounded", discard: true },
        )
        yield* Effect.sleep(history.ends)
        const append = World.producer("closer", process)
        for (const runId of runIds) yield* append(runId, [yield* World.done])
      }),
      { startImmediately: true },
    )
    const produced = yield* World.until(() => producing.pollUnsafe() !== undefined, patience)
    yield* Law.holds(produced, "the producers never came to an end (a fault of the store under test)")
    yield* Fiber.join(producing)
    yield* World.until(() => readers.every(({ seen }) => seen.finishedAt !== undefined), patience)
    for (const { name, runId, seen } of readers) {
      const { envelopes } = yield* World.canonical(runId)
      yield* Reader.sawWhole(`${name} of ${runId}`, seen, envelopes)
    }
    yield* tell(process, readers, reach)
  }),
})

export const oldAnswers: Law.Law<World.Below, StoreOptions> = Law.make({
  promise: 6,
  name: "answers older than what the live path has brought mislead no reader",
  history: Arbitrary.all({
    store: slowStore,
    hub: arbitraryHub,
    watchdog: Generator.int(100, 3_000),
    writes: Arbitrary.array(Arbitrary.all({ wait: Generator.int(0, 3_000), events: Generator.int(1, 2) }), {
      minLength: 2,
      maxLength: 8,
    }),
    /** What readers spend on an event, in ms: a busy one takes the next while an old answer is believed. */
    paces: Arbitrary.array(Generator.int(0, 3_000), { minLength: 1, maxLength: 4 }),
  }),
  runs: 200,
  enough: 60,
  property: Effect.fnUntraced(function* ({ hub, paces, store, watchdog, writes }) {
    const runId = World.runIdOf(0)
    const process = yield* World.start({ store, adapter: FaultPlan.calmAdapter }, { ...hub, watchdog })
    const seen = yield* Effect.forEach(paces, (pace) => Reader.follow(process, runId, { ...Reader.plain, pace }))
    for (const { events, wait } of writes) {
      yield* World.write(process.adapter, runId, yield* World.steps(events))
      yield* TestClock.adjust(wait)
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => seen.every(({ finishedAt }) => finishedAt !== undefined), patience)
    const { envelopes } = yield* World.canonical(runId)
    for (const [index, reader] of seen.entries()) yield* Reader.sawWhole(`reader ${index}`, reader, envelopes)
  }),
})
