/**
 * What every event bus promises: each subscriber gets what its filter means, cursors resume where they were cut or say
 * so, a repaired subscription misses nothing, terminals survive, subscribers don't feel each other, nothing is left behind.
 *
 * The layer provides a store and its archive, and a bus that knows the archive. Laws about the ring need a layer that
 * takes `BusOptions`.
 */
import * as Cursor from "@throughline/core/Cursor"
import { EventArchive } from "@throughline/core/EventArchive"
import { type BusOptions, EventBus } from "@throughline/core/EventBus"
import * as EventFilter from "@throughline/core/EventFilter"
import type { EventStore } from "@throughline/core/EventStore"
import type { OverflowPolicy } from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as BusHistory from "./internal/busHistory.ts"
import * as BusWorld from "./internal/busWorld.ts"
import * as CursorText from "./internal/cursorText.ts"
import * as Generator from "./Generator.ts"
import * as Law from "./Law.ts"

/** What the layer of a suite provides. */
export type BusServices = EventBus | EventStore | EventArchive

export type BusLaw = Law.Law<BusServices, BusOptions>

const busLaw = <A>(spec: Parameters<typeof Law.make<A, BusServices, BusOptions>>[0]): BusLaw => Law.make(spec)

/** Room for all of a history. */
const roomy = { capacity: 10_000 } as const

/** Promise 11. */
export const filters: BusLaw = busLaw({
  promise: 11,
  name: "a filter matches what its fields say, and the same meaning has the same fingerprint however it is written",
  history: Arbitrary.all({
    plan: BusHistory.filterPlan,
    other: BusHistory.filterPlan,
    shapes: Arbitrary.array(BusHistory.shape, { minLength: 1, maxLength: 12 }),
  }),
  runs: 200,
  reaches: { "a match": 0.3, "no match": 0.3, "two meanings": 0.1 },
  property: Effect.fnUntraced(function* ({ other, plan, shapes }, reach) {
    const filter = BusHistory.filterOf(plan)
    const compiled = yield* EventFilter.compile(filter)
    const turned = yield* EventFilter.compile(BusHistory.filterOf(plan, true))
    const fingerprint = yield* EventFilter.fingerprint(filter)
    const turnedFingerprint = yield* EventFilter.fingerprint(BusHistory.filterOf(plan, true))
    yield* Law.same("the fingerprint of another spelling", turnedFingerprint, fingerprint)
    yield* Law.same("the scope of another spelling", turned.scope, compiled.scope)
    const wire: unknown = JSON.parse(JSON.stringify(filter))
    const received = yield* EventFilter.fingerprint(yield* EventFilter.decode(wire))
    yield* Law.same("the fingerprint over a wire", received, fingerprint)
    const rival = yield* EventFilter.compile(BusHistory.filterOf(other))
    const rivalFingerprint = yield* EventFilter.fingerprint(BusHistory.filterOf(other))
    for (const shape of [...shapes, BusHistory.anchorOf(plan)]) {
      const envelope = BusWorld.envelopeOf(shape)
      const means = BusHistory.means(filter, envelope)
      reach(means ? "a match" : "no match")
      yield* Law.same(`whether it matches ${JSON.stringify(envelope)}`, compiled.matches(envelope), means)
      if (rival.matches(envelope) !== means) {
        reach("two meanings")
        yield* Law.holds(rivalFingerprint !== fingerprint, "two meanings have one fingerprint")
      }
    }
  }),
})

