/** Promise 7: the end arrives, and an end gets stored. */
import type * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Reader from "./hubReader.ts"
import * as World from "./hubWorld.ts"

type HubLaw = Law.Law<World.Below, StoreOptions>

const runId = World.runIdOf(0)
const forever = 10 * 24 * 3_600_000

/** A jittered watchdog looks again within twice its interval. */
const looksWithin = (watchdog: number) => 2 * watchdog * 1000

/** A live path that brings nothing, in one way or another, from a moment on. */
const deadPath = (how: "lose" | FaultPlan.AdapterOutage["mode"], from: number): World.Trouble => ({
  ...World.calm,
  adapter:
    how === "lose"
      ? { ...FaultPlan.calmAdapter, lose: 100 }
      : { ...FaultPlan.calmAdapter, outages: [{ from, lasts: forever, mode: how }] },
})

export const atOnce: HubLaw = Law.make({
  promise: 7,
  name: "while the live path works, what is stored arrives with no time passing",
  history: Arbitrary.all({
    hub: Arbitrary.all({ pageEvents: Generator.int(1, 10), bufferEvents: Generator.int(8, 20) }),
    before: Generator.int(0, 20),
    writes: Arbitrary.array(Generator.int(1, 8), { minLength: 1, maxLength: 6 }),
    readers: Generator.int(1, 4),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ before, hub, readers, writes }) {
    const process = yield* World.start(World.calm, hub)
    if (before > 0) yield* World.write(process.adapter, runId, yield* World.steps(before))
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    let stored = before
    const arrived = () => seen.every(({ caughtUp, envelopes }) => caughtUp.length === 1 && envelopes.length === stored)
    yield* Law.holds(yield* World.atOnce(arrived), `the replay of ${stored} events took time`)
    for (const events of writes) {
      yield* World.write(process.adapter, runId, yield* World.steps(events))
      stored += events
      yield* Law.holds(yield* World.atOnce(arrived), () => {
        const places = seen.map(({ envelopes }) => envelopes.length).join(", ")
        return `${stored} events were stored and published, the readers are at seq ${places}`
      })
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    const ended = yield* World.atOnce(() => seen.every(({ end }) => end === "completed"))
    yield* Law.holds(ended, "the end was stored and published, but a stream did not complete at once")
  }),
})

export const askedToLook: HubLaw = Law.make({
  promise: 7,
  name: "a run removed under its readers ends them as soon as the hub is asked to look, written again or not",
  history: Arbitrary.all({
    hub: Arbitrary.all({ pageEvents: Generator.int(1, 10), bufferEvents: Generator.int(8, 20) }),
    stored: Generator.int(1, 12),
    /** Events of the run that is written again, which no live frame tells of; 0: it isn't. */
    again: Generator.int(0, 15),
    readers: Generator.int(1, 4),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ again, hub, readers, stored }) {
    const store = yield* EventStore
    const process = yield* World.start(World.calm, hub)
    yield* World.write(process.adapter, runId, yield* World.steps(stored))
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    const arrived = () => seen.every(({ caughtUp, envelopes }) => caughtUp.length === 1 && envelopes.length === stored)
    yield* Law.holds(yield* World.atOnce(arrived), `the replay of ${stored} events took time`)
    yield* Effect.orDie(store.remove(runId))
    if (again > 0) yield* World.write(undefined, runId, yield* World.steps(again))
    // Of a run that nobody watches there is nothing to look at.
    yield* process.hub.look(World.runIdOf(1))
    yield* process.hub.look(runId)
    const ended = yield* World.atOnce(() =>
      seen.every(({ end }) => typeof end !== "string" && end._tag === "RunRemoved"),
    )
    yield* Law.holds(ended, () => {
      const ends = seen.map(({ end }) => (typeof end === "string" ? end : end._tag)).join(", ")
      return `the hub was asked to look at a run that was removed, and its readers are ${ends}`
    })
    for (const [index, { envelopes }] of seen.entries()) {
      yield* Law.same(`how many events reader ${index} saw`, envelopes.length, stored)
    }
  }),
})

