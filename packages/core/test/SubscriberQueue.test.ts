import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

const { vocabulary } = AgentEvents
const runId = Envelope.RunId.make("run")
const eventId = Envelope.EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")

const frame = (seq: number, event: AgentEvents.AgentEvent): Envelope.Frame => ({
  _tag: "Frame",
  envelope: {
    ...Result.getOrThrow(Vocabulary.encodeWith(vocabulary, { event }, eventId, "2026-01-31T09:30:00.000Z")),
    seq,
    runId,
    schemaVersion: 1,
  },
  cursor: `${seq}-00000000`,
})

const text = (seq: number) => frame(seq, { _tag: "TextDelta", messageId: "m", text: `${seq} ` })
const texts = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => text(from + index))
const done = (seq: number) => frame(seq, { _tag: "ApprovalResolved", approvalId: "a", decision: "approved" })

const at = (run: string, position: number, event: AgentEvents.AgentEvent): Envelope.Frame => {
  const made = frame(1, event)
  return { ...made, position, envelope: { ...made.envelope, runId: Envelope.RunId.make(run) } }
}

const throws = (): never => {
  throw new Error("thrown by a vocabulary")
}

const shape = (items: ReadonlyArray<Envelope.Frame | Envelope.Gap>) =>
  items.map((item) =>
    item._tag === "Gap"
      ? `Gap ${item.notice?.frames ?? item.reason}`
      : item.notice === undefined
        ? item.envelope.seq
        : `${item.envelope.seq} after ${item.notice.frames} lost`,
  )

/** Once the event loop has turned. */
const turned = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

