import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import type * as Envelope from "@throughline/core/Envelope"
import * as Result from "effect/Result"

type AgentEvent = AgentEvents.AgentEvent

const { vocabulary } = AgentEvents

const error = { message: "no such file", name: "ENOENT", code: 2 }

/** One of each kind, with every field, and how it is delivered. */
const all: ReadonlyArray<readonly [Envelope.Delivery, AgentEvent]> = [
  ["normal", { _tag: "RunStarted", name: "release", input: { ref: "main" } }],
  ["normal", { _tag: "ContextBuilt", messages: 3, tokens: 1200, maxTokens: 200_000 }],
  ["normal", { _tag: "ModelStarted", messageId: "m1", model: "large", attempt: 1 }],
  ["progress", { _tag: "TextDelta", messageId: "m1", text: "Hel" }],
  ["progress", { _tag: "ReasoningDelta", messageId: "m1", text: "hm" }],
  ["normal", { _tag: "ToolCallStarted", messageId: "m1", toolCallId: "c1", name: "read" }],
  ["progress", { _tag: "ToolCallDelta", toolCallId: "c1", arguments: '{"pa' }],
  ["normal", { _tag: "ToolCallCompleted", toolCallId: "c1", name: "read", arguments: { path: "a" } }],
  ["normal", { _tag: "ToolExecutionStarted", toolCallId: "c1", name: "read" }],
  [
    "terminal",
    {
      _tag: "ToolExecutionFinished",
      toolCallId: "c1",
      name: "read",
      outcome: { _tag: "Success", output: [1, null, { deep: true }] },
      durationMs: 12.5,
    },
  ],
  ["terminal", { _tag: "ToolExecutionFinished", toolCallId: "c1", name: "read", outcome: { _tag: "Failure", error } }],
  ["normal", { _tag: "AssistantMessageCommitted", messageId: "m1", text: "Hello", toolCallIds: ["c1"] }],
  ["normal", { _tag: "ToolMessageCommitted", messageId: "m2", toolCallId: "c1", content: "text" }],
  [
    "progress",
    { _tag: "UsageRecorded", messageId: "m1", inputTokens: 5, outputTokens: 2, reasoningTokens: 1, costUsd: 0.01 },
  ],
  ["progress", { _tag: "CacheMetrics", messageId: "m1", readTokens: 4, writtenTokens: 1, uncachedTokens: 0 }],
  ["normal", { _tag: "ApprovalRequested", approvalId: "a1", question: "Push?", toolCallId: "c1", details: {} }],
  ["terminal", { _tag: "ApprovalResolved", approvalId: "a1", decision: "denied", by: "ana", comment: "not today" }],
  ["normal", { _tag: "SubagentStarted", subagentId: "s1", task: "search" }],
  ["terminal", { _tag: "SubagentFinished", subagentId: "s1", outcome: { _tag: "Failure", error }, durationMs: 3 }],
  ["normal", { _tag: "DoomLoopDetected", pattern: "read a", repeats: 5 }],
  ["normal", { _tag: "CompactionCircuitOpened", failures: 3, retryAfterMs: 60_000, error }],
  ["progress", { _tag: "OutputLine", stream: "stderr", line: "warning", continued: true }],
  ["normal", { _tag: "Custom", name: "score", data: 0.5 }],
  ["terminal", { _tag: "RunCompleted", finishReason: "stop", iterations: 2 }],
  ["terminal", { _tag: "RunFailed", error, reason: "exit" }],
  ["terminal", { _tag: "RunCancelled", reason: "SIGINT" }],
]

const merged = (...events: readonly [AgentEvent, AgentEvent, ...Array<AgentEvent>]) => {
  const { key, merge } = vocabulary.coalesce!
  assert.strictEqual(new Set(events.map(key)).size, 1)
  return events.reduce(merge)
}

