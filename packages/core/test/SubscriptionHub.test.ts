import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Cursor from "@throughline/core/Cursor"
import * as Envelope from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as FaultPlan from "@throughline/testing/FaultPlan"
import * as FaultyEventStore from "@throughline/testing/FaultyEventStore"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const crypto = Layer.mergeAll(SecureRandom.layerWebCrypto, Digest.layerWebCrypto)
const layerOver = (adapter: Layer.Layer<StreamAdapter.StreamAdapter>, store?: StoreOptions) =>
  SubscriptionHub.layer().pipe(
    Layer.provideMerge(Layer.mergeAll(EventStore.layerMemory(store), adapter)),
    Layer.provideMerge(crypto),
  )
const layer = layerOver(StreamAdapter.layerMemory)

const runId = Envelope.RunId.make("run")
const { vocabulary } = AgentEvents
const line = (text: string): AgentEvents.AgentEvent => ({ _tag: "OutputLine", stream: "stdout", line: text })
const end: AgentEvents.AgentEvent = { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }

const append = Effect.fnUntraced(function* (
  events: ReadonlyArray<AgentEvents.AgentEvent>,
  options: Partial<EventStore.AppendRequest> = {},
) {
  const store = yield* EventStore.EventStore
  const adapter = yield* StreamAdapter.StreamAdapter
  const encoded = yield* Effect.forEach(events, (event) => Vocabulary.encode(vocabulary, { event }))
  const appended = yield* store.append({ runId, vocabulary: vocabulary.id, events: encoded, ...options })
  yield* StreamAdapter.publishAppended(adapter, appended, Envelope.defaultRooms)
  return appended
})

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const shape = (items: ReadonlyArray<{ readonly _tag: string; readonly envelope?: { readonly seq: number } }>) =>
  items.map((item) => item.envelope?.seq ?? item._tag)

