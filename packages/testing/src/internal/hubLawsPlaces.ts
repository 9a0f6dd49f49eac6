/** Promises 6, 9 and 11: where a reader may begin, and what it is told when it can't go on. */
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope, EncodedEvent, EventJson } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import type { RunError, RunItem } from "@throughline/core/RunItem"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Reader from "./hubReader.ts"
import * as World from "./hubWorld.ts"

type HubLaw = Law.Law<World.Below, StoreOptions>
type Item = RunItem<EncodedEnvelope>

const runId = World.runIdOf(0)
const other = World.runIdOf(1)

const arbitraryHub = Arbitrary.all({ pageEvents: Generator.int(1, 10), bufferEvents: Generator.int(2, 20) })
const arbitraryPath = FaultPlan.arbitraryAdapter({ within: 8_000 })

/** The live path is troubled, the store is not. */
const troubledPath = (adapter: FaultPlan.AdapterPlan): World.Trouble => ({ ...World.calm, adapter })

const told = (end: Reader.Collected<unknown, { readonly _tag: string }>["end"]): string =>
  typeof end === "string" ? end : end._tag

export const anyPlace: HubLaw = Law.make({
  promise: 6,
  name: "for every k, what a reader had up to k plus what resuming at k gives is the run",
  history: Arbitrary.all({
    hub: arbitraryHub,
    path: arbitraryPath,
    before: Generator.int(0, 12),
    after: Generator.int(0, 12),
    endedBefore: Generator.boolean,
    bare: Generator.boolean,
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ after, bare, before, endedBefore, hub, path }) {
    const process = yield* World.start(troubledPath(path), hub)
    if (before > 0) yield* World.write(process.adapter, runId, yield* World.steps(before))
    const finish = Effect.gen(function* () {
      for (let event = 0; event < after; event++) {
        yield* World.write(process.adapter, runId, yield* World.steps(1))
        yield* TestClock.adjust(200)
      }
      yield* World.write(process.adapter, runId, [yield* World.done])
    })
    if (endedBefore) yield* finish
    const { envelopes: there, head } = yield* World.canonical(runId)
    const readers = yield* Effect.forEach(Array.from({ length: there.length + 1 }).keys(), (seq) => {
      const cursor = bare || head.generation === undefined ? seq : Cursor.run(seq, head.generation)
      return Reader.follow(process, runId, { ...Reader.plain, guarded: !bare }, { seq, cursor })
    })
    yield* World.settle
    if (!endedBefore) yield* finish
    yield* World.until(() => readers.every(({ finishedAt }) => finishedAt !== undefined), 120_000)
    const { envelopes } = yield* World.canonical(runId)
    for (const [k, seen] of readers.entries()) yield* Reader.sawWhole(`the reader from ${k}`, seen, envelopes)
  }),
})

export const caughtUp: HubLaw = Law.make({
  promise: 6,
  name: "CaughtUp comes with no less than what was stored when the reader came",
  history: Arbitrary.all({
    hub: arbitraryHub,
    path: arbitraryPath,
    store: FaultPlan.arbitraryStore({ within: 8_000 }),
    writes: Arbitrary.array(Arbitrary.all({ wait: Generator.int(0, 2_000), events: Generator.int(1, 5) }), {
      minLength: 1,
      maxLength: 6,
    }),
    readers: Arbitrary.array(Reader.arbitraryReader, { minLength: 1, maxLength: 4 }),
  }),
  runs: 200,
  enough: 30,
  property: Effect.fnUntraced(function* ({ hub, path, readers, store, writes }) {
    const process = yield* World.start({ adapter: path, store }, hub)
    const seen = yield* Effect.forEach(readers, (plan) => Reader.follow(process, runId, plan))
    for (const { events, wait } of writes) {
      yield* World.write(process.adapter, runId, yield* World.steps(events))
      yield* TestClock.adjust(wait)
    }
    yield* TestClock.adjust(10_000)
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => seen.every(({ finishedAt }) => finishedAt !== undefined), 300_000)
    for (const [index, reader] of seen.entries()) {
      for (const { head, stored } of reader.caughtUp) {
        yield* Law.holds(
          head >= stored,
          `reader ${index} was told CaughtUp at seq ${head}, but had come when ${stored} events were stored`,
        )
      }
    }
  }),
})

const notCursors = ["", "x", "-1", "1.5", "01", "1-", "1-short", "1-UPPERCAS", " 1", "1-aaaaaaaaa", "9007199254740993"]

