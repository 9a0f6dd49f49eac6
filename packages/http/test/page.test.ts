/** What the page makes of events, before any of it is drawn. The page itself is tested in a browser, in test/. */
import { assert, describe, it } from "@effect/vitest"
import type { Envelope } from "@throughline/client"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { draw, plainText } from "../page/src/ansi.ts"
import { named, pieces } from "../page/src/controls.ts"
import { Finder } from "../page/src/Finder.ts"
import { Heads } from "../page/src/Heads.ts"
import { Heights } from "../page/src/Heights.ts"
import { type Row, searchable } from "../page/src/Row.ts"
import { Transcript } from "../page/src/Transcript.ts"

const envelopes = (events: ReadonlyArray<unknown>): ReadonlyArray<Envelope> =>
  events.map((event, index) => {
    const kind = (event as { readonly _tag?: unknown } | null)?._tag
    const endsRun = kind === "RunCompleted" ? "completed" : undefined
    return {
      eventId: `e${index}`,
      seq: index + 1,
      runId: "r1",
      kind: typeof kind === "string" ? kind : "Event",
      delivery: "normal",
      ...(endsRun === undefined ? {} : { endsRun }),
      emittedAt: "2026-01-31T09:30:00.000Z",
      tags: [],
      correlation: {},
      schemaVersion: 1,
      event,
    }
  })

const transcriptOf = (events: ReadonlyArray<unknown>): Transcript => {
  const transcript = new Transcript()
  for (const envelope of envelopes(events)) transcript.push(envelope)
  return transcript
}

const textOf = (rows: ReadonlyArray<Row>): string => rows.map((row) => (row.kind === "text" ? row.text : "")).join("")

const commit = (text: string) => ({ _tag: "AssistantMessageCommitted", messageId: "m", text, toolCallIds: [] })

const among = (...texts: ReadonlyArray<string>): Arbitrary.Arbitrary<string> =>
  Generator.weighted(texts.map((text) => [1, text] as const))

const words = Arbitrary.map(
  Arbitrary.array(among("a word ", "\n", "\n\n", "x".repeat(700), "x".repeat(5000), "été ", " "), {
    minLength: 1,
    maxLength: 30,
  }),
  (parts) => parts.join(""),
)

describe("a transcript", () => {
  it.prop(
    "has all of a message's text, in order, however it was cut, and no row longer than can be drawn",
    { text: words, length: Generator.int(1, 900) },
    ({ length, text }) => {
      const deltas = text.match(new RegExp(`[\\s\\S]{1,${length}}`, "g"))!
      const { rows } = transcriptOf(deltas.map((part) => ({ _tag: "TextDelta", messageId: "m", text: part })))
      assert.strictEqual(textOf(rows), text)
      for (const row of rows) if (row.kind === "text") assert.isAtMost(row.text.length, 4900)
    },
  )

  it("goes on with a message in its place when another one or a line comes between", () => {
    const { rows } = transcriptOf([
      { _tag: "TextDelta", messageId: "m1", text: "one " },
      { _tag: "OutputLine", stream: "stdout", line: "a line" },
      { _tag: "TextDelta", messageId: "m2", text: "other" },
      { _tag: "TextDelta", messageId: "m1", text: "two" },
    ])
    assert.deepStrictEqual(
      rows.map((row) => (row.kind === "text" || row.kind === "line" ? row.text : row.kind)),
      ["heading", "one two", "a line", "heading", "other"],
    )
  })

  it("says where a committed message differs from what was streamed, and shows one that wasn't", () => {
    const delta = { _tag: "TextDelta", messageId: "m", text: "streamed" }
    assert.deepStrictEqual(
      [[delta, commit("streamed")], [delta, commit("other")], [commit("whole")]].map((events) =>
        transcriptOf(events).rows.map((row) => (row.kind === "text" ? row.text : row.kind)),
      ),
      [
        ["heading", "streamed"],
        ["heading", "streamed", "note"],
        ["heading", "whole"],
      ],
    )
  })

  it("says where the connection was lost and where nobody looked, and what it goes on after", () => {
    const transcript = new Transcript()
    transcript.paused("09:00:00", "09:01:00")
    transcript.resumed("09:02:00", "09:03:00")
    for (const envelope of envelopes([{ _tag: "OutputLine", stream: "stdout", line: "a line" }])) {
      transcript.push(envelope)
    }
    transcript.resumed("09:04:00", "09:05:00")
    transcript.paused("09:06:00", "09:07:00")
    assert.deepStrictEqual(
      transcript.rows.map((row) => (row.kind === "resumed" ? [row.cause, row.text] : row.kind)),
      [
        ["lost", "Connection lost at 09:02:00, back at 09:03:00."],
        "line",
        ["lost", "Connection lost at 09:04:00, back at 09:05:00; it goes on after event 1."],
        ["hidden", "Hidden from 09:06:00 to 09:07:00; it goes on after event 1."],
      ],
    )
  })

  it.prop(
    "takes any event, of its vocabulary or not, also one that isn't what its tag says",
    {
      events: Arbitrary.array(Arbitrary.schema(Schema.Union([AgentEvents.AgentEvent, Schema.Json])), {
        maxLength: 20,
      }),
      tag: among("TextDelta", "ToolCallDelta", "OutputLine", "RunStarted", "constructor", "__proto__"),
      rest: Arbitrary.schema(Schema.Json),
    },
    ({ events, rest, tag }) => {
      const transcript = transcriptOf([...events, { _tag: tag, text: rest, line: rest, arguments: rest, name: rest }])
      assert.strictEqual(transcript.events, events.length + 1)
      for (const row of transcript.rows) searchable(row)
      transcript.rows.forEach((row, index) => assert.strictEqual(row.id, index))
    },
  )
})

