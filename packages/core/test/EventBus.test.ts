import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Cursor from "@throughline/core/Cursor"
import * as Envelope from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import * as EventBus from "@throughline/core/EventBus"
import * as EventFilter from "@throughline/core/EventFilter"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const { vocabulary } = AgentEvents
const runId = Envelope.RunId.make("run")
const sessionId = Envelope.SessionId.make("session")
const line = (text: string): AgentEvents.AgentEvent => ({ _tag: "OutputLine", stream: "stdout", line: text })
const end: AgentEvents.AgentEvent = { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }

const append = Effect.fnUntraced(function* (
  events: ReadonlyArray<AgentEvents.AgentEvent>,
  options: Partial<EventStore.AppendRequest> = {},
) {
  const store = yield* EventStore.EventStore
  const encoded = yield* Effect.forEach(events, (event) => Vocabulary.encode(vocabulary, { event }))
  return (yield* store.append({ runId, vocabulary: vocabulary.id, events: encoded, ...options })).frames
})

const appendAndPublish = Effect.fnUntraced(function* (
  events: ReadonlyArray<AgentEvents.AgentEvent>,
  options: Partial<EventStore.AppendRequest> = {},
) {
  const bus = yield* EventBus.EventBus
  const frames = yield* append(events, options)
  yield* bus.publish(frames)
  return frames
})

const shape = (items: ReadonlyArray<{ readonly _tag: string; readonly envelope?: { readonly seq: number } }>) =>
  items.map((item) => item.envelope?.seq ?? item._tag)

const take = <A, E>(stream: Stream.Stream<A, E>, n: number) => Stream.runCollect(Stream.take(stream, n))

