/**
 * What every archive promises: all runs in one order that never changes, resumable anywhere, and nothing lost in silence.
 *
 * The layer provides the store the archive belongs to. Laws about trimmed history need one that takes `StoreOptions`.
 */
import { EventArchive } from "@throughline/core/EventArchive"
import { type AppendRequest, EventStore } from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Generator from "./Generator.ts"
import * as ArchiveReplay from "./internal/archiveReplay.ts"
import * as StoreHistory from "./internal/storeHistory.ts"
import * as StorePlayer from "./internal/storePlayer.ts"
import * as Law from "./Law.ts"

export type ArchiveLaw = Law.Law<EventStore | EventArchive, StoreOptions>

const { append, appendWill, endAbandoned, of, remove, wait } = StoreHistory

const written = of([
  [8, append({ sessions: 4, ends: 1, producers: 2, leases: 1 })],
  [1, remove],
  [1, wait],
  [1, appendWill],
  [1, endAbandoned],
])

/** Runs that stay, written in turns, so that most are trimmed and what is left of one lies between events of others. */
const long = of([
  [12, append({ sessions: 1, maxEvents: 1 })],
  [1, remove],
])

/** What sizes grow to over the cases: all but the first few histories may have as many commands as there can be. */
const historySize = 1000

/** Promise 1. */
export const ordered: ArchiveLaw = Law.make({
  promise: 1,
  name: "a replay is every stored event of its filter, in the order of writing, by rising positions, then a checkpoint",
  history: Arbitrary.all({ commands: written, filter: ArchiveReplay.filter }),
  size: historySize,
  runs: 50,
  enough: 20,
  reaches: { "a removal": 0.2, "an event": 0.4, "an event left out": 0.2 },
  property: Effect.fnUntraced(function* ({ commands, filter }, reach) {
    const world = StorePlayer.makeWorld(undefined, reach)
    yield* StorePlayer.play(world, commands)
    const replayed = yield* ArchiveReplay.check(world, filter, undefined)
    if (replayed.events.length > 0) reach("an event")
    if (replayed.events.length < ArchiveReplay.stored(world, {}).length) reach("an event left out")
  }),
})

/** Promise 6. */
export const resumed: ArchiveLaw = Law.make({
  promise: 6,
  name: "what a replay gave up to any cursor, and what resuming there gives, is the whole replay",
  history: Arbitrary.all({ before: written, after: written, filter: ArchiveReplay.filter }),
  size: historySize,
  runs: 30,
  enough: 12,
  reaches: { "an event after the checkpoint": 0.2 },
  property: Effect.fnUntraced(function* ({ after, before, filter }, reach) {
    const world = StorePlayer.makeWorld(undefined, reach)
    yield* StorePlayer.play(world, before)
    const canonical = yield* ArchiveReplay.check(world, filter, undefined)
    for (const event of canonical.events) yield* ArchiveReplay.check(world, filter, event)
    yield* StorePlayer.play(world, after)
    const more = yield* ArchiveReplay.check(world, filter, canonical.checkpoint)
    if (more.events.length > 0) reach("an event after the checkpoint")
    for (const event of canonical.events) yield* ArchiveReplay.check(world, filter, event)
  }),
})

/** Promise 6. */
export const checkpointed: ArchiveLaw = Law.make({
  promise: 6,
  name: "the checkpoint of a replay moves on where nothing matches",
  history: Arbitrary.all({ commands: written, more: Generator.int(1, 5) }),
  size: historySize,
  runs: 40,
  enough: 15,
  property: Effect.fnUntraced(function* ({ commands, more }, reach) {
    const world = StorePlayer.makeWorld(undefined, reach)
    yield* StorePlayer.play(world, commands)
    const nobody = { runIds: [ArchiveReplay.strangerId] }
    const first = yield* ArchiveReplay.check(world, nobody, undefined)
    yield* StorePlayer.play(world, [StoreHistory.removeOf(0)])
    for (let n = 0; n < more; n++) yield* StorePlayer.append(world, StorePlayer.requestFor(world, 0))
    const second = yield* ArchiveReplay.check(world, nobody, first.checkpoint)
    yield* Law.holds(
      second.checkpoint.position > first.checkpoint.position,
      () => `the checkpoint stayed at ${first.checkpoint.position} while ${more} events were stored`,
    )
  }),
})

