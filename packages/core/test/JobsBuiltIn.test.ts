import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventPublisher from "@throughline/core/EventPublisher"
import * as EventStore from "@throughline/core/EventStore"
import { AppendFailed, StoreUnavailable } from "@throughline/core/EventStoreError"
import * as JobPool from "@throughline/core/JobPool"
import * as PersistEvents from "@throughline/core/PersistEvents"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { settle } from "./jobPoolWorld.ts"

const runId = Envelope.RunId.make("chat")

const done = { event: { _tag: "RunCompleted", finishReason: "stop", iterations: 1 } } as const

/** A store that does its work but says that it didn't, as often as it is told. */
const forgetful = (times: number) =>
  Layer.effect(
    EventStore.EventStore,
    Effect.map(EventStore.EventStore, (store) => {
      let left = times
      return {
        ...store,
        append: (request: EventStore.AppendRequest) =>
          Effect.flatMap(store.append(request), (result) =>
            left-- > 0
              ? Effect.fail(new AppendFailed({ runId, reason: new StoreUnavailable({ detail: "no answer" }) }))
              : Effect.succeed(result),
          ),
      }
    }),
  )

const envelope = (kind: string): Envelope.EncodedEnvelope => ({
  eventId: "01900000-0000-7000-8000-000000000001" as Envelope.EventId,
  seq: 1,
  runId,
  kind,
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: ["a"],
  correlation: { b: "c" },
  schemaVersion: 1,
  event: "{}" as Envelope.EventJson,
})

describe("PersistEvents", () => {
  it.effect("stores events once, however often it runs, and readers see them live", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const hub = yield* SubscriptionHub.SubscriptionHub
      const store = yield* EventStore.EventStore
      const reader = yield* Effect.forkChild(Stream.runCollect(hub.run(runId)))
      yield* settle
      const payload = yield* PersistEvents.payload(AgentEvents.vocabulary, { runId }, [
        { event: { _tag: "RunStarted" } },
        done,
      ])
      const { id } = yield* jobs.enqueue(PersistEvents.PersistEvents, payload)
      yield* settle
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* jobs.awaitResult(PersistEvents.PersistEvents, id), { firstSeq: 1, lastSeq: 2 })
      assert.strictEqual((yield* store.head(runId)).lastSeq, 2)
      yield* Fiber.join(reader)
    }).pipe(
      Effect.provide(
        PersistEvents.layer().pipe(
          Layer.provide(forgetful(2)),
          Layer.provideMerge(JobPool.layerMemory()),
          Layer.provideMerge(Throughline.layerMemory()),
        ),
      ),
    ),
  )

  it.effect("what the run refuses for good goes straight to the dead letters", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const enqueue = Effect.flatMap(PersistEvents.payload(AgentEvents.vocabulary, { runId }, [done]), (payload) =>
        jobs.enqueue(PersistEvents.PersistEvents, payload),
      )
      yield* jobs.awaitResult(PersistEvents.PersistEvents, (yield* enqueue).id)
      const refused = yield* Effect.flip(jobs.awaitResult(PersistEvents.PersistEvents, (yield* enqueue).id))
      assert.strictEqual(refused._tag, "RunEnded")
      assert.lengthOf(yield* jobs.deadLetters({ limit: 10 }), 1)
    }).pipe(
      Effect.provide(
        PersistEvents.layer().pipe(
          Layer.provideMerge(JobPool.layerMemory()),
          Layer.provideMerge(Throughline.layerMemory()),
        ),
      ),
    ),
  )
})

describe("PublishEnvelope", () => {
  it.effect("hands an envelope over until it is taken, and gives up what never will be", () => {
    const taken: Array<string> = []
    let tries = 0
    const publisher = Layer.succeed(EventPublisher.EventPublisher, {
      publish: ({ kind }) => {
        tries++
        if (kind === "Never") return Effect.fail(new EventPublisher.PublishFailed({ detail: "no", isRetryable: false }))
        if (tries < 3) return Effect.fail(new EventPublisher.PublishFailed({ detail: "busy", isRetryable: true }))
        return Effect.sync(() => taken.push(kind))
      },
    })
    return Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const good = yield* jobs.enqueue(EventPublisher.PublishEnvelope, envelope("Good"))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* jobs.awaitResult(EventPublisher.PublishEnvelope, good.id)
      assert.deepStrictEqual(taken, ["Good"])
      const never = yield* jobs.enqueue(EventPublisher.PublishEnvelope, envelope("Never"))
      const failed = yield* Effect.flip(jobs.awaitResult(EventPublisher.PublishEnvelope, never.id))
      assert.strictEqual(failed._tag, "PublishFailed")
      assert.strictEqual(tries, 4)
    }).pipe(
      Effect.provide(
        EventPublisher.layerJob().pipe(
          Layer.provide(publisher),
          Layer.provideMerge(JobPool.layerMemory()),
          Layer.provide(Throughline.layerCrypto),
        ),
      ),
    )
  })
})