/** What is drawn of a line in room for 20 characters, and whether there is more of it. */
const drawn = (line: string) => {
  const { isCut, spans } = draw(line, 20)
  return [spans.map((span) => span.text).join(""), isCut]
}

describe("a line of a terminal", () => {
  const parts = among(
    "text",
    "\u001b[31m",
    "\u001b[0m",
    "\u001b[1;38;5;208m",
    "\u001b[38;2;1;2;3m",
    "\u001b[48;5;999m",
    "\u001b[2K",
    "\u001b]0;title\u0007",
    "\u001b",
    "\u001b[",
    "\u0000",
    "\u009b",
    "\u009b32m",
    "\u009d0;title\u009c",
    "\u0090",
    "\u001b[?25l",
    "<b>",
  )

  it.prop(
    "is the same text with its colours as without, and no control character is left in either",
    { line: Arbitrary.map(Arbitrary.array(parts, { maxLength: 12 }), (all) => all.join("")) },
    ({ line }) => {
      const { isCut, spans } = draw(line, 1000)
      const text = spans.map((span) => span.text).join("")
      assert.isFalse(isCut)
      assert.strictEqual(text, plainText(line))
      // oxlint-disable-next-line no-control-regex -- control characters are what it is about
      assert.notMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
    },
  )

  it("has the sixteen colours by class, others as three numbers, and what was written over is gone", () => {
    assert.deepStrictEqual(
      draw("0%\r50%\r\u001b[1;32mdone\u001b[0m in \u001b[38;5;208m2 s\u001b[39m\r", 100).spans.map(
        ({ classes, color, text }) => [text, classes, color] as const,
      ),
      [
        ["done", "bold fg2", undefined],
        [" in ", "", undefined],
        ["2 s", "", "rgb(255 135 0)"],
      ],
    )
  })

  it("takes a control sequence of one character for what it is, and a private one for nothing to show", () => {
    assert.deepStrictEqual(
      draw("\u009b31mred\u009b0m\u001b[?25l\u001b[>4;1m plain\u009d rest", 100).spans.map(
        ({ classes, text }) => [text, classes] as const,
      ),
      [
        ["red", "fg1"],
        [" plain", ""],
        [" rest", ""],
      ],
    )
  })

  it("is drawn by what is to be seen of it, however much it says to the terminal before", () => {
    const escapes = "\u001b[1m\u001b[31m".repeat(50)
    assert.deepStrictEqual(drawn(`${escapes}Error: no space`), ["Error: no space", false])
    assert.deepStrictEqual(drawn(`${escapes}${"é".repeat(12)}\u001b[0m${"e".repeat(12)}`), [
      `${"é".repeat(12)}eeeeeeee`,
      true,
    ])
    assert.deepStrictEqual(drawn(escapes.repeat(100)), ["", true])
  })
})

describe("what a run says", () => {
  it("hides no character that turns its letters around, and turns none", () => {
    assert.strictEqual(named("x \u202egnp.exe"), "x U+202Egnp.exe")
    assert.deepStrictEqual(pieces("\u2066a\u200bb\u2069"), ["", "U+2066", "a", "U+200B", "b", "U+2069", ""])
    assert.deepStrictEqual(pieces("boom\u202egnp", "prose"), ["boom", "U+202E", "gnp"])
  })

  it("keeps what people write: texts from right to left with their marks, joined letters and signs", () => {
    for (const text of ["שלום עולם\u200e!", "می\u200cخواهم", "👩\u200d🚀", "été"]) {
      assert.deepStrictEqual(pieces(text, "prose"), [text])
    }
    for (const text of ["שלום", "می\u200cخواهم", "👩\u200d🚀"]) assert.deepStrictEqual(pieces(text), [text])
  })
})

