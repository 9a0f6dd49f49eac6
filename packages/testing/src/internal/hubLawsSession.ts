/** Promises 6 and 11 for sessions: all runs of a session, present and future, in position order. */
import * as Envelope from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import { EventStore } from "@throughline/core/EventStore"
import type { SessionError, SessionItem } from "@throughline/core/RunItem"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Reader from "./hubReader.ts"
import * as World from "./hubWorld.ts"

type HubLaw = Law.Law<World.Below, StoreOptions>
type Item = SessionItem<Envelope.EncodedEnvelope>

const mine = Envelope.SessionId.make("session-0")
const theirs = Envelope.SessionId.make("session-1")

/** Runs 0 and 1 are of the session, 2 is of another, 3 of none. */
const sessionOf = (run: number): Envelope.SessionId | undefined => (run < 2 ? mine : run === 2 ? theirs : undefined)

/** What the case's own archive says of the session. */
const truth = Effect.gen(function* () {
  const archive = yield* EventArchive
  const items = yield* Stream.runCollect(archive.replay({ filter: { sessionIds: [mine] } }))
  return items.filter((item) => item._tag === "Event")
})

const eventsOf = (items: ReadonlyArray<Item>) => items.filter((item) => item._tag === "Event")

const arbitraryWrites = Arbitrary.array(
  Arbitrary.all({ wait: Generator.int(0, 2_000), run: Generator.int(0, 3), events: Generator.int(1, 5) }),
  { minLength: 1, maxLength: 10 },
)

/** A reader of the session: it is cut after some items or some time, and resumes from the last cursor it saw. */
interface SessionReader {
  readonly joins: number
  readonly cuts: ReadonlyArray<Reader.Cut>
}

interface Seen {
  readonly events: Array<Item & { readonly _tag: "Event" }>
  visits: number
  error: SessionError | undefined
  broken: string | undefined
}

const open = (process: World.Process, after?: string) =>
  Stream.provideService(process.hub.session(mine, { after }), EventArchive, process.archive)

const follow = Effect.fnUntraced(function* (process: World.Process, plan: SessionReader) {
  const seen: Seen = { events: [], visits: 0, error: undefined, broken: undefined }
  let cursor: string | undefined
  const life = Effect.gen(function* () {
    yield* Effect.sleep(plan.joins)
    for (const cut of [...plan.cuts, undefined]) {
      seen.visits++
      const there = (yield* Effect.orDie(truth)).length
      let caughtUp = 0
      let left = cut?.events ?? Number.POSITIVE_INFINITY
      yield* open(process, cursor).pipe(
        Stream.takeUntil((item) => item._tag === "Event" && --left <= 0),
        Stream.runForEach((item) =>
          Effect.sync(() => {
            if (item._tag === "Truncated") seen.broken ??= "Truncated, but nothing was trimmed"
            else {
              cursor = item.cursor
              if (item._tag === "Event") {
                seen.events.push(item)
                return
              }
              if (++caughtUp > 1) seen.broken ??= "CaughtUp came twice on one connection"
              if (seen.events.length < there) {
                seen.broken ??= `CaughtUp after ${seen.events.length} events; ${there} were stored when it was opened`
              }
            }
          }),
        ),
        cut === undefined ? (self) => self : Effect.timeoutOption(cut.millis),
      )
      yield* Effect.sleep(cut?.away ?? 0)
    }
    seen.broken ??= "the session's stream ended"
  })
  yield* life.pipe(
    Effect.catch((error) =>
      Effect.sync(() => {
        seen.error = error
      }),
    ),
    Effect.forkScoped({ startImmediately: true }),
  )
  return seen
})

