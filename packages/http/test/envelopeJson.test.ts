import { describe, it, assert } from "@effect/vitest"
import { EncodedEnvelope, EventJson, toJson } from "@throughline/core/Envelope"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import * as envelopeJson from "../src/internal/envelopeJson.ts"

const envelope = Arbitrary.map(
  Arbitrary.all([
    Arbitrary.schema(EncodedEnvelope),
    Arbitrary.schema(Schema.Json),
    Generator.int(0, 20),
    Generator.boolean,
  ]),
  ([given, event, turn, hasUndefined]): EncodedEnvelope => {
    // Backends have the fields in orders of their own, and some have absent ones as `undefined`, which the type forbids.
    const fields = Object.entries(given)
    const turned = Object.fromEntries([...fields.slice(turn % fields.length), ...fields.slice(0, turn % fields.length)])
    const absent = hasUndefined ? { provider: undefined } : {}
    return { ...turned, ...absent, event: EventJson.make(JSON.stringify(event)) } as unknown as EncodedEnvelope
  },
)

describe("the JSON of an envelope", () => {
  it.prop(
    "is that of Envelope.toJson, whatever its fields hold and in whatever order",
    { envelopes: Arbitrary.array(envelope, { maxLength: 5 }) },
    ({ envelopes }) => {
      for (const one of envelopes) assert.strictEqual(envelopeJson.toJson(one), toJson(one))
    },
    { arbitrary: { runs: 300 } },
  )

  it("is right past the texts that are remembered", () => {
    for (let index = 0; index < 3000; index++) {
      const one = {
        eventId: "01a1fdbd-d295-723e-933e-4dccc359df56",
        seq: index + 1,
        runId: `run-${index}`,
        kind: `"kind" ${index % 1500}\n`,
        delivery: "normal",
        emittedAt: "2026-01-31T09:30:00.000Z",
        tags: [],
        correlation: {},
        schemaVersion: 1,
        event: "{}",
      } as unknown as EncodedEnvelope
      assert.strictEqual(envelopeJson.toJson(one), toJson(one))
    }
  })
})
