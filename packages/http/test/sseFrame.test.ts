import { assert, describe, it } from "@effect/vitest"
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as sseFrame from "../src/internal/sseFrame.ts"

/** A run as its window holds it: the same envelopes for whoever reads them. */
const run: ReadonlyArray<sseFrame.RunEvent> = Array.from({ length: 12 }, (_, index) => ({
  _tag: "Event",
  cursor: Cursor.run(index + 1, "g1"),
  envelope: {
    eventId: `e${index + 1}`,
    seq: index + 1,
    runId: "r1",
    kind: "kind",
    delivery: "normal",
    emittedAt: "2026-01-31T09:30:00.000Z",
    tags: [],
    correlation: {},
    schemaVersion: 1,
    event: JSON.stringify({ text: `event ${index + 1}` }),
  } as unknown as EncodedEnvelope,
}))

const textOf = (pieces: sseFrame.Pieces): string => {
  let text = ""
  for (let piece = pieces.take(); piece !== undefined; piece = pieces.take()) text += String(Buffer.from(piece))
  return text
}

/** Any of the run's events that a reader may be given in one go: in order, some of them filtered out. */
const slice = Arbitrary.map(
  Arbitrary.array(Generator.boolean, { minLength: run.length, maxLength: run.length }),
  (chosen) => run.filter((_, index) => chosen[index]),
)

describe("the frames of live events", () => {
  it.prop(
    "are those of the reader's own events, whatever other readers of the run were given before",
    { slices: Arbitrary.array(slice, { minLength: 1, maxLength: 200 }) },
    ({ slices }) => {
      const frames = new sseFrame.LiveFrames()
      for (const events of slices) {
        assert.strictEqual(textOf(frames.pieces(events)), textOf(sseFrame.replayPieces(events)))
      }
    },
    { arbitrary: { runs: 100 } },
  )
})

describe("a frame", () => {
  it("ends no earlier than its event does, however its JSON's lines are broken", () => {
    for (const lineBreak of ["\n", "\r", "\r\n", "\r\r", "\n\r\n"]) {
      const event = `{${lineBreak}"text":${lineBreak}"a"}` as EncodedEnvelope["event"]
      const frame = sseFrame.envelopeFrame("1-g1", { ...run[0]!.envelope, event })
      const lines = frame.split(/\r\n|\r|\n/)
      assert.deepStrictEqual(lines.slice(-2), ["", ""])
      const [id, ...data] = lines.slice(0, -2)
      assert.strictEqual(id, "id: 1-g1")
      for (const line of data) assert.match(line, /^data: /)
      const json = data.map((line) => line.slice("data: ".length)).join("\n")
      assert.deepStrictEqual((JSON.parse(json) as { event: unknown }).event, { text: "a" })
    }
  })
})