/** Promise 9. */
export const truncated: ArchiveLaw = Law.make({
  promise: 9,
  name: "trimmed history is told before the run's next event, to whoever resumes before it",
  history: Arbitrary.all({
    before: long,
    after: long,
    filter: ArchiveReplay.filter,
    eventsPerRun: Generator.int(1, 5),
  }),
  size: historySize,
  runs: 50,
  enough: 20,
  options: ({ eventsPerRun }) => ({ retention: { eventsPerRun } }),
  reaches: { trimming: 0.4, "a truncated run": 0.12, "an event between": 0.03 },
  property: Effect.fnUntraced(function* ({ after, before, eventsPerRun, filter }, reach) {
    const world = StorePlayer.makeWorld({ retention: { eventsPerRun } }, reach)
    yield* StorePlayer.play(world, before)
    const canonical = yield* ArchiveReplay.check(world, filter, undefined)
    if (canonical.truncated.length > 0) reach("a truncated run")
    if (ArchiveReplay.isApart(canonical)) reach("an event between")
    for (const event of canonical.events) yield* ArchiveReplay.check(world, filter, event)
    yield* StorePlayer.play(world, after)
    for (const place of [...canonical.events, canonical.checkpoint]) yield* ArchiveReplay.check(world, filter, place)
  }),
})

/** Promise 9. */
export const truncatedFar: ArchiveLaw = Law.make({
  promise: 9,
  name: "trimmed history is told even if a thousand other events lie before the run's next one",
  history: Arbitrary.all({ trimmed: Generator.int(1, 20), between: Generator.int(1000, 1100) }),
  runs: 3,
  fixed: true,
  options: () => ({ retention: { eventsPerRun: 1100 } }),
  property: Effect.fnUntraced(function* ({ between, trimmed }, reach) {
    const world = StorePlayer.makeWorld({ retention: { eventsPerRun: 1100 } }, reach)
    const write = Effect.fnUntraced(function* (run: number, events: number) {
      for (let left = events; left > 0; left -= 275) {
        yield* StorePlayer.append(world, StorePlayer.requestFor(world, run, Math.min(left, 275)))
      }
    })
    yield* write(0, trimmed)
    yield* write(1, between)
    yield* write(0, 1100)
    const canonical = yield* ArchiveReplay.check(world, {}, undefined)
    const about = canonical.truncated.find(({ runId }) => runId === StorePlayer.runIdOf(0))
    yield* Law.same("where the trimmed history ends", about?.to, trimmed)
  }),
})

const requestOf = (run: number, n: number): AppendRequest => ({
  runId: StorePlayer.runIdOf(run),
  vocabulary: { name: "law", version: 3 },
  events: [StoreHistory.event(n, StoreHistory.plain)],
})

/** Promise 6. */
export const followed: ArchiveLaw = Law.make({
  promise: 6,
  name: "a reader that replays from checkpoint to checkpoint while others write sees each event once, in order",
  history: Arbitrary.all({ writers: Generator.int(1, 4), events: Generator.int(1, 15), before: Generator.int(0, 10) }),
  runs: 40,
  enough: 20,
  property: Effect.fnUntraced(function* ({ before, events, writers }) {
    const store = yield* EventStore
    const archive = yield* EventArchive
    let n = 0
    const write = (run: number) =>
      Effect.suspend(() => store.append(requestOf(run, ++n))).pipe(Effect.andThen(Effect.yieldNow))
    for (let count = 0; count < before; count++) yield* write(count % 3)
    const writing = yield* Effect.forkChild(
      Effect.forEach(
        Array.from({ length: writers }, (_, writer) => writer),
        (writer) => Effect.repeat(write(writer % 3), { times: events - 1 }),
        { concurrency: "unbounded" },
      ),
    )
    const total = before + writers * events
    const seen: Array<string> = []
    let position = 0
    let after: string | undefined
    while (seen.length < total) {
      const done = writing.pollUnsafe() !== undefined
      yield* Stream.runForEach(archive.replay({ filter: {}, after }), (item) =>
        Effect.gen(function* () {
          if (item._tag === "Truncated") return yield* Law.broken("history is told as trimmed that is not")
          after = item.cursor
          if (item._tag === "Checkpoint") return
          yield* Law.holds(item.position > position, `position ${item.position} came after ${position}`)
          position = item.position
          seen.push(item.envelope.eventId)
          yield* Effect.yieldNow
        }),
      )
      yield* Law.holds(!done || seen.length === total, `${seen.length} of ${total} events were seen`)
      yield* Effect.yieldNow
    }
    yield* Fiber.join(writing)
    yield* Law.same("the number of different events seen", new Set(seen).size, total)
  }),
})

