import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Effect from "effect/Effect"

const runId = Envelope.RunId.make("run")
const { vocabulary } = AgentEvents
const encode = (event: AgentEvents.AgentEvent) => Vocabulary.encode(vocabulary, { event })
const line = encode({ _tag: "OutputLine", stream: "stdout", line: "one" })
const end = encode({ _tag: "RunCompleted", finishReason: "x".repeat(2000), iterations: 1 })

describe("EventStore", () => {
  it.effect("what no store could give back is refused where it enters", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const good = yield* line
      const odd = [
        { ...good, emittedAt: "2026-01-01T00:00:00Z" },
        { ...good, eventId: good.eventId.toUpperCase() as Envelope.EventId },
        { ...good, turnId: "\ud800" },
        { ...good, kind: "\udfff" },
      ]
      for (const event of odd) {
        const error = yield* Effect.flip(store.append({ runId, vocabulary: vocabulary.id, events: [good, event] }))
        assert.strictEqual(error._tag === "AppendFailed" && error.reason._tag, "InvalidRequest")
      }
      assert.strictEqual((yield* store.head(runId)).lastSeq, 0)
    }).pipe(Effect.provide(Throughline.layerMemory())),
  )

  it.effect("a will over the bound for events is refused with a renewal as with an append", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      yield* store.append({ runId, vocabulary: vocabulary.id, events: [yield* line] })
      const error = yield* Effect.flip(store.renew([runId], { ttl: "1 second", will: yield* end }))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      const { eventId: _, ...event } = yield* end
      const swept = yield* Effect.flip(store.endAbandoned({ idleFor: 0, event }))
      assert.strictEqual(swept.reason._tag, "InvalidRequest")
    }).pipe(Effect.provide(Throughline.layerMemory({ store: { bounds: { maxEventBytes: 1000 } } }))),
  )

  it.effect("a run's end is kept whatever the retention", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      yield* store.append({ runId, vocabulary: vocabulary.id, events: [yield* line, yield* end] })
      const { envelopes } = yield* store.read({ runId, after: 1, limit: 10 })
      assert.deepStrictEqual(
        envelopes.map(({ endsRun }) => endsRun),
        ["completed"],
      )
    }).pipe(Effect.provide(Throughline.layerMemory({ store: { retention: { eventsPerRun: 0 } } }))),
  )
})