export const session: HubLaw = Law.make({
  promise: 6,
  name: "a session's reader sees each event of its runs once, in position order, present and future, and resumes by position",
  history: Arbitrary.all({
    hub: Arbitrary.all({ pageEvents: Generator.int(1, 10), bufferEvents: Generator.int(2, 20) }),
    trouble: Arbitrary.all({
      store: FaultPlan.arbitraryStore({ within: 8_000 }),
      adapter: FaultPlan.arbitraryAdapter({ within: 8_000 }),
    }),
    producers: Arbitrary.array(arbitraryWrites, { minLength: 1, maxLength: 3 }),
    readers: Arbitrary.array(
      Arbitrary.all({
        joins: Generator.int(0, 8_000),
        cuts: Arbitrary.array(
          Arbitrary.all({
            events: Generator.int(1, 12),
            millis: Generator.int(0, 8_000),
            away: Generator.int(0, 4_000),
          }),
          { maxLength: 3 },
        ),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  runs: 200,
  enough: 50,
  reaches: { "a reader that came back": 0.2, "events of two runs": 0.2, "a lost message": 0.2 },
  property: Effect.fnUntraced(function* ({ hub, producers, readers, trouble }, reach) {
    const process = yield* World.start(trouble, hub)
    const seen = yield* Effect.forEach(readers, (plan) => follow(process, plan))
    const producing = yield* Effect.forkChild(
      Effect.forEach(
        producers,
        Effect.fnUntraced(function* (writes, index) {
          const append = World.producer(`producer-${index}`, process)
          for (const { events, run, wait } of writes) {
            yield* Effect.sleep(wait)
            yield* append(World.runIdOf(run), yield* World.steps(events), { sessionId: sessionOf(run) })
          }
        }),
        { concurrency: "unbounded", discard: true },
      ),
      { startImmediately: true },
    )
    const produced = yield* World.until(() => producing.pollUnsafe() !== undefined, 300_000)
    yield* Law.holds(produced, "the producers never came to an end (a fault of the store under test)")
    yield* Fiber.join(producing)
    const events = yield* truth
    yield* World.until(() => seen.every((reader) => reader.events.length >= events.length), 300_000)
    yield* TestClock.adjust(20_000)
    for (const [index, reader] of seen.entries()) {
      const who = `reader ${index}`
      if (reader.broken !== undefined) return yield* Law.broken(`${who}: ${reader.broken}`)
      if (reader.error !== undefined) return yield* Law.broken(`${who} failed: ${reader.error.message}`)
      yield* Law.same(`what ${who} saw`, reader.events, events)
      if (reader.visits > 1) reach("a reader that came back")
    }
    if (new Set(events.map(({ envelope }) => envelope.runId)).size > 1) reach("events of two runs")
    if ((yield* process.adapterFaults.counts).lost > 0) reach("a lost message")
  }),
})

export const notHoles: HubLaw = Law.make({
  promise: 9,
  name: "events of other sessions never look like a hole, and a session with nothing new reads little",
  history: Arbitrary.all({
    before: arbitraryWrites,
    writes: arbitraryWrites,
    readers: Generator.int(1, 3),
    quiet: Generator.int(0, 60),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ before, quiet, readers, writes }) {
    const process = yield* World.start()
    const write = ({ events, run }: (typeof writes)[number]) =>
      Effect.flatMap(World.steps(events), (encoded) =>
        World.write(process.adapter, World.runIdOf(run), encoded, { sessionId: sessionOf(run) }),
      )
    for (const step of before) yield* write(step)
    const collected = yield* Effect.replicateEffect(Reader.collect(open(process)), readers)
    yield* World.settle
    let reads = process.probe.replays
    let stored = yield* truth
    const arrived = () => collected.every(({ items }) => eventsOf(items).length === stored.length)
    yield* Law.holds(yield* World.atOnce(arrived), "the session's replay took time")
    for (const step of writes) {
      yield* write(step)
      stored = yield* truth
      yield* Law.holds(yield* World.atOnce(arrived), "an event of the session was published, but took time to arrive")
      const looked = process.probe.replays - reads
      const allowed = sessionOf(step.run) === mine ? readers * (step.events + 1) : readers
      yield* Law.holds(looked <= allowed, `${looked} replays after ${step.events} events of run ${step.run}`)
      reads = process.probe.replays
    }
    yield* TestClock.adjust(quiet * 1000)
    const looked = process.probe.replays - reads
    yield* Law.holds(looked <= readers * (2 + quiet / 2), `${looked} replays in ${quiet} s without an event`)
    for (const { end, items } of collected) {
      yield* Law.same("the session's stream", end, "open")
      yield* Law.same("the session's events", eventsOf(items), stored)
      yield* Law.same("CaughtUp items", items.length - stored.length, 1)
    }
  }),
})

export const ownCursor: HubLaw = Law.make({
  promise: 11,
  name: "a session resumes only from its own cursors",
  history: Arbitrary.all({ stored: Generator.int(1, 5), cut: Generator.int(0, 5) }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ cut, stored }) {
    const process = yield* World.start()
    const archive = yield* EventArchive
    for (const run of [0, 2]) {
      yield* World.write(process.adapter, World.runIdOf(run), yield* World.steps(stored), { sessionId: sessionOf(run) })
    }
    const cursorOf = Effect.fnUntraced(function* (filter: { readonly sessionIds?: ReadonlyArray<Envelope.SessionId> }) {
      const items = yield* Stream.runCollect(archive.replay({ filter }))
      const last = items.at(-1)!
      return last._tag === "Truncated" ? "" : last.cursor
    })
    const own = yield* cursorOf({ sessionIds: [mine] })
    const refuses = Effect.fnUntraced(function* (after: string, error: SessionError["_tag"]) {
      const seen = yield* Reader.collect(open(process, after))
      yield* World.until(() => seen.end !== "open", 1000)
      yield* Law.same(`the answer to ${after}`, typeof seen.end === "string" ? seen.end : seen.end._tag, error)
    })
    yield* refuses(yield* cursorOf({ sessionIds: [theirs] }), "CursorScopeMismatch")
    yield* refuses(yield* cursorOf({}), "CursorScopeMismatch")
    yield* refuses(own.slice(0, cut), "InvalidCursor")
    yield* refuses("1-aaaaaaaa", "InvalidCursor")
    const resumed = yield* Reader.collect(open(process, own))
    yield* World.settle
    yield* World.write(process.adapter, World.runIdOf(1), yield* World.steps(1), { sessionId: mine })
    yield* World.atOnce(() => resumed.items.length === 2)
    const runs = resumed.items.map((item) => (item._tag === "Event" ? item.envelope.runId : item._tag))
    yield* Law.same("what the resumed session gives", runs, ["CaughtUp", World.runIdOf(1)])
  }),
})

export const leavesOut: HubLaw = Law.make({
  promise: 9,
  name: "a session leaves removed runs out and tells of trimmed ones",
  options: () => ({ retention: { eventsPerRun: 3 } }),
  history: Arbitrary.all({
    before: Arbitrary.array(Arbitrary.all({ run: Generator.int(0, 1), events: Generator.int(1, 6) }), {
      minLength: 1,
      maxLength: 6,
    }),
    removes: Generator.boolean,
  }),
  reaches: { "a trimmed run": 0.2 },
  enough: 40,
  property: Effect.fnUntraced(function* ({ before, removes }, reach) {
    const process = yield* World.start()
    const archive = yield* EventArchive
    const store = yield* EventStore
    for (const { events, run } of before) {
      yield* World.write(process.adapter, World.runIdOf(run), yield* World.steps(events), { sessionId: mine })
    }
    if (removes) yield* Effect.orDie(store.remove(World.runIdOf(0)))
    const stored = yield* Stream.runCollect(archive.replay({ filter: { sessionIds: [mine] } }))
    const seen = yield* Reader.collect(open(process))
    yield* World.atOnce(() => seen.items.length >= stored.length)
    yield* Law.same(
      "the session",
      seen.items.filter((item) => item._tag !== "CaughtUp"),
      stored.filter((item) => item._tag !== "Checkpoint"),
    )
    if (stored.some(({ _tag }) => _tag === "Truncated")) reach("a trimmed run")
  }),
})
