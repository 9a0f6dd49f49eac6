import { assert, describe, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { isDeepStrictEqual } from "node:util"

const decode = Schema.decodeUnknownResult(Envelope.EncodedEnvelope)

const whole: Envelope.FoundEnvelope = {
  eventId: "01890a5d-ac96-774b-bcce-0123456789ab",
  seq: 7,
  runId: "run-1",
  sessionId: "session:1",
  agentId: "agent_1",
  provider: "p",
  turnId: "t",
  kind: "Said",
  delivery: "terminal",
  endsRun: "completed",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: ["a", ""],
  correlation: { trace: "t1", "": "" },
  schemaVersion: 3,
  event: '{"text":"hello"}',
}

/** The same without what may be absent. */
const { agentId: _a, endsRun: _e, provider: _p, sessionId: _s, turnId: _t, ...rest } = whole
const needed: Envelope.FoundEnvelope = rest

/** What a database, a line of JSON or a damaged one could have in a place, much of it nearly right. */
const values: ReadonlyArray<unknown> = [
  [true, false, 0, -0, 1, -1, 1.5, 2 ** 53 - 1, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, 1n, 7n],
  ["", "x", "1", "a b", "ä", "\u0000", "\ud800", "x\n", "\nx", "run/1", "x".repeat(128), "x".repeat(129)],
  ["progress", "normal", "terminal", "Terminal", "terminal ", "completed", "failed", "cancelled", "abandoned"],
  [
    "01890a5d-ac96-774b-8cce-ffffffffffff",
    "01890A5D-AC96-774B-BCCE-0123456789AB",
    "01890a5d-ac96-474b-bcce-0123456789ab",
    "01890a5d-ac96-774b-ccce-0123456789ab",
    "01890a5d-ac96-774b-bcce-0123456789a",
    "01890a5d-ac96-774b-bcce-0123456789abc",
    "01890a5d-ac96-774b-bcce-0123456789ab\n",
    "01890a5dac96774bbcce0123456789ab",
  ],
  [
    "0000-00-00T00:00:00.000Z",
    "2026-99-99T99:99:99.999Z",
    "2026-01-31T09:30:00Z",
    "2026-01-31T09:30:00.000z",
    "2026-01-31 09:30:00.000Z",
    "2026-01-31T09:30:00.000+00:00",
    "2026-01-31T09:30:00.000Z\n",
    "٢٠٢٦-01-31T09:30:00.000Z",
  ],
  [null, [], ["a"], [""], [1], [null], ["a", 1], [["a"]]],
  [{}, { a: "b" }, { 0: "a" }, { a: 1 }, { a: null }, { a: "b", c: {} }, { length: "0" }],
  [JSON.parse('{"__proto__":"a","constructor":"b"}'), JSON.parse('{"__proto__":1}')],
  [new Uint8Array(0), Uint8Array.of(1)],
].flat()

/** Says whether it is one; fails unless that is when the schema makes the very same of it. */
const agrees = (found: Envelope.FoundEnvelope, what: string): boolean => {
  const decoded = decode(found)
  const same = Result.isSuccess(decoded) && isDeepStrictEqual(decoded.success, found)
  assert.strictEqual(Envelope.isEncoded(found), same, what)
  if (same) assert.strictEqual(JSON.stringify(found), JSON.stringify(decoded.success), what)
  return same
}

/** An envelope of whatever its schema allows, and the same with its fields and its correlation's keys in other orders. */
const sameEnvelopes = Arbitrary.map(
  Arbitrary.all([
    Arbitrary.schema(Envelope.EncodedEnvelope),
    Arbitrary.schema(Schema.Json),
    Arbitrary.schema(Schema.Record(Schema.String, Schema.String)),
    Arbitrary.schema(
      Schema.Array(Schema.Literals(["10", "9", "-", "a", "__proto__", "2147483648", "\u{1f600}", "\uffff"])),
    ),
    Generator.int(0, 20),
  ]),
  ([given, event, some, keys, turn]) => {
    const correlation = Object.fromEntries([...keys.map((key) => [key, key]), ...Object.entries(some)])
    const turned = <A extends object>(value: A): A => {
      const fields = Object.entries(value)
      const at = fields.length === 0 ? 0 : turn % fields.length
      return Object.fromEntries([...fields.slice(at), ...fields.slice(0, at)].toReversed()) as A
    }
    const envelope = { ...given, correlation, event: Envelope.EventJson.make(JSON.stringify(event)) }
    // Some backends have what is absent as `undefined`, which the type forbids.
    const other = { endsRun: undefined, ...turned({ ...envelope, correlation: turned(correlation) }) }
    return [envelope, other as unknown as Envelope.EncodedEnvelope] as const
  },
)

/** JSON as `JSON.stringify` prints it, its keys by code unit. */
const sortedJson = (record: Readonly<Record<string, string>>) =>
  `{${Object.keys(record)
    .toSorted()
    .map((key) => JSON.stringify({ [key]: record[key] }).slice(1, -1))
    .join(",")}}`

describe("the JSON of an envelope", () => {
  it("is one text, its fields in the order of the protocol", () => {
    assert.strictEqual(
      Envelope.toJson(Result.getOrThrow(decode(Object.fromEntries(Object.entries(whole).toReversed())))),
      '{"eventId":"01890a5d-ac96-774b-bcce-0123456789ab","seq":7,"runId":"run-1","sessionId":"session:1",' +
        '"agentId":"agent_1","provider":"p","turnId":"t","kind":"Said","delivery":"terminal","endsRun":"completed",' +
        '"emittedAt":"2026-01-31T09:30:00.000Z","tags":["a",""],"correlation":{"":"","trace":"t1"},"schemaVersion":3,' +
        '"event":{"text":"hello"}}',
    )
  })

  it.prop(
    "is the same whatever order the fields and the correlation's keys are in, and what JSON.stringify makes of them",
    { same: sameEnvelopes },
    ({ same: [envelope, other] }) => {
      const text = Envelope.toJson(envelope)
      assert.strictEqual(Envelope.toJson(other), text)
      const fields = Object.keys(Envelope.EncodedEnvelope.fields) as ReadonlyArray<keyof typeof envelope>
      const printed = fields
        .filter((name) => name in envelope)
        .map((name) => {
          if (name === "event") return `"event":${envelope.event}`
          if (name === "correlation") return `"correlation":${sortedJson(envelope.correlation)}`
          return `"${name}":${JSON.stringify(envelope[name])}`
        })
      assert.strictEqual(text, `{${printed.join(",")}}`)
    },
    { arbitrary: { runs: 300 } },
  )

  it("has the keys of its correlation in one order, those that are numbers too", () => {
    const correlation = Object.fromEntries(
      ["9", "a", "__proto__", "10", "-", "\uffff", "\u{1f600}"].map((key) => [key, "v"]),
    )
    const text = Envelope.toJson(Result.getOrThrow(decode({ ...needed, correlation })))
    assert.include(
      text,
      '"correlation":{"-":"v","10":"v","9":"v","__proto__":"v","a":"v","\u{1f600}":"v","\uffff":"v"}',
    )
  })

  it("is right past the texts that are remembered", () => {
    const { event: _, ...routing } = Result.getOrThrow(decode(needed))
    for (let index = 0; index < 3000; index++) {
      const kind = `"kind" ${index % 1500}\n`
      const text = Envelope.toJson({ ...routing, kind, event: Envelope.EventJson.make("{}") })
      assert.strictEqual((JSON.parse(text) as { kind: string }).kind, kind)
    }
  })
})

describe("isEncoded", () => {
  it("agrees with the schema whatever is in a field, also when the fields before were right", () => {
    for (const base of [whole, needed]) {
      assert.isTrue(agrees(base, "undamaged"))
      for (const field of Object.keys(whole) as Array<keyof Envelope.FoundEnvelope>) {
        let refused = 0
        for (const value of values) {
          const found = field in base ? { ...base } : inOrder({ ...base, [field]: value })
          found[field] = value
          if (!agrees(found, `${field}: ${String(value)}`)) refused++
          assert.isTrue(agrees(base, "undamaged"))
        }
        assert.isAbove(refused, 0, field)
        assert.isBelow(refused, values.length, field)
        const { [field]: _, ...without } = base
        agrees(without, `without ${field}`)
      }
    }
  })

  it.prop("agrees with the schema on every envelope", { envelope: Envelope.EncodedEnvelope }, ({ envelope }) => {
    const text = JSON.stringify(inOrder(envelope))
    assert.isTrue(agrees(JSON.parse(text), text))
  })
})

/** Its fields as the schema orders them. */
const inOrder = (found: Envelope.FoundEnvelope): Envelope.FoundEnvelope =>
  Object.fromEntries(
    Object.keys(whole)
      .filter((field) => field in found)
      .map((field) => [field, found[field as keyof Envelope.FoundEnvelope]]),
  )
