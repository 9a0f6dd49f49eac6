/**
 * Runs and events as readable text.
 *
 * What comes from a run is not trusted: control characters, those that start terminal sequences among them, and the
 * characters that reorder text are shown as escapes, so that nothing a process once printed can act on the terminal of
 * whoever reads its run.
 */
import { type AgentEvent, type Outcome, vocabulary } from "@throughline/core/AgentEvents"
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import type { RunHead } from "@throughline/core/RunHead"
import * as Result from "effect/Result"
import { styleText } from "node:util"

// Control characters (C0 but for the tab, DEL, C1), line separators, and marks that change the direction of text.
// eslint-disable-next-line no-control-regex
const unsafe = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g

const names: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\u001b": "\\e" }

const escaped = (character: string): string =>
  names[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

/** A text that can be shown on one line of a terminal and does nothing to it. */
export const safe = (text: string): string => text.replace(unsafe, escaped)

/** JSON for a terminal: the same value, with the characters that could act on the terminal escaped. */
export const safeJson = (json: string): string =>
  json.replace(unsafe, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)

type Style = Parameters<typeof styleText>[0]

/** Puts styles around a text, or doesn't. */
export type Paint = (style: Style, text: string) => string

export const paint = (canColor: boolean): Paint =>
  canColor ? (style, text) => styleText(style, text, { validateStream: false }) : (_, text) => text

const compact = (value: unknown): string => {
  const text = JSON.stringify(value)
  return text === undefined ? "" : text
}

const outcome = (result: Outcome): string =>
  result._tag === "Success" ? compact(result.output) : `failed: ${result.error.message}`

/** The label and the text of an agent event, and how the label looks. */
const describe = (event: AgentEvent): readonly [label: string, text: string, style: Style] => {
  switch (event._tag) {
    case "OutputLine":
      return [event.stream, event.line + (event.continued ? " …" : ""), event.stream === "stderr" ? "yellow" : "gray"]
    case "RunStarted":
      return ["started", event.name ?? compact(event.input), "bold"]
    case "RunCompleted":
      return ["completed", event.finishReason, ["bold", "green"]]
    case "RunFailed":
      return ["failed", `${event.reason}: ${event.error.message}`, ["bold", "red"]]
    case "RunCancelled":
      return ["cancelled", event.reason ?? "", ["bold", "yellow"]]
    case "TextDelta":
      return ["text", event.text, "cyan"]
    case "ReasoningDelta":
      return ["reasoning", event.text, "gray"]
    case "ToolCallDelta":
      return ["tool call", event.arguments, "gray"]
    case "ToolCallCompleted":
      return ["tool call", `${event.name} ${compact(event.arguments)}`, "magenta"]
    case "ToolExecutionStarted":
      return ["tool", `${event.name} started`, "magenta"]
    case "ToolExecutionFinished":
      return ["tool", `${event.name} ${outcome(event.outcome)}`, event.outcome._tag === "Success" ? "green" : "red"]
    case "AssistantMessageCommitted":
      return ["assistant", event.text, "cyan"]
    case "ApprovalRequested":
      return ["approval?", event.question, "yellow"]
    case "ApprovalResolved":
      return [
        "approval",
        [event.decision, event.by, event.comment].filter((part) => part !== undefined).join(", "),
        "yellow",
      ]
    case "Custom":
      return [event.name, compact(event.data), "blue"]
    default: {
      const { _tag, ...fields } = event
      return [_tag, compact(fields), "gray"]
    }
  }
}

const seqWidth = 6
const labelWidth = 10

/** An envelope as one line: its seq, its time of day in UTC, and what happened. */
export const event = (envelope: EncodedEnvelope, style: Paint): string => {
  const known = vocabulary.decode(envelope.event)
  const [label, text, look] = Result.isSuccess(known)
    ? describe(known.success)
    : ([envelope.kind, envelope.event, "blue"] as const)
  const at = envelope.emittedAt.slice(11, 23)
  const line = text.endsWith("\r") ? text.slice(0, -1) : text
  return [
    style("gray", String(envelope.seq).padStart(seqWidth)),
    style("gray", at),
    style(look, safe(label).padEnd(labelWidth)),
    safe(line),
  ]
    .join("  ")
    .trimEnd()
}

const two = (value: number): string => String(value).padStart(2, "0")

/** A duration in its two largest units: `340ms`, `5.2s`, `3m 20s`, `2h 05m`, `4d 03h`. */
export const duration = (millis: number): string => {
  const seconds = Math.max(0, millis) / 1000
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`
  if (seconds < 60) return `${(Math.floor(seconds * 10) / 10).toFixed(1)}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m ${two(Math.floor(seconds % 60))}s`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return `${hours}h ${two(minutes % 60)}m`
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`
}

/** What `ls` says of a run; durations and ages in milliseconds, times as ISO 8601 in UTC. */
export interface RunSummary {
  readonly runId: string
  readonly sessionId?: string
  readonly status: string
  /** Events written so far, trimmed ones included: the last seq. */
  readonly events: number
  readonly startedAt: string
  readonly lastEventAt: string
  /** From the first event to the end, or to now. */
  readonly durationMs: number
  /** Since the last event. */
  readonly ageMs: number
}

/** Sums up a run that has events. */
export const summary = (head: RunHead, now: number, iso: (millis: number) => string): RunSummary => {
  const startedAt = head.startedAt ?? now
  const lastAt = head.lastActivityAt ?? startedAt
  return {
    runId: head.runId,
    ...(head.sessionId === undefined ? undefined : { sessionId: head.sessionId }),
    status: head.status,
    events: head.lastSeq,
    startedAt: iso(startedAt),
    lastEventAt: iso(lastAt),
    durationMs: Math.max(0, (head.status === "running" ? now : lastAt) - startedAt),
    ageMs: Math.max(0, now - lastAt),
  }
}

const statusStyle: Readonly<Record<string, Style>> = {
  running: "cyan",
  completed: "green",
  failed: "red",
  cancelled: "yellow",
  waiting: "cyan",
  succeeded: "green",
  dead: "red",
}

/** The color that a run's status, or a job's state, is shown in. */
export const styleOf = (status: string): Style | undefined => statusStyle[status]

/** A column of a table. */
export interface Column {
  readonly heading: string
  /** Numbers stand right. */
  readonly isRight?: boolean
  readonly look?: (cell: string) => Style | undefined
}

/** Rows as lines under a line of headings, each column as wide as its widest cell. */
export const columns = (
  described: ReadonlyArray<Column>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  style: Paint,
): ReadonlyArray<string> => {
  const widths = described.map(({ heading }, column) =>
    rows.reduce((width, row) => Math.max(width, row[column]!.length), heading.length),
  )
  const line = (cells: ReadonlyArray<string>, look: (column: number) => Style | undefined) =>
    cells
      .map((cell, column) => {
        const padded = described[column]!.isRight ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
        const cellStyle = look(column)
        return cellStyle === undefined ? padded : style(cellStyle, padded)
      })
      .join("  ")
      .trimEnd()
  return [
    line(
      described.map(({ heading }) => heading),
      () => "gray",
    ),
    ...rows.map((row) => line(row, (column) => described[column]!.look?.(row[column]!))),
  ]
}

/** Runs as a table, one line a run under a line of headings. */
export const table = (runs: ReadonlyArray<RunSummary>, style: Paint): ReadonlyArray<string> =>
  columns(
    [
      { heading: "RUN" },
      { heading: "STATUS", look: styleOf },
      { heading: "EVENTS", isRight: true },
      { heading: "DURATION", isRight: true },
      { heading: "LAST EVENT" },
      { heading: "SESSION" },
    ],
    runs.map((run) => [
      run.runId,
      run.status,
      String(run.events),
      duration(run.durationMs),
      `${duration(run.ageMs)} ago`,
      run.sessionId ?? "",
    ]),
    style,
  )
