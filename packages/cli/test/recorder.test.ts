import { assert, describe, it } from "@effect/vitest"
import * as Recorder from "@throughline/cli/Recorder"
import type { AgentEvent } from "@throughline/core/AgentEvents"
import { RunId } from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import * as EventStore from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"

const runId = RunId.make("run")
const completed: AgentEvent = { _tag: "RunCompleted", finishReason: "exit", iterations: 0 }
const bytes = (text: string) => new TextEncoder().encode(text)

/** A store whose appends wait at a gate, or fail while it is closed, and a recorder of 10,000 bytes on it. */
const setUp = Effect.fnUntraced(function* (behaviour: "gated" | "broken") {
  const gate = yield* Latch.make(false)
  let hear: Recorder.Recorder["lost"] | undefined
  const append = (store: EventStore.EventStore["Service"]): EventStore.EventStore["Service"]["append"] =>
    behaviour === "gated"
      ? (request) => Effect.andThen(gate.await, store.append(request))
      : (request) =>
          gate.isOpen()
            ? store.append(request)
            : Effect.fail(
                new StoreError.AppendFailed({
                  runId,
                  reason: new StoreError.StoreBroken({ detail: "no disk left to stand on" }),
                }),
              )
  const store = Layer.effectContext(
    Effect.map(Effect.context<EventStore.EventStore>(), (context) => {
      const real = Context.get(context, EventStore.EventStore)
      return Context.make(EventStore.EventStore, { ...real, append: append(real) })
    }),
  ).pipe(Layer.provideMerge(EventStore.layerMemory()))
  const services = yield* Layer.build(
    Throughline.layer(Layer.mergeAll(store, StreamAdapter.layerMemory), {
      bridge: { maxPending: 10, grace: "1 second", onDeadLetter: (letter) => Effect.sync(() => hear?.(letter)) },
    }),
  )
  const recorder = yield* Recorder.make({
    runId,
    format: "lines",
    onMalformed: () => Effect.void,
    bufferBytes: 10_000,
  }).pipe(Effect.provideService(EventBridge.EventBridge, Context.get(services, EventBridge.EventBridge)))
  hear = recorder.lost
  const read = Effect.map(Context.get(services, EventStore.EventStore).read({ runId, limit: 1000 }), ({ envelopes }) =>
    envelopes.map((envelope) => JSON.parse(envelope.event) as AgentEvent),
  )
  return { gate, recorder, read }
})

/** Lets fibers run until nothing changes any more, without time passing. */
const settle = Effect.forEach(Array.from({ length: 200 }), () => Effect.yieldNow, { discard: true })

