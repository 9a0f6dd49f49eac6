import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { afterEach, beforeEach, vi } from "vitest"
import { runEvents } from "../src/index.ts"
import { RunClient } from "../src/RunClient.ts"
import { answer, base, ending, layerOf, runId, type Script, serverOf, streamed } from "./scripted.ts"

/** Lets everything happen that needs no time. */
const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

const refused = (status: number, after?: string) => () =>
  answer(status, null, after === undefined ? {} : { "retry-after": after })

/** When the first try is made. */
const start = 1_000_000_000_000

const at = (millis: number) => new Date(start + millis).toUTCString()

/** What a first try meets, and after how many ms there is a second one, at the least and at the most. */
const waits: ReadonlyArray<readonly [what: string, first: Script, least: number, most: number]> = [
  ["a connection that can't be made", () => new TypeError("fetch failed"), 1_000, 1_500],
  ["408", refused(408), 1_000, 1_500],
  ["425", refused(425), 1_000, 1_500],
  ["a server that asks for some seconds", refused(503, "20"), 20_000, 30_000],
  ["a server that asks for no time", refused(503, "0"), 1_000, 1_500],
  ["a server that asks for more than there is sense in", refused(429, "100000"), 300_000, 450_000],
  ["a server that names a time", refused(503, at(20_000)), 20_000, 30_000],
  ["a server that names a time in a far year", refused(503, at(1e13)), 300_000, 450_000],
  ["a server that names a time that has passed", refused(503, at(-20_000)), 1_000, 1_500],
  ["a server that names no time", refused(503, "soon"), 1_000, 1_500],
  ["a server that asks for less than nothing", refused(503, "-5"), 1_000, 1_500],
]

const cases = waits.flatMap(([what, first, least, most]) =>
  (
    [
      [0, least],
      [1, most],
    ] as const
  ).map(([random, delay]) => ({ what, first, random, delay })),
)

const serverAfter = (first: Script) =>
  serverOf((after, request) => (request === 0 ? first(after, request) : streamed(ending(1))))

describe("RunClient", () => {
  it.effect.each(cases)("after $what waits $delay ms where chance says $random", ({ delay, first, random }) => {
    const { fetch, log } = serverAfter(first)
    return Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const client = yield* RunClient
      yield* Effect.forkChild(Stream.runDrain(client.run(runId)), { startImmediately: true })
      yield* Effect.promise(settle)
      yield* TestClock.adjust(delay - 1)
      yield* Effect.promise(settle)
      assert.strictEqual(log.requests.length, 1)
      yield* TestClock.adjust(1)
      yield* Effect.promise(settle)
      assert.strictEqual(log.requests.length, 2)
    }).pipe(
      Effect.provide(layerOf(fetch, { retry: undefined })),
      Effect.provideService(Random.Random, { nextDoubleUnsafe: () => random, nextIntUnsafe: () => 0 }),
    )
  })
})

describe("runEvents", () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: start })
  })
  afterEach(() => {
    vi.restoreAllMocks()
    vi.useRealTimers()
  })

  it.each(cases)("after $what waits $delay ms where chance says $random", async ({ delay, first, random }) => {
    vi.spyOn(Math, "random").mockReturnValue(random)
    const { fetch, log } = serverAfter(first)
    const items = runEvents(`${base}/runs/${runId}/events`, { fetch })
    const next = items.next()
    await vi.advanceTimersByTimeAsync(delay - 1)
    assert.strictEqual(log.requests.length, 1)
    await vi.advanceTimersByTimeAsync(1)
    assert.strictEqual(log.requests.length, 2)
    assert.strictEqual((await next).done, false)
    await items.return()
  })

  it("tells a backoff of the caller's what the server asked for", async () => {
    const asked: Array<number | undefined> = []
    const answers = ["20", at(20_000), at(-20_000), "soon"]
    const { fetch } = serverOf((_, request) => (request === 4 ? streamed(ending(1)) : refused(503, answers[request])()))
    const backoff = (_: number, millis: number | undefined) => {
      asked.push(millis)
      return 0
    }
    const next = runEvents(`${base}/runs/${runId}/events`, { fetch, backoff }).next()
    await vi.advanceTimersByTimeAsync(100)
    assert.strictEqual((await next).done, false)
    assert.deepStrictEqual(asked, [20_000, 20_000, 0, undefined])
  })
})