/** Promise 11. */
export const scoped: BusLaw = Law.make({
  promise: 11,
  name: "a subscriber gets each frame that is published from then on and that it wants, once, in order, and no other",
  history: Arbitrary.all({
    commands: BusHistory.commands({ foreign: 1, again: 1 }),
    subscribers: Arbitrary.array(Arbitrary.all({ to: BusHistory.subscription, joins: Generator.int(0, 20) }), {
      minLength: 1,
      maxLength: 4,
    }),
    ringFrames: Generator.int(1, 20),
  }),
  size: 60,
  options: ({ ringFrames }) => ({ ringFrames }),
  reaches: { "a frame": 0.4, "a frame it doesn't want": 0.3 },
  property: Effect.fnUntraced(function* ({ commands, subscribers }, reach) {
    const world = yield* BusWorld.makeWorld
    const joined = subscribers.map(({ joins, to }) => ({ to, joins: Math.min(joins, commands.length) }))
    const readers: Array<Effect.Success<ReturnType<typeof join>>> = []
    const join = (to: BusHistory.Subscription) =>
      Effect.map(BusWorld.subscribe(to, { queue: roomy }), (stream) => ({ to, stream, from: world.published.length }))
    for (let at = 0; at <= commands.length; at++) {
      for (const { joins, to } of joined) if (joins === at) readers.push(yield* join(to))
      if (at < commands.length) yield* world.play(commands[at]!)
    }
    for (const { from, stream, to } of readers) {
      const last = yield* world.finish(BusHistory.lastShapeOf(to))
      const published = world.published.slice(from)
      const expected = BusWorld.matching(published, BusHistory.filterOfSubscription(to))
      if (expected.length > 1) reach("a frame")
      if (expected.length < published.length) reach("a frame it doesn't want")
      const items = yield* BusWorld.readTo(stream, last)
      yield* Law.same("the frames", BusWorld.idsOf(BusWorld.framesOf(items)), expected)
      yield* Law.same("the number of other items", items.length, expected.length)
    }
  }),
})

/** Promise 11. */
export const resumed: BusLaw = Law.make({
  promise: 11,
  name: "a cursor resumes after its frame while the ring reaches back so far, and else says where to repair from",
  history: Arbitrary.all({
    to: BusHistory.subscription,
    commands: BusHistory.commands({}),
    ringFrames: Generator.frequency([
      [2, Generator.int(1, 6)],
      [1, Generator.int(7, 40)],
    ]),
    cut: Generator.int(0, 30),
    elsewhere: Generator.boolean,
  }),
  size: 100,
  options: ({ ringFrames }) => ({ ringFrames }),
  runs: 150,
  enough: 40,
  reaches: { "within the ring": 0.1, "past the ring": 0.05, "another bus": 0.2 },
  property: Effect.fnUntraced(function* ({ commands, cut, elsewhere, ringFrames, to }, reach) {
    const world = yield* BusWorld.makeWorld
    const archive = yield* EventArchive
    const filter = BusHistory.filterOfSubscription(to)
    const first = yield* BusWorld.subscribe(to, { queue: roomy })
    for (const command of commands) yield* world.play(command)
    const marker = yield* world.finish(BusHistory.lastShapeOf(to))
    const frames = BusWorld.framesOf(yield* BusWorld.readTo(first, marker))
    const at = cut % frames.length
    const cursor = elsewhere ? yield* CursorText.elsewhere(frames[at]!.cursor) : frames[at]!.cursor
    const second = yield* BusWorld.subscribe(to, { cursor, queue: roomy })
    const last = yield* world.finish(BusHistory.lastShapeOf(to))
    const items = yield* BusWorld.readTo(second, last)
    const ids = BusWorld.idsOf(BusWorld.framesOf(items))
    const missed = BusWorld.matching(world.published, filter).slice(at + 1)
    const place = BusWorld.idsOf(world.published).indexOf(frames[at]!.envelope.eventId) + 1
    const inRing = world.published.length - 1 - place <= ringFrames
    if (inRing && !elsewhere) {
      reach("within the ring")
      return yield* Law.same("what a resumed subscriber gets", ids, missed)
    }
    reach(elsewhere ? "another bus" : "past the ring")
    const notice = items[0]!
    if (notice._tag !== "LiveBufferExpired") return yield* Law.broken(`the first item is a ${notice._tag}`)
    yield* Law.same("the reason", notice.reason, elsewhere ? "elsewhere" : "past")
    yield* Law.same("the frames that go on", ids, missed.slice(missed.length - ids.length))
    const replayed = yield* Stream.runCollect(archive.replay({ filter, after: notice.repair.archive }))
    const repaired = new Set(replayed.flatMap((item) => (item._tag === "Event" ? [item.envelope.eventId] : [])))
    yield* Law.same(
      "what is missing, and not in the archive after the repair place",
      missed.filter((id) => !repaired.has(id as never)),
      [],
    )
  }),
})

const scopeOf = (to: BusHistory.Subscription) =>
  Effect.map(EventFilter.compile(BusHistory.filterOfSubscription(to)), ({ scope }) => scope)