export const endArrives: HubLaw = Law.make({
  promise: 7,
  name: "the end arrives within the watchdog's time even if every live message is lost or the live path is down",
  history: Arbitrary.all({
    how: Generator.weighted([
      [2, "lose"],
      [1, "silent"],
      [1, "gap"],
      [1, "fail"],
      [1, "hang"],
    ]),
    from: Generator.int(0, 10_000),
    watchdog: Generator.int(1, 10),
    waits: Arbitrary.array(Generator.int(0, 20_000), { maxLength: 4 }),
    readers: Arbitrary.array(Generator.int(0, 10_000), { minLength: 1, maxLength: 3 }),
  }),
  enough: 40,
  property: Effect.fnUntraced(function* ({ from, how, readers, waits, watchdog }) {
    const process = yield* World.start(deadPath(how, from), { watchdog: watchdog * 1000 })
    const seen = yield* Effect.forEach(readers, (joins) => Reader.follow(process, runId, { ...Reader.plain, joins }))
    for (const wait of [0, ...waits]) {
      yield* TestClock.adjust(wait)
      yield* World.write(process.adapter, runId, yield* World.steps(1))
    }
    yield* TestClock.adjust(Math.max(0, from, ...readers))
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => seen.every(({ finishedAt }) => finishedAt !== undefined), looksWithin(watchdog))
    const { envelopes } = yield* World.canonical(runId)
    for (const [index, reader] of seen.entries()) {
      yield* Reader.sawWhole(`reader ${index}, ${2 * watchdog} s after the end,`, reader, envelopes)
    }
  }),
})