describe("AgentEvents", () => {
  it("every kind comes back from its JSON as it was, under its tag", () => {
    for (const [, event] of all) {
      const json = Result.getOrThrow(vocabulary.encode(event))
      assert.deepStrictEqual(JSON.parse(json), event)
      assert.deepStrictEqual(Result.getOrThrow(vocabulary.decode(json)), event)
      assert.strictEqual(vocabulary.kind(event), event._tag)
    }
    const kinds = new Set(all.map(([, event]) => event._tag))
    assert.strictEqual(kinds.size, Object.keys(AgentEvents.AgentEvent.cases).length)
  })

  it("what settles something is terminal, what a later event replaces or continues is progress", () => {
    for (const [delivery, event] of all) assert.strictEqual(vocabulary.delivery(event), delivery, event._tag)
  })

  it("three kinds end the run, each its own way", () => {
    const endings = all.map(([, event]) => vocabulary.endsRun(event)).filter((ending) => ending !== undefined)
    assert.deepStrictEqual(endings, ["completed", "failed", "cancelled"])
  })

  it("a lost producer's run fails with the reason 'producer lost'", () => {
    const event = vocabulary.abandoned()
    assert.strictEqual(vocabulary.endsRun(event), "failed")
    assert.strictEqual(event._tag === "RunFailed" && event.reason, "producer lost")
  })

  it("pieces of one message, call or stream merge without losing text", () => {
    assert.deepStrictEqual(
      merged({ _tag: "TextDelta", messageId: "m", text: "a" }, { _tag: "TextDelta", messageId: "m", text: "b" }),
      { _tag: "TextDelta", messageId: "m", text: "ab" },
    )
    assert.deepStrictEqual(
      merged(
        { _tag: "ToolCallDelta", toolCallId: "c", arguments: "{" },
        { _tag: "ToolCallDelta", toolCallId: "c", arguments: "}" },
      ),
      { _tag: "ToolCallDelta", toolCallId: "c", arguments: "{}" },
    )
    assert.deepStrictEqual(
      merged(
        { _tag: "OutputLine", stream: "stdout", line: "one" },
        { _tag: "OutputLine", stream: "stdout", line: "tw", continued: true },
        { _tag: "OutputLine", stream: "stdout", line: "o" },
        { _tag: "OutputLine", stream: "stdout", line: "", continued: true },
      ),
      { _tag: "OutputLine", stream: "stdout", line: "one\ntwo\n", continued: true },
    )
  })

  it("of a message's usage totals the later one stays", () => {
    const early: AgentEvent = { _tag: "UsageRecorded", messageId: "m", inputTokens: 5, outputTokens: 1 }
    const late: AgentEvent = { _tag: "UsageRecorded", messageId: "m", inputTokens: 5, outputTokens: 9 }
    assert.deepStrictEqual(vocabulary.coalesce!.merge(early, late), late)
  })

  it("other messages, calls and streams never merge, and neither does what isn't progress", () => {
    const { key } = vocabulary.coalesce!
    const keys = [
      key({ _tag: "TextDelta", messageId: "m1", text: "" }),
      key({ _tag: "TextDelta", messageId: "m2", text: "" }),
      key({ _tag: "ReasoningDelta", messageId: "m1", text: "" }),
      key({ _tag: "OutputLine", stream: "stdout", line: "" }),
      key({ _tag: "OutputLine", stream: "stderr", line: "" }),
    ]
    assert.strictEqual(new Set(keys).size, keys.length)
    for (const [delivery, event] of all) assert.strictEqual(key(event) !== undefined, delivery === "progress")
  })

  it("an event that doesn't fit is refused with the field named", () => {
    const problem = Result.getOrThrow(Result.flip(vocabulary.decode('{"_tag":"TextDelta","messageId":"m"}')))
    assert.include(problem, "text")
    const negative = vocabulary.encode({ _tag: "RunCompleted", finishReason: "stop", iterations: -1 })
    assert.isTrue(Result.isFailure(negative))
  })
})
