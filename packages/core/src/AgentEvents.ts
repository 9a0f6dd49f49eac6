/**
 * The vocabulary of agent runs that ships: models, tools, approvals, subagents, recorded processes.
 *
 * Events carry no run, agent, turn or time: the envelope does. `messageId` names one assistant message being written,
 * `toolCallId` one call of a tool, `approvalId` one question to a human; each is unique in its run. Durations are
 * milliseconds, sizes and counts are what the field's name says (tokens, messages, calls).
 *
 * **Example** (Constructing events)
 *
 * ```ts
 * import { type AgentEvent, OutputLine } from "@throughline/core/AgentEvents"
 *
 * const events: ReadonlyArray<AgentEvent> = [
 *   { _tag: "RunStarted", name: "release" },
 *   OutputLine.make({ stream: "stdout", line: "ok" }),
 *   { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
 * ]
 * ```
 */
import * as Schema from "effect/Schema"
import { type Delivery, RunId } from "./Envelope.ts"
import * as Vocabulary from "./Vocabulary.ts"

const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

const Millis = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

/** What went wrong, as data. */
export const ErrorInfo = Schema.Struct({
  /** For a person to read. */
  message: Schema.String,
  /** The error's class or tag. */
  name: Schema.optionalKey(Schema.String),
  /** For a program to decide on: a provider's error code, a process's exit code (a number) or its signal (`"SIGKILL"`). */
  code: Schema.optionalKey(Schema.Union([Schema.String, Schema.Int])),
})
export type ErrorInfo = typeof ErrorInfo.Type

/** How a tool or a subagent came out. */
export const Outcome = Schema.Union([
  Schema.TaggedStruct("Success", { output: Schema.Json }),
  Schema.TaggedStruct("Failure", { error: ErrorInfo }),
])
export type Outcome = typeof Outcome.Type

/** The run began. */
export const RunStarted = Schema.TaggedStruct("RunStarted", {
  /** What runs: an agent's name, or the command line of a recorded process. */
  name: Schema.optionalKey(Schema.String),
  /** What it was given. */
  input: Schema.optionalKey(Schema.Json),
})
export type RunStarted = typeof RunStarted.Type

/** The context of the next model call was put together. */
export const ContextBuilt = Schema.TaggedStruct("ContextBuilt", {
  /** Messages in the context. */
  messages: Count,
  /** Tokens in the context, counted or estimated. */
  tokens: Count,
  /** Tokens the model takes at most. */
  maxTokens: Schema.optionalKey(Count),
})
export type ContextBuilt = typeof ContextBuilt.Type

/** A model call began to answer with a new message. */
export const ModelStarted = Schema.TaggedStruct("ModelStarted", {
  messageId: Schema.String,
  /** The model's name as its provider spells it. */
  model: Schema.String,
  /** Which try of this call it is, from 1. */
  attempt: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))),
})
export type ModelStarted = typeof ModelStarted.Type

/** A piece of a message's text; the pieces in order are the text. */
export const TextDelta = Schema.TaggedStruct("TextDelta", { messageId: Schema.String, text: Schema.String })
export type TextDelta = typeof TextDelta.Type

/** A piece of a message's reasoning; the pieces in order are the reasoning. */
export const ReasoningDelta = Schema.TaggedStruct("ReasoningDelta", { messageId: Schema.String, text: Schema.String })
export type ReasoningDelta = typeof ReasoningDelta.Type

/** The model began to write a tool call. */
export const ToolCallStarted = Schema.TaggedStruct("ToolCallStarted", {
  messageId: Schema.String,
  toolCallId: Schema.String,
  /** The tool's name. */
  name: Schema.String,
})
export type ToolCallStarted = typeof ToolCallStarted.Type

/** A piece of a tool call's arguments; the pieces in order are their JSON text. */
export const ToolCallDelta = Schema.TaggedStruct("ToolCallDelta", {
  toolCallId: Schema.String,
  arguments: Schema.String,
})
export type ToolCallDelta = typeof ToolCallDelta.Type

/** The model finished writing a tool call; nothing has been executed. */
export const ToolCallCompleted = Schema.TaggedStruct("ToolCallCompleted", {
  toolCallId: Schema.String,
  /** The tool's name. */
  name: Schema.String,
  arguments: Schema.Json,
})
export type ToolCallCompleted = typeof ToolCallCompleted.Type

/** A tool began to work on a call. */
export const ToolExecutionStarted = Schema.TaggedStruct("ToolExecutionStarted", {
  toolCallId: Schema.String,
  /** The tool's name. */
  name: Schema.String,
})
export type ToolExecutionStarted = typeof ToolExecutionStarted.Type

/** A tool is done with a call, one way or the other. */
export const ToolExecutionFinished = Schema.TaggedStruct("ToolExecutionFinished", {
  toolCallId: Schema.String,
  /** The tool's name. */
  name: Schema.String,
  outcome: Outcome,
  /** How long it worked, in milliseconds. */
  durationMs: Schema.optionalKey(Millis),
})
export type ToolExecutionFinished = typeof ToolExecutionFinished.Type