/** Promise 11. */
export const scopes: BusLaw = Law.make({
  promise: 11,
  name: "a cursor of one scope is refused by every other, as CursorScopeMismatch",
  history: Arbitrary.all({ one: BusHistory.subscription, other: BusHistory.subscription, repair: Generator.boolean }),
  runs: 60,
  enough: 20,
  reaches: { "another scope": 0.5 },
  property: Effect.fnUntraced(function* ({ one, other, repair }, reach) {
    const world = yield* BusWorld.makeWorld
    const stream = yield* BusWorld.subscribe(one)
    const last = yield* world.finish(BusHistory.lastShapeOf(one))
    const { cursor } = BusWorld.framesOf(yield* BusWorld.readTo(stream, last))[0]!
    const same = CursorText.sameScope(yield* scopeOf(one), yield* scopeOf(other))
    if (!same) reach("another scope")
    const answer = yield* Effect.result(
      repair ? Effect.asVoid(BusWorld.subscribeRepaired(other, cursor)) : BusWorld.subscribe(other, { cursor }),
    )
    yield* Law.same(
      "the answer",
      Result.isSuccess(answer) ? "subscribed" : answer.failure._tag,
      same ? "subscribed" : "CursorScopeMismatch",
    )
  }),
})

/** Strings of one case: 20 cases make 100,000. */
const stringsPerCase = 5000

/** Promise 11. */
export const cursorTexts: BusLaw = Law.make({
  promise: 11,
  name: "of 100,000 cursors, mutated cursors and random texts each is read as what it is, or is InvalidCursor",
  history: Arbitrary.all({ cursors: Arbitrary.array(CursorText.cursor, { minLength: 5, maxLength: 10 }) }),
  runs: 20,
  fixed: true,
  property: Effect.fnUntraced(function* ({ cursors }) {
    const random = yield* Random.Random
    const written = cursors.map(({ place, scope }) => ({ place, scope, text: Cursor.encoder(scope)(place) }))
    for (const { place, scope, text } of written) {
      yield* Law.holds(/^[A-Za-z0-9._~-]{1,511}$/.test(text), `the cursor ${text} isn't url-safe text under 512`)
      const decoded = Result.getOrUndefined(Cursor.decode(text))
      if (place._tag === "Archive" || place.repair === undefined) {
        yield* Law.same("a cursor read again", decoded, { scope, place })
        continue
      }
      yield* Law.holds(CursorText.isReadOf(decoded?.place, place), `${text} isn't the place it was written for`)
      const read = decoded?.place._tag === "Bus" ? decoded.place.repair : undefined
      yield* Law.same("the rest of a cursor read again", decoded, { scope, place: { ...place, repair: read } })
    }
    for (let n = 0; n < stringsPerCase; n++) {
      const { text } = written[n % written.length]!
      const changed = CursorText.mutate(text, written[(n + 1) % written.length]!.text, () => random.nextIntUnsafe())
      const decoded = Cursor.decode(changed)
      if (Result.isSuccess(decoded) && written.every((cursor) => cursor.text !== changed)) {
        return yield* Law.broken(`${changed}, made of ${text}, is read as ${JSON.stringify(decoded.success)}`)
      }
    }
  }),
})

