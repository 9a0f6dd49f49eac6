/**
 * What every live adapter promises: each frame of a room or a `Gap`, bounded subscribers that don't touch each other, and
 * nothing left behind.
 *
 * The layer provides a store as well, since an adapter may learn of events by what is stored: every frame of these laws
 * is appended, then published. An adapter that looks for news from time to time does so by Effect's `Clock`.
 *
 * In order means that a frame's first arrival is; an adapter may deliver it again.
 */
import {
  defaultRooms,
  type EncodedEnvelope,
  type Frame,
  type Gap,
  type Room,
  type RoomKind,
  roomName,
  roomsOf,
  type RunId,
  type SessionId,
} from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import { publishAppended, StreamAdapter } from "@throughline/core/StreamAdapter"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import type { QueueOptions } from "@throughline/core/SubscriberQueue"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Generator from "./Generator.ts"
import * as StoreHistory from "./internal/storeHistory.ts"
import * as Law from "./Law.ts"

export type AdapterLaw = Law.Law<EventStore | StreamAdapter, StoreOptions>

const runIdOf = (run: number): RunId => `run-${run}` as RunId
/** Runs 0 and 1 share a session. */
const sessionIdOf = (run: number): SessionId => `chat-${run >> 1}` as SessionId

/** Fed by default; what else is fed is configuration. */
const fed: ReadonlyArray<RoomKind> = defaultRooms

const rooms: ReadonlyArray<Room> = [
  { _tag: "Run", runId: runIdOf(0) },
  { _tag: "Run", runId: runIdOf(1) },
  { _tag: "Session", sessionId: sessionIdOf(0) },
  { _tag: "Session", sessionId: sessionIdOf(2) },
  { _tag: "Run", runId: runIdOf(9) },
]

const room: Arbitrary.Arbitrary<Room> = Generator.weighted([
  [4, rooms[0]!],
  [2, rooms[1]!],
  [3, rooms[2]!],
  [1, rooms[3]!],
  [1, rooms[4]!],
])

/** Appends to runs and publishes what was stored, in order. */
const makePublisher = Effect.gen(function* () {
  const store = yield* EventStore
  const adapter = yield* StreamAdapter
  const published: Array<Frame> = []
  let n = 0
  const publish = Effect.fnUntraced(function* (run: number, events: number) {
    const appended = yield* store.append({
      runId: runIdOf(run),
      sessionId: sessionIdOf(run),
      vocabulary: { name: "law", version: 1 },
      events: Array.from({ length: events }, () => StoreHistory.event(++n, StoreHistory.plain)),
    })
    published.push(...appended.frames)
    yield* publishAppended(adapter, appended, fed)
  })
  return { publish, published }
})

interface Listener {
  readonly room: Room
  readonly items: Array<Frame | Gap>
  /** Starts taking what is waiting, and goes on. */
  readonly take: Effect.Effect<void>
}

/** Subscribes; nothing is taken before `take`. */
const listen = Effect.fnUntraced(function* (to: Room, queue?: QueueOptions) {
  const adapter = yield* StreamAdapter
  const scope = yield* Scope.Scope
  const stream = yield* adapter.subscribe(to, queue)
  const items: Array<Frame | Gap> = []
  const take = Stream.runForEach(stream, (item) => Effect.sync(() => items.push(item))).pipe(
    Effect.ignore,
    Effect.forkIn(scope),
    Effect.asVoid,
  )
  const listener: Listener = { room: to, items, take }
  return listener
})

const isIn = (to: Room, envelope: EncodedEnvelope): boolean =>
  roomsOf(envelope, [to._tag]).some((other) => roomName(other) === roomName(to))

/** What is missing of a room's frames without a gap in its place; `undefined`: nothing. */
const silentLoss = (listener: Listener, published: ReadonlyArray<Frame>): Frame | undefined => {
  const expected = published.filter((frame) => isIn(listener.room, frame.envelope))
  const next = new Map<string, number>()
  const gapped = new Set<string>()
  for (const item of listener.items) {
    if (item._tag === "Gap") {
      for (const frame of expected) gapped.add(frame.envelope.runId)
      continue
    }
    const { runId, seq } = item.envelope
    const due = next.get(runId) ?? 1
    if (seq < due) continue
    if (seq > due && !gapped.has(runId)) {
      return expected.find((frame) => frame.envelope.runId === runId && frame.envelope.seq === due)
    }
    gapped.delete(runId)
    next.set(runId, seq + 1)
  }
  return expected.find(({ envelope }) => envelope.seq >= (next.get(envelope.runId) ?? 1) && !gapped.has(envelope.runId))
}

const isGap = (item: Frame | Gap): item is Gap => item._tag === "Gap"

/** Lets time pass until the condition holds; breaks the law if it never does. */
const eventually = Effect.fnUntraced(function* (condition: () => boolean, what: () => string) {
  for (let looks = 0; looks < 300; looks++) {
    if (condition()) return
    yield* TestClock.adjust("20 millis")
    // A backend with I/O of its own answers in real time; on a busy machine, that is seconds.
    if (looks > 20) yield* TestClock.withLive(Effect.sleep(looks > 100 ? "10 millis" : "2 millis"))
  }
  return yield* Law.broken(what())
})