export const takenUp: HubLaw = Law.make({
  promise: 7,
  name: "after an outage the live path is taken up again",
  history: Arbitrary.all({
    outages: Arbitrary.array(
      Arbitrary.all({
        mode: Generator.weighted([
          [1, "gap"],
          [1, "fail"],
          [1, "hang"],
        ]),
        lasts: Generator.int(1, 30_000),
        lost: Generator.int(0, 5),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    readers: Generator.int(1, 3),
  }),
  enough: 40,
  property: Effect.fnUntraced(function* ({ outages, readers }) {
    const process = yield* World.start()
    yield* World.write(process.adapter, runId, yield* World.steps(1))
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    let stored = 1
    const arrived = () => seen.every(({ envelopes }) => envelopes.length === stored)
    yield* World.settle
    for (const { lasts, lost, mode } of outages) {
      yield* process.adapterFaults.down(mode)
      if (lost > 0) yield* World.write(process.adapter, runId, yield* World.steps(lost))
      stored += lost
      yield* TestClock.adjust(lasts)
      yield* process.adapterFaults.up
      // Whoever backs off comes back after a while.
      yield* TestClock.adjust(30_000)
      yield* World.write(process.adapter, runId, yield* World.steps(1))
      stored++
      yield* Law.holds(yield* World.atOnce(arrived), "30 s after the outage an event that is published takes time")
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => seen.every(({ finishedAt }) => finishedAt !== undefined), 30_000)
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of seen) yield* Reader.sawWhole("a reader", reader, envelopes)
  }),
})

/** Answers come seconds after their questions, so that of several watchers none knows what the others do. */
const slowStore: FaultPlan.StorePlan = { ...FaultPlan.calmStore, late: 100, lateMillis: 3_000 }

export const willOnce: HubLaw = Law.make({
  promise: 7,
  name: "a lost producer's will is appended once by however many watchers, after lease and grace, and never while it renews in time",
  history: Arbitrary.all({
    watchdog: Generator.int(1, 10),
    grace: Generator.int(1, 20),
    ttl: Generator.int(1, 40),
    processes: Arbitrary.array(
      Arbitrary.all({ deaf: Generator.boolean, store: FaultPlan.arbitraryStore({ within: 60_000 }) }),
      { minLength: 1, maxLength: 3 },
    ),
    trouble: Generator.weighted([
      [2, "none"],
      [1, "slow"],
      [1, "any"],
    ]),
    renewals: Arbitrary.array(
      Arbitrary.all({
        // in percent of lease and grace
        after: Generator.int(0, 99),
        by: Generator.weighted([
          [2, "renew"],
          [1, "append"],
        ]),
        newWill: Generator.boolean,
      }),
      { maxLength: 5 },
    ),
  }),
  runs: 200,
  enough: 40,
  reaches: { "a race of watchers": 0.05, "an expired lease renewed in time": 0.2 },
  property: Effect.fnUntraced(function* (history, reach) {
    const { grace, processes, renewals, trouble, ttl, watchdog } = history
    const store = yield* EventStore
    const adapter = yield* StreamAdapter
    const published = yield* Reader.collect(yield* adapter.subscribe(World.runRoom(runId)))
    const seen = yield* Effect.forEach(
      processes,
      Effect.fnUntraced(function* (plan) {
        const below: World.Trouble = {
          store:
            trouble === "any"
              ? plan.store
              : trouble === "slow"
                ? { ...slowStore, seed: plan.store.seed }
                : FaultPlan.calmStore,
          adapter: { ...FaultPlan.calmAdapter, lose: plan.deaf ? 100 : 0 },
        }
        const process = yield* World.start(below, { watchdog: watchdog * 1000, grace: grace * 1000 })
        return { process, seen: yield* Reader.follow(process, runId, Reader.plain) }
      }),
    )
    let will = yield* World.will
    const lease = () => ({ ttl: ttl * 1000, will })
    yield* World.write(adapter, runId, yield* World.steps(1), { lease: lease() })
    for (const { after, by, newWill } of renewals) {
      const gap = Math.floor(((ttl + grace) * 1000 * after) / 100)
      yield* TestClock.adjust(gap)
      if (gap > ttl * 1000) reach("an expired lease renewed in time")
      if (newWill) will = yield* World.will
      const { status } = yield* store.head(runId)
      yield* Law.holds(status === "running", `the run was ended ${gap} ms after a lease of ${ttl} s, grace ${grace} s`)
      if (by === "append") yield* World.write(adapter, runId, yield* World.steps(1), { lease: lease() })
      else yield* store.renew([runId], lease())
    }
    const lastSign = yield* Clock.currentTimeMillis
    const finished = () => seen.every((reader) => reader.seen.finishedAt !== undefined)
    yield* World.until(finished, (ttl + grace) * 1000 + 2 * looksWithin(watchdog) + (trouble === "none" ? 0 : 300_000))
    const { envelopes, head } = yield* World.canonical(runId)
    yield* Law.holds(head.status === "failed", `the producer is gone, the run is ${head.status}`)
    yield* Law.same("the will that was appended", envelopes.at(-1)?.eventId, will.eventId)
    yield* Law.same("wills appended", envelopes.filter(({ kind }) => kind === "Lost").length, 1)
    const endedAfter = head.lastActivityAt! - lastSign
    yield* Law.holds(
      endedAfter >= (ttl + grace) * 1000,
      `ended ${endedAfter} ms after the last sign of life: lease ${ttl} s, grace ${grace} s`,
    )
    if (trouble === "none") {
      yield* Law.holds(
        endedAfter <= (ttl + grace) * 1000 + looksWithin(watchdog),
        `ended only ${endedAfter} ms after the last sign of life: lease ${ttl} s, grace ${grace} s, watchdog ${watchdog} s`,
      )
      const { eventId } = will
      const isPublished = () =>
        published.items.some((item) => item._tag === "Frame" && item.envelope.eventId === eventId)
      yield* Law.holds(yield* World.atOnce(isPublished), "the will was not published")
    }
    for (const [index, reader] of seen.entries()) {
      yield* Reader.sawWhole(`the reader of process ${index}`, reader.seen, envelopes)
    }
    if (seen.filter(({ process }) => process.probe.wills > 0).length > 1) reach("a race of watchers")
    const back = yield* Effect.flip(
      store.append({ runId, vocabulary: World.vocabulary.id, events: yield* World.steps(1) }),
    )
    yield* Law.same("what a producer that comes back is told", back._tag, "RunEnded")
  }),
})

export const leftAlone: HubLaw = Law.make({
  promise: 7,
  name: "a run written without a lease, or without a will, is left alone",
  history: Arbitrary.all({ leased: Generator.boolean, readers: Generator.int(1, 3), minutes: Generator.int(2, 15) }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ leased, minutes, readers }) {
    const process = yield* World.start()
    const options = leased ? { lease: { ttl: "30 seconds" as const } } : {}
    yield* World.write(process.adapter, runId, yield* World.steps(2), options)
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    yield* TestClock.adjust(minutes * 60_000)
    const store = yield* EventStore
    yield* Law.same("the run", (yield* store.head(runId)).status, "running")
    yield* Law.holds(
      seen.every(({ broken, end }) => end === "open" && broken === undefined),
      "a reader did not go on waiting",
    )
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.atOnce(() => seen.every(({ finishedAt }) => finishedAt !== undefined))
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of seen) yield* Reader.sawWhole("a reader", reader, envelopes)
  }),
})