describe("Recorder", () => {
  it.effect("a store that keeps up gets every line, in order, then the end", () =>
    Effect.gen(function* () {
      const { gate, read, recorder } = yield* setUp("gated")
      yield* gate.open
      const output = recorder.output("stdout")
      for (let index = 0; index < 200; index++) {
        yield* output.take(bytes(`line ${index}\n`))
        yield* Effect.yieldNow
      }
      yield* output.take(bytes("last"))
      yield* output.end
      const report = yield* recorder.finish(completed)
      assert.deepStrictEqual(report, { events: 202, stored: 202 })
      const lines = (yield* read).map((event) => (event._tag === "OutputLine" ? event.line : event._tag))
      assert.deepStrictEqual(lines, [
        ...Array.from({ length: 200 }, (_, index) => `line ${index}`),
        "last",
        "RunCompleted",
      ])
    }),
  )

  it.effect("a full buffer holds up the source until the store makes room", () =>
    Effect.gen(function* () {
      const { gate, read, recorder } = yield* setUp("gated")
      const output = recorder.output("stdout")
      const source = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 200 }), (_, index) => output.take(bytes(`line ${index}\n`)), {
          discard: true,
        }),
      )
      yield* settle
      assert.isUndefined(source.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.isUndefined(source.pollUnsafe())
      yield* gate.open
      yield* Fiber.join(source)
      const report = yield* recorder.finish(completed)
      assert.deepStrictEqual(report, { events: 201, stored: 201 })
      assert.isFalse((yield* read).some(({ _tag }) => _tag === "Custom"))
    }),
  )

  it.effect(
    "a store that gives no room holds up its source for 2 seconds, once; what is left out is counted in its place",
    () =>
      Effect.gen(function* () {
        const { gate, read, recorder } = yield* setUp("gated")
        const output = recorder.output("stdout")
        const take = (from: number, to: number) =>
          Effect.forEach(
            Array.from({ length: to - from }),
            (_, index) => output.take(bytes(`line ${from + index}\n`)),
            { discard: true },
          )
        const source = yield* Effect.forkChild(take(0, 1000))
        yield* settle
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(source.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(source)
        // The store is back: its backlog drains, and recording goes on.
        yield* gate.open
        yield* settle
        yield* take(1000, 1005)
        const report = yield* recorder.finish(completed)
        const events = yield* read
        const lost = events.findIndex(({ _tag }) => _tag === "Custom")
        const before = events.slice(0, lost).map((event) => event._tag === "OutputLine" && event.line)
        const after = events.slice(lost + 1).map((event) => event._tag === "OutputLine" && event.line)
        assert.deepStrictEqual(
          before,
          Array.from({ length: before.length }, (_, index) => `line ${index}`),
        )
        assert.deepStrictEqual(
          after.slice(0, -1),
          [1000, 1001, 1002, 1003, 1004].map((index) => `line ${index}`),
        )
        assert.deepStrictEqual(events[lost], {
          _tag: "Custom",
          name: "throughline.lost",
          data: { lines: 1000 - before.length },
        })
        assert.isAbove(before.length, 20)
        assert.strictEqual(events.at(-1)?._tag, "RunCompleted")
        // 1,005 lines, the end, and the event that stands for those left out.
        assert.deepStrictEqual(report, { events: 1007, stored: events.length })
      }),
  )

  it.effect("a store that is broken for good ends nothing: the report says what is missing", () =>
    Effect.gen(function* () {
      const { recorder } = yield* setUp("broken")
      const output = recorder.output("stdout")
      const source = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 100 }), (_, index) => output.take(bytes(`line ${index}\n`)), {
          discard: true,
        }),
      )
      yield* Fiber.join(source)
      const report = yield* recorder.finish(completed)
      assert.deepStrictEqual(report, { events: 101, stored: 0 })
    }),
  )

  it.effect("what a full store refused is counted in its place, once the store takes events again", () =>
    Effect.gen(function* () {
      const { gate, read, recorder } = yield* setUp("broken")
      const output = recorder.output("stdout")
      const take = (from: number, to: number) =>
        Effect.forEach(
          Array.from({ length: to - from }),
          (_, index) => Effect.andThen(output.take(bytes(`line ${from + index}\n`)), settle),
          { discard: true },
        )
      yield* gate.open
      yield* take(0, 3)
      yield* gate.close
      yield* take(3, 10)
      yield* gate.open
      yield* take(10, 12)
      const report = yield* recorder.finish(completed)
      const shown = (yield* read).map((event) =>
        event._tag === "OutputLine" ? event.line : event._tag === "Custom" ? event.data : event._tag,
      )
      assert.deepStrictEqual(shown, ["line 0", "line 1", "line 2", { lines: 7 }, "line 10", "line 11", "RunCompleted"])
      assert.deepStrictEqual(report, { events: 14, stored: 7 })
    }),
  )

  it.effect("what was refused last is counted in front of the end", () =>
    Effect.gen(function* () {
      const { gate, read, recorder } = yield* setUp("broken")
      yield* recorder.output("stdout").take(bytes("one\ntwo\n"))
      yield* settle
      yield* gate.open
      const report = yield* recorder.finish(completed)
      const events = yield* read
      assert.deepStrictEqual(events[0], { _tag: "Custom", name: "throughline.lost", data: { lines: 2 } })
      assert.deepStrictEqual([events.length, events[1]?._tag], [2, "RunCompleted"])
      assert.deepStrictEqual(report, { events: 4, stored: 2 })
    }),
  )

  it.effect("the end waits 10 seconds for a store without progress, or until it is abandoned", () =>
    Effect.gen(function* () {
      for (const abandon of [false, true]) {
        const { recorder } = yield* setUp("gated")
        yield* recorder.output("stdout").take(bytes("line\n"))
        const finish = yield* Effect.forkChild(recorder.finish(completed))
        yield* settle
        yield* TestClock.adjust("8 seconds")
        assert.isUndefined(finish.pollUnsafe())
        if (abandon) recorder.abandon()
        yield* settle
        // What `stop` waits, and hands over, on top.
        yield* TestClock.adjust(abandon ? "2 seconds" : "14 seconds")
        const report = yield* Fiber.join(finish)
        assert.deepStrictEqual(report, { events: 2, stored: 0 })
      }
    }),
  )
})