/** An assistant message became part of the conversation: what its deltas added up to. */
export const AssistantMessageCommitted = Schema.TaggedStruct("AssistantMessageCommitted", {
  messageId: Schema.String,
  text: Schema.String,
  /** The tool calls the message makes, in order. */
  toolCallIds: Schema.Array(Schema.String),
})
export type AssistantMessageCommitted = typeof AssistantMessageCommitted.Type

/** A tool's answer became part of the conversation. */
export const ToolMessageCommitted = Schema.TaggedStruct("ToolMessageCommitted", {
  messageId: Schema.String,
  toolCallId: Schema.String,
  /** What the model is told; not necessarily all of the tool's output. */
  content: Schema.Json,
})
export type ToolMessageCommitted = typeof ToolMessageCommitted.Type

/**
 * What a message has used so far. Totals of the message, not increments: a later one replaces an earlier one, so a
 * dropped tick loses nothing. A run's usage is the sum of the last one of each message.
 */
export const UsageRecorded = Schema.TaggedStruct("UsageRecorded", {
  messageId: Schema.String,
  /** Tokens read by the model, cached ones included. */
  inputTokens: Count,
  /** Tokens written by the model, reasoning included. */
  outputTokens: Count,
  /** Tokens of `outputTokens` spent on reasoning. */
  reasoningTokens: Schema.optionalKey(Count),
  /** The price so far in US dollars. */
  costUsd: Schema.optionalKey(Schema.Finite),
})
export type UsageRecorded = typeof UsageRecorded.Type

/** How a message's input met the provider's prompt cache. Totals, as in {@link UsageRecorded}. */
export const CacheMetrics = Schema.TaggedStruct("CacheMetrics", {
  messageId: Schema.String,
  /** Input tokens read from the cache. */
  readTokens: Count,
  /** Input tokens written to the cache. */
  writtenTokens: Count,
  /** Input tokens that were neither. */
  uncachedTokens: Schema.optionalKey(Count),
})
export type CacheMetrics = typeof CacheMetrics.Type

/** The run waits for somebody to say yes or no. */
export const ApprovalRequested = Schema.TaggedStruct("ApprovalRequested", {
  approvalId: Schema.String,
  /** What is asked, for a person to read. */
  question: Schema.String,
  /** The tool call that waits for the answer. */
  toolCallId: Schema.optionalKey(Schema.String),
  /** What the answer is about, for a program to show. */
  details: Schema.optionalKey(Schema.Json),
})
export type ApprovalRequested = typeof ApprovalRequested.Type

/** The question was answered, or nobody answered in time. */
export const ApprovalResolved = Schema.TaggedStruct("ApprovalResolved", {
  approvalId: Schema.String,
  decision: Schema.Literals(["approved", "denied", "expired"]),
  /** Who decided. */
  by: Schema.optionalKey(Schema.String),
  /** Why, in their words. */
  comment: Schema.optionalKey(Schema.String),
})
export type ApprovalResolved = typeof ApprovalResolved.Type

/** Work was handed to another agent. */
export const SubagentStarted = Schema.TaggedStruct("SubagentStarted", {
  subagentId: Schema.String,
  /** What it is to do. */
  task: Schema.String,
  /** Its own run, where it has one. */
  runId: Schema.optionalKey(RunId),
})
export type SubagentStarted = typeof SubagentStarted.Type

/** The other agent is done, one way or the other. */
export const SubagentFinished = Schema.TaggedStruct("SubagentFinished", {
  subagentId: Schema.String,
  outcome: Outcome,
  /** How long it worked, in milliseconds. */
  durationMs: Schema.optionalKey(Millis),
})
export type SubagentFinished = typeof SubagentFinished.Type

/** The agent was found repeating itself without progress. */
export const DoomLoopDetected = Schema.TaggedStruct("DoomLoopDetected", {
  /** What it repeats, for a person to read. */
  pattern: Schema.String,
  /** How many times it was seen. */
  repeats: Count,
})
export type DoomLoopDetected = typeof DoomLoopDetected.Type

/** Compacting the context failed so often that it is no longer tried. */
export const CompactionCircuitOpened = Schema.TaggedStruct("CompactionCircuitOpened", {
  /** Failures in a row. */
  failures: Count,
  /** Milliseconds until it is tried again; absent: never in this run. */
  retryAfterMs: Schema.optionalKey(Millis),
  error: Schema.optionalKey(ErrorInfo),
})
export type CompactionCircuitOpened = typeof CompactionCircuitOpened.Type

/** A line that a recorded process wrote. */
export const OutputLine = Schema.TaggedStruct("OutputLine", {
  stream: Schema.Literals(["stdout", "stderr"]),
  /**
   * The line without its `\n`. Only frames merged for a slow reader hold several lines, with `\n` between them.
   */
  line: Schema.String,
  /** The line was too long for one event and goes on in the next `OutputLine` of the same stream. */
  continued: Schema.optionalKey(Schema.Literal(true)),
})
export type OutputLine = typeof OutputLine.Type