const refusesWills = EventStore.useSync((store): EventStore["Service"] => ({
  ...store,
  appendWill: (id: Envelope.RunId) =>
    Effect.fail(
      new StoreError.AppendFailed({ runId: id, reason: new StoreError.StoreBroken({ detail: "read only" }) }),
    ),
}))

export const mayNotWrite: HubLaw = Law.make({
  promise: 7,
  name: "a watcher that may not write keeps watching",
  history: Arbitrary.all({ watchers: Generator.int(1, 2), byWatcher: Generator.boolean, wait: Generator.int(0, 60) }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ byWatcher, wait, watchers }) {
    const reading = yield* World.start(deadPath("lose", 0)).pipe(Effect.provideServiceEffect(EventStore, refusesWills))
    const readers = yield* Effect.replicateEffect(Reader.follow(reading, runId, Reader.plain), watchers)
    const lease = { ttl: "30 seconds" as const, will: yield* World.will }
    yield* World.write(undefined, runId, yield* World.steps(1), { lease })
    yield* TestClock.adjust("2 minutes")
    yield* TestClock.adjust(wait * 1000)
    yield* Law.holds(
      readers.every(({ broken, end }) => end === "open" && broken === undefined),
      "a reader did not go on waiting",
    )
    if (byWatcher) {
      const writing = yield* World.start()
      yield* Reader.follow(writing, runId, Reader.plain)
    } else yield* World.write(undefined, runId, [yield* World.done])
    yield* World.until(() => readers.every(({ finishedAt }) => finishedAt !== undefined), 60_000)
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of readers) yield* Reader.sawWhole("a reader that may not write", reader, envelopes)
  }),
})

export const outlasts: HubLaw = Law.make({
  promise: 6,
  name: "a store that is down for less than the retry budget only delays its readers; past it they fail with ReadFailed",
  history: Arbitrary.all({
    mode: Generator.weighted([
      [1, "refuse"],
      [1, "hang"],
    ]),
    seconds: Generator.frequency([
      [3, Generator.int(1, 90)],
      [2, Generator.int(200, 400)],
    ]),
    stored: Generator.int(0, 20),
    /** Whether it goes down before the readers come, or once they have caught up. */
    before: Generator.boolean,
    deaf: Generator.boolean,
    readers: Generator.int(1, 3),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ before, deaf, mode, readers, seconds, stored }, reach) {
    const process = yield* World.start(deaf ? deadPath("lose", 0) : World.calm, { pageEvents: 5 })
    if (stored > 0) yield* World.write(process.adapter, runId, yield* World.steps(stored))
    if (before) yield* process.storeFaults.down(mode)
    const seen = yield* Effect.replicateEffect(Reader.follow(process, runId, Reader.plain), readers)
    yield* World.settle
    if (!before) yield* process.storeFaults.down(mode)
    yield* TestClock.adjust(seconds * 1000)
    if (seconds >= 200) {
      reach("past the budget")
      for (const { end } of seen) {
        yield* Law.same(
          `after ${seconds} s without the store, a reader's stream`,
          typeof end === "string" ? end : end._tag,
          "ReadFailed",
        )
      }
      return
    }
    yield* process.storeFaults.up
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => seen.every(({ finishedAt }) => finishedAt !== undefined), 60_000)
    const { envelopes } = yield* World.canonical(runId)
    for (const reader of seen) yield* Reader.sawWhole("a reader", reader, envelopes)
  }),
  reaches: { "past the budget": 0.2 },
})