describe("the heights of a list", () => {
  it.prop(
    "find every row where the sums of a plain list have it",
    {
      rows: Arbitrary.array(Generator.int(1, 50), { minLength: 1, maxLength: 200 }),
      changes: Arbitrary.array(Arbitrary.all([Generator.int(0, 199), Generator.int(1, 90)]), { maxLength: 20 }),
    },
    ({ changes, rows }) => {
      const heights = new Heights()
      const plain = [...rows]
      for (const height of rows) heights.push(height)
      for (const [at, height] of changes) {
        heights.set(at % plain.length, height)
        plain[at % plain.length] = height
      }
      let before = 0
      for (const [index, height] of plain.entries()) {
        assert.strictEqual(heights.before(index), before)
        assert.strictEqual(heights.at(before), index)
        assert.strictEqual(heights.at(before + height - 0.5), index)
        before += height
      }
      assert.strictEqual(heights.total, before)
      assert.strictEqual(heights.at(before + 100), plain.length - 1)
    },
  )
})

/** Runs of the list are named by when they started. */
const numberOf = (run: string) => Number(run.slice(1))

describe("the list of runs", () => {
  it.prop(
    "is the server's, as far as it was asked for, whatever starts and is removed between its pages",
    {
      changes: Arbitrary.array(
        Arbitrary.all([among("start", "start", "remove", "more", "look"), Generator.int(0, 40)]),
        { maxLength: 60 },
      ),
    },
    ({ changes }) => {
      const size = 4
      let started = 10
      let runs: ReadonlyArray<string> = Array.from({ length: started }, (_, index) => `r${9 - index}`)
      const pageOf = (limit: number, before = "r1000") => {
        const ids = runs.filter((run) => numberOf(run) < numberOf(before)).slice(0, limit)
        const heads = ids.map((runId) => ({ runId, status: "running", lastSeq: 1 }) as const)
        return { heads, next: ids.length < limit ? undefined : ids.at(-1) }
      }
      const list = new Heads()
      const ids = () => list.all.map(({ runId }) => runId)
      const more = () => {
        if (list.next !== undefined) list.take(pageOf(size, list.next), ids().at(-1))
      }
      for (const [change, at] of changes) {
        if (change === "start") runs = [`r${started++}`, ...runs]
        else if (change === "remove") runs = runs.filter((_, index) => index !== at % runs.length)
        else if (change === "more") more()
        else list.take(pageOf(size))
        // What is shown is never out of order, nor twice.
        const seqs = ids().map(numberOf)
        assert.deepStrictEqual(
          seqs,
          [...new Set(seqs)].toSorted((one, other) => other - one),
        )
      }
      // Nothing changes any more: once each page has had its turn, nothing is missing and nothing is left.
      list.take(pageOf(size))
      for (let after = ids().slice(0, size).at(-1); after !== undefined && after !== ids().at(-1);) {
        const page = pageOf(size, after)
        list.take(page, after)
        after = page.heads.at(-1)?.runId
      }
      assert.deepStrictEqual(ids(), runs.slice(0, list.all.length))
      for (let presses = 0; list.next !== undefined; presses++) {
        assert.isAtMost(presses, runs.length)
        more()
      }
      assert.deepStrictEqual(ids(), runs)
      // And looking again shows no more of what isn't there.
      list.take(pageOf(size))
      assert.isUndefined(list.next)
    },
  )
})

/** Arguments of many tool calls, a piece of each. */
const pieceOfEach = (text: string) =>
  Array.from({ length: 50 }, (_, tool) => ({ _tag: "ToolCallDelta", toolCallId: `${tool}`, arguments: text }))

describe("finding rows", () => {
  it("finds what was there, what comes, and what a row becomes", () => {
    const transcript = new Transcript()
    const [first, second, third, fourth] = envelopes([
      { _tag: "TextDelta", messageId: "m", text: "a need" },
      { _tag: "OutputLine", stream: "stdout", line: "hay" },
      { _tag: "OutputLine", stream: "stdout", line: "\u001b[31mNEE\u001b[0mDLE" },
      { _tag: "TextDelta", messageId: "m", text: "le" },
    ])
    transcript.push(first!)
    transcript.push(second!)
    const finder = new Finder("needle")
    assert.isTrue(finder.look(transcript, 1000))
    assert.deepStrictEqual(finder.found, [])
    transcript.push(third!)
    finder.look(transcript, 1000)
    assert.deepStrictEqual(finder.found, [3])
    transcript.push(fourth!)
    finder.look(transcript, 1000)
    assert.deepStrictEqual(finder.found, [1, 3])
  })

  it("looks no longer at rows that changed than it is given, and ends having looked at all", () => {
    const transcript = new Transcript()
    for (const envelope of envelopes(pieceOfEach("hay "))) transcript.push(envelope)
    const finder = new Finder("needle")
    assert.isTrue(finder.look(transcript, 1000))
    for (const envelope of envelopes(pieceOfEach("needle"))) transcript.push(envelope)
    // With no time at all it takes a step, however many there are.
    assert.isFalse(finder.look(transcript, -1))
    assert.isBelow(finder.found.length, 50)
    while (!finder.look(transcript, -1));
    assert.lengthOf(finder.found, 50)
  })
})
