import { assert, describe } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as StoreError from "@throughline/core/EventStoreError"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import {
  type AgentEvent,
  type Input,
  chat,
  end,
  line,
  lines,
  promise,
  runA,
  runB,
  settle,
  textsOf,
  to,
  unavailable,
  vocabulary,
  world,
} from "./bridgeWorld.ts"

describe("EventBridge", () => {
  promise(
    "an event is stored without any time passing when nothing else waits",
    Effect.gen(function* () {
      const { bridge } = yield* world()
      const feed = yield* Queue.unbounded<Input, Cause.Done>()
      yield* bridge.start(vocabulary, Stream.fromQueue(feed))
      for (const text of ["one", "two", "three"]) {
        yield* Queue.offerAll(feed, to(runA, line(text)))
        yield* settle
        assert.strictEqual((yield* textsOf(runA)).at(-1), text)
      }
    }),
  )

  promise(
    "what waits while an append is under way goes as one batch, within the bounds",
    Effect.gen(function* () {
      const { appends, bridge } = yield* world({ maxBatchEvents: 4, maxBatchSize: 1000 }, (store) => ({
        append: (request) => Effect.delay(store.append(request), "1 second"),
      }))
      const feed = yield* Queue.unbounded<Input, Cause.Done>()
      const handle = yield* bridge.start(vocabulary, Stream.fromQueue(feed))
      yield* Queue.offerAll(feed, to(runA, line("first")))
      yield* settle
      yield* Queue.offerAll(feed, to(runA, ...lines(6), line("x".repeat(850)), line("y".repeat(850)), end))
      yield* Queue.end(feed)
      yield* settle
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        appends.map(({ events }) => events.length),
        [1, 4, 3, 2],
      )
      assert.deepStrictEqual(yield* handle.await, { state: "stopped", stored: 10, retried: 0, dead: 0 })
    }),
  )

  promise(
    "the source is not pulled while as many events wait as are allowed",
    Effect.gen(function* () {
      let stuck = true
      const { bridge, letters } = yield* world({ maxPending: 10 }, (store) => ({
        append: (request) => Effect.suspend(() => (stuck ? Effect.fail(unavailable(runA)) : store.append(request))),
      }))
      let pulled = 0
      const source = Stream.fromIterable(to(runA, ...lines(100), end)).pipe(
        Stream.rechunk(3),
        Stream.tap(() => Effect.sync(() => pulled++)),
      )
      const handle = yield* bridge.start(vocabulary, source)
      yield* settle
      assert.isAtMost(pulled, 12)
      stuck = false
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* handle.await).stored, 101)
      assert.deepStrictEqual(yield* textsOf(runA), [...lines(100).map((_, index) => `${index + 1}`), "RunCompleted"])
      assert.deepStrictEqual(letters, [])
    }),
  )

  promise(
    "a chunk larger than all that may wait gets in piece by piece",
    Effect.gen(function* () {
      const { appends, bridge } = yield* world({ maxPending: 7 })
      const handle = yield* bridge.start(vocabulary, Stream.fromIterable(to(runA, ...lines(50), end)))
      assert.strictEqual((yield* handle.await).stored, 51)
      assert.isAtMost(Math.max(...appends.map(({ events }) => events.length)), 7)
    }),
  )

  promise(
    "a session named later than the run's first event starts an append of its own",
    Effect.gen(function* () {
      const { appends, bridge, letters } = yield* world()
      const handle = yield* bridge.start(
        vocabulary,
        Stream.make<ReadonlyArray<Input>>(
          { runId: runA, sessionId: chat, event: line("1") },
          { runId: runA, event: line("2") },
          { runId: runB, event: line("1") },
          { runId: runB, sessionId: chat, event: line("2") },
        ),
      )
      yield* handle.await
      assert.deepStrictEqual(
        appends.map(({ events, runId, sessionId }) => [runId, sessionId, events.length]),
        [
          [runA, chat, 2],
          [runB, undefined, 1],
          [runB, chat, 1],
        ],
      )
      assert.deepStrictEqual(
        letters.map(({ cause, runId }) => [runId, cause._tag]),
        [[runB, "SessionConflict"]],
      )
    }),
  )

  promise(
    "the identity and the time of an event are minted before the first try, or kept as given",
    Effect.gen(function* () {
      let failures = 2
      const { appends, bridge, store } = yield* world({}, (under) => ({
        append: (request) =>
          Effect.suspend(() => (failures-- > 0 ? Effect.fail(unavailable(runA)) : under.append(request))),
      }))
      const eventId = Envelope.EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")
      const emittedAt = "2026-01-31T09:30:00.000Z"
      const handle = yield* bridge.start(
        vocabulary,
        Stream.make<ReadonlyArray<Input>>(
          { runId: runA, event: line("1") },
          { runId: runA, event: line("2"), eventId, emittedAt, tags: ["t"], turnId: "turn" },
        ),
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* handle.await, { state: "stopped", stored: 2, retried: 2, dead: 0 })
      assert.deepStrictEqual(appends[1], appends[0])
      assert.deepStrictEqual(appends[2], appends[0])
      const { envelopes } = yield* store.read({ runId: runA, limit: 10 })
      assert.isTrue(Schema.is(Envelope.EventId)(envelopes[0]!.eventId))
      assert.strictEqual(envelopes[0]!.emittedAt, "1970-01-01T00:00:00.000Z")
      assert.include(envelopes[1]!, { eventId, emittedAt, turnId: "turn" })
    }),
  )

  promise(
    "an event that can never be stored is a dead letter alone, the rest of its batch is stored in order",
    Effect.gen(function* () {
      const picky = Vocabulary.make<AgentEvent>({
        name: "picky",
        version: 1,
        schema: AgentEvents.AgentEvent,
        kind: (event) => {
          if (event._tag === "Custom") throw new TypeError("no kind")
          return event._tag
        },
        endsRun: vocabulary.endsRun,
        abandoned: vocabulary.abandoned,
      })
      const { bridge, letters } = yield* world()
      const handle = yield* bridge.start(
        picky,
        Stream.fromIterable(
          to(
            runA,
            line("1"),
            { _tag: "ContextBuilt", messages: -1, tokens: 0 },
            line("2"),
            { _tag: "Custom", name: "thrown on", data: {} },
            line("x".repeat(300_000)),
            line("3"),
            end,
          ),
        ),
      )
      assert.deepStrictEqual(yield* handle.await, { state: "stopped", stored: 4, retried: 0, dead: 3 })
      assert.deepStrictEqual(yield* textsOf(runA), ["1", "2", "3", "RunCompleted"])
      assert.deepStrictEqual(
        letters.map(({ cause, events, unencoded }) => [cause._tag, events.length, unencoded.length]),
        [
          ["EventRefused", 0, 1],
          ["EventRefused", 0, 1],
          ["EventTooLarge", 1, 0],
        ],
      )
    }),
  )

  promise(
    "by default dead letters are logged as errors",
    Effect.gen(function* () {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
      const { bridge } = yield* world({ onDeadLetter: undefined })
      const record = bridge.record(vocabulary, { runId: runA }, Stream.make({ event: end }, { event: line("late") }))
      yield* record.pipe(Effect.provide(Logger.layer([logger])))
      assert.lengthOf(logged, 1)
      assert.match(logged[0]!, /^Error 1 events of run a were not stored: run a ended \(completed\) at seq 1/)
    }),
  )

  promise(
    "a dead-letter handler that dies costs no other event",
    Effect.gen(function* () {
      const { bridge } = yield* world({ onDeadLetter: () => Effect.die("handler") })
      const source = Stream.fromIterable([...to(runA, end, line("late")), ...to(runB, line("1"), end)])
      const handle = yield* bridge.start(vocabulary, source)
      assert.deepStrictEqual(yield* handle.await, { state: "stopped", stored: 3, retried: 0, dead: 1 })
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  promise(
    "a store that dies is a store that failed",
    Effect.gen(function* () {
      const { bridge, letters } = yield* world({}, () => ({ append: () => Effect.die("store") }))
      const handle = yield* bridge.start(vocabulary, Stream.fromIterable(to(runA, line("1"))))
      assert.deepStrictEqual(yield* handle.await, { state: "stopped", stored: 0, retried: 0, dead: 1 })
      assert.strictEqual(letters[0]!.cause._tag, "AppendFailed")
    }),
  )

  promise(
    "a live path that fails, dies or hangs loses no event and holds a run up for a second at most",
    Effect.gen(function* () {
      const ways = [
        Effect.fail(new StreamAdapter.AdapterUnavailable({ detail: "a test", isRetryable: true })),
        Effect.die("adapter"),
        Effect.never,
      ]
      for (const [index, way] of ways.entries()) {
        const runId = Envelope.RunId.make(`run-${index}`)
        const { bridge } = yield* world({}, undefined, () => ({ publish: () => way }))
        const feed = yield* Queue.unbounded<Input, Cause.Done>()
        const handle = yield* bridge.start(vocabulary, Stream.fromQueue(feed))
        yield* Queue.offerAll(feed, to(runId, line("1")))
        yield* settle
        yield* Queue.offerAll(feed, to(runId, line("2"), end))
        yield* Queue.end(feed)
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.deepStrictEqual(yield* textsOf(runId), ["1", "2", "RunCompleted"])
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* handle.await).dead, 0)
      }
    }),
  )

  promise(
    "rooms the store has published to are not published to again",
    Effect.gen(function* () {
      const published: Array<string> = []
      const { bridge } = yield* world(
        {},
        (store) => ({
          append: (request) =>
            Effect.map(store.append(request), (result) => ({
              ...result,
              published: [{ _tag: "Run", runId: request.runId } as const],
            })),
        }),
        () => ({ publish: (rooms) => Effect.sync(() => void published.push(...rooms.map(Envelope.roomName))) }),
      )
      yield* bridge.record(vocabulary, { runId: runA, sessionId: chat }, Stream.make({ event: end }))
      assert.deepStrictEqual(published, ["session:chat"])
    }),
  )

  promise(
    "a failing source fails `await` with its error, after everything taken is stored",
    Effect.gen(function* () {
      const { bridge } = yield* world({}, (store) => ({
        append: (request) => Effect.delay(store.append(request), "1 second"),
      }))
      const source = Stream.concat(Stream.fromIterable(to(runA, ...lines(5))), Stream.fail("the source broke"))
      const handle = yield* bridge.start(vocabulary, source)
      const awaited = yield* Effect.forkChild(Effect.exit(handle.await), { startImmediately: true })
      yield* settle
      assert.isUndefined(awaited.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(awaited), Exit.fail("the source broke"))
      assert.lengthOf(yield* textsOf(runA), 5)
    }),
  )

  promise(
    "`drain` takes no more and waits for what was taken; `stop` after it has nothing left to do",
    Effect.gen(function* () {
      const { bridge } = yield* world({}, (store) => ({
        append: (request) => Effect.delay(store.append(request), "3 seconds"),
      }))
      const feed = yield* Queue.unbounded<Input, Cause.Done>()
      const handle = yield* bridge.start(vocabulary, Stream.fromQueue(feed))
      yield* Queue.offerAll(feed, to(runA, ...lines(3)))
      yield* settle
      assert.propertyVal(yield* handle.status, "state", "running")
      const drained = yield* Effect.forkChild(handle.drain, { startImmediately: true })
      yield* settle
      assert.propertyVal(yield* handle.status, "state", "draining")
      yield* Queue.offerAll(feed, to(runA, line("too late")))
      yield* TestClock.adjust("10 seconds")
      const expected = { state: "stopped", stored: 3, retried: 0, dead: 0 } as const
      assert.deepStrictEqual(yield* Fiber.join(drained), expected)
      assert.deepStrictEqual(yield* handle.stop, expected)
      assert.deepStrictEqual(yield* handle.await, expected)
      assert.strictEqual(yield* Queue.size(feed), 1)
    }),
  )

  promise(
    "`stop` hands what the grace time left over to the dead letters, the batch under way too",
    Effect.gen(function* () {
      const { bridge, letters } = yield* world({ maxBatchEvents: 2, maxPending: 4 }, () => ({
        append: () => Effect.never,
      }))
      const handle = yield* bridge.start(vocabulary, Stream.fromIterable(to(runA, ...lines(7))))
      yield* settle
      const stopped = yield* Effect.forkChild(handle.stop, { startImmediately: true })
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(stopped.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(stopped), { state: "stopped", stored: 0, retried: 0, dead: 7 })
      assert.deepStrictEqual(
        letters.flatMap(({ cause, events }) => events.map(({ event }) => [cause._tag, JSON.parse(event).line])),
        lines(7).map((_, index) => ["BridgeStopped", `${index + 1}`]),
      )
      assert.strictEqual((yield* handle.await).state, "stopped")
    }),
  )

  promise(
    "what was taken but had no room yet when the grace time ended is dead, not appended",
    Effect.gen(function* () {
      const { appends, bridge, letters } = yield* world({ maxPending: 1 }, () => ({ append: () => Effect.never }))
      const source = Stream.fromIterable([...to(runA, line("1")), ...to(runB, line("1"))])
      const handle = yield* bridge.start(vocabulary, source)
      yield* settle
      const stopped = yield* Effect.forkChild(handle.stop, { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(stopped)).dead, 2)
      assert.deepStrictEqual(letters.map(({ cause, runId }) => `${runId} ${cause._tag}`).toSorted(), [
        `${runA} BridgeStopped`,
        `${runB} BridgeStopped`,
      ])
      assert.deepStrictEqual(
        appends.map(({ runId }) => runId),
        [runA],
      )
    }),
  )

  promise(
    "`stop` ends even if the dead-letter handler doesn't",
    Effect.gen(function* () {
      const { bridge } = yield* world({ onDeadLetter: () => Effect.never, grace: "2 seconds" }, () => ({
        append: () => Effect.never,
      }))
      const handle = yield* bridge.start(vocabulary, Stream.fromIterable(to(runA, line("1"))))
      yield* settle
      const stopped = yield* Effect.forkChild(handle.stop, { startImmediately: true })
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* Fiber.join(stopped)).state, "stopped")
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  promise(
    "a producer's state that can't be read is a dead letter, and the next event asks again",
    Effect.gen(function* () {
      let down = true
      const { bridge, letters } = yield* world({ retry: Schedule.recurs(2) }, (store) => ({
        producer: (runId, id) =>
          Effect.suspend(() =>
            down
              ? Effect.fail(
                  new StoreError.ReadFailed({ runId, reason: new StoreError.StoreUnavailable({ detail: "down" }) }),
                )
              : store.producer(runId, id),
          ),
      }))
      const feed = yield* Queue.unbounded<Input, Cause.Done>()
      const handle = yield* bridge.start(vocabulary, Stream.fromQueue(feed), { producerId: "mine" })
      yield* Queue.offerAll(feed, to(runA, line("1")))
      yield* settle
      assert.deepStrictEqual(
        letters.map(({ cause }) => cause._tag),
        ["ReadFailed"],
      )
      down = false
      yield* Queue.offerAll(feed, to(runA, line("2")))
      yield* settle
      assert.deepStrictEqual(yield* textsOf(runA), ["2"])
      assert.propertyVal(yield* handle.status, "retried", 2)
    }),
  )

  promise(
    "a raised epoch that somebody else has taken meanwhile is left to them, however far they are",
    Effect.gen(function* () {
      let lost = 1
      const { bridge, letters, store } = yield* world({ retry: Schedule.recurs(0) }, (under) => ({
        append: (request) =>
          Effect.suspend(() => (lost-- > 0 ? Effect.fail(unavailable(runA)) : under.append(request))),
      }))
      const feed = yield* Queue.unbounded<Input, Cause.Done>()
      yield* bridge.start(vocabulary, Stream.fromQueue(feed), { producerId: "mine" })
      yield* Queue.offerAll(feed, to(runA, line("lost")))
      yield* settle
      for (const number of [1, 2, 3]) {
        const event = yield* Vocabulary.encode(vocabulary, { event: line(`theirs ${number}`) })
        const producer = { id: "mine", epoch: 2, number }
        yield* store.append({ runId: runA, vocabulary: vocabulary.id, events: [event], producer })
      }
      for (const text of ["mine", "mine too"]) {
        yield* Queue.offerAll(feed, to(runA, line(text)))
        yield* settle
      }
      assert.deepStrictEqual(
        letters.map(({ cause }) => cause._tag),
        ["AppendFailed", "ProducerStale", "ProducerStale"],
      )
      assert.deepStrictEqual(yield* textsOf(runA), ["theirs 1", "theirs 2", "theirs 3"])
    }),
  )

  promise(
    "a run that was removed and is written again by the same bridge is a new run",
    Effect.gen(function* () {
      for (const options of [{}, { producerId: "mine" }]) {
        const { bridge, letters, store } = yield* world()
        const feed = yield* Queue.unbounded<Input, Cause.Done>()
        yield* bridge.start(vocabulary, Stream.fromQueue(feed), options)
        for (const text of ["first", "second"]) {
          yield* Queue.offerAll(feed, to(runA, line(text), end, line("late")))
          yield* settle
          assert.deepStrictEqual(yield* textsOf(runA), [text, "RunCompleted"])
          assert.strictEqual(letters.at(-1)!.cause._tag, "RunEnded")
          yield* store.remove(runA)
        }
        assert.lengthOf(letters, 2)
      }
    }),
  )

  promise(
    "an open run that is removed under its bridge goes on as a new run after one dead letter",
    Effect.gen(function* () {
      const { bridge, letters, store } = yield* world()
      const feed = yield* Queue.unbounded<Input, Cause.Done>()
      yield* bridge.start(vocabulary, Stream.fromQueue(feed))
      yield* Queue.offerAll(feed, to(runA, line("1")))
      yield* settle
      yield* store.remove(runA)
      for (const text of ["2", "3"]) {
        yield* Queue.offerAll(feed, to(runA, line(text)))
        yield* settle
      }
      assert.deepStrictEqual(
        letters.map(({ cause }) => cause._tag),
        ["ProducerGap"],
      )
      assert.deepStrictEqual(yield* textsOf(runA), ["3"])
      assert.propertyVal((yield* store.head(runA)).lease, "hasWill", true)
    }),
  )

  promise(
    "a will that can't be stored leaves the run without one, and its events are stored",
    Effect.gen(function* () {
      const { bridge, store } = yield* world()
      const wills: ReadonlyArray<() => AgentEvent> = [
        () => line("no end"),
        () => ({ _tag: "RunFailed", error: { message: "x".repeat(300_000) }, reason: "producerLost" }),
        () => {
          throw new TypeError("no will")
        },
      ]
      for (const [index, will] of wills.entries()) {
        const runId = Envelope.RunId.make(`run-${index}`)
        yield* bridge.start(vocabulary, Stream.concat(Stream.fromIterable(to(runId, line("1"))), Stream.never), {
          will,
        })
        yield* settle
        assert.include((yield* store.head(runId)).lease, { hasWill: false })
        assert.deepStrictEqual(yield* textsOf(runId), ["1"])
      }
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  promise(
    "an append is one span, whatever it holds",
    Effect.gen(function* () {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        },
      })
      const { bridge } = yield* world()
      yield* bridge
        .record(vocabulary, { runId: runA }, Stream.fromIterable([...lines(20), end].map((event) => ({ event }))))
        .pipe(Effect.withTracer(tracer))
      assert.deepStrictEqual(
        spans.map(({ attributes, name }) => [name, attributes.get("events")]),
        [["EventBridge.append", 21]],
      )
    }),
  )

  promise(
    "a recording that is interrupted while the store is stuck ends within its grace time, its will a dead letter",

    Effect.gen(function* () {
      const { bridge, letters } = yield* world({}, () => ({ append: () => Effect.never }))
      const stream = Stream.concat(Stream.make({ event: line("1") }), Stream.never)
      const recording = yield* Effect.forkChild(bridge.record(vocabulary, { runId: runA }, stream), {
        startImmediately: true,
      })
      yield* settle
      recording.interruptUnsafe()
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(recording)))
      assert.deepStrictEqual(
        letters.flatMap(({ cause, events }) => events.map(({ kind }) => [cause._tag, kind])),
        [
          ["BridgeStopped", "OutputLine"],
          ["BridgeStopped", "RunFailed"],
        ],
      )
    }),
  )

  promise(
    "a recorded stream that fails without an end gets its will, then its error",
    Effect.gen(function* () {
      const { bridge, store } = yield* world()
      const stream = Stream.concat(Stream.make({ event: line("1") }), Stream.fail("broke"))
      const exit = yield* Effect.exit(bridge.record(vocabulary, { runId: runA }, stream))
      assert.deepStrictEqual(exit, Exit.fail("broke"))
      assert.deepStrictEqual(yield* textsOf(runA), ["1", "RunFailed"])
      assert.strictEqual((yield* store.head(runA)).status, "failed")
    }),
  )
})
