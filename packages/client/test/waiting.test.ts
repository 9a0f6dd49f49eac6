import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { afterEach, beforeEach, vi } from "vitest"
import { type Connection, runEvents, type RunItem } from "../src/index.ts"
import { RunClient } from "../src/RunClient.ts"
import { answer, base, caughtUp, ending, event, layerOf, range, runId, serverOf, streamed } from "./scripted.ts"

const url = `${base}/runs/${runId}/events`

const heartbeat = ": keep-alive\n\n"

/** Lets everything happen that needs no time. */
const settle = Effect.promise(async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
})

/** Lets time pass, in steps as fine as the heartbeats of a server. */
const pass = Effect.fnUntraced(function* (millis: number) {
  for (let left = millis; left > 0; left -= 5_000) {
    yield* settle
    yield* TestClock.adjust(Math.min(left, 5_000))
  }
  yield* settle
})

/** Reads in the background. */
const follow = Effect.fnUntraced(function* () {
  const client = yield* RunClient
  const seqs: Array<number> = []
  const fiber = yield* client.run(runId).pipe(
    Stream.runForEach((item) =>
      Effect.sync(() => {
        if (item._tag === "Event") seqs.push(item.envelope.seq)
      }),
    ),
    Effect.forkChild({ startImmediately: true }),
  )
  yield* settle
  return { seqs, fiber }
})

describe("RunClient", () => {
  it.effect("is kept by heartbeats however long nothing happens, and loses a connection on which no byte comes", () => {
    const { fetch, log } = serverOf((after) =>
      after === 0 ? streamed(event(1) + caughtUp(1), "stays") : streamed(ending(2)),
    )
    return Effect.gen(function* () {
      const { fiber, seqs } = yield* follow()
      for (let minute = 0; minute < 60; minute++) {
        yield* pass(40_000)
        log.feeds[0]!.push(heartbeat)
      }
      yield* settle
      assert.deepStrictEqual([seqs, log.requests.length, log.cancelled], [[1], 1, 0])
      yield* pass(44_000)
      assert.strictEqual(log.requests.length, 1)
      yield* pass(5_000)
      assert.deepStrictEqual([seqs, log.requests.length], [[1, 2], 2])
      assert.isAbove(log.cancelled, 0, "the silent connection was not closed")
      yield* Fiber.join(fiber)
    }).pipe(Effect.provide(layerOf(fetch, { retry: undefined })))
  })

  it.effect("closes its connection when it is interrupted, or has what it wants", () => {
    const { fetch, log } = serverOf((after) =>
      streamed(event(after + 1) + event(after + 2) + caughtUp(after + 2), "stays"),
    )
    return Effect.gen(function* () {
      const { fiber, seqs } = yield* follow()
      assert.deepStrictEqual([seqs, log.cancelled], [[1, 2], 0])
      yield* Fiber.interrupt(fiber)
      assert.isAbove(log.cancelled, 0)
      const before = log.cancelled
      const client = yield* RunClient
      yield* client.run(runId).pipe(Stream.take(1), Stream.runDrain)
      assert.isAbove(log.cancelled, before)
      yield* pass(600_000)
      assert.strictEqual(log.requests.length, 2)
    }).pipe(Effect.provide(layerOf(fetch)))
  })

  it.effect(
    "comes back no sooner than it was asked to, waits longer each time, and gives up after 30 tries in a row",
    () => {
      let refusal = 0
      const { fetch, log } = serverOf((after) => {
        if (after === 0) return streamed(`retry: 20000\n\n${event(1)}`)
        if (after === 1 && refusal++ === 0) return answer(503, null, { "retry-after": "100" })
        return after === 1 ? streamed(event(2)) : new TypeError("fetch failed")
      })
      return Effect.gen(function* () {
        const { fiber, seqs } = yield* follow()
        yield* pass(19_000)
        assert.strictEqual(log.requests.length, 1)
        yield* pass(11_000)
        assert.strictEqual(log.requests.length, 2)
        yield* pass(89_000)
        assert.strictEqual(log.requests.length, 2)
        yield* pass(100_000)
        assert.deepStrictEqual([log.requests.length > 2, seqs], [true, [1, 2]])
        yield* pass(3_600_000 * 2)
        const exit = yield* Fiber.await(fiber)
        assert.deepInclude(exit._tag === "Failure" ? Cause.squash(exit.cause) : exit, { _tag: "Unreachable" })
        assert.strictEqual(log.requests.length, 3 + 29)
      }).pipe(Effect.provide(layerOf(fetch, { retry: undefined })))
    },
  )
})

/** Reads in the background. */
const read = (options: Parameters<typeof runEvents>[1]) => {
  const items: Array<RunItem> = []
  const states: Array<Connection> = []
  const done = (async () => {
    for await (const item of runEvents(url, { onConnection: (state) => states.push(state), ...options }))
      items.push(item)
    return "ended"
  })().catch((error: unknown) => error)
  return { items, states, done }
}

