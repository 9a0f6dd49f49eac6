import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { afterEach, vi } from "vitest"
import { runEvents, type RunItem } from "../src/index.ts"
import { base, caughtUp, event, events, runId, serverOf, streamed } from "./scripted.ts"

const url = `${base}/runs/${runId}/events`

/** Lets everything happen that needs no time. */
const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

const quiet = () => streamed(event(1), "stays")

describe("runEvents", () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it("closes its connection as soon as its signal is aborted, even if nobody asks for an item", async () => {
    const { fetch, log } = serverOf(quiet)
    const stop = new AbortController()
    const items = runEvents(url, { fetch, signal: stop.signal })
    await items.next()
    assert.strictEqual(log.open, 1)
    const reason = new Error("enough")
    stop.abort(reason)
    await settle()
    assert.strictEqual(log.open, 0)
    assert.strictEqual(await items.next().catch((error: unknown) => error), reason)
    assert.deepStrictEqual(await items.next(), { done: true, value: undefined })
  })

  it("gives nothing after its signal is aborted, whatever has arrived", async () => {
    for (const last of [1, 200]) {
      const { fetch } = serverOf(() => streamed(events(1, 200)))
      const stop = new AbortController()
      const items: Array<RunItem> = []
      const reason = new Error("enough")
      const end = await (async () => {
        for await (const item of runEvents(url, { fetch, signal: stop.signal })) {
          items.push(item)
          if (items.length === last) stop.abort(reason)
        }
      })().catch((error: unknown) => error)
      assert.deepStrictEqual([items.length, end], [last, reason])
    }
  })

  it("is left at once, whatever it waits for", async () => {
    for (const script of [quiet, () => "never answers" as const, () => new TypeError("fetch failed")]) {
      const { fetch, log } = serverOf(script)
      const states: Array<string> = []
      const items = runEvents(url, { fetch, onConnection: ({ state }) => states.push(state) })
      if (script === quiet) await items.next()
      const next = items.next()
      await settle()
      const before = states.length
      assert.deepStrictEqual(await items.return(), { done: true, value: undefined })
      assert.deepStrictEqual(await next, { done: true, value: undefined })
      assert.deepStrictEqual(states.slice(before), [], "who has left was told of the connection")
      assert.deepStrictEqual([log.open, log.requests.length], [0, 1])
    }
  })

  it("hands on what is thrown into it at once, and closes its connection", async () => {
    const { fetch, log } = serverOf(quiet)
    const items = runEvents(url, { fetch })
    await items.next()
    const next = items.next()
    const reason = new Error("enough")
    assert.strictEqual(await items.throw(reason).catch((error: unknown) => error), reason)
    assert.deepStrictEqual(await next, { done: true, value: undefined })
    assert.strictEqual(log.open, 0)
  })

  it("closes a response that doesn't heed the signal of its request", async () => {
    const { fetch, log } = serverOf(quiet, { heedsSignal: false })
    const items = runEvents(url, { fetch })
    await items.next()
    assert.strictEqual(log.open, 1)
    await items.return()
    await settle()
    assert.strictEqual(log.open, 0)
    const refusing = serverOf(() => streamed(Array(100).fill("x".repeat(10_000)), "stays", 403), { heedsSignal: false })
    await runEvents(url, { fetch: refusing.fetch })
      .next()
      .catch((error: unknown) => error)
    assert.deepStrictEqual([refusing.log.requests.length, refusing.log.open], [1, 0])
  })

  it("makes no request if it is left before the first item is asked for", async () => {
    const { fetch, log } = serverOf(quiet)
    const items = runEvents(url, { fetch })
    await items.return()
    assert.deepStrictEqual(await items.next(), { done: true, value: undefined })
    assert.strictEqual(log.requests.length, 0)
  })

  it("leaves nothing at a signal that outlives it, or at its own however often it connects", async () => {
    const added = vi.spyOn(EventTarget.prototype, "addEventListener")
    const removed = vi.spyOn(EventTarget.prototype, "removeEventListener")
    const listeningTo = (target: unknown) =>
      added.mock.contexts.filter((of) => of === target).length -
      removed.mock.contexts.filter((of) => of === target).length
    const { fetch } = serverOf((after) => streamed(event(after + 1)), { heedsSignal: false })
    const { signal } = new AbortController()
    const items = runEvents(url, { fetch, signal, backoff: () => 0 })
    for (let seq = 1; seq <= 20; seq++) await items.next()
    assert.isAbove(listeningTo(signal), 0)
    for (const target of new Set(added.mock.contexts)) assert.isAtMost(listeningTo(target), 2)
    await items.return()
    assert.strictEqual(listeningTo(signal), 0)
  })

  it.effect("closes its connection when a stream of it is interrupted while nothing happens", () => {
    const { fetch, log } = serverOf(() => streamed(event(1) + caughtUp(1), "stays"))
    return Effect.gen(function* () {
      const items = Stream.fromAsyncIterable(runEvents(url, { fetch }), (cause) => cause)
      const fiber = yield* Effect.forkChild(Stream.runDrain(items), { startImmediately: true })
      yield* Effect.promise(settle)
      assert.strictEqual(log.open, 1)
      yield* Fiber.interrupt(fiber)
      yield* Effect.promise(settle)
      assert.strictEqual(log.open, 0)
    })
  })
})