/** Anything else, under a name. */
export const Custom = Schema.TaggedStruct("Custom", { name: Schema.String, data: Schema.Json })
export type Custom = typeof Custom.Type

/** The run ended well. */
export const RunCompleted = Schema.TaggedStruct("RunCompleted", {
  /** Why it stopped: a model's finish reason (`"stop"`), or `"exit"` for a recorded process. */
  finishReason: Schema.String,
  /** Rounds of the agent's loop; 0 for a recorded process. */
  iterations: Count,
})
export type RunCompleted = typeof RunCompleted.Type

/** The run ended badly. */
export const RunFailed = Schema.TaggedStruct("RunFailed", {
  error: ErrorInfo,
  /** The kind of failure, short and fixed: `"error"`, `"exit"`, `"signal"`, {@link producerLost}. */
  reason: Schema.String,
})
export type RunFailed = typeof RunFailed.Type

/** The run was stopped on request. */
export const RunCancelled = Schema.TaggedStruct("RunCancelled", {
  /** Why, or by what: `"SIGINT"` for a recorded process. */
  reason: Schema.optionalKey(Schema.String),
})
export type RunCancelled = typeof RunCancelled.Type

/** Every event of the vocabulary, told apart by `_tag`; `AgentEvent.match`, `.guards` and `.cases` come with it. */
export const AgentEvent = Schema.Union([
  RunStarted,
  ContextBuilt,
  ModelStarted,
  TextDelta,
  ReasoningDelta,
  ToolCallStarted,
  ToolCallDelta,
  ToolCallCompleted,
  ToolExecutionStarted,
  ToolExecutionFinished,
  AssistantMessageCommitted,
  ToolMessageCommitted,
  UsageRecorded,
  CacheMetrics,
  ApprovalRequested,
  ApprovalResolved,
  SubagentStarted,
  SubagentFinished,
  DoomLoopDetected,
  CompactionCircuitOpened,
  OutputLine,
  Custom,
  RunCompleted,
  RunFailed,
  RunCancelled,
]).pipe(Schema.toTaggedUnion("_tag"))
export type AgentEvent = typeof AgentEvent.Type

/** The `reason` of the {@link RunFailed} that ends a run whose producer is gone. */
export const producerLost = "producer lost"

const delivery = (event: AgentEvent): Delivery => {
  switch (event._tag) {
    case "TextDelta":
    case "ReasoningDelta":
    case "ToolCallDelta":
    case "UsageRecorded":
    case "CacheMetrics":
    case "OutputLine":
      return "progress"
    case "ToolExecutionFinished":
    case "ApprovalResolved":
    case "SubagentFinished":
      return "terminal"
    default:
      return "normal"
  }
}

const coalesceKey = (event: AgentEvent): string | undefined => {
  switch (event._tag) {
    case "TextDelta":
    case "ReasoningDelta":
    case "UsageRecorded":
    case "CacheMetrics":
      return `${event._tag}:${event.messageId}`
    case "ToolCallDelta":
      return `ToolCallDelta:${event.toolCallId}`
    case "OutputLine":
      return `OutputLine:${event.stream}`
    default:
      return undefined
  }
}

/** The lines of both; `\n` can't occur in a line, so it still tells where one ends. */
const joinLines = (earlier: OutputLine, later: OutputLine): OutputLine => ({
  ...later,
  line: earlier.continued ? earlier.line + later.line : `${earlier.line}\n${later.line}`,
})

const merge = (earlier: AgentEvent, later: AgentEvent): AgentEvent => {
  if (earlier._tag === "TextDelta" && later._tag === "TextDelta") return { ...later, text: earlier.text + later.text }
  if (earlier._tag === "ReasoningDelta" && later._tag === "ReasoningDelta") {
    return { ...later, text: earlier.text + later.text }
  }
  if (earlier._tag === "ToolCallDelta" && later._tag === "ToolCallDelta") {
    return { ...later, arguments: earlier.arguments + later.arguments }
  }
  if (earlier._tag === "OutputLine" && later._tag === "OutputLine") return joinLines(earlier, later)
  // Totals: the later one says it all.
  return later
}

/** Agent runs: name `agent`, version 1. */
export const vocabulary: Vocabulary.Vocabulary<AgentEvent> = Vocabulary.make<AgentEvent>({
  name: "agent",
  version: 1,
  schema: AgentEvent,
  delivery,
  endsRun: (event) => {
    switch (event._tag) {
      case "RunCompleted":
        return "completed"
      case "RunFailed":
        return "failed"
      case "RunCancelled":
        return "cancelled"
      default:
        return undefined
    }
  },
  coalesce: { key: coalesceKey, merge },
  abandoned: () => ({
    _tag: "RunFailed",
    error: { message: "the run's producer is gone" },
    reason: producerLost,
  }),
})