describe("SubscriberQueue", () => {
  it.effect("what is offered to a waiting reader in one go arrives as one chunk", () =>
    Effect.gen(function* () {
      const queue = yield* SubscriberQueue.make({ capacity: 10 })
      const pull = yield* Stream.toPull(queue.stream)
      const reader = yield* Effect.forkChild(pull, { startImmediately: true })
      for (const each of texts(1, 5)) assert.isTrue(queue.offer(each))
      assert.deepStrictEqual(shape(yield* Fiber.join(reader)), [1, 2, 3, 4, 5])
    }).pipe(Effect.scoped),
  )

  it.effect("a reader that waits has what was offered before the event loop turns", () =>
    Effect.gen(function* () {
      const queue = yield* SubscriberQueue.make({ capacity: 10 })
      const pull = yield* Stream.toPull(queue.stream)
      const order: Array<string> = []
      const reader = yield* Effect.forkChild(
        Effect.map(pull, () => order.push("read")),
        { startImmediately: true },
      )
      const turn = yield* Effect.forkChild(
        Effect.map(turned, () => order.push("turned")),
        { startImmediately: true },
      )
      queue.offer(text(1))
      yield* Fiber.joinAll([reader, turn])
      assert.deepStrictEqual(order, ["read", "turned"])
    }).pipe(Effect.scoped),
  )

  it.effect(
    "a reader that waits after a wait that was interrupted has what was offered before the event loop turns",
    () =>
      Effect.gen(function* () {
        const queue = yield* SubscriberQueue.make({ capacity: 10 })
        const pull = yield* Stream.toPull(queue.stream)
        const left = yield* Effect.forkChild(pull, { startImmediately: true })
        yield* Fiber.interrupt(left)
        queue.offer(text(1))
        yield* pull
        yield* turned
        const order: Array<string> = []
        const reader = yield* Effect.forkChild(
          Effect.map(pull, () => order.push("read")),
          { startImmediately: true },
        )
        const turn = yield* Effect.forkChild(
          Effect.map(turned, () => order.push("turned")),
          { startImmediately: true },
        )
        queue.offer(text(2))
        yield* Fiber.joinAll([reader, turn])
        assert.deepStrictEqual(order, ["read", "turned"])
      }).pipe(Effect.scoped),
  )

  it.effect("readers that offer to each other's queues don't keep the event loop from turning", () =>
    Effect.gen(function* () {
      const one = yield* SubscriberQueue.make()
      const other = yield* SubscriberQueue.make()
      let offers = 0
      // They stop at some time, so that the test comes to its end even if they are all that runs.
      const answer = (from: typeof one, to: typeof one) =>
        Stream.runForEach(from.stream, () => Effect.sync(() => ++offers < 10_000 && to.offer(text(offers))))
      yield* Effect.forkScoped(answer(one, other), { startImmediately: true })
      yield* Effect.forkScoped(answer(other, one), { startImmediately: true })
      one.offer(text(0))
      yield* turned
      assert.isAtLeast(offers, 2)
      assert.isBelow(offers, 10_000)
    }).pipe(Effect.scoped),
  )

  it.effect("a detached subscriber takes nothing more, which its source is told", () =>
    Effect.gen(function* () {
      const queue = yield* SubscriberQueue.make({ capacity: 1, terminalReserve: 0, overflow: "failSubscriber" })
      assert.isTrue(queue.offer(text(1)))
      assert.isFalse(queue.offer(text(2)))
      assert.isFalse(queue.offerAll([text(3), done(4)]))
      const pull = yield* Stream.toPull(queue.stream)
      assert.deepStrictEqual(shape(yield* pull), [1])
      const error = yield* Effect.flip(pull)
      assert.strictEqual(error._tag, "SubscriberOverflow")
      if (error._tag !== "SubscriberOverflow") return
      assert.strictEqual(error.notice?.frames, 1)
      assert.deepStrictEqual(error.repair, { runId, after: "1-00000000" })
    }).pipe(Effect.scoped),
  )

  it.effect("closing the queue's scope ends its reader, waiting or not", () =>
    Effect.gen(function* () {
      for (const frames of [[], [text(1)]]) {
        const scope = yield* Scope.make()
        const queue = yield* Scope.provide(SubscriberQueue.make(), scope)
        const reader = yield* Effect.forkChild(Stream.runDrain(queue.stream), { startImmediately: true })
        queue.offerAll(frames)
        yield* Scope.close(scope, Exit.void)
        const exit = yield* Fiber.await(reader)
        assert.isTrue(Exit.hasInterrupts(exit))
        assert.isFalse(queue.offer(text(2)))
      }
    }),
  )

  it.effect("a notice counts by kind, and past 64 kinds counts the rest together", () =>
    Effect.gen(function* () {
      const queue = yield* SubscriberQueue.make({ capacity: 1, terminalReserve: 1 })
      for (const each of texts(1, 100)) {
        queue.offer({ ...each, envelope: { ...each.envelope, kind: `kind ${each.envelope.seq}` } })
      }
      queue.offer(done(101))
      const pull = yield* Stream.toPull(queue.stream)
      const kinds = (yield* pull)[0].notice!.kinds
      assert.strictEqual(kinds["kind 64"], 1)
      assert.strictEqual(kinds["other"], 36)
    }).pipe(Effect.scoped),
  )

  it.effect("a summary that merges a long message costs one frame and all of its text", () =>
    Effect.gen(function* () {
      const queue = yield* SubscriberQueue.make({ capacity: 2, overflow: "summarize", vocabulary })
      for (const each of texts(1, 5000)) queue.offer(each)
      const pull = yield* Stream.toPull(queue.stream)
      const frames = (yield* pull).filter((item) => item._tag === "Frame")
      assert.deepStrictEqual(
        frames.map(({ merged }) => merged),
        [undefined, { firstSeq: 2, lastSeq: 5000, frames: 4999 }],
      )
      assert.strictEqual(frames[1]!.cursor, "5000-00000000")
      const events = frames.map(({ envelope }) => Result.getOrThrow(vocabulary.decode(envelope.event)))
      const joined = events.map((event) => (event._tag === "TextDelta" ? event.text : "")).join("")
      assert.strictEqual(joined, Array.from({ length: 5000 }, (_, index) => `${index + 1} `).join(""))
    }).pipe(Effect.scoped),
  )

  it.effect("a repair's position is before all that was missed, whatever the order of positions", () =>
    Effect.gen(function* () {
      const delta = { _tag: "TextDelta", messageId: "m", text: "x" } as const
      const end = { _tag: "ApprovalResolved", approvalId: "a", decision: "approved" } as const
      const lossy = yield* SubscriberQueue.make({ capacity: 1, terminalReserve: 0 })
      lossy.offerAll([at("c", 1, delta), at("a", 3, delta), at("b", 2, delta)])
      lossy.end()
      const items = yield* Stream.runCollect(lossy.stream)
      assert.strictEqual(items[1]?.notice?.repair.position, 1)
      const full = yield* SubscriberQueue.make({ capacity: 1, terminalReserve: 0 })
      full.offerAll([at("c", 1, end), at("a", 3, end), at("b", 2, end)])
      const error = yield* Effect.flip(Stream.runDrain(full.stream))
      assert.strictEqual(error.repair.position, 1)
    }).pipe(Effect.scoped),
  )

  it.effect(
    "gaps of the source take no more room than what is waiting, and are told in one with the losses there",
    () =>
      Effect.gen(function* () {
        const queue = yield* SubscriberQueue.make({ capacity: 4, overflow: "dropProgress" })
        for (const each of texts(1, 1000)) {
          queue.offer(each)
          queue.gap("reconnected")
        }
        queue.end()
        const items = yield* Stream.runCollect(queue.stream)
        assert.deepStrictEqual(shape(items), [1, "Gap reconnected", 2, "Gap reconnected", 3, "Gap 997"])
      }).pipe(Effect.scoped),
  )

  it.effect("a vocabulary that throws costs its subscriber merges, never the source or a frame's account", () =>
    Effect.gen(function* () {
      const { coalesce } = vocabulary
      const broken = {
        key: { ...vocabulary, coalesce: { ...coalesce!, key: throws } },
        merge: { ...vocabulary, coalesce: { ...coalesce!, merge: throws } },
        decode: { ...vocabulary, decode: throws },
        encode: { ...vocabulary, encode: throws },
      }
      const seen: Record<string, unknown> = {}
      for (const [what, each] of Object.entries(broken)) {
        const queue = yield* SubscriberQueue.make({ capacity: 2, overflow: "summarize", vocabulary: each })
        for (const one of [text(1), text(2), text(3), done(4), done(5)]) assert.isTrue(queue.offer(one))
        queue.end()
        seen[what] = shape(yield* Stream.runCollect(queue.stream))
      }
      assert.deepStrictEqual(seen, {
        key: ["4 after 3 lost", 5],
        merge: [1, 2, 3, 4, 5],
        decode: ["4 after 3 lost", 5],
        encode: ["4 after 3 lost", 5],
      })
    }).pipe(Effect.scoped),
  )

  it.effect("a source that is read may wait for its reader: nothing is lost", () =>
    Effect.gen(function* () {
      const all = texts(1, 100)
      const stream = SubscriberQueue.fromStream(Stream.fromIterable(all), { capacity: 2, overflow: "backpressure" })
      const items = yield* Stream.runCollect(Stream.tap(stream, () => Effect.yieldNow))
      assert.deepStrictEqual(items, all)
    }),
  )

  it.effect("a source that is read by another policy loses, reports it in its end, and fails as it does", () =>
    Effect.gen(function* () {
      const options = { capacity: 2, terminalReserve: 0 }
      const ended = yield* Stream.runCollect(SubscriberQueue.fromStream(Stream.fromIterable(texts(1, 5)), options))
      assert.deepStrictEqual(shape(ended), [1, 2, "Gap 3"])
      const failing = Stream.concat(Stream.fromIterable(texts(1, 3)), Stream.fail("broken" as const))
      const seen: Array<Envelope.Frame | Envelope.Gap> = []
      const error = yield* SubscriberQueue.fromStream(failing, options).pipe(
        Stream.runForEach((item) => Effect.sync(() => seen.push(item))),
        Effect.flip,
      )
      assert.deepStrictEqual(shape(seen), [1, 2, "Gap 1"])
      assert.strictEqual(error, "broken")
    }),
  )
})