describe("SubscriptionHub", () => {
  it.effect("a reader with a vocabulary gets its events decoded, and the whole of what precedes one that isn't", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const store = yield* EventStore.EventStore
      const good = yield* Vocabulary.encode(vocabulary, { event: line("one") })
      const foreign = { ...good, event: '{"_tag":"Nobody"}' as Envelope.EventJson }
      yield* store.append({ runId, vocabulary: vocabulary.id, events: [good, foreign, good] })
      const seen: Array<unknown> = []
      const result = yield* hub.run(runId, { vocabulary }).pipe(
        Stream.runForEach((item) => Effect.sync(() => seen.push(item._tag === "Event" ? item.envelope.event : item))),
        Effect.result,
      )
      assert.deepStrictEqual(seen, [line("one")])
      assert.isTrue(Result.isFailure(result))
      if (Result.isFailure(result)) {
        assert.strictEqual(result.failure._tag, "CorruptRecord")
        assert.propertyVal(result.failure, "seq", 2)
      }
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a run of another vocabulary is refused to a typed reader, live or stored", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const other = Vocabulary.make({
        name: "other",
        version: 1,
        schema: Schema.TaggedStruct("Ping", {}),
        endsRun: () => undefined,
        abandoned: () => ({ _tag: "Ping" }) as const,
      })
      const waiting = yield* fork(Effect.result(Stream.runDrain(hub.run(runId, { vocabulary: other }))))
      yield* TestClock.adjust("1 second")
      yield* append([line("one")])
      yield* TestClock.adjust("1 second")
      for (const result of [
        yield* Fiber.join(waiting),
        yield* Effect.result(Stream.runDrain(hub.run(runId, { vocabulary: other }))),
      ]) {
        assert.isTrue(Result.isFailure(result))
        if (Result.isFailure(result)) assert.strictEqual(result.failure._tag, "VocabularyMismatch")
      }
    }).pipe(Effect.provide(layer)),
  )

  it.effect("the two parts of subscribeRun are the run: no overlap, no hole", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      yield* append([line("1"), line("2"), line("3")])
      const { live, replay } = yield* hub.subscribeRun(runId, { after: 1, limit: 1 })
      assert.deepStrictEqual(
        replay.envelopes.map(({ seq }) => seq),
        [2],
      )
      const rest = yield* fork(Stream.runCollect(live))
      yield* append([line("4"), end])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(shape(yield* Fiber.join(rest)), [3, "CaughtUp", 4, 5])
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a run removed under a reader ends it with RunRemoved, written again or not", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const store = yield* EventStore.EventStore
      for (const rewrite of [false, true]) {
        yield* append([line("1")])
        const reader = yield* fork(Effect.result(Stream.runDrain(hub.run(runId))))
        yield* TestClock.adjust("1 second")
        yield* store.remove(runId)
        if (rewrite) yield* append([line("again")])
        yield* TestClock.adjust("10 seconds")
        const result = yield* Fiber.join(reader)
        assert.isTrue(Result.isFailure(result))
        if (Result.isFailure(result)) assert.strictEqual(result.failure._tag, "RunRemoved")
        yield* store.remove(runId)
      }
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a run removed under its readers ends them as soon as the hub is asked to look, written again or not", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const store = yield* EventStore.EventStore
      for (const rewrite of [false, true]) {
        yield* append([line("1")])
        const queue = { capacity: 8, overflow: "dropNonTerminal" } as const
        const readers = [
          yield* fork(Effect.flip(Stream.runDrain(hub.run(runId)))),
          yield* fork(Effect.flip(Stream.runDrain(hub.run(runId, { queue })))),
        ]
        yield* TestClock.adjust("1 second")
        yield* store.remove(runId)
        if (rewrite) yield* append([line("again")])
        yield* hub.look(runId)
        // No time passes.
        for (const reader of readers) assert.strictEqual((yield* Fiber.join(reader))._tag, "RunRemoved")
        yield* store.remove(runId)
      }
      // Nobody watches it any more.
      yield* hub.look(runId)
    }).pipe(Effect.provide(layer)),
  )

  it.effect(
    "a cursor of a removed generation is refused at once, although readers of the old one are still there",
    () =>
      Effect.gen(function* () {
        const hub = yield* SubscriptionHub.SubscriptionHub
        const store = yield* EventStore.EventStore
        const { frames } = yield* append([line("1")])
        const old = yield* fork(Effect.result(Stream.runDrain(hub.run(runId))))
        yield* TestClock.adjust("1 second")
        yield* store.remove(runId)
        const rewritten = yield* append([line("again")])
        const stale = yield* Effect.flip(Stream.runDrain(hub.run(runId, { after: frames[0]!.cursor })))
        assert.strictEqual(stale._tag, "CursorStale")
        const fresh = yield* fork(Stream.runCollect(hub.run(runId, { after: rewritten.frames[0]!.cursor })))
        yield* append([end])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(shape(yield* Fiber.join(fresh)), ["CaughtUp", 2])
        yield* Fiber.join(old)
      }).pipe(Effect.provide(layer)),
  )

  it.effect(
    "a run written again after its end is followed as a new one, while readers of the old one are still there",
    () =>
      Effect.gen(function* () {
        const hub = yield* SubscriptionHub.SubscriptionHub
        const store = yield* EventStore.EventStore
        yield* append([line("1")])
        const old = yield* Stream.toPull(hub.run(runId))
        yield* old
        const caughtUp = yield* fork(old)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(caughtUp)
        yield* append([end])
        // It has seen the end and not yet that the stream completes.
        assert.deepStrictEqual(shape(yield* old), [2])
        yield* store.remove(runId)
        yield* append([line("again")])
        const fresh = yield* fork(Stream.runCollect(hub.run(runId)))
        yield* TestClock.adjust("10 seconds")
        yield* append([line("2"), end])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(shape(yield* Fiber.join(fresh)), [1, "CaughtUp", 2, 3])
      }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect(
    "of many watchers one ends an abandoned run with its will, within the lease, the grace and one watchdog",
    () =>
      Effect.gen(function* () {
        const hub = yield* SubscriptionHub.SubscriptionHub
        const other = yield* SubscriptionHub.make()
        const will = yield* Vocabulary.encode(vocabulary, { event: vocabulary.abandoned() })
        yield* append([line("1")], { lease: { ttl: "30 seconds", will } })
        const readers = yield* Effect.forEach([hub, hub, other], ({ run }) =>
          fork(Stream.runCollect(run(runId, { vocabulary }))),
        )
        yield* TestClock.adjust("44 seconds")
        const store = yield* EventStore.EventStore
        assert.strictEqual((yield* store.head(runId)).status, "running")
        yield* TestClock.adjust("8 seconds")
        for (const reader of readers) {
          const items = yield* Fiber.join(reader)
          assert.deepStrictEqual(shape(items), [1, "CaughtUp", 2])
        }
        assert.strictEqual((yield* store.head(runId)).lastSeq, 2)
      }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("CaughtUp has the head's cursor, wherever the reader came from, and none of a run without events", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const caughtUp = (after?: Cursor.RunCursor) =>
        hub.run(runId, { after, truncated: "skip" }).pipe(
          Stream.filter(({ _tag }) => _tag === "CaughtUp"),
          Stream.take(1),
          Stream.runCollect,
        )
      assert.deepStrictEqual(yield* caughtUp(), [{ _tag: "CaughtUp", head: 0 }])
      const { frames } = yield* append([line("1"), line("2"), line("3")])
      const told = { _tag: "CaughtUp", head: 3, cursor: frames[2]!.cursor } as const
      for (const after of [undefined, 1, 3, frames[0]!.cursor, frames[2]!.cursor]) {
        assert.deepStrictEqual(yield* caughtUp(after), [told], `after ${after}`)
      }
      yield* append([end])
      for (const after of [3, 4]) {
        assert.deepStrictEqual(yield* caughtUp(after), [{ ...told, head: 4, cursor: told.cursor.replace("3", "4") }])
      }
    }).pipe(Effect.provide(layer)),
  )

  it.effect("while the live path is down the store is polled, and events arrive within a second and a bit", () => {
    const down: StreamAdapter.StreamAdapter["Service"] = {
      publish: () => Effect.void,
      subscribe: () => Effect.fail(new StreamAdapter.AdapterUnavailable({ detail: "down", isRetryable: true })),
    }
    return Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const reader = yield* fork(Stream.runCollect(hub.run(runId)))
      yield* TestClock.adjust("30 seconds")
      yield* append([line("1"), end])
      yield* TestClock.adjust("1200 millis")
      assert.deepStrictEqual(shape(yield* Fiber.join(reader)), ["CaughtUp", 1, 2])
    }).pipe(Effect.provide(layerOver(Layer.succeed(StreamAdapter.StreamAdapter, down))))
  })

  it.effect("a session gives its runs in position order, present and future, and resumes by position", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const sessionId = Envelope.SessionId.make("chat")
      const [a, b, c] = ["a", "b", "c"].map((id) => Envelope.RunId.make(id))
      yield* append([line("a1")], { runId: a!, sessionId })
      yield* append([line("other")], { runId: b! })
      yield* append([line("a2"), end], { runId: a! })
      const reader = yield* fork(Stream.runCollect(Stream.take(hub.session(sessionId, { vocabulary }), 5)))
      yield* TestClock.adjust("1 second")
      yield* append([line("c1")], { runId: c!, sessionId })
      yield* TestClock.adjust("10 millis")
      const items = yield* Fiber.join(reader)
      const names = (all: typeof items) =>
        all.map((item) => (item._tag === "Event" ? `${item.envelope.runId}${item.envelope.seq}` : item._tag))
      assert.deepStrictEqual(names(items), ["a1", "a2", "a3", "CaughtUp", "c1"])
      const second = items[1]!
      assert.isTrue(second._tag === "Event")
      if (second._tag !== "Event") return
      const resumed = yield* hub
        .session(sessionId, { vocabulary, after: second.cursor })
        .pipe(Stream.take(3), Stream.runCollect)
      assert.deepStrictEqual(names(resumed), ["a3", "c1", "CaughtUp"])
      const mismatch = yield* Effect.flip(
        Stream.runDrain(hub.session(Envelope.SessionId.make("other"), { after: second.cursor })),
      )
      assert.strictEqual(mismatch._tag, "CursorScopeMismatch")
    }).pipe(Effect.provide(layer)),
  )

  it.effect("text that is no cursor is InvalidCursor", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      for (const after of ["", "-1", "1.5", "x", "1-", "1-ABCDEFGH", " 1", -1, 1.5, 2 ** 53]) {
        const error = yield* Effect.flip(Stream.runDrain(hub.run(runId, { after })))
        assert.instanceOf(error, Cursor.InvalidCursor)
      }
    }).pipe(Effect.provide(layer)),
  )

  it.effect("ten thousand readers that come and go leave nothing in the rooms", () => {
    let open = 0
    const counting = Layer.effect(
      StreamAdapter.StreamAdapter,
      Effect.map(StreamAdapter.StreamAdapter, (inner) => ({
        ...inner,
        subscribe: (room, queue) =>
          Effect.andThen(
            Effect.acquireRelease(
              Effect.sync(() => open++),
              () => Effect.sync(() => open--),
            ),
            inner.subscribe(room, queue),
          ),
      })),
    ).pipe(Layer.provide(StreamAdapter.layerMemory))
    return Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      yield* append([line("1")])
      for (let round = 0; round < 100; round++) {
        const readers = yield* Effect.forEach(Array.from({ length: 100 }), () => fork(Stream.runDrain(hub.run(runId))))
        assert.isAtMost(open, 1)
        yield* Fiber.interruptAll(readers)
      }
      assert.strictEqual(open, 0)
    }).pipe(Effect.provide(layerOver(counting)))
  })

  it.effect("a reader that was told of trimmed history is bound to that generation", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      const store = yield* EventStore.EventStore
      yield* append(Array.from({ length: 9 }, (_, index) => line(`${index}`)))
      const items: Array<string> = []
      const reader = hub.run(runId, { truncated: "skip" }).pipe(
        Stream.runForEach((item) =>
          Effect.gen(function* () {
            items.push(item._tag)
            if (item._tag !== "Truncated") return
            yield* store.remove(runId)
            yield* append(Array.from({ length: 12 }, (_, index) => line(`again ${index}`)))
          }),
        ),
        Effect.flip,
      )
      assert.strictEqual((yield* reader)._tag, "RunRemoved")
      assert.deepStrictEqual(items, ["Truncated"])
    }).pipe(Effect.provide(layerOver(StreamAdapter.layerMemory, { retention: { eventsPerRun: 3 } }))),
  )

  it.effect("a store that dies once ends neither the watch nor its readers", () => {
    let deaths = 0
    const dying = Layer.effect(
      EventStore.EventStore,
      Effect.map(EventStore.EventStore, (inner) => ({
        ...inner,
        head: (id) => Effect.suspend(() => (deaths++ === 1 ? Effect.die("boom") : inner.head(id))),
      })),
    )
    return Effect.gen(function* () {
      const hub = yield* SubscriptionHub.make()
      yield* append([line("1")])
      const failing = yield* fork(Effect.exit(Stream.runDrain(hub.run(runId))))
      yield* TestClock.adjust("7 seconds")
      assert.strictEqual((yield* Fiber.join(failing))._tag, "Failure")
      const reader = yield* fork(Stream.runCollect(hub.run(runId)))
      yield* TestClock.adjust("1 second")
      const store = yield* EventStore.EventStore
      const last = yield* Vocabulary.encode(vocabulary, { event: end })
      yield* store.append({ runId, vocabulary: vocabulary.id, events: [last] })
      yield* TestClock.adjust("7 seconds")
      assert.deepStrictEqual(shape(yield* Fiber.join(reader)), [1, "CaughtUp", 2])
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(dying, layer)))
  })

  it.effect("a reader that joins a watch after its first look failed is told what the second one says", () => {
    const store = Layer.provide(FaultyEventStore.layer(FaultPlan.calmStore), EventStore.layerMemory())
    // Not live, so that a look comes when the clock says.
    const deaf = Layer.effect(
      StreamAdapter.StreamAdapter,
      Effect.map(StreamAdapter.StreamAdapter, (inner) => ({ ...inner, subscribe: () => Effect.never })),
    )
    return Effect.gen(function* () {
      const hub = yield* SubscriptionHub.make({ retry: Schedule.recurs(0) })
      const faults = yield* FaultyEventStore.StoreFaults
      const { remove } = yield* EventStore.EventStore
      for (const isRemoved of [false, true]) {
        yield* Effect.gen(function* () {
          // Holds the watch beyond its own failure.
          const holder = yield* Stream.toPull(hub.run(runId))
          const failing = yield* fork(Effect.flip(holder))
          yield* faults.down("refuse")
          yield* TestClock.adjust("50 millis")
          assert.propertyVal(yield* Fiber.join(failing), "_tag", "ReadFailed")
          yield* faults.up
          if (isRemoved) yield* append([line("1")])
          const items: Array<string> = []
          const reader = yield* fork(
            Effect.flip(Stream.runForEach(hub.run(runId), ({ _tag }) => Effect.sync(() => items.push(_tag)))),
          )
          if (isRemoved) yield* remove(runId)
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(items, [isRemoved ? "Event" : "CaughtUp"])
          assert.strictEqual(reader.pollUnsafe() !== undefined, isRemoved)
          if (isRemoved) assert.propertyVal(yield* Fiber.join(reader), "_tag", "RunRemoved")
          yield* Fiber.interrupt(reader)
        }).pipe(Effect.scoped)
      }
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.provideMerge(Layer.mergeAll(store, Layer.provide(deaf, StreamAdapter.layerMemory)), crypto)),
    )
  })

  it.effect("a reader that leaves at any step blocks no other reader of the same page", () =>
    Effect.gen(function* () {
      const hub = yield* SubscriptionHub.SubscriptionHub
      yield* append([line("1"), end])
      for (let operations = 5; operations < 120; operations++) {
        const leaving = yield* fork(
          Effect.provideService(Stream.runDrain(hub.run(runId)), Scheduler.MaxOpsBeforeYield, operations),
        )
        yield* Fiber.interrupt(leaving)
        const reader = yield* fork(Stream.runCollect(hub.run(runId)))
        yield* TestClock.adjust(1)
        const exit = reader.pollUnsafe()
        assert.isDefined(exit, `blocked by a reader that left within ${operations} operations`)
      }
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a session's cursor beyond all that is stored is refused, and jumps over nothing", () =>
    Effect.gen(function* () {
      const sessionId = Envelope.SessionId.make("chat")
      const read = (after?: string) =>
        Effect.map(SubscriptionHub.SubscriptionHub, (hub) => hub.session(sessionId, { after })).pipe(Stream.unwrap)
      const cursor = yield* Effect.gen(function* () {
        yield* append([line("1"), line("2")], { sessionId })
        const items = yield* Stream.runCollect(Stream.take(read(), 3))
        return items.map((item) => (item._tag === "CaughtUp" ? item.cursor : ""))[2]!
      }).pipe(Effect.provide(Layer.fresh(layer)))
      const refused = yield* Effect.flip(Stream.runDrain(read(cursor))).pipe(Effect.provide(Layer.fresh(layer)))
      assert.strictEqual(refused._tag, "CursorBeyondEnd")
    }),
  )
})
