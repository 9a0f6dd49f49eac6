import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { type Input, end, layer, line, runA, settle, vocabulary, world } from "./bridgeWorld.ts"

describe("the dead letters of EventBridge", () => {
  it.effect("an event whose fields no store could give back is a dead letter alone", () =>
    Effect.gen(function* () {
      const { bridge, letters } = yield* world()
      const odd: ReadonlyArray<Partial<Input>> = [
        { emittedAt: "2026-01-01T00:00:00Z" },
        { emittedAt: "yesterday" },
        { turnId: "\ud800" },
        { provider: "\udfff" },
      ]
      const events = [line("1"), ...odd.map(() => line("odd")), line("2"), end].map((event, index) => ({
        event,
        ...(index > 0 && index <= odd.length ? odd[index - 1] : undefined),
      }))
      const recorded = yield* bridge.record(vocabulary, { runId: runA }, Stream.fromIterable(events))
      assert.deepStrictEqual([recorded.stored, recorded.dead, recorded.ended], [3, odd.length, true])
      assert.deepStrictEqual(
        letters.map(({ cause, unencoded }) => [cause._tag, unencoded.length]),
        odd.map(() => ["EventRefused", 1]),
      )
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a dead-letter handler that throws before it is an effect holds nothing up", () =>
    Effect.gen(function* () {
      const { bridge } = yield* world({
        onDeadLetter: () => {
          throw new TypeError("handler")
        },
      })
      const events = [{ event: line("odd"), turnId: "\ud800" }, { event: end }]
      const recorded = yield* bridge.record(vocabulary, { runId: runA }, Stream.fromIterable(events))
      assert.deepStrictEqual([recorded.stored, recorded.dead, recorded.ended], [1, 1, true])
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a letter whose handler the stop interrupted is handed over again", () =>
    Effect.gen(function* () {
      const received: Array<string> = []
      let calls = 0
      const { bridge } = yield* world({
        grace: "1 second",
        onDeadLetter: ({ cause }) =>
          calls++ === 0 ? Effect.sleep("1500 millis") : Effect.sync(() => void received.push(cause._tag)),
      })
      const source = Stream.concat(
        Stream.fromIterable<Input>([{ runId: runA, event: line("odd"), turnId: "\ud800" }]),
        Stream.never,
      )
      const handle = yield* bridge.start(vocabulary, source)
      yield* settle
      const stopping = yield* Effect.forkChild(handle.stop)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(stopping)).dead, 1)
      assert.strictEqual(received.length, 1)
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )
})