describe("EventBus", () => {
  it.effect("a bridge publishes what it stored, before its rooms, to the end of the run", () =>
    Effect.gen(function* () {
      const bridge = yield* EventBridge.EventBridge
      const bus = yield* EventBus.EventBus
      const adapter = yield* StreamAdapter.StreamAdapter
      const order: Array<string> = []
      const live = yield* bus.subscribeSession(sessionId)
      const room = yield* adapter.subscribe({ _tag: "Session", sessionId })
      yield* bridge.record(
        vocabulary,
        { runId, sessionId },
        Stream.map(Stream.make(line("one"), end), (event) => ({ event })),
      )
      yield* Effect.forEach(
        [Stream.runForEach(Stream.take(live, 2), () => Effect.sync(() => order.push("bus")))],
        (reading) => reading,
      )
      assert.deepStrictEqual(order, ["bus", "bus"])
      assert.deepStrictEqual(shape(yield* take(room, 2)), [1, 2])
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a bus whose publishing dies or never returns doesn't keep a run from being stored to its end", () =>
    Effect.gen(function* () {
      const working = yield* EventBus.EventBus
      const store = yield* EventStore.EventStore
      const ways = [() => Effect.die("boom"), () => Effect.never, () => assert.fail("boom")]
      for (const [way, publish] of ways.entries()) {
        const id = Envelope.RunId.make(`run-${way}`)
        const recording = Effect.gen(function* () {
          const bridge = yield* EventBridge.EventBridge
          const events = Stream.map(Stream.make(line("one"), line("two"), end), (event) => ({ event }))
          yield* bridge.record(vocabulary, { runId: id }, events)
        }).pipe(
          Effect.provide(EventBridge.layer()),
          Effect.provideService(EventBus.EventBus, EventBus.EventBus.of({ ...working, publish })),
        )
        const fiber = yield* Effect.forkChild(recording, { startImmediately: true })
        for (let second = 0; second < 90; second++) yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.strictEqual((yield* store.head(id)).lastSeq, 3)
      }
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a bus whose publishing dies once is fed with what the room has next", () =>
    Effect.gen(function* () {
      const working = yield* EventBus.EventBus
      const adapter = yield* StreamAdapter.StreamAdapter
      let batches = 0
      const publish: EventBus.EventBus["Service"]["publish"] = (frames) =>
        batches++ === 0 ? Effect.die("boom") : working.publish(frames)
      const live = yield* working.subscribeAll()
      yield* EventBus.feedFrom({ _tag: "All" }).pipe(
        Effect.provideService(EventBus.EventBus, EventBus.EventBus.of({ ...working, publish })),
      )
      yield* adapter.publish([{ _tag: "All" }], yield* append([line("one")]))
      yield* Effect.repeat(Effect.yieldNow, { until: () => batches > 0 })
      yield* adapter.publish([{ _tag: "All" }], yield* append([line("two")]))
      assert.deepStrictEqual(shape(yield* take(live, 1)), [2])
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a run whose producer is gone ends on the bus with its will", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const bus = yield* EventBus.EventBus
      const will = yield* Vocabulary.encode(vocabulary, { event: vocabulary.abandoned() })
      const ends = yield* bus.subscribe({ runIds: [runId], terminalOnly: true })
      yield* appendAndPublish([line("one")], { lease: { ttl: "30 seconds", will } })
      const watcher = yield* Effect.forkChild(Stream.runDrain(hub.run(runId)), { startImmediately: true })
      const waiting = yield* Effect.forkChild(take(ends, 1), { startImmediately: true })
      for (let second = 0; second < 90; second++) yield* TestClock.adjust("1 second")
      const [last] = yield* Fiber.join(waiting)
      assert.deepStrictEqual(last?._tag === "Frame" ? last.envelope.endsRun : last?._tag, "failed")
      yield* Fiber.join(watcher)
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a bus that is fed from the room it publishes to itself delivers each frame once", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const adapter = yield* StreamAdapter.StreamAdapter
      yield* EventBus.feedFrom({ _tag: "Session", sessionId })
      const live = yield* bus.subscribeAll()
      const own = yield* appendAndPublish([line("one")], { sessionId })
      yield* adapter.publish([{ _tag: "Session", sessionId }], own)
      // What another process produces comes by the room alone.
      const foreign = yield* append([line("two"), end], { sessionId })
      yield* adapter.publish([{ _tag: "Session", sessionId }], foreign)
      assert.deepStrictEqual(shape(yield* take(live, 3)), [1, 2, 3])
      assert.strictEqual((yield* bus.status).ringFrames, 3)
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("what was published here and comes back by a room is left out, however small the ring is", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const adapter = yield* StreamAdapter.StreamAdapter
      yield* EventBus.feedFrom({ _tag: "All" })
      const live = yield* bus.subscribeAll()
      const own = yield* appendAndPublish(Array.from({ length: 10 }, (_, index) => line(`${index}`)))
      yield* adapter.publish([{ _tag: "All" }], own)
      yield* adapter.publish([{ _tag: "All" }], yield* append([end]))
      assert.deepStrictEqual(
        shape(yield* take(live, 11)),
        Array.from({ length: 11 }, (_, index) => index + 1),
      )
    }).pipe(Effect.provide(Throughline.layerMemory({ bus: { ringFrames: 4 } }))),
  )

  it.effect("a room that went down is listened to again, and everybody is told that frames may be missing", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const attempts: Array<Queue.Queue<Envelope.Frame | Envelope.Gap, StreamAdapter.AdapterUnavailable>> = []
      const adapter = StreamAdapter.StreamAdapter.of({
        publish: () => Effect.void,
        subscribe: () =>
          Effect.gen(function* () {
            const queue = yield* Queue.unbounded<Envelope.Frame | Envelope.Gap, StreamAdapter.AdapterUnavailable>()
            attempts.push(queue)
            return Stream.fromQueue(queue)
          }),
      })
      yield* Effect.provideService(EventBus.feedFrom({ _tag: "All" }), StreamAdapter.StreamAdapter, adapter)
      const live = yield* bus.subscribeAll()
      const frames = yield* append([line("one"), line("two")])
      yield* Queue.offer(attempts[0]!, frames[0]!)
      const first = yield* take(live, 1)
      yield* Queue.fail(attempts[0]!, new StreamAdapter.AdapterUnavailable({ detail: "gone", isRetryable: true }))
      for (let second = 0; second < 10; second++) yield* TestClock.adjust("1 second")
      assert.strictEqual(attempts.length, 2)
      yield* Queue.offer(attempts[1]!, frames[1]!)
      assert.deepStrictEqual(shape([...first, ...(yield* take(live, 2))]), [1, "Gap", 2])
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("the pauses before a room is listened to again begin anew after a subscription that delivered", () =>
    Effect.gen(function* () {
      const down = new StreamAdapter.AdapterUnavailable({ detail: "gone", isRetryable: true })
      const [frame] = yield* append([line("one")])
      const times: Array<number> = []
      let delivers = true
      const adapter = StreamAdapter.StreamAdapter.of({
        publish: () => Effect.void,
        subscribe: () =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            times.push(now)
            return Stream.concat(delivers ? Stream.make(frame!) : Stream.empty, Stream.fail(down))
          }),
      })
      yield* Effect.provideService(EventBus.feedFrom({ _tag: "All" }), StreamAdapter.StreamAdapter, adapter)
      for (let tick = 0; tick < 500; tick++) yield* TestClock.adjust("10 millis")
      // 5 seconds, a pause of 100 ms each; doubling they would be six.
      assert.isAtLeast(times.length, 40)
      delivers = false
      const before = times.length
      for (let tick = 0; tick < 500; tick++) yield* TestClock.adjust("10 millis")
      assert.isAtMost(times.length - before, 8)
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("options of a bus that are out of bounds are taken for the nearest, and no number for the default", () =>
    Effect.gen(function* () {
      for (const [ringFrames, ringSize, kept] of [
        [Number.NaN, Number.NaN, 3],
        [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 3],
        [-1, undefined, 1],
        [2.5, undefined, 2],
        [undefined, -1, 0],
      ] as const) {
        const bus = yield* EventBus.make({ ringFrames, ringSize })
        const live = yield* bus.subscribeAll()
        const frames = yield* Effect.provide(append([line("one"), line("two"), end]), EventStore.layerMemory())
        yield* bus.publish(frames)
        assert.strictEqual((yield* bus.status).ringFrames, kept)
        assert.deepStrictEqual(shape(yield* take(live, 3)), [1, 2, 3])
      }
    }).pipe(Effect.scoped, Effect.provide(Throughline.layerCrypto)),
  )

  it.effect("a gap in a room makes a repaired subscription read the archive", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const repaired = yield* bus.subscribeRun(runId, { repair: true })
      yield* appendAndPublish([line("one")])
      yield* append([line("lost on the way")])
      yield* bus.publish([{ _tag: "Gap", reason: "reconnected" }])
      const waiting = yield* Effect.forkChild(take(repaired, 2), { startImmediately: true })
      assert.deepStrictEqual(shape(yield* Fiber.join(waiting)), [1, 2])
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a repaired subscription tells of trimmed history before it goes on", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      yield* append([line("one"), line("two"), line("three"), line("four")])
      const cursor = Cursor.archive({ kind: "Run", id: runId }, 0)
      const repaired = yield* bus.subscribe({ runIds: [runId], kinds: ["RunCompleted"] }, { repair: true })
      const whole = yield* bus.subscribeRun(runId, { cursor, repair: true })
      yield* appendAndPublish([end])
      assert.deepStrictEqual(shape(yield* take(whole, 3)), ["Truncated", 4, 5])
      assert.deepStrictEqual(shape(yield* take(repaired, 2)), ["Truncated", 5])
    }).pipe(Effect.provide(Throughline.layerMemory({ store: { retention: { eventsPerRun: 2 } } }))),
  )

  it.effect("the notice of an expired cursor of a run names where the hub goes on", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const hub = yield* SubscriptionHub.SubscriptionHub
      const live = yield* bus.subscribeRun(runId, { queue: { capacity: 1000 } })
      yield* appendAndPublish([line("one"), line("two"), line("three"), end])
      const [first] = yield* take(live, 1)
      assert.isTrue(first?._tag === "Frame")
      const cursor = first?._tag === "Frame" ? first.cursor : undefined
      const [notice, next] = yield* take(yield* bus.subscribeRun(runId, { cursor }), 2)
      assert.deepStrictEqual(notice?._tag === "LiveBufferExpired" ? notice.reason : notice?._tag, "past")
      assert.deepStrictEqual(next?._tag === "Frame" ? next.envelope.seq : next?._tag, 4)
      const after = notice?._tag === "LiveBufferExpired" ? notice.repair.run : undefined
      const rest = yield* Stream.runCollect(hub.run(runId, { after }))
      assert.deepStrictEqual(shape(rest), [2, 3, 4, "CaughtUp"])
    }).pipe(Effect.provide(Throughline.layerMemory({ bus: { ringFrames: 1 } }))),
  )

  it.effect("a reader that the ring went past while it was stuck is told so, and misses nothing that isn't told", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const live = yield* bus.subscribeAll()
      yield* appendAndPublish(Array.from({ length: 8 }, (_, index) => line(`${index}`)))
      const [first] = yield* take(live, 1)
      const cursor = first?._tag === "Frame" ? first.cursor : undefined
      const pull = yield* Stream.toPull(yield* bus.subscribeAll({ cursor, queue: { capacity: 3 } }))
      assert.deepStrictEqual(shape(yield* pull), [2, 3, 4])
      yield* appendAndPublish([line("8"), line("9")])
      const rest = yield* pull
      assert.deepStrictEqual(shape(rest), [5, 6, 7, 8])
      assert.deepStrictEqual(shape(yield* pull), [9, 10])
      // Stuck before the ring's part was read: the ring has turned by then.
      const stuck = yield* bus.subscribeAll({ cursor, queue: { capacity: 1 } })
      const late = yield* bus.subscribeAll({ cursor, queue: { capacity: 3, terminalReserve: 0 } })
      yield* appendAndPublish(Array.from({ length: 7 }, (_, index) => line(`${index}`)))
      const partly = yield* take(late, 3 + 1 + 1)
      assert.deepStrictEqual(shape(partly), ["LiveBufferExpired", 3, 4, 5, "LiveBufferExpired"])
      const notice = partly[4]
      assert.isTrue(notice?._tag === "LiveBufferExpired" && notice.reason === "past")
      const repair = notice?._tag === "LiveBufferExpired" ? notice.repair.cursor : undefined
      const repaired = yield* bus.subscribeAll({ cursor: repair, repair: true })
      assert.deepStrictEqual(
        shape(yield* take(repaired, 12)),
        Array.from({ length: 12 }, (_, index) => index + 6),
      )
      assert.deepStrictEqual(shape(yield* take(stuck, 3)), ["LiveBufferExpired", 3, "LiveBufferExpired"])
    }).pipe(Effect.provide(Throughline.layerMemory({ bus: { ringFrames: 8 } }))),
  )

  it.effect("a subscriber that failed is no longer published to, and its failure says where it goes on", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const live = yield* bus.subscribeAll({ queue: { capacity: 2, overflow: "failSubscriber" } })
      yield* appendAndPublish([line("one"), line("two"), line("three"), line("four")])
      assert.strictEqual((yield* bus.status).subscribers, 0)
      const got: Array<unknown> = []
      const result = yield* Effect.result(Stream.runForEach(live, (item) => Effect.sync(() => got.push(item))))
      assert.strictEqual(got.length, 1)
      assert.isTrue(Result.isFailure(result))
      if (Result.isFailure(result)) {
        assert.strictEqual(result.failure._tag, "SubscriberOverflow")
        const { cursor } = result.failure.repair
        const rest = yield* bus.subscribeAll({ cursor, repair: true })
        assert.deepStrictEqual(shape(yield* take(rest, 3)), [2, 3, 4])
      }
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("the ring is bounded by size, and a frame larger than it isn't kept", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const live = yield* bus.subscribeAll()
      yield* appendAndPublish([line("x".repeat(1000)), line("x".repeat(1000)), line("x".repeat(1000))])
      const small = yield* bus.status
      assert.strictEqual(small.ringFrames, 2)
      assert.isAtMost(small.ringSize, 4000)
      yield* appendAndPublish([line("x".repeat(5000))])
      assert.deepStrictEqual(yield* bus.status, { subscribers: 1, indexed: 0, ringFrames: 0, ringSize: 0 })
      assert.deepStrictEqual(shape(yield* take(live, 4)), [1, 2, 3, 4])
    }).pipe(Effect.provide(Throughline.layerMemory({ bus: { ringSize: 4000 } }))),
  )

  it.effect("a stream ends when its subscription's scope closes", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const waiting = yield* Effect.scoped(
        Effect.gen(function* () {
          const live = yield* bus.subscribeAll()
          const repaired = yield* bus.subscribeAll({ repair: true })
          return [
            yield* Effect.forkChild(Effect.exit(Stream.runDrain(live)), { startImmediately: true }),
            yield* Effect.forkChild(Effect.exit(Stream.runDrain(repaired)), { startImmediately: true }),
          ]
        }),
      )
      yield* Fiber.awaitAll(waiting)
      assert.strictEqual((yield* bus.status).subscribers, 0)
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a text that is no cursor, a run's plain cursor and an archive's in another scope are refused", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const tagOf = (cursor: string) =>
        Effect.map(Effect.result(bus.subscribeAll({ cursor })), (result) =>
          Result.isFailure(result) ? result.failure._tag : "subscribed",
        )
      assert.strictEqual(yield* tagOf("hello"), "InvalidCursor")
      assert.strictEqual(yield* tagOf("42-k3v9x1q0"), "InvalidCursor")
      assert.strictEqual(yield* tagOf(Cursor.archive({ kind: "Run", id: "run" }, 7)), "CursorScopeMismatch")
      assert.strictEqual(yield* tagOf(Cursor.archive({ kind: "All", id: "" }, 7)), "subscribed")
    }).pipe(Effect.scoped, Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a bus beside no archive keeps its cursors, without a place in the archive", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.make()
      const live = yield* bus.subscribeAll()
      const stored = append([line("one"), line("two")])
      const frames = yield* Effect.provide(stored, EventStore.layerMemory())
      yield* bus.publish(frames.map(({ _tag, cursor, envelope }) => ({ _tag, cursor, envelope })))
      const [first] = yield* take(live, 1)
      const cursor = first?._tag === "Frame" ? first.cursor : undefined
      assert.deepStrictEqual(shape(yield* take(yield* bus.subscribeAll({ cursor }), 1)), [2])
      const other = yield* EventBus.make()
      const waiting = yield* take(yield* other.subscribeAll({ cursor }), 1)
      assert.deepStrictEqual(waiting[0]?._tag === "LiveBufferExpired" ? waiting[0].repair : waiting, {
        cursor: cursor ?? "none",
      })
    }).pipe(Effect.scoped, Effect.provide(Throughline.layerCrypto)),
  )
})

