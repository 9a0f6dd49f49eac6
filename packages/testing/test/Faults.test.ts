import { assert, describe, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as FaultPlan from "@throughline/testing/FaultPlan"
import * as FaultyEventStore from "@throughline/testing/FaultyEventStore"
import * as FaultyStreamAdapter from "@throughline/testing/FaultyStreamAdapter"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const runId = Envelope.RunId.make("run-1")
const room: Envelope.Room = { _tag: "Run", runId }

const event = (index: number): Envelope.EncodedEvent => ({
  eventId: Envelope.EventId.make(`00000000-0000-7000-8000-${String(index).padStart(12, "0")}`),
  kind: "Step",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  event: Schema.decodeSync(Envelope.EventJson)(`{"index":${index}}`),
})

const request = (number: number): EventStore.AppendRequest => ({
  runId,
  vocabulary: { name: "steps", version: 1 },
  events: [event(number)],
  producer: { id: "p", epoch: 1, number },
})

const frame = (seq: number): Envelope.Frame => ({
  _tag: "Frame",
  envelope: { ...event(seq), seq, runId, schemaVersion: 1 },
  cursor: `${seq}-aaaaaaaa`,
})

const crypto = Layer.mergeAll(SecureRandom.layerWebCrypto, Digest.layerWebCrypto)

const layerStore = (plan: Partial<FaultPlan.StorePlan>) =>
  FaultyEventStore.layerWithArchive({ ...FaultPlan.calmStore, ...plan }).pipe(
    Layer.provide(EventStore.layerMemory()),
    Layer.provide(crypto),
  )

const layerAdapter = (plan: Partial<FaultPlan.AdapterPlan>) =>
  FaultyStreamAdapter.layer({ ...FaultPlan.calmAdapter, ...plan }).pipe(Layer.provide(StreamAdapter.layerMemory))

const seqOf = (item: Envelope.Frame | Envelope.Gap) => (item._tag === "Gap" ? item.reason : item.envelope.seq)

/** What one subscriber has got so far, and how its stream ended if it did. */
const listen = Effect.fnUntraced(function* () {
  const { subscribe } = yield* StreamAdapter.StreamAdapter
  const got: Array<number | string> = []
  const stream = yield* subscribe(room)
  yield* stream.pipe(
    Stream.runForEach((item) => Effect.sync(() => got.push(seqOf(item)))),
    Effect.catchTag("AdapterUnavailable", () => Effect.sync(() => got.push("failed"))),
    Effect.forkScoped({ startImmediately: true }),
  )
  return got
})

const publishNow = (...seqs: ReadonlyArray<number>) =>
  StreamAdapter.StreamAdapter.use(({ publish }) => publish([room], seqs.map(frame)))

const settle = TestClock.adjust(0)

/** Lets virtual time pass while an effect runs. */
const settleWith =
  (millis: number) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(self, { startImmediately: true })
      yield* TestClock.adjust(millis)
      return yield* Fiber.join(fiber)
    })

/** What a subscriber gets of frames 1, 2 and 3, and what was counted. */
const through = (plan: Partial<FaultPlan.AdapterPlan>, wait: number) =>
  Effect.gen(function* () {
    const got = yield* listen()
    yield* publishNow(1, 2, 3)
    yield* TestClock.adjust(wait)
    return { got, counts: yield* (yield* FaultyStreamAdapter.AdapterFaults).counts }
  }).pipe(Effect.scoped, Effect.provide(layerAdapter(plan), { local: true }))

/** What a subscriber gets of frame 1 before an outage, 2 in it and 3 after it. */
const throughOutage = (mode: FaultPlan.AdapterOutage["mode"]) =>
  Effect.gen(function* () {
    const got = yield* listen()
    yield* publishNow(1)
    yield* TestClock.adjust(1000)
    assert.strictEqual(
      (yield* Effect.flip(Effect.timeout(publishNow(2), 600).pipe(settleWith(600))))._tag,
      "AdapterUnavailable",
    )
    yield* TestClock.adjust(1000)
    yield* publishNow(3)
    yield* settle
    return got
  }).pipe(Effect.scoped, Effect.provide(layerAdapter({ outages: [{ from: 900, lasts: 500, mode }] }), { local: true }))