describe("runEvents", () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it("is kept by heartbeats however long nothing happens, and loses a connection on which no byte comes", async () => {
    const { fetch, log } = serverOf((after) =>
      after === 0 ? streamed(event(1) + caughtUp(1), "stays") : streamed(ending(2)),
    )
    const { done, items, states } = read({ fetch })
    for (let minute = 0; minute < 60; minute++) {
      await vi.advanceTimersByTimeAsync(40_000)
      log.feeds[0]!.push(heartbeat)
    }
    await vi.advanceTimersByTimeAsync(44_000)
    assert.deepStrictEqual([items.length, log.requests.length, log.cancelled], [2, 1, 0])
    await vi.advanceTimersByTimeAsync(5_000)
    assert.strictEqual(await done, "ended")
    assert.deepStrictEqual([items.length, log.requests.length], [3, 2])
    assert.deepStrictEqual(
      states.map(({ state }) => state),
      ["connecting", "open", "waiting", "connecting", "open"],
    )
    assert.isAbove(log.cancelled, 0, "the silent connection was not closed")
  })

  it("comes back no sooner than it was asked to, waits longer each time, and gives up after 30 tries in a row", async () => {
    const { fetch, log } = serverOf((after, request) => {
      if (request === 0) return streamed(`retry: 20000\n\n${event(1)}`)
      if (request === 1) return answer(503, null, { "retry-after": "100" })
      return request === 2 ? streamed(event(2)) : new TypeError(`fetch failed after ${after}`)
    })
    const { done, items, states } = read({ fetch })
    await vi.advanceTimersByTimeAsync(19_999)
    assert.strictEqual(log.requests.length, 1)
    await vi.advanceTimersByTimeAsync(10_001)
    assert.strictEqual(log.requests.length, 2)
    await vi.advanceTimersByTimeAsync(89_999)
    assert.strictEqual(log.requests.length, 2)
    await vi.advanceTimersByTimeAsync(3_600_000)
    assert.deepInclude((await done) as object, { code: "unreachable" })
    assert.deepStrictEqual([items.length, log.requests.length], [2, 3 + 29])
    const delays = states.flatMap((state) => (state.state === "waiting" ? [state.delay] : []))
    for (const delay of delays) assert.isTrue(delay >= 20_000 && delay <= 150_000, `a delay of ${delay} ms`)
  })

  it("fails with the signal's reason, whatever it is doing, and closes its connection", async () => {
    for (const script of [
      () => "never answers" as const,
      () => streamed(event(1) + caughtUp(1), "stays"),
      () => new TypeError("fetch failed"),
    ]) {
      const { fetch, log } = serverOf(script)
      const stop = new AbortController()
      const { done, states } = read({ fetch, signal: stop.signal })
      await vi.advanceTimersByTimeAsync(10)
      const reason = new Error("enough")
      stop.abort(reason)
      assert.strictEqual(await done, reason)
      assert.strictEqual(states.at(-1)?.state === "waiting" || log.cancelled > 0, true)
      await vi.advanceTimersByTimeAsync(600_000)
      assert.strictEqual(log.requests.length, 1)
      assert.strictEqual(vi.getTimerCount(), 0, "a timer is left")
    }
    const { fetch, log } = serverOf(() => new TypeError("fetch failed"))
    const { done } = read({ fetch, signal: AbortSignal.abort(new Error("before")) })
    assert.deepStrictEqual([((await done) as Error).message, log.requests.length], ["before", 0])
  })

  it("closes its connection when the loop is left", async () => {
    const { fetch, log } = serverOf((after) => streamed(event(after + 1) + event(after + 2), "stays"))
    const seqs: Array<number> = []
    for await (const item of runEvents(url, { fetch })) {
      if (item._tag === "Event") seqs.push(item.envelope.seq)
      if (seqs.length === 2) break
    }
    assert.deepStrictEqual([seqs, log.requests.length], [range(1, 2), 1])
    assert.isAbove(log.cancelled, 0)
    assert.strictEqual(vi.getTimerCount(), 0, "a timer is left")
  })

  it("takes its place from the address too, keeps what else is asked there, and waits for a run only until it is there", async () => {
    vi.useRealTimers()
    const { fetch, log } = serverOf((after) => (after === 0 ? streamed(event(1)) : streamed(ending(2))))
    const items: Array<RunItem> = []
    for await (const item of runEvents(`${url}?wait&token=t`, { fetch, headers: { "x-a": "b" }, backoff: () => 0 })) {
      items.push(item)
    }
    assert.deepStrictEqual(
      log.requests.map(({ url: { search } }) => search),
      ["?wait&token=t", "?token=t&after=1-abcd1234"],
    )
    assert.deepInclude(log.requests[0]!.init.headers as object, { accept: "text/event-stream", "x-a": "b" })
    const from = serverOf(() => streamed(ending(6)))
    for await (const item of runEvents(`${url}?after=5`, { fetch: from.fetch })) items.push(item)
    assert.strictEqual(from.log.requests[0]!.url.search, "?after=5")
  })
})
