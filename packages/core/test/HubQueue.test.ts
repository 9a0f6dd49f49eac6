import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import type { RunItem } from "@throughline/core/RunItem"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

type Item = RunItem<Envelope.Envelope<AgentEvents.AgentEvent>>

const { vocabulary } = AgentEvents
const layer = Throughline.layerMemory()
const runId = Envelope.RunId.make("run")
const line = (text: string): AgentEvents.AgentEvent => ({ _tag: "OutputLine", stream: "stdout", line: text })
const answer: AgentEvents.AgentEvent = { _tag: "ApprovalResolved", approvalId: "a", decision: "approved" }
const end: AgentEvents.AgentEvent = { _tag: "RunCompleted", finishReason: "exit", iterations: 0 }
const lines = (count: number) => Array.from({ length: count }, (_, index) => line(`${index + 1}`))

const append = Effect.fnUntraced(function* (events: ReadonlyArray<AgentEvents.AgentEvent>) {
  const store = yield* EventStore.EventStore
  const adapter = yield* StreamAdapter.StreamAdapter
  const encoded = yield* Effect.forEach(events, (event) => Vocabulary.encode(vocabulary, { event }))
  const appended = yield* store.append({ runId, vocabulary: vocabulary.id, events: encoded })
  yield* StreamAdapter.publishAppended(adapter, appended, Envelope.defaultRooms)
  yield* TestClock.adjust("100 millis")
})

/** A reader that takes a chunk when it is asked to. */
const reader = Effect.fnUntraced(function* (queue: SubscriptionHub.Queued["queue"]) {
  const hub = yield* SubscriptionHub.SubscriptionHub
  const pull = yield* Stream.toPull(hub.run(runId, { vocabulary, queue }))
  return Effect.map(Effect.exit(pull), (exit): ReadonlyArray<Item> | string => {
    if (Exit.isSuccess(exit)) return exit.value
    const reason = exit.cause.reasons[0]
    return reason?._tag !== "Fail" ? "died" : Cause.isDone(reason.error) ? "done" : reason.error._tag
  })
})

const shape = (items: ReadonlyArray<Item> | string) =>
  typeof items === "string"
    ? items
    : items.map((item) =>
        item._tag === "Event"
          ? `${item.envelope.seq}${item.merged === undefined ? "" : ` of ${item.merged.frames}`}`
          : item._tag === "Dropped"
            ? `Dropped ${item.notice.frames}`
            : item._tag,
      )

const events = (items: ReadonlyArray<Item> | string) =>
  typeof items === "string" ? [] : items.filter((item) => item._tag === "Event")

/** Catches up with one event, and is then away while others come. */
const away = Effect.fnUntraced(function* (
  queue: SubscriptionHub.Queued["queue"],
  missed: ReadonlyArray<AgentEvents.AgentEvent>,
) {
  yield* append([line("0")])
  const chunk = yield* reader(queue)
  assert.deepStrictEqual(shape(yield* chunk), ["1"])
  const caughtUp = yield* Effect.forkChild(chunk, { startImmediately: true })
  yield* TestClock.adjust("1 second")
  assert.deepStrictEqual(shape(yield* Fiber.join(caughtUp)), ["CaughtUp"])
  yield* append(missed)
  return chunk
})

describe("SubscriptionHub with a queue", () => {
  it.effect("a slow reader loses by its policy, is told what, and gets the terminals and the end", () =>
    Effect.gen(function* () {
      const queue = { capacity: 3, terminalReserve: 1, overflow: "dropNonTerminal" } as const
      const chunk = yield* away(queue, [...lines(5), answer, ...lines(4), end])
      const items = yield* chunk
      assert.deepStrictEqual(shape(items), ["Dropped 1", "3", "Dropped 3", "7", "Dropped 4", "12"])
      const told = typeof items === "string" ? undefined : items[0]
      assert.deepStrictEqual(told?._tag === "Dropped" && told.notice.repair.after.split("-")[0], "1")
      assert.strictEqual(shape(yield* chunk), "done")
    }).pipe(Effect.provide(layer)),
  )

  it.effect("under summarize a slow reader loses frames and no text", () =>
    Effect.gen(function* () {
      const chunk = yield* away({ capacity: 2, terminalReserve: 1, overflow: "summarize" }, [...lines(10), end])
      const items = yield* chunk
      assert.deepStrictEqual(shape(items), ["2", "11 of 9", "12"])
      const texts = (typeof items === "string" ? [] : items).flatMap((item) =>
        item._tag === "Event" && item.envelope.event._tag === "OutputLine" ? [item.envelope.event.line] : [],
      )
      assert.strictEqual(texts.join("\n"), Array.from({ length: 10 }, (_, index) => `${index + 1}`).join("\n"))
    }).pipe(Effect.provide(layer)),
  )

  it.effect("the replay is whole whatever the queue, and so is a run that has ended", () =>
    Effect.gen(function* () {
      yield* append([...lines(20), end])
      const chunk = yield* reader({ capacity: 1, terminalReserve: 1, overflow: "dropNonTerminal" })
      assert.deepStrictEqual(shape(yield* chunk), [
        ...Array.from({ length: 21 }, (_, index) => `${index + 1}`),
        "CaughtUp",
      ])
      assert.strictEqual(shape(yield* chunk), "done")
    }).pipe(Effect.provide(layer)),
  )

  for (const [failure, queue, missed] of [
    ["SubscriberOverflow", { capacity: 2, overflow: "failSubscriber" }, [...lines(5), end]],
    ["TerminalOverflow", { capacity: 2, overflow: "dropProgress" }, [answer, answer, answer, end]],
  ] as const) {
    it.effect(`a reader that ${failure} detached got what was waiting, and the hub has the rest`, () =>
      Effect.gen(function* () {
        const hub = yield* SubscriptionHub.SubscriptionHub
        const chunk = yield* away(queue, missed)
        const before = yield* chunk
        assert.strictEqual(yield* chunk, failure)
        const last = events(before).at(-1)!
        const rest = yield* Stream.runCollect(hub.run(runId, { vocabulary, after: last.cursor }))
        const seqs = [...events(before), ...events(rest)].map(({ envelope }) => envelope.seq)
        assert.deepStrictEqual(
          seqs,
          missed.map((_, index) => index + 2),
        )
      }).pipe(Effect.provide(layer)),
    )
  }

  it.effect("a queue that can't be is refused before anything is read", () =>
    Effect.gen(function* () {
      yield* append([line("0")])
      const refused = yield* reader({ overflow: "backpressure" })
      assert.strictEqual(yield* refused, "InvalidOverflowPolicy")
      const invalid = yield* reader({ capacity: 0 })
      assert.strictEqual(yield* invalid, "InvalidQueueOptions")
    }).pipe(Effect.provide(layer)),
  )

  it.effect("a reader behind a queue gets what is before a record that can't be decoded, then CorruptRecord", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const good = yield* Vocabulary.encode(vocabulary, { event: line("one") })
      const foreign = { ...good, event: '{"_tag":"Nobody"}' as Envelope.EventJson }
      yield* store.append({ runId, vocabulary: vocabulary.id, events: [good, foreign, good] })
      const chunk = yield* reader({ capacity: 4 })
      assert.deepStrictEqual(shape(yield* chunk), ["1"])
      assert.strictEqual(yield* chunk, "CorruptRecord")
    }).pipe(Effect.provide(layer)),
  )
})
