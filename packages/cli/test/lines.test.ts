import { assert, describe, it } from "@effect/vitest"
import * as LineFormat from "@throughline/cli/LineFormat"
import * as LineSplitter from "@throughline/cli/LineSplitter"
import { vocabulary } from "@throughline/core/AgentEvents"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const bytes = (text: string) => new TextEncoder().encode(text)

/** Splits `whole`, handed over in chunks of `size` bytes. */
const split = (whole: Uint8Array, size: number, maxBytes = 1000) => {
  const splitter = LineSplitter.make(maxBytes)
  const lines: Array<LineSplitter.Line> = []
  for (let index = 0; index < whole.length; index += size) {
    lines.push(...splitter.push(whole.subarray(index, index + size)))
  }
  return [...lines, ...splitter.end()]
}

const joined = (lines: ReadonlyArray<LineSplitter.Line>) =>
  lines.map((line) => (line.continued ? line.text : `${line.text}\n`)).join("")

const texts = (lines: ReadonlyArray<LineSplitter.Line>) => lines.map((line) => line.text)

describe("LineSplitter", () => {
  it("lines end at a newline, a last one without it is a line too, and a carriage return stays", () => {
    assert.deepStrictEqual(texts(split(bytes("one\r\n\ntwo\nthree"), 4)), ["one\r", "", "two", "three"])
    assert.deepStrictEqual(split(bytes("one\n"), 4), [{ text: "one", continued: false }])
    assert.deepStrictEqual(split(bytes(""), 4), [])
  })

  it("characters cut by chunk borders come whole, a byte order mark stays, what isn't UTF-8 becomes U+FFFD", () => {
    assert.deepStrictEqual(texts(split(bytes("\ufeffä€😀\n"), 1)), ["\ufeffä€😀"])
    assert.deepStrictEqual(texts(split(Uint8Array.of(0x61, 0xff, 0x62, 0x0a, 0xc3), 2)), ["a\ufffdb", "\ufffd"])
  })

  it.prop(
    "whatever the text, the chunks and the bound: the pieces are the text, and each fits the bound as JSON",
    {
      parts: Schema.Array(Schema.Literals(["a", "b\n", "\n", '"', "\\", "\u0000", "\t", "ä", "€", "😀"])),
      size: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 })),
      maxBytes: Schema.Int.check(Schema.isBetween({ minimum: 6, maximum: 20 })),
    },
    ({ maxBytes, parts, size }) => {
      const text = parts.join("")
      const lines = split(bytes(text), size, maxBytes)
      assert.strictEqual(joined(lines), text === "" || text.endsWith("\n") ? text : `${text}\n`)
      for (const piece of lines) assert.isAtMost(bytes(JSON.stringify(piece.text)).length - 2, maxBytes)
    },
    { arbitrary: { runs: 1000 } },
  )

  it("a line is only split where it must be", () => {
    const exact = split(bytes(`${"x".repeat(1000)}\n${"y".repeat(1001)}\n`), 7)
    assert.deepStrictEqual(
      exact.map((line) => [line.text.length, line.continued]),
      [
        [1000, false],
        [1000, true],
        [1, false],
      ],
    )
  })

  it("a line that never ends is handed over piece by piece, holding no more than the bound", () => {
    const splitter = LineSplitter.make(1000)
    let seen = 0
    for (let round = 0; round < 100; round++) {
      for (const line of splitter.push(bytes("z".repeat(500)))) {
        assert.isTrue(line.continued)
        seen += line.text.length
      }
      assert.isAtMost((round + 1) * 500 - seen, 1000)
    }
  })
})

const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth)

const line = (text: string, continued = false): LineSplitter.Line => ({ text, continued })

