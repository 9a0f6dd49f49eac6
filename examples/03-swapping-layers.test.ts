/**
 * Layers are values, so a property of your own program is tested over each of them: here, a tally that an agent keeps
 * of its token use comes out the same from the log of a run, wherever a reader cuts the reading in two.
 */
import { assert, describe, it } from "@effect/vitest"
import { AgentEvents, Envelope, EventBridge, SubscriptionHub, Throughline } from "@throughline/core"
import { SqliteThroughline } from "@throughline/sqlite"
import { Effect, Layer, Schema, Stream } from "effect"

const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
const Uses = Schema.Array(Count).check(Schema.isMaxLength(30))

const tally = (hub: SubscriptionHub.SubscriptionHub["Service"], runId: Envelope.RunId, after: number) =>
  hub.run(runId, { vocabulary: AgentEvents.vocabulary, after }).pipe(
    Stream.runFold(
      () => 0,
      (sum, item) =>
        item._tag === "Event" && item.envelope.event._tag === "UsageRecorded"
          ? sum + item.envelope.event.inputTokens
          : sum,
    ),
  )

const sum = (values: ReadonlyArray<number>) => values.reduce((left, right) => left + right, 0)

const layers = {
  memory: Throughline.layerMemory(),
  SQLite: SqliteThroughline.layer({ filename: ":memory:" }),
}

for (const [name, layer] of Object.entries(layers)) {
  describe(`a tally over ${name}`, () => {
    it.effect.prop("is the sum of what was used, whole or in two readings", [Uses, Count], ([uses, cut]) =>
      Effect.gen(function* () {
        const bridge = yield* EventBridge.EventBridge
        const hub = yield* SubscriptionHub.SubscriptionHub
        const runId = Envelope.RunId.make("agent")
        const events = Stream.fromIterable<AgentEvents.AgentEvent>([
          ...uses.map((inputTokens, index) =>
            AgentEvents.UsageRecorded.make({ messageId: `m${index}`, inputTokens, outputTokens: 0 }),
          ),
          { _tag: "RunCompleted", finishReason: "stop", iterations: uses.length },
        ])
        yield* bridge.record(
          AgentEvents.vocabulary,
          { runId },
          Stream.map(events, (event) => ({ event })),
        )

        assert.strictEqual(yield* tally(hub, runId, 0), sum(uses))
        const place = cut % (uses.length + 1)
        assert.strictEqual(yield* tally(hub, runId, place), sum(uses.slice(place)))
      }).pipe(Effect.provide(Layer.fresh(layer))),
    )
  })
}