const eventuallyWhole = (listener: Listener, published: ReadonlyArray<Frame>) =>
  eventually(
    () => silentLoss(listener, published) === undefined,
    () => {
      const { envelope } = silentLoss(listener, published)!
      const got = listener.items.map((item) => (isGap(item) ? "Gap" : `${item.envelope.runId}/${item.envelope.seq}`))
      return `${roomName(listener.room)} never got seq ${envelope.seq} of ${envelope.runId}, nor a gap: ${got.join(" ")}`
    },
  )

/** Every frame that came is one that was published, and of the listener's room. */
const checkFrames = Effect.fnUntraced(function* (listener: Listener, published: ReadonlyArray<Frame>) {
  const byCursor = new Map(published.map((frame) => [`${frame.envelope.runId} ${frame.cursor}`, frame]))
  for (const item of listener.items) {
    if (isGap(item)) continue
    yield* Law.holds(
      isIn(listener.room, item.envelope),
      () => `${roomName(listener.room)} got a frame of run ${item.envelope.runId}`,
    )
    yield* Law.same("a frame received", item, byCursor.get(`${item.envelope.runId} ${item.cursor}`)!)
  }
})

const batch = Arbitrary.all({ run: Generator.int(0, 3), events: Generator.int(1, 4) })

const batches = Arbitrary.array(batch, { minLength: 1, maxLength: 30 })

/** Promise 9. */
export const arrives: AdapterLaw = Law.make({
  promise: 9,
  name: "what is published after subscribing arrives in order, or a Gap does",
  history: Arbitrary.all({
    listeners: Arbitrary.array(Arbitrary.all({ room, capacity: Generator.int(1, 12), stuck: Generator.boolean }), {
      minLength: 1,
      maxLength: 5,
    }),
    batches,
    late: batches,
  }),
  size: 60,
  runs: 80,
  reaches: { "a gap": 0.3, "no gap": 0.3 },
  property: Effect.fnUntraced(function* (history, reach) {
    const { publish, published } = yield* makePublisher
    const listeners: Array<Listener> = []
    for (const { capacity, room: to, stuck } of history.listeners) {
      const listener = yield* listen(to, { capacity })
      if (!stuck) yield* listener.take
      listeners.push(listener)
    }
    for (const { events, run } of history.batches) {
      yield* publish(run, events)
      yield* Effect.yieldNow
    }
    for (const [index, listener] of listeners.entries()) if (history.listeners[index]!.stuck) yield* listener.take
    for (const listener of listeners) yield* eventuallyWhole(listener, published)
    // After a gap frames arrive as before.
    for (const { events, run } of history.late) {
      yield* publish(run, events)
      for (const listener of listeners) yield* eventuallyWhole(listener, published)
    }
    for (const listener of listeners) {
      yield* checkFrames(listener, published)
      reach(listener.items.some(isGap) ? "a gap" : "no gap")
    }
  }),
})

/** Promise 8. */
export const bounded: AdapterLaw = Law.make({
  promise: 8,
  name: "a subscriber that takes nothing holds as many frames as its capacity, then a Gap",
  history: Arbitrary.all({ capacity: Generator.int(1, 40), events: Generator.int(1, 4) }),
  runs: 40,
  property: Effect.fnUntraced(function* ({ capacity, events }) {
    const { publish, published } = yield* makePublisher
    const listener = yield* listen(rooms[0]!, { capacity })
    while (published.length <= capacity * 3 + 3) {
      yield* publish(0, events)
      yield* TestClock.adjust("20 millis")
    }
    yield* listener.take
    yield* eventuallyWhole(listener, published)
    const held = listener.items.findIndex(isGap)
    yield* Law.holds(
      held >= 0 && held <= capacity,
      () => `of ${published.length} frames ${held < 0 ? "all" : held} were held by a capacity of ${capacity}`,
    )
  }),
})

/** Promise 8. */
export const apart: AdapterLaw = Law.make({
  promise: 8,
  name: "a stuck subscriber slows neither the publisher nor the other subscribers",
  history: Arbitrary.all({ stuck: Generator.int(1, 5), capacity: Generator.int(1, 4), batches }),
  size: 60,
  runs: 40,
  property: Effect.fnUntraced(function* (history) {
    const { publish, published } = yield* makePublisher
    for (let count = 0; count < history.stuck; count++) yield* listen(rooms[2]!, { capacity: history.capacity })
    const reader = yield* listen(rooms[2]!)
    yield* reader.take
    const publishing = Effect.forEach(history.batches, ({ events, run }) => publish(run, events), { discard: true })
    const done = yield* TestClock.withLive(Effect.timeoutOption(publishing, "10 seconds"))
    yield* Law.holds(Option.isSome(done), "the publisher waits for a subscriber that takes nothing")
    yield* eventuallyWhole(reader, published)
    yield* Law.holds(!reader.items.some(isGap), "a reader that takes everything lost frames to one that takes nothing")
  }),
})