describe("LineFormat", () => {
  it("lines: each is an OutputLine of its stream, a piece marked continued", () => {
    const read = LineFormat.reader("lines", "stderr", 1000)
    assert.deepStrictEqual(read(line("a", true)).event, {
      _tag: "OutputLine",
      stream: "stderr",
      line: "a",
      continued: true,
    })
    assert.deepStrictEqual(read(line("b")), { event: { _tag: "OutputLine", stream: "stderr", line: "b" } })
  })

  it("ndjson: JSON is a Custom; anything else stays as text and is counted; blank lines are text and are not", () => {
    const read = LineFormat.reader("ndjson", "stdout", 1000)
    assert.deepStrictEqual(read(line('{"a":[1,null]}')), {
      event: { _tag: "Custom", name: "ndjson", data: { a: [1, null] } },
    })
    const bad = read(line("{oops"))
    assert.deepStrictEqual(bad.event, { _tag: "OutputLine", stream: "stdout", line: "{oops" })
    assert.include(bad.problem, "not JSON")
    assert.deepStrictEqual(read(line("  ")), { event: { _tag: "OutputLine", stream: "stdout", line: "  " } })
  })

  it("ndjson: JSON that grows past the bound when printed again stays as text", () => {
    const text = `[${Array.from({ length: 100 }, () => "1e20").join(",")}]`
    const parsed = LineFormat.reader("ndjson", "stdout", 1000)(line(text))
    assert.strictEqual(parsed.event._tag, "OutputLine")
    assert.include(parsed.problem, "longer than an event may be")
  })

  it("agent: an event's JSON is that event, its own end included; anything else stays as text and is counted", () => {
    const read = LineFormat.reader("agent", "stdout", 1000)
    const event = { _tag: "RunCompleted", finishReason: "stop", iterations: 1 } as const
    assert.deepStrictEqual(read(line(JSON.stringify(event))), { event })
    const bad = read(line('{"_tag":"RunCompleted"}'))
    assert.strictEqual(bad.event._tag, "OutputLine")
    assert.include(bad.problem, "finishReason")
    assert.notInclude(bad.problem, "\n")
  })

  it("a line that can be parsed but not encoded stays as text and is counted, in either format", () => {
    for (const data of [nested(60_000), nested(8_000), nested(300), "1e999"]) {
      for (const [format, text] of [
        ["ndjson", data],
        ["agent", `{"_tag":"Custom","name":"n","data":${data}}`],
      ] as const) {
        const parsed = LineFormat.reader(format, "stdout", 256 * 1024)(line(text))
        assert.deepStrictEqual(parsed.event, { _tag: "OutputLine", stream: "stdout", line: text })
        assert.isDefined(parsed.problem)
        assert.isAtMost(parsed.problem.length, 400)
      }
    }
    const strings = JSON.stringify(["[".repeat(1000), '\\"[[', nested(100)])
    assert.strictEqual(LineFormat.reader("ndjson", "stdout", 256 * 1024)(line(strings)).event._tag, "Custom")
    assert.strictEqual(LineFormat.reader("ndjson", "stdout", 256 * 1024)(line(nested(190))).event._tag, "Custom")
  })

  it("agent: an event that grows past the bound when printed again stays as text", () => {
    const text = `{"_tag":"Custom","name":"n","data":[${Array.from({ length: 100 }, () => "1e20").join(",")}]}`
    assert.strictEqual(LineFormat.reader("agent", "stdout", 1000)(line(text)).event._tag, "OutputLine")
  })

  it("a structured line too long for one event is text in pieces, counted once", () => {
    const read = LineFormat.reader("ndjson", "stdout", 1000)
    const parsed = [line("[1,", true), line("2,", true), line("3]"), line("4")].map(read)
    assert.deepStrictEqual(
      parsed.map(({ event, problem }) => [event._tag, problem !== undefined]),
      [
        ["OutputLine", true],
        ["OutputLine", false],
        ["OutputLine", false],
        ["Custom", false],
      ],
    )
  })

  it("standard error is text in every format", () => {
    for (const format of LineFormat.Format.literals) {
      const parsed = LineFormat.reader(format, "stderr", 1000)(line("1"))
      assert.deepStrictEqual(parsed, { event: { _tag: "OutputLine", stream: "stderr", line: "1" } })
    }
  })

  it("the longest piece fits the event bound", () => {
    const maxEventBytes = 300
    const lines = split(bytes("\u0001".repeat(500)), 64, maxEventBytes - LineFormat.outputLineOverhead)
    const read = LineFormat.reader("lines", "stdout", maxEventBytes)
    for (const piece of lines) {
      const json = Result.getOrThrow(vocabulary.encode(read(piece).event))
      assert.isAtMost(bytes(json).length, maxEventBytes)
    }
  })
})