export const refused: HubLaw = Law.make({
  promise: 11,
  name: "a cursor beyond the head, of another run or generation, or that is none, is refused at once",
  history: Arbitrary.all({
    stored: Generator.int(0, 10),
    ended: Generator.boolean,
    watched: Generator.boolean,
    beyond: Generator.int(1, 1000),
    seq: Generator.int(0, 10),
    text: Generator.int(0, notCursors.length - 1),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ beyond, ended, seq, stored, text, watched }) {
    const process = yield* World.start()
    const written = yield* World.write(process.adapter, other, yield* World.steps(10))
    if (stored > 0) yield* World.write(process.adapter, runId, yield* World.steps(stored))
    if (ended) yield* World.write(process.adapter, runId, [yield* World.done])
    if (watched) yield* Reader.follow(process, runId, Reader.plain)
    yield* World.settle
    const { envelopes, head } = yield* World.canonical(runId)
    const refuses = Effect.fnUntraced(function* (after: Cursor.RunCursor, error: RunError["_tag"]) {
      const seen = yield* Reader.collect(process.hub.run(runId, { after }))
      yield* World.until(() => seen.end !== "open", 1000)
      yield* Law.same(`the answer to cursor ${after} at head ${envelopes.length}`, told(seen.end), error)
      yield* Law.same("items before the refusal", seen.items.length, 0)
    })
    yield* refuses(envelopes.length + beyond, "CursorAhead")
    if (head.generation !== undefined) {
      yield* refuses(Cursor.run(envelopes.length + beyond, head.generation), "CursorAhead")
    }
    yield* refuses(Cursor.run(Math.min(seq, envelopes.length), "zzzzzzzz"), "CursorStale")
    yield* refuses(written.frames[Math.min(seq, 9)]!.cursor, "CursorStale")
    yield* refuses(notCursors[text]!, "InvalidCursor")
  }),
})