/** Promise 8. */
export const refused: AdapterLaw = Law.make({
  promise: 8,
  name: "a capacity that is no count from 1 is refused, and leaves no subscription",
  history: Generator.weighted([
    [1, 0],
    [1, -1],
    [1, 1.5],
    [1, Number.NaN],
    [1, Number.POSITIVE_INFINITY],
  ]),
  runs: 10,
  property: Effect.fnUntraced(function* (capacity) {
    const adapter = yield* StreamAdapter
    const answer = yield* Effect.flip(adapter.subscribe(rooms[0]!, { capacity }))
    yield* Law.same("the error", answer._tag, "InvalidQueueOptions")
    const { publish } = yield* makePublisher
    yield* publish(0, 1)
  }),
})

/** Promise 12. */
export const freed: AdapterLaw = Law.make({
  promise: 12,
  name: "closing its scope ends a subscription, and that one alone",
  history: Arbitrary.all({
    listeners: Arbitrary.array(Arbitrary.all({ room, closes: Generator.boolean }), { minLength: 1, maxLength: 5 }),
    before: batches,
    after: batches,
  }),
  size: 60,
  runs: 60,
  property: Effect.fnUntraced(function* (history) {
    const { publish, published } = yield* makePublisher
    const open: Array<{ readonly listener: Listener; readonly scope: Scope.Closeable; readonly closes: boolean }> = []
    for (const { closes, room: to } of history.listeners) {
      const scope = yield* Scope.make()
      yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
      const listener = yield* Scope.provide(listen(to), scope)
      yield* listener.take
      open.push({ listener, scope, closes })
    }
    for (const { events, run } of history.before) yield* publish(run, events)
    for (const { listener } of open) yield* eventuallyWhole(listener, published)
    for (const { closes, scope } of open) if (closes) yield* Scope.close(scope, Exit.void)
    const got = open.map(({ listener }) => listener.items.length)
    for (const { events, run } of history.after) yield* publish(run, events)
    for (const [index, { closes, listener }] of open.entries()) {
      if (!closes) yield* eventuallyWhole(listener, published)
      else yield* Law.same("the items after closing", Formatter.format(listener.items.slice(got[index])), "[]")
    }
    for (const { closes, listener } of open) {
      if (!closes) continue
      const again = yield* listen(listener.room)
      const from = published.length
      yield* again.take
      yield* publish(0, 1)
      const late = published.slice(from).filter((frame) => isIn(again.room, frame.envelope))
      yield* eventually(
        () => late.every((frame) => again.items.some((item) => !isGap(item) && item.cursor === frame.cursor)),
        () => "who subscribes again gets nothing",
      )
    }
  }),
})

/** Promise 12. */
export const roundsLeaveNothing: AdapterLaw = Law.make({
  promise: 12,
  name: "ten thousand subscriptions that came and went leave the adapter as fast as it was",
  history: Arbitrary.Constant(10_000),
  runs: 1,
  fixed: true,
  hangsAfter: 200_000,
  property: Effect.fnUntraced(function* (rounds) {
    const { publish } = yield* makePublisher
    // The fastest of some, in live milliseconds: what else runs on the machine only makes it slower.
    const fastest = Effect.fnUntraced(function* (tries: number, enough = 0) {
      let best = Number.POSITIVE_INFINITY
      for (let left = tries; left > 0 && best > enough; left--) {
        const started = yield* TestClock.withLive(Clock.currentTimeMillis)
        for (let count = 0; count < 20; count++) yield* publish(0, 10)
        best = Math.min(best, (yield* TestClock.withLive(Clock.currentTimeMillis)) - started)
      }
      return best
    })
    const before = yield* fastest(5)
    for (let round = 0; round < rounds; round++) {
      yield* Effect.scoped(Effect.asVoid(listen(rooms[round % 2 === 0 ? 0 : 2]!)))
    }
    const bound = before * 5 + 20
    const after = yield* fastest(15, bound)
    yield* Law.holds(
      after <= bound,
      () => `publishing takes ${after} ms after ${rounds} rounds, and took ${before} ms before`,
    )
    const listener = yield* listen(rooms[0]!)
    yield* listener.take
    yield* publish(0, 1)
    yield* eventually(
      () => listener.items.length > 0,
      () => `nothing arrives after ${rounds} rounds`,
    )
  }),
})

/** By promise. */
export const laws: ReadonlyArray<AdapterLaw> = [bounded, apart, refused, arrives, freed, roundsLeaveNothing]

/**
 * Holds an adapter to its laws: one vitest test each.
 *
 * **Example** (The adapter in memory, beside the store in memory)
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as StreamAdapter from "@throughline/core/StreamAdapter"
 * import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
 * import * as Layer from "effect/Layer"
 *
 * StreamAdapterLaws.suite("memory", Layer.merge(EventStore.layerMemory(), StreamAdapter.layerMemory))
 * ```
 */
export const suite = (
  name: string,
  subject: Law.Subject<EventStore | StreamAdapter, StoreOptions>,
  options?: Law.SuiteOptions,
): void => Law.suite("StreamAdapter", name, laws, subject, options)
