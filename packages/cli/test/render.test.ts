import { assert, describe, it } from "@effect/vitest"
import * as Render from "@throughline/cli/Render"
import { type AgentEvent, vocabulary } from "@throughline/core/AgentEvents"
import { type EncodedEnvelope, EventId, EventJson, RunId, SessionId, toJson } from "@throughline/core/Envelope"
import { timestamp } from "@throughline/core/Vocabulary"
import * as Result from "effect/Result"
import { stripVTControlCharacters } from "node:util"

const plain = Render.paint(false)
const coloured = Render.paint(true)

const envelope = (event: AgentEvent): EncodedEnvelope => ({
  eventId: EventId.make("01890000-0000-7000-8000-000000000000"),
  seq: 12,
  runId: RunId.make("run"),
  kind: event._tag,
  delivery: "progress",
  emittedAt: "2026-01-31T09:30:00.120Z",
  tags: [],
  correlation: {},
  schemaVersion: 1,
  event: Result.getOrThrow(vocabulary.encode(event)),
})

const line = (text: string) => envelope({ _tag: "OutputLine", stream: "stdout", line: text })

/** What a run could print to act on the terminal of whoever reads it later. */
const attacks = [
  "\u001b]0;title\u0007",
  "\u001b[2J\u001b[1;1H",
  "\u009b31m",
  "a\rb",
  "x\u0008\u0008y",
  "\u202egnp.exe",
  "\u2066hidden\u2069",
  "line\u2028break",
  "\u007f",
  "\u0000",
]

// eslint-disable-next-line no-control-regex -- control characters are what it is for
const acts = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/

describe("Render.event", () => {
  it("an event is one line: seq, time, what, text", () => {
    assert.strictEqual(Render.event(line("hello"), plain), "    12  09:30:00.120  stdout      hello")
    assert.strictEqual(
      Render.event(
        envelope({ _tag: "RunFailed", reason: "exit", error: { message: "the command exited with code 3" } }),
        plain,
      ),
      "    12  09:30:00.120  failed      exit: the command exited with code 3",
    )
  })

  it("nothing that a run printed acts on the terminal", () => {
    for (const attack of attacks) {
      for (const text of [attack, `before ${attack} after`]) {
        const shown = Render.event(line(text), plain)
        assert.notMatch(shown, acts, JSON.stringify(text))
        // Colours of our own are the only sequences there.
        assert.strictEqual(stripVTControlCharacters(Render.event(line(text), coloured)), shown)
      }
    }
    assert.include(Render.event(line("\u001b[31mred"), plain), "\\e[31mred")
  })

  it("neither do names, errors, kinds and JSON that a run chose", () => {
    const attack = "\u001b[31m\n\u202e"
    const events: ReadonlyArray<AgentEvent> = [
      { _tag: "Custom", name: attack, data: attack },
      { _tag: "RunStarted", name: attack },
      { _tag: "RunFailed", reason: attack, error: { message: attack } },
      { _tag: "ToolCallCompleted", toolCallId: "c", name: attack, arguments: { [attack]: attack } },
      { _tag: "AssistantMessageCommitted", messageId: "m", text: attack, toolCallIds: [] },
    ]
    for (const event of events) assert.notMatch(Render.event(envelope(event), plain), acts)
    const foreign = { ...line(""), kind: attack, event: EventJson.make(`{"x":"\u009b1m"}`) }
    assert.notMatch(Render.event(foreign, plain), acts)
  })

  it("text keeps its tabs, its letters and its emoji; the carriage return of a CRLF line goes", () => {
    assert.strictEqual(Render.event(line("a\tä 漢 😀\r"), plain), "    12  09:30:00.120  stdout      a\tä 漢 😀")
  })

  it("events of another vocabulary are shown by kind and JSON", () => {
    const foreign = { ...line(""), kind: "StepStarted", event: EventJson.make('{"_tag":"StepStarted","step":"lint"}') }
    assert.strictEqual(
      Render.event(foreign, plain),
      '    12  09:30:00.120  StepStarted  {"_tag":"StepStarted","step":"lint"}',
    )
  })

  it("every kind of event is one line with its label", () => {
    const events: ReadonlyArray<AgentEvent> = [
      { _tag: "ContextBuilt", messages: 1, tokens: 2 },
      { _tag: "ToolExecutionFinished", toolCallId: "c", name: "read", outcome: { _tag: "Success", output: [1] } },
      { _tag: "ApprovalResolved", approvalId: "a", decision: "denied", by: "ana" },
      { _tag: "RunCancelled", reason: "SIGINT" },
      { _tag: "OutputLine", stream: "stderr", line: "long", continued: true },
    ]
    assert.deepStrictEqual(
      events.map((event) => Render.event(envelope(event), plain).slice(22)),
      [
        'ContextBuilt  {"messages":1,"tokens":2}',
        "tool        read [1]",
        "approval    denied, ana",
        "cancelled   SIGINT",
        "stderr      long …",
      ],
    )
  })
})

describe("Render.safeJson", () => {
  it("is the same JSON and acts on no terminal", () => {
    for (const attack of attacks) {
      const json = toJson(line(attack))
      assert.deepStrictEqual(JSON.parse(Render.safeJson(json)), JSON.parse(json))
      assert.notMatch(Render.safeJson(json), acts)
    }
  })
})

describe("Render.duration", () => {
  it("says the two largest units, never rounding up", () => {
    const said = [0, 340, 999, 1000, 59_990, 60_000, 3_599_999, 3_600_000, 86_399_999, 90_000_000, -5].map(
      Render.duration,
    )
    assert.deepStrictEqual(said, [
      "0ms",
      "340ms",
      "999ms",
      "1.0s",
      "59.9s",
      "1m 00s",
      "59m 59s",
      "1h 00m",
      "23h 59m",
      "1d 01h",
      "0ms",
    ])
  })
})

describe("Render.table", () => {
  it("a running run's duration goes on, an ended one's is from its first event to its end", () => {
    const head = { firstSeq: 1, lastSeq: 5, startedAt: 1000, lastActivityAt: 3000 }
    const running = Render.summary({ ...head, runId: RunId.make("a"), status: "running" }, 10_000, timestamp)
    const ended = Render.summary(
      { ...head, runId: RunId.make("b"), status: "failed", sessionId: SessionId.make("s") },
      10_000,
      timestamp,
    )
    assert.deepStrictEqual([running.durationMs, running.ageMs], [9000, 7000])
    assert.deepStrictEqual([ended.durationMs, ended.ageMs], [2000, 7000])
    assert.deepStrictEqual(Render.table([running, ended], plain), [
      "RUN  STATUS   EVENTS  DURATION  LAST EVENT  SESSION",
      "a    running       5      9.0s  7.0s ago",
      "b    failed        5      2.0s  7.0s ago    s",
    ])
  })
})