describe("SubscriberQueue of an adapter", () => {
  const room: Envelope.Room = { _tag: "Run", runId }

  it.effect("losses are gaps in their place, terminals included, and the stream goes on", () =>
    Effect.gen(function* () {
      const adapter = yield* StreamAdapter.StreamAdapter
      const pull = yield* Stream.toPull(yield* adapter.subscribe(room, { capacity: 2 }))
      yield* adapter.publish([room], [text(1), text(2), text(3), done(4)])
      assert.deepStrictEqual(shape(yield* pull), ["Gap 1", 2, "Gap 1", 4])
      yield* adapter.publish([room], [done(5), done(6), done(7)])
      assert.deepStrictEqual(shape(yield* pull), [5, 6, "Gap 1"])
      yield* adapter.publish([room], [text(8)])
      assert.deepStrictEqual(shape(yield* pull), [8])
    }).pipe(Effect.scoped, Effect.provide(StreamAdapter.layerMemory)),
  )

  it.effect("a reader is told at once of a loss that no frame follows", () =>
    Effect.gen(function* () {
      const queue = yield* SubscriberQueue.makeForAdapter({ capacity: 1, terminalReserve: 1 })
      const pull = yield* Stream.toPull(queue.stream)
      const reader = yield* Effect.forkChild(pull, { startImmediately: true })
      queue.offer(text(1))
      assert.deepStrictEqual(shape(yield* Fiber.join(reader)), ["Gap 1"])
      queue.gap("reconnected")
      queue.gap("reconnected")
      assert.deepStrictEqual(shape(yield* pull), ["Gap reconnected"])
    }).pipe(Effect.scoped),
  )

  it.effect("policies that wait or fail are refused", () =>
    Effect.gen(function* () {
      const adapter = yield* StreamAdapter.StreamAdapter
      for (const overflow of ["backpressure", "failSubscriber"] as const) {
        const error = yield* Effect.flip(adapter.subscribe(room, { overflow }))
        assert.strictEqual(error._tag, "InvalidOverflowPolicy")
      }
    }).pipe(Effect.scoped, Effect.provide(StreamAdapter.layerMemory)),
  )
})