const refused = (input: unknown) =>
  Effect.map(Effect.result(EventFilter.decode(input)), (result) =>
    Result.isFailure(result) ? result.failure.field : "taken",
  )

const scopeOf = (filter: EventFilter.EventFilter) => Effect.map(EventFilter.compile(filter), ({ scope }) => scope)

describe("EventFilter", () => {
  it.effect("a filter from outside is refused with the name of the field that is wrong", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* refused({ runIds: ["a b"] }), "runIds")
      assert.strictEqual(yield* refused({ runId: ["a"] }), "runId")
      assert.strictEqual(yield* refused({ delivery: ["progres"] }), "delivery")
      assert.strictEqual(yield* refused({ kinds: "OutputLine" }), "kinds")
      assert.strictEqual(yield* refused({ tags: ["x".repeat(257)] }), "tags")
      assert.strictEqual(yield* refused({ turnIds: Array.from({ length: 1001 }, String) }), "turnIds")
      assert.strictEqual(yield* refused({ terminalOnly: true, delivery: ["progress"] }), "terminalOnly")
      assert.strictEqual(yield* refused([]), "")
      assert.strictEqual(yield* refused(null), "")
      assert.strictEqual(yield* refused({ runIds: [], terminalOnly: false }), "taken")
    }),
  )

  it.effect("a bus and an archive refuse a filter that is too large, whoever made it", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus.EventBus
      const filter = { kinds: Array.from({ length: 1001 }, String) }
      const result = yield* Effect.result(bus.subscribe(filter))
      assert.deepStrictEqual(Result.isFailure(result) ? result.failure._tag : result, "InvalidFilter")
    }).pipe(Effect.scoped, Effect.provide(Throughline.layerMemory())),
  )

  it.effect("filters that are one run, session or agent, or everything, have that scope", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* scopeOf({ kinds: [] }), { kind: "All", id: "" })
      assert.deepStrictEqual(yield* scopeOf({ runIds: [runId, runId] }), { kind: "Run", id: "run" })
      const both = yield* EventFilter.compile({ runIds: [runId], kinds: ["b", "a"] })
      assert.deepStrictEqual(both.scope, {
        kind: "Filter",
        id: yield* EventFilter.fingerprint({ kinds: ["a", "b", "a"], runIds: [runId] }),
      })
      assert.deepStrictEqual(both.indexed, ["runIds", "kinds"])
      assert.match(both.scope.id, /^[0-9a-f]{64}$/)
    }).pipe(Effect.provide(Throughline.layerCrypto)),
  )
})
