import { describe, expect, it } from "@effect/vitest"
import * as Law from "../src/Law.ts"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"

class Counter extends Context.Service<Counter, { readonly next: Effect.Effect<number> }>()("test/Counter") {}

let builds = 0
const counter = (options: { readonly step: number } = { step: 1 }) =>
  Layer.effect(
    Counter,
    Effect.sync(() => {
      builds++
      let count = 0
      return { next: Effect.sync(() => (count += options.step)) }
    }),
  )

const numbers = Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 }))))

const counts = Law.make({
  promise: 1,
  name: "it counts from 1",
  history: numbers,
  runs: 20,
  property: Effect.fnUntraced(function* (history) {
    const { next } = yield* Counter
    for (let index = 1; index <= history.length; index++) yield* Law.same("the count", yield* next, index)
    yield* TestClock.adjust("1 hour")
    yield* Law.same("the time", yield* Clock.currentTimeMillis, 3_600_000)
  }),
})

const small = Law.make({
  promise: 2,
  name: "numbers are small",
  history: numbers,
  property: Effect.fnUntraced(function* (history) {
    yield* Counter
    yield* Law.holds(
      history.every((value) => value < 50),
      "a number is large",
    )
  }),
})

const textOf = (verdict: Law.Verdict) => (verdict._tag === "Broken" ? verdict.report : `holds ${verdict.runs}`)

describe("Law", () => {
  it.live("each case gets a layer and a clock of its own", () =>
    Effect.gen(function* () {
      builds = 0
      expect(textOf(yield* counts.check(counter))).toBe("holds 20")
      expect(builds).toBe(20)
      expect((yield* counts.check(counter, { runs: 50 }))._tag).toBe("Holds")
      expect(builds).toBe(70)
    }),
  )

  it.live("a broken law prints the smallest history and what replays it, and the replay is the same case", () =>
    Effect.gen(function* () {
      const report = textOf(yield* small.check(counter, { seed: 7 }))
      expect(report).toContain("promise 2 is broken: numbers are small")
      expect(report).toContain("a number is large")
      expect(report).toContain("50")
      expect(report).toContain("THROUGHLINE_SEED=7")
      expect(textOf(yield* small.check(counter, { seed: 7 }))).toBe(report)
      const replay = /THROUGHLINE_REPLAY='(.*)' with/.exec(report)![1]
      const history = report.split("\n").slice(2, -2)
      expect(
        textOf(yield* small.check(counter, { replay }))
          .split("\n")
          .slice(2, -2),
      ).toEqual(history)
    }),
  )

  it.live("a law that configures the layer is broken, not passed over, where the layer can't be configured", () =>
    Effect.gen(function* () {
      const law = Law.make({
        promise: 9,
        name: "configured",
        history: numbers,
        options: () => ({ bound: 1 }),
        property: () => Effect.void,
      })
      expect(yield* law.check(Layer.empty)).toMatchObject({ _tag: "Broken", fault: "unchecked" })
      expect(yield* law.check(() => Layer.empty)).toMatchObject({ _tag: "Holds" })
    }),
  )

  it.live("randomness is the same for the same seed, and differs between cases", () =>
    Effect.gen(function* () {
      const draws: Array<string> = []
      const law = Law.make({
        promise: 12,
        name: "draws",
        history: numbers,
        runs: 10,
        property: Effect.fnUntraced(function* () {
          const secure = yield* SecureRandom.SecureRandom
          draws.push(`${yield* Random.next} ${yield* secure.uuidV7()}`)
        }),
      })
      yield* law.check(Layer.empty, { seed: 1 })
      const first = draws.splice(0)
      yield* law.check(Layer.empty, { seed: 1 })
      expect(draws).toEqual(first)
      expect(new Set(draws).size).toBe(10)
    }),
  )

  it.live("a law whose histories don't reach what it is for fails", () =>
    Effect.gen(function* () {
      const law = Law.make({
        promise: 6,
        name: "reaches",
        history: numbers,
        reaches: { "a seven": 0.5, anything: 1 },
        property: (history, reach) =>
          Effect.sync(() => {
            reach("anything")
            if (history[0] === 7) reach("a seven")
          }),
      })
      expect(textOf(yield* law.check(Layer.empty))).toContain("histories reached a seven, fewer than")
    }),
  )

  it.live("a check goes on until as many histories as it asks for reached what it is for", () =>
    Effect.gen(function* () {
      let cases = 0
      const law = Law.make({
        promise: 6,
        name: "reaches late",
        history: numbers,
        runs: 10,
        reaches: { "the second round": 0.5 },
        property: (_, reach) =>
          Effect.sync(() => {
            cases += 1
            if (cases > 10) reach("the second round")
          }),
      })
      const verdict = yield* law.check(Layer.empty)
      expect(verdict._tag === "Holds" ? verdict.runs : verdict.report).toBe(20)
    }),
  )

  it.live("a defect breaks the law too", () =>
    Effect.gen(function* () {
      const law = Law.make({ promise: 6, name: "dies", history: numbers, property: () => Effect.die("boom") })
      expect(textOf(yield* law.check(Layer.empty))).toContain("boom")
    }),
  )

  it.live("a case that waits for time nobody moves on is a broken law with a replay", () =>
    Effect.gen(function* () {
      const law = Law.make({
        promise: 7,
        name: "hangs",
        history: numbers,
        hangsAfter: 50,
        property: () => Effect.never,
      })
      expect(textOf(yield* law.check(Layer.empty))).toContain("still running after 50 ms")
    }),
  )
})