describe("FaultyEventStore", () => {
  it.effect("a calm plan changes nothing", () =>
    Effect.gen(function* () {
      const { append, read } = yield* EventStore.EventStore
      const faults = yield* FaultyEventStore.StoreFaults
      yield* append(request(1))
      assert.strictEqual((yield* read({ runId, limit: 10 })).head.lastSeq, 1)
      const counts = yield* faults.counts
      assert.deepStrictEqual(
        [counts.calls.append, counts.calls.read, counts.failed, counts.failedAfter, counts.refused],
        [1, 1, 0, 0, 0],
      )
    }).pipe(Effect.provide(layerStore({}))),
  )

  it.effect("a call that fails before its work has done nothing", () =>
    Effect.gen(function* () {
      const { append, head } = yield* EventStore.EventStore
      const error = yield* Effect.flip(append(request(1)))
      assert.isTrue(error._tag === "AppendFailed" && error.isRetryable)
      yield* Effect.flip(head(runId))
      assert.strictEqual((yield* head(runId)).lastSeq, 0)
    }).pipe(Effect.provide(layerStore({ fail: 100, inARow: 1 }))),
  )

  it.effect("a call that fails after its work has done it", () =>
    Effect.gen(function* () {
      const { append, head } = yield* EventStore.EventStore
      const error = yield* Effect.flip(append(request(1)))
      assert.isTrue(error._tag === "AppendFailed" && error.isRetryable)
      yield* Effect.flip(head(runId))
      assert.strictEqual((yield* head(runId)).lastSeq, 1)
    }).pipe(Effect.provide(layerStore({ failAfter: 100, inARow: 1 }))),
  )

  it.effect("no more calls of an operation fail in a row than the plan says", () =>
    Effect.gen(function* () {
      const { head } = yield* EventStore.EventStore
      const results = yield* Effect.replicateEffect(Effect.result(head(runId)), 6)
      assert.deepStrictEqual(results.map(Result.isSuccess), [false, false, true, false, false, true])
    }).pipe(Effect.provide(layerStore({ fail: 100, inARow: 2 }))),
  )

  it.effect("in an outage that refuses calls fail at once, in one that hangs when it is over", () =>
    Effect.gen(function* () {
      const { head } = yield* EventStore.EventStore
      yield* head(runId)
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* Effect.flip(head(runId)))._tag, "ReadFailed")
      yield* TestClock.adjust(100)
      const waiting = yield* Effect.forkChild(Effect.flip(head(runId)), { startImmediately: true })
      yield* TestClock.adjust(99)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "ReadFailed")
      yield* head(runId)
    }).pipe(
      Effect.provide(
        layerStore({
          outages: [
            { from: 100, lasts: 100, mode: "refuse" },
            { from: 200, lasts: 100, mode: "hang" },
          ],
        }),
      ),
    ),
  )

  it.effect("an outage by hand lasts until it is taken back, for the archive too", () =>
    Effect.gen(function* () {
      const { head } = yield* EventStore.EventStore
      const { replay } = yield* EventArchive
      const faults = yield* FaultyEventStore.StoreFaults
      yield* faults.down("refuse")
      yield* Effect.flip(head(runId))
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(replay({ filter: {} }))))._tag, "ReadFailed")
      yield* faults.up
      yield* head(runId)
      assert.lengthOf(yield* Stream.runCollect(replay({ filter: {} })), 1)
      assert.strictEqual((yield* faults.counts).refused, 2)
    }).pipe(Effect.provide(layerStore({}))),
  )

  it.effect("a late answer is right and within the plan's time", () =>
    Effect.gen(function* () {
      const { append, head } = yield* EventStore.EventStore
      const appended = yield* Effect.forkChild(append(request(1)), { startImmediately: true })
      yield* TestClock.adjust(500)
      assert.strictEqual((yield* Fiber.join(appended)).frames.length, 1)
      const asked = yield* Effect.forkChild(head(runId), { startImmediately: true })
      yield* TestClock.adjust(500)
      assert.strictEqual((yield* Fiber.join(asked)).lastSeq, 1)
    }).pipe(Effect.provide(layerStore({ late: 100, lateMillis: 500 }))),
  )

  it.effect("a call that hangs ends by interruption", () =>
    Effect.gen(function* () {
      const { head } = yield* EventStore.EventStore
      const hung = yield* Effect.forkChild(head(runId), { startImmediately: true })
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(hung.pollUnsafe())
      yield* Fiber.interrupt(hung)
      assert.strictEqual((yield* (yield* FaultyEventStore.StoreFaults).counts).hung, 1)
    }).pipe(Effect.provide(layerStore({ hang: 100 }))),
  )

  it.effect("the same plan does the same thing again", () =>
    Effect.gen(function* () {
      const once = Effect.gen(function* () {
        const { head } = yield* EventStore.EventStore
        return (yield* Effect.replicateEffect(Effect.result(head(runId)), 50)).map(Result.isSuccess)
      }).pipe(Effect.provide(layerStore({ seed: 3, fail: 30, failAfter: 10 }), { local: true }))
      const first = yield* once
      assert.deepStrictEqual(yield* once, first)
      assert.isTrue(first.includes(true) && first.includes(false))
    }),
  )
})

