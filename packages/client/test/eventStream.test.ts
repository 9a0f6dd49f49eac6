import { assert, describe, it } from "@effect/vitest"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Sse from "effect/encoding/Sse"
import { EventStreamParser } from "../src/internal/eventStream.ts"
import { Violation } from "../src/internal/failure.ts"

const text = Generator.frequency([
  [
    4,
    Arbitrary.map(
      Arbitrary.array(
        Generator.weighted([
          [3, "a"],
          [1, " "],
          [1, ":"],
          [1, "é"],
          [1, "漢"],
          [1, "🚲"],
          [1, "\u2028"],
          [1, "\uFEFF"],
        ]),
        { maxLength: 8 },
      ),
      (characters) => characters.join(""),
    ),
  ],
  [
    1,
    Generator.weighted([
      [1, "5"],
      [1, "2000"],
      [1, "-1"],
    ]),
  ],
])

const line = Arbitrary.map(
  Arbitrary.all({
    field: Generator.weighted([
      [6, "data"],
      [2, "id"],
      [2, "event"],
      [2, ""],
      [1, "retry"],
      [1, "unknown"],
      [1, "Data"],
    ]),
    separator: Generator.weighted([
      [4, ": "],
      [2, ":"],
      [1, ""],
      [1, ":  "],
    ]),
    text,
    end: Generator.weighted([
      [2, "\n"],
      [1, "\r"],
      [1, "\r\n"],
      [2, "\n\n"],
      [1, "\r\n\r\n"],
      [1, "\r\r"],
    ]),
  }),
  ({ end, field, separator, text: value }) => `${field}${separator}${separator === "" ? "" : value}${end}`,
)

const stream = Arbitrary.map(
  Arbitrary.all({
    mark: Generator.weighted([
      [3, ""],
      [1, "\uFEFF"],
    ]),
    lines: Arbitrary.array(line, { maxLength: 20 }),
    rest: Generator.weighted([
      [1, ""],
      [1, "data: not complete"],
      [1, "data: not complete\n"],
    ]),
  }),
  ({ lines, mark, rest }) => mark + lines.join("") + rest,
)

/** The bytes, cut at some places; several cuts at one place give empty chunks. */
const cut = (bytes: Uint8Array, places: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  return ends.map((end, index) => bytes.slice(index === 0 ? 0 : ends[index - 1], end))
}

/** The frames of chunks: what is dispatched, and what the last `retry` says. */
const parsed = (chunks: ReadonlyArray<Uint8Array>) => {
  const parser = new EventStreamParser(1000)
  const frames = chunks.flatMap((chunk) => parser.push(chunk))
  return { frames, retry: parser.retry }
}

const repeated = (part: string, count: number) => new TextEncoder().encode(part.repeat(count))

const lines = (count: number) => repeated(`data: ${"x".repeat(98)}\n`, count)

describe("the parser", () => {
  it.prop(
    "finds in a stream what Effect's finds, however its bytes are cut",
    [stream, Arbitrary.array(Generator.int(0, 100_000), { maxLength: 30 })],
    ([whole, places]) => {
      const expected: Array<readonly [event: string, data: string]> = []
      const retries: Array<number> = []
      Sse.makeParser((event) => {
        if (event._tag === "Event") expected.push([event.event, event.data])
        else retries.push(Duration.toMillis(event.duration))
      }).feed(whole)
      const bytes = new TextEncoder().encode(whole)
      const once = parsed([bytes])
      assert.deepStrictEqual(
        once.frames.map(({ data, event }) => [event === "" ? "message" : event, data] as const),
        expected,
      )
      assert.strictEqual(once.retry, retries.at(-1))
      assert.deepStrictEqual(parsed(cut(bytes, places)), once)
      assert.deepStrictEqual(parsed(Array.from(bytes, (byte) => Uint8Array.of(byte))), once)
    },
    { arbitrary: { runs: 500 } },
  )

  it("gives a frame the id that it has, and no other's", () => {
    const { frames } = parsed([
      new TextEncoder().encode("id: 1\ndata: a\n\nid: \0\ndata: b\n\nid\ndata: c\n\nid: 2\n\ndata: d\n\n"),
    ])
    assert.deepStrictEqual(
      frames.map(({ data, id }) => [id, data]),
      [
        ["1", "a"],
        [undefined, "b"],
        ["", "c"],
        [undefined, "d"],
      ],
    )
  })

  it("refuses what is no UTF-8, and frames past its bound, whether of one line, of many or without an end", () => {
    assert.throws(() => parsed([Uint8Array.of(0x64, 0xff, 0x0a)]), Violation)
    assert.throws(() => parsed([new TextEncoder().encode(`data: ${"x".repeat(1001)}\n`)]), Violation)
    assert.throws(() => parsed(Array.from({ length: 20 }, () => new TextEncoder().encode("x".repeat(100)))), Violation)
    assert.throws(() => parsed([lines(10)]), Violation)
    assert.doesNotThrow(() => parsed([lines(9)]))
  })

  it("counts the lines of a frame that bring nothing, but no comments", () => {
    for (const field of ["data\n", "data:\n", "id: 1\n", "event: a\n", "nothing: a\n"]) {
      assert.throws(() => parsed([repeated(field, 300)]), Violation)
      assert.doesNotThrow(() => parsed([repeated(`${field}\n`, 300)]))
    }
    assert.strictEqual(parsed([repeated(":\n", 2_000), repeated("data: a\n\n", 1)]).frames[0]?.data, "a")
  })
})