/** Promise 9. */
export const trimmedMeanwhile: ArchiveLaw = Law.make({
  promise: 9,
  name: "history that is trimmed while it is replayed is told, in this replay or when it is resumed",
  history: Arbitrary.all({
    eventsPerRun: Generator.int(2, 5),
    before: Generator.int(2, 8),
    meanwhile: Arbitrary.array(Generator.int(0, 2), { minLength: 1, maxLength: 30 }),
  }),
  size: historySize,
  runs: 60,
  enough: 20,
  options: ({ eventsPerRun }) => ({ bounds: { maxPageEvents: 2 }, retention: { eventsPerRun } }),
  property: Effect.fnUntraced(function* ({ before, meanwhile }) {
    const store = yield* EventStore
    const archive = yield* EventArchive
    let n = 0
    for (let count = 0; count < before; count++) yield* store.append(requestOf(count % 2, ++n))
    const left = [...meanwhile]
    const seen = new Map<string, number>()
    let after: string | undefined
    for (let isLast = false; !isLast;) {
      isLast = left.length === 0
      const from = after
      yield* Stream.runForEach(archive.replay({ filter: {}, after: from }).pipe(Stream.rechunk(1)), (item) =>
        Effect.gen(function* () {
          if (item._tag !== "Truncated") after = item.cursor
          if (item._tag === "Truncated") seen.set(item.runId, Math.max(seen.get(item.runId) ?? 0, item.to))
          if (item._tag !== "Event") return
          const { runId, seq } = item.envelope
          yield* Law.holds(
            seq === (seen.get(runId) ?? 0) + 1,
            () => `seq ${seq} of run ${runId} came after seq ${seen.get(runId) ?? 0}, and nobody told of a loss`,
          )
          seen.set(runId, seq)
          const run = left.shift()
          if (run !== undefined) yield* store.append(requestOf(run, ++n))
        }),
      )
      const run = left.shift()
      if (run !== undefined) yield* store.append(requestOf(run, ++n))
    }
    for (const [runId, seq] of seen) {
      const head = yield* store.head(StorePlayer.runIds.find((id) => id === runId)!)
      yield* Law.same(`the last seq seen of run ${runId}`, seq, head.lastSeq)
    }
  }),
})

/** Promise 11. */
export const scoped: ArchiveLaw = Law.make({
  promise: 11,
  name: "a cursor resumes only the filter it was cut for, however that filter is written",
  history: Arbitrary.all({ commands: written, cut: ArchiveReplay.filter, used: ArchiveReplay.filter }),
  size: historySize,
  runs: 60,
  enough: 20,
  reaches: { CursorScopeMismatch: 0.3 },
  property: Effect.fnUntraced(function* ({ commands, cut, used }, reach) {
    const world = StorePlayer.makeWorld(undefined, reach)
    yield* StorePlayer.play(world, commands)
    const { checkpoint, events } = yield* ArchiveReplay.check(world, cut, undefined)
    for (const place of [...events, checkpoint]) {
      yield* ArchiveReplay.check(world, ArchiveReplay.rewritten(cut), place)
      if (ArchiveReplay.isSame(cut, used)) continue
      reach("CursorScopeMismatch")
      const answer = yield* Effect.result(ArchiveReplay.items(used, place.cursor))
      yield* StorePlayer.refusedAs("a replay from another filter's cursor", answer, [{ _tag: "CursorScopeMismatch" }])
    }
  }),
})

/** Promise 11. */
export const unaltered: ArchiveLaw = Law.make({
  promise: 11,
  name: "text that is no cursor, or was one before it was altered, is refused as such",
  history: Arbitrary.all({
    filter: ArchiveReplay.filter,
    alterations: Arbitrary.array(ArchiveReplay.alteration, { minLength: 1, maxLength: 20 }),
  }),
  size: historySize,
  runs: 60,
  enough: 20,
  property: Effect.fnUntraced(function* ({ alterations, filter }, reach) {
    const world = StorePlayer.makeWorld(undefined, reach)
    yield* StorePlayer.append(world, StorePlayer.requestFor(world, 0))
    const { checkpoint, events } = yield* ArchiveReplay.check(world, filter, undefined)
    const runCursor = Option.fromUndefinedOr(events[0]?.runCursor)
    const texts = ["", "1", "0", "abc", "🙂", ...Option.toArray(runCursor)]
    for (const alteration of alterations) texts.push(ArchiveReplay.alter(checkpoint.cursor, alteration))
    for (const text of texts) {
      if (text === checkpoint.cursor) continue
      const answer = yield* Effect.result(ArchiveReplay.items(filter, text))
      if (Result.isSuccess(answer)) return yield* Law.broken(`${JSON.stringify(text)} is taken for a cursor`)
      yield* StorePlayer.refusedAs(`a replay from ${JSON.stringify(text)}`, answer, [{ _tag: "InvalidCursor" }])
    }
  }),
})

/** By promise. */
export const laws: ReadonlyArray<ArchiveLaw> = [
  ordered,
  resumed,
  checkpointed,
  followed,
  truncated,
  truncatedFar,
  trimmedMeanwhile,
  scoped,
  unaltered,
]

/**
 * Holds an archive and its store to the laws: one vitest test each.
 *
 * **Example** (The archive in memory)
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"
 *
 * EventArchiveLaws.suite("memory", EventStore.layerMemory)
 * ```
 */
export const suite = (
  name: string,
  subject: Law.Subject<EventStore | EventArchive, StoreOptions>,
  options?: Law.SuiteOptions,
): void => Law.suite("EventArchive", name, laws, subject, options)