describe("FaultyStreamAdapter", () => {
  it.effect("a calm plan changes nothing", () =>
    Effect.gen(function* () {
      const got = yield* listen()
      yield* publishNow(1, 2)
      yield* publishNow(3)
      yield* settle
      assert.deepStrictEqual(got, [1, 2, 3])
    }).pipe(Effect.provide(layerAdapter({}))),
  )

  it.effect("it loses, doubles, reorders and delays as the plan says, and counts it", () =>
    Effect.gen(function* () {
      const lost = yield* through({ lose: 100 }, 0)
      assert.deepStrictEqual([lost.got, lost.counts.lost], [[], 3])
      const doubled = yield* through({ double: 100 }, 0)
      assert.deepStrictEqual([doubled.got, doubled.counts.doubled], [[1, 1, 2, 2, 3, 3], 3])
      const reordered = yield* through({ reorder: 100, delayMillis: 10 }, 0)
      assert.deepStrictEqual([reordered.got, reordered.counts.reordered], [[2, 1], 2])
      const reorderedInTime = yield* through({ reorder: 100, delayMillis: 10 }, 10)
      assert.deepStrictEqual(reorderedInTime.got, [2, 1, 3])
      const delayed = yield* through({ delay: 100, delayMillis: 1000 }, 1000)
      assert.deepStrictEqual(
        [delayed.got.toSorted((left, right) => Number(left) - Number(right)), delayed.counts.delayed],
        [[1, 2, 3], 3],
      )
    }),
  )

  it.effect("after an outage open subscriptions get a gap, or have failed, or know nothing of it", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* throughOutage("gap"), [1, "reconnected", 3])
      assert.deepStrictEqual(yield* throughOutage("fail"), [1, "failed"])
      assert.deepStrictEqual(yield* throughOutage("silent"), [1, 3])
      assert.deepStrictEqual(yield* throughOutage("hang"), [1, "reconnected", 3])
    }),
  )

  it.effect("subscribing fails in an outage and works after it", () =>
    Effect.gen(function* () {
      const faults = yield* FaultyStreamAdapter.AdapterFaults
      const { subscribe } = yield* StreamAdapter.StreamAdapter
      yield* faults.down("fail")
      assert.strictEqual((yield* Effect.flip(Effect.scoped(subscribe(room))))._tag, "AdapterUnavailable")
      yield* faults.up
      yield* Effect.scoped(Effect.asVoid(subscribe(room)))
      const counts = yield* faults.counts
      assert.deepStrictEqual([counts.subscribes, counts.subscribesFailed, counts.open], [2, 1, 0])
    }).pipe(Effect.provide(layerAdapter({}))),
  )

  it.effect("a publish that fails after its work has reached its subscribers", () =>
    Effect.gen(function* () {
      const got = yield* listen()
      assert.strictEqual((yield* Effect.flip(publishNow(1)))._tag, "AdapterUnavailable")
      yield* settle
      assert.deepStrictEqual(got, [1])
    }).pipe(Effect.provide(layerAdapter({ failPublishAfter: 100 }))),
  )

  it.effect.prop(
    "generated plans go through JSON unchanged",
    { store: FaultPlan.arbitraryStore(), adapter: FaultPlan.arbitraryAdapter() },
    ({ adapter, store }) =>
      Effect.sync(() => {
        assert.deepStrictEqual(Schema.decodeUnknownSync(FaultPlan.StorePlan)(JSON.parse(JSON.stringify(store))), store)
        assert.deepStrictEqual(
          Schema.decodeUnknownSync(FaultPlan.AdapterPlan)(JSON.parse(JSON.stringify(adapter))),
          adapter,
        )
      }),
  )
})