export const removed: HubLaw = Law.make({
  promise: 6,
  name: "a run removed under its readers ends them with RunRemoved, and written again it refuses old cursors",
  history: Arbitrary.all({
    hub: arbitraryHub,
    path: arbitraryPath,
    stored: Generator.int(1, 20),
    ended: Generator.boolean,
    /** Events of the run that is written again; 0: it isn't. */
    again: Generator.int(0, 25),
    wait: Generator.int(0, 6_000),
    pause: Generator.weighted([
      [1, 0],
      [1, 3_000],
      [1, 12_000],
    ]),
    readers: Arbitrary.array(
      Arbitrary.all({
        from: Generator.int(0, 100),
        guarded: Generator.boolean,
        pace: Generator.weighted([
          [2, 0],
          [1, 40],
          [1, 1500],
        ]),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  runs: 200,
  enough: 30,
  reaches: { "a reader under a removal": 0.2, "a slow reader under a removal": 0.1 },
  property: Effect.fnUntraced(function* (history, reach) {
    const { again, ended, hub, path, pause, stored, wait } = history
    const store = yield* EventStore
    const process = yield* World.start(troubledPath(path), hub)
    yield* World.write(process.adapter, runId, yield* World.steps(stored))
    if (ended) yield* World.write(process.adapter, runId, [yield* World.done])
    const old = yield* World.canonical(runId)
    const generation = old.head.generation!
    const readers = yield* Effect.forEach(history.readers, (plan) =>
      Effect.map(Reader.follow(process, runId, { ...Reader.plain, ...plan }), (seen) => ({ plan, seen })),
    )
    yield* World.settle
    yield* TestClock.adjust(wait)
    yield* Effect.orDie(store.remove(runId))
    yield* TestClock.adjust(pause)
    for (let event = 0; event < again; event++) {
      yield* World.write(process.adapter, runId, yield* World.steps(1))
    }
    const finished = () => readers.every(({ seen }) => seen.finishedAt !== undefined)
    yield* World.until(finished, 15_000 + 1500 * 25)
    for (const [index, { plan, seen }] of readers.entries()) {
      const who = `reader ${index}`
      if (seen.broken !== undefined) return yield* Law.broken(`${who}: ${seen.broken}`)
      yield* Law.same(
        `what ${who} saw`,
        seen.envelopes,
        old.envelopes.slice(seen.from, seen.from + seen.envelopes.length),
      )
      const whole = seen.from + seen.envelopes.length === old.envelopes.length
      if (ended && whole && seen.end === "completed") continue
      yield* Law.same(`how ${who} ended`, told(seen.end), "RunRemoved")
      reach("a reader under a removal")
      if (plan.pace > 0) reach("a slow reader under a removal")
    }
    for (const seq of [0, stored]) {
      const late = yield* Reader.collect(process.hub.run(runId, { after: Cursor.run(seq, generation) }))
      yield* World.until(() => late.end !== "open", 1000)
      yield* Law.same(`the answer to the old cursor after seq ${seq}`, told(late.end), "CursorStale")
    }
    if (again === 0) return
    const fresh = yield* Reader.follow(process, runId, Reader.plain)
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => fresh.finishedAt !== undefined, 120_000)
    const { envelopes } = yield* World.canonical(runId)
    yield* Reader.sawWhole("a reader of the run written again", fresh, envelopes)
  }),
})

/** Breaks the law unless the items go on without a hole that no `Truncated` names; gives how many seqs were named. */
const accounted = Effect.fnUntraced(function* (who: string, items: ReadonlyArray<Item>, from: number) {
  let seq = from
  let trimmed = 0
  for (const item of items) {
    if (item._tag === "CaughtUp") continue
    if (item._tag === "Dropped") return yield* Law.broken(`${who} lost events without having chosen a policy`)
    const next = item._tag === "Truncated" ? item.from : item.envelope.seq
    yield* Law.holds(next === seq + 1, `${who}: ${item._tag} at seq ${next} came after seq ${seq}`)
    seq = item._tag === "Truncated" ? item.to : next
    if (item._tag === "Truncated") trimmed += item.to - item.from + 1
  }
  return { seq, trimmed }
})

export const trimmed: HubLaw = Law.make({
  promise: 9,
  name: "trimmed history is told, never skipped: HistoryTruncated, or Truncated and on",
  options: ({ keep }: { readonly keep: number }) => ({ retention: { eventsPerRun: keep } }),
  history: Arbitrary.all({
    keep: Generator.int(1, 12),
    hub: arbitraryHub,
    path: arbitraryPath,
    before: Generator.int(1, 30),
    writes: Arbitrary.array(Arbitrary.all({ wait: Generator.int(0, 3_000), events: Generator.int(1, 15) }), {
      maxLength: 5,
    }),
    readers: Arbitrary.array(
      Arbitrary.all({
        from: Generator.int(0, 30),
        skip: Generator.boolean,
        pace: Generator.weighted([
          [1, 0],
          [1, 100],
          [1, 1000],
        ]),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  runs: 200,
  enough: 40,
  reaches: { "trimmed history skipped": 0.2, "trimmed history refused": 0.2 },
  property: Effect.fnUntraced(function* ({ before, hub, path, readers, writes }, reach) {
    const store = yield* EventStore
    const process = yield* World.start(troubledPath(path), hub)
    yield* World.write(process.adapter, runId, yield* World.steps(before))
    const seen = yield* Effect.forEach(readers, (plan) => {
      const from = Math.min(plan.from, before)
      const stream = process.hub.run(runId, { after: from, truncated: plan.skip ? "skip" : "fail" })
      return Effect.map(Reader.collect(Reader.paced(stream, plan.pace)), (collected) => ({ ...plan, from, collected }))
    })
    for (const { events, wait } of writes) {
      yield* TestClock.adjust(wait)
      yield* World.write(process.adapter, runId, yield* World.steps(events))
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => seen.every(({ collected }) => collected.end !== "open"), 400_000)
    const { firstSeq, lastSeq } = yield* store.head(runId)
    for (const [index, { collected, from, skip }] of seen.entries()) {
      const who = `reader ${index}`
      const { end, items } = collected
      const { seq, trimmed: gone } = yield* accounted(who, items, from)
      if (skip) {
        yield* Law.same(`how ${who} ended`, told(end), "completed")
        yield* Law.same(`where ${who} ended`, seq, lastSeq)
        for (const item of items) {
          if (item._tag !== "Truncated") continue
          yield* Law.holds(item.to < firstSeq, `${who} was told seq ${item.to} is gone; ${firstSeq} is the oldest left`)
        }
        if (gone > 0) reach("trimmed history skipped")
        continue
      }
      yield* Law.same(`seqs ${who} skipped`, gone, 0)
      if (end === "completed") yield* Law.same(`where ${who} ended`, seq, lastSeq)
      else {
        yield* Law.same(`how ${who} ended`, told(end), "HistoryTruncated")
        if (typeof end === "string" || end._tag !== "HistoryTruncated") continue
        yield* Law.same("the place it names", end.after, seq)
        yield* Law.holds(
          end.oldestSeq > seq + 1 && end.oldestSeq <= firstSeq,
          `${who} at seq ${seq} was told that ${end.oldestSeq} is the oldest left; it is ${firstSeq}`,
        )
        reach("trimmed history refused")
      }
    }
  }),
})

export const twoParts: HubLaw = Law.make({
  promise: 6,
  name: "the page and the live stream of subscribeRun are the run, without overlap or hole",
  history: Arbitrary.all({
    hub: arbitraryHub,
    path: arbitraryPath,
    before: Generator.int(0, 15),
    after: Generator.int(0, 15),
    limit: Generator.int(1, 12),
    writes: Arbitrary.array(Arbitrary.all({ wait: Generator.int(0, 2_000), events: Generator.int(1, 6) }), {
      maxLength: 5,
    }),
    takenAfter: Generator.int(0, 5_000),
  }),
  enough: 30,
  property: Effect.fnUntraced(function* ({ after, before, hub, limit, path, takenAfter, writes }) {
    const process = yield* World.start(troubledPath(path), hub)
    if (before > 0) yield* World.write(process.adapter, runId, yield* World.steps(before))
    const from = Math.min(after, before)
    const { live, replay } = yield* process.hub.subscribeRun(runId, { after: from, limit })
    const early = yield* Reader.collect(live)
    for (const { events, wait } of writes) {
      yield* World.write(process.adapter, runId, yield* World.steps(events))
      yield* TestClock.adjust(wait)
    }
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* TestClock.adjust(takenAfter)
    const late = yield* Reader.collect(live)
    yield* World.until(() => early.end !== "open" && late.end !== "open", 120_000)
    const { envelopes } = yield* World.canonical(runId)
    yield* Law.same("the page's head", replay.head.lastSeq, before)
    yield* Law.same("the page", replay.envelopes, envelopes.slice(from, Math.min(from + limit, before)))
    for (const { end, items } of [early, late]) {
      yield* Law.same("how the live stream ended", told(end), "completed")
      const events = items.flatMap((item) => (item._tag === "Event" ? [item.envelope] : []))
      yield* Law.same("the live stream", events, envelopes.slice(from + replay.envelopes.length))
      yield* Law.same("CaughtUp items", items.filter(({ _tag }) => _tag === "CaughtUp").length, 1)
    }
  }),
})

const unreadable = '{"_tag":"Unheard"}' as EventJson

export const typed: HubLaw = Law.make({
  promise: 9,
  name: "a reader with a vocabulary gets decoded events, CorruptRecord with its place, or VocabularyMismatch",
  history: Arbitrary.all({
    hub: arbitraryHub,
    before: Generator.int(0, 10),
    after: Generator.int(0, 10),
    /** The seq of a record that can't be decoded, if there are so many. */
    corrupt: Generator.int(0, 25),
  }),
  reaches: { "a corrupt record": 0.2 },
  enough: 40,
  property: Effect.fnUntraced(function* ({ after, before, corrupt, hub }, reach) {
    const process = yield* World.start(World.calm, hub)
    const write = Effect.fnUntraced(function* (first: number, count: number) {
      const events: Array<EncodedEvent> = yield* World.steps(count)
      const at = corrupt - first
      if (events[at] !== undefined) events[at] = { ...events[at], event: unreadable }
      if (count > 0) yield* World.write(process.adapter, runId, events)
    })
    yield* write(1, before)
    const { vocabulary } = World
    const decoded = yield* Reader.collect(process.hub.run(runId, { vocabulary }))
    const others = [
      { ...vocabulary, id: { ...vocabulary.id, version: 2 } },
      { ...vocabulary, id: { ...vocabulary.id, name: "other" } },
    ]
    const strangers = yield* Effect.forEach(others, (stranger) =>
      Reader.collect(process.hub.run(runId, { vocabulary: stranger })),
    )
    yield* World.settle
    yield* write(before + 1, after)
    yield* World.write(process.adapter, runId, [yield* World.done])
    yield* World.until(() => [decoded, ...strangers].every(({ end }) => end !== "open"), 30_000)
    const { envelopes } = yield* World.canonical(runId)
    const bad = envelopes.findIndex(({ event }) => event === unreadable)
    const readable = bad < 0 ? envelopes : envelopes.slice(0, bad)
    const events = decoded.items.flatMap((item) => (item._tag === "Event" ? [item.envelope] : []))
    yield* Law.same(
      "the decoded events",
      events,
      readable.map((envelope) => ({
        ...envelope,
        event: Result.getOrThrow(vocabulary.decode(envelope.event)),
      })),
    )
    yield* Law.same("how the reader ended", told(decoded.end), bad < 0 ? "completed" : "CorruptRecord")
    if (typeof decoded.end !== "string" && decoded.end._tag === "CorruptRecord") {
      reach("a corrupt record")
      yield* Law.same("the place it names", decoded.end.seq, bad + 1)
    }
    for (const stranger of strangers) {
      yield* Law.same("how a reader of another vocabulary ended", told(stranger.end), "VocabularyMismatch")
      yield* Law.same("events it got", stranger.items.filter(({ _tag }) => _tag === "Event").length, 0)
    }
  }),
})