/** Promise 6. */
export const repaired: BusLaw = Law.make({
  promise: 6,
  name: "a repaired subscription gets all that is stored after its cursor and matches, each once, whatever was published",
  history: Arbitrary.all({
    to: BusHistory.subscription,
    visits: Arbitrary.array(
      Arbitrary.all({
        before: BusHistory.commands({ foreign: 2 }),
        during: BusHistory.commands({ foreign: 2 }),
        takes: Generator.int(1, 12),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    ringFrames: Generator.int(1, 16),
  }),
  size: 100,
  options: ({ ringFrames }) => ({ ringFrames }),
  runs: 150,
  enough: 30,
  reaches: { "two visits": 0.3, "a foreign event": 0.2 },
  property: Effect.fnUntraced(function* ({ to, visits }, reach) {
    const world = yield* BusWorld.makeWorld
    const filter = BusHistory.filterOfSubscription(to)
    const { scope } = yield* EventFilter.compile(filter)
    const seen: Array<string> = []
    const positions: Array<number> = []
    let cursor = Cursor.archive(scope, 0)
    for (const [index, { before, during, takes }] of [...visits, { before: [], during: [], takes: 1000 }].entries()) {
      for (const command of before) yield* world.play(command)
      const items = yield* Effect.scoped(
        Effect.gen(function* () {
          const stream = yield* BusWorld.subscribeRepaired(to, cursor)
          for (const command of during) yield* world.play(command)
          const last = yield* world.finish(BusHistory.lastShapeOf(to))
          return yield* BusWorld.readTo(Stream.take(stream, takes), last)
        }),
      )
      if (index === 1) reach("two visits")
      for (const frame of BusWorld.framesOf(items)) {
        seen.push(frame.envelope.eventId)
        positions.push(frame.position!)
        cursor = frame.cursor
      }
      yield* Law.same("the number of other items", items.length, BusWorld.framesOf(items).length)
    }
    const expected = BusWorld.matching(world.stored, filter)
    if (expected.some((id) => world.published.every(({ envelope }) => envelope.eventId !== id)))
      reach("a foreign event")
    yield* Law.same<ReadonlyArray<string>>("the events", seen, expected)
    yield* Law.same(
      "the positions",
      positions,
      positions.toSorted((left, right) => left - right),
    )
  }),
})

/** Promise 6. */
export const repairedFromLive: BusLaw = Law.make({
  promise: 6,
  name: "a repaired subscription goes on from a live cursor with what the live one didn't get, each event once",
  history: Arbitrary.all({
    to: BusHistory.subscription,
    before: BusHistory.commands({ foreign: 2 }),
    after: BusHistory.commands({ foreign: 2 }),
    // Every second event is another process's: past what a cursor can name.
    holes: Generator.weighted([
      [2, 0],
      [1, 30],
      [1, 70],
      [1, 150],
    ]),
    cut: Generator.int(0, 30),
    late: Generator.boolean,
    ringFrames: Generator.frequency([
      [1, Generator.int(1, 16)],
      [1, Generator.int(17, 1000)],
    ]),
    elsewhere: Generator.boolean,
  }),
  size: 80,
  options: ({ ringFrames }) => ({ ringFrames }),
  runs: 200,
  enough: 50,
  reaches: { "more holes than a cursor names": 0.1, "foreign events after the cursor": 0.15 },
  property: Effect.fnUntraced(function* ({ after, before, cut, elsewhere, holes, late, ringFrames, to }, reach) {
    const world = yield* BusWorld.makeWorld
    const filter = BusHistory.filterOfSubscription(to)
    const live = yield* BusWorld.subscribe(to, { queue: roomy })
    for (const command of before) yield* world.play(command)
    const playHoles = Effect.gen(function* () {
      for (let hole = 0; hole < holes; hole++) {
        yield* world.store([BusHistory.lastShapeOf(to)])
        yield* world.finish(BusHistory.lastShapeOf(to))
      }
    })
    if (!late) yield* playHoles
    const marker = yield* world.finish(BusHistory.lastShapeOf(to))
    const all = BusWorld.framesOf(yield* BusWorld.readTo(live, marker))
    // From the end, so that the holes are before the cursor.
    const had = all.slice(0, all.length - (cut % all.length))
    if (late) yield* playHoles
    if (late && holes > 0) reach("foreign events after the cursor")
    for (const command of after) yield* world.play(command)
    if (!late && holes > 64) reach("more holes than a cursor names")
    const given = had[had.length - 1]!.cursor
    const cursor = elsewhere ? yield* CursorText.elsewhere(given) : given
    const stream = yield* BusWorld.subscribeRepaired(to, cursor)
    yield* world.settle()
    const last = yield* world.finish(BusHistory.lastShapeOf(to))
    const rest = BusWorld.framesOf(yield* BusWorld.readTo(stream, last))
    const stored = BusWorld.matching(world.stored, filter)
    const both = [...BusWorld.idsOf(had), ...BusWorld.idsOf(rest)]
    const known = new Set<string>(both)
    yield* Law.same(
      "what neither got",
      stored.filter((id) => !known.has(id)),
      [],
    )
    // With more holes than a cursor names there may be doubles, unless the ring has them all.
    const mayDouble = world.hasManyHoles && (elsewhere || ringFrames < 500)
    if (!mayDouble) yield* Law.same("the events of both", BusWorld.sorted(both), BusWorld.sorted(stored))
    const positions = rest.map(({ position }) => position!)
    yield* Law.same(
      "the positions",
      positions,
      Array.from(new Set(positions)).toSorted((left, right) => left - right),
    )
  }),
})

const anyPolicy = Generator.weighted<Exclude<OverflowPolicy, "backpressure">>([
  [1, "dropNonTerminal"],
  [1, "dropProgress"],
  [1, "summarize"],
  [1, "failSubscriber"],
])

/** Promise 10. */
export const terminals: BusLaw = Law.make({
  promise: 10,
  name: "a slow subscriber gets every terminal, or its stream fails and the repaired one yields the rest, each once",
  history: Arbitrary.all({
    to: BusHistory.subscription,
    policy: anyPolicy,
    capacity: Generator.int(1, 6),
    reserve: Generator.int(0, 6),
    phases: Arbitrary.array(BusHistory.commands({}), { minLength: 1, maxLength: 4 }),
    ringFrames: Generator.int(1, 30),
  }),
  size: 100,
  options: ({ ringFrames }) => ({ ringFrames }),
  runs: 200,
  enough: 60,
  reaches: { "a loss": 0.2, SubscriberOverflow: 0.05, TerminalOverflow: 0.05, "no failure": 0.3 },
  property: Effect.fnUntraced(function* ({ capacity, phases, policy, reserve, to }, reach) {
    const world = yield* BusWorld.makeWorld
    const filter = { ...BusHistory.filterOfSubscription(to) }
    const queue = { capacity, terminalReserve: Math.min(reserve, capacity), overflow: policy }
    const lastShape = { ...BusHistory.lastShapeOf(to), delivery: "terminal" as const }
    const isWanted = BusHistory.means(filter, BusWorld.envelopeOf(lastShape))
    // A subscriber that wants no terminals is not what this is about.
    if (!isWanted) return
    const live = yield* BusWorld.subscribe(to, { queue })
    yield* world.finish(lastShape)
    const received: Array<string> = []
    const collect = (
      frames: ReadonlyArray<{ readonly envelope: { readonly eventId: string; readonly delivery: string } }>,
    ) => {
      for (const { envelope } of frames) if (envelope.delivery === "terminal") received.push(envelope.eventId)
    }
    const pull = yield* Stream.toPull(live)
    let failure: { readonly _tag: string; readonly repair: { readonly cursor?: string } } | undefined
    for (const commands of phases) {
      for (const command of commands) yield* world.play(command)
      yield* world.finish(lastShape)
      const chunk = yield* Effect.result(pull)
      if (Result.isFailure(chunk)) {
        // A bus never completes a stream.
        failure = chunk.failure as NonNullable<typeof failure>
        break
      }
      const frames = BusWorld.framesOf(chunk.success)
      collect(frames)
      for (const { notice } of frames) {
        if (notice === undefined) continue
        reach("a loss")
        yield* Law.holds(notice.terminalsSurvived && notice.repair.cursor !== undefined, "a notice is not as promised")
      }
    }
    yield* world.settle()
    const last = yield* world.finish(lastShape)
    if (failure === undefined) {
      const rest = yield* Effect.result(BusWorld.pullTo(pull, last, collect))
      if (Result.isFailure(rest)) failure = rest.failure as NonNullable<typeof failure>
    }
    reach(failure?._tag ?? "no failure")
    if (failure !== undefined) {
      const { cursor } = failure.repair
      if (cursor === undefined) return yield* Law.broken("the failure has no repair cursor")
      const stream = yield* BusWorld.subscribeRepaired(to, cursor)
      // Something must happen for a reader to be woken.
      const end = yield* world.finish(lastShape)
      collect(BusWorld.framesOf(yield* BusWorld.readTo(stream, end)))
    }
    const offered = world.stored.filter(({ envelope }) => envelope.delivery === "terminal")
    // Past what a cursor can name there may be doubles, and never less.
    const got = world.hasManyHoles ? Array.from(new Set(received)) : received
    yield* Law.same("the terminals", BusWorld.sorted(got), BusWorld.sorted(BusWorld.matching(offered, filter)))
  }),
})

/** Promise 8. */
export const apart: BusLaw = Law.make({
  promise: 8,
  name: "with a stuck subscriber, 99 live ones and the producer see what they see without it",
  history: Arbitrary.all({
    commands: BusHistory.commands({}),
    policy: anyPolicy,
    capacity: Generator.int(1, 4),
    stuckFirst: Generator.boolean,
  }),
  size: 60,
  runs: 15,
  property: Effect.fnUntraced(function* ({ capacity, commands, policy, stuckFirst }) {
    const world = yield* BusWorld.makeWorld
    const stuck = BusWorld.subscribe({ by: "all" }, { queue: { capacity, overflow: policy } })
    if (stuckFirst) yield* Effect.asVoid(stuck)
    const live = yield* Effect.forEach(Array.from({ length: 99 }), () => BusWorld.subscribe({ by: "all" }))
    if (!stuckFirst) yield* Effect.asVoid(stuck)
    const seen: Array<ReadonlyArray<string>> = live.map(() => [])
    const lastId = { current: "" }
    const readers = yield* Effect.forEach(live, (stream, index) =>
      Effect.forkChild(
        stream.pipe(
          Stream.takeUntil((item) => item._tag === "Frame" && item.envelope.eventId === lastId.current),
          Stream.runForEach((item) =>
            Effect.sync(() => {
              if (item._tag === "Frame" && item.notice === undefined)
                seen[index] = [...seen[index]!, item.envelope.eventId]
            }),
          ),
        ),
        { startImmediately: true },
      ),
    )
    for (const command of commands) {
      yield* world.play(command)
      // Live readers are those that get their turn.
      yield* Effect.yieldNow
    }
    const [marked] = yield* world.store([BusHistory.lastShapeOf({ by: "all" })])
    lastId.current = marked!.envelope.eventId
    yield* world.publish([marked!])
    yield* Fiber.joinAll(readers)
    const expected = BusWorld.idsOf(world.published)
    for (const ids of seen) yield* Law.same("what a live subscriber saw", ids, expected)
  }),
})

/** Promise 12. */
export const nothingLeft: BusLaw = Law.make({
  promise: 12,
  name: "a closed subscription is gone from the bus at once, over 10,000 rounds",
  history: Arbitrary.array(Arbitrary.all({ to: BusHistory.subscription, repair: Generator.boolean }), {
    minLength: 10,
    maxLength: 20,
  }),
  runs: 1,
  fixed: true,
  property: Effect.fnUntraced(function* (subscribers) {
    const bus = yield* EventBus
    const world = yield* BusWorld.makeWorld
    for (let round = 0; round < 10_000; round++) {
      const { repair, to } = subscribers[round % subscribers.length]!
      const inside = yield* Effect.scoped(
        Effect.gen(function* () {
          const drain = repair
            ? Effect.exit(Stream.runDrain(yield* BusWorld.subscribeRepaired(to)))
            : Effect.exit(Stream.runDrain(yield* BusWorld.subscribe(to)))
          // Somebody waits for the next item when the scope closes.
          if (round % 16 === 0) yield* Effect.forkScoped(drain, { startImmediately: true })
          if (round % 64 === 0) yield* world.finish(BusHistory.lastShapeOf(to))
          return yield* bus.status
        }),
      )
      const { indexed, subscribers: left } = yield* bus.status
      if (inside.subscribers !== 1 || left !== 0 || indexed !== 0) {
        return yield* Law.broken(
          `round ${round}: ${inside.subscribers} subscribers inside, ${left} left, ${indexed} entries of the index left`,
        )
      }
    }
  }),
})

/** By promise. */
export const laws: ReadonlyArray<BusLaw> = [
  repaired,
  repairedFromLive,
  apart,
  terminals,
  filters,
  scoped,
  resumed,
  scopes,
  cursorTexts,
  nothingLeft,
]

/**
 * Holds a bus to its laws: one vitest test each.
 *
 * **Example** (A bus of your own)
 *
 * ```ts
 * import * as EventBus from "@throughline/core/EventBus"
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as EventBusLaws from "@throughline/testing/EventBusLaws"
 * import * as Layer from "effect/Layer"
 *
 * EventBusLaws.suite("memory", (options) => Layer.provideMerge(EventBus.layer(options), EventStore.layerMemory()))
 * ```
 */
export const suite = (name: string, subject: Law.Subject<BusServices, BusOptions>, options?: Law.SuiteOptions): void =>
  Law.suite("EventBusLaws", name, laws, subject, options)
