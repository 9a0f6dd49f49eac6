/**
 * A run as rows to read, folded from its envelopes as they come: deltas joined into text, a tool call in one row from its
 * first argument to its answer, an output line a row.
 *
 * A row is never longer than what a screen can be made of at once, so that a list which only draws the rows in view stays
 * quick however long a message is. Events of other vocabularies, and those that aren't what their tag says, are shown as
 * the JSON they are. Nothing here knows the page.
 */
import type { Envelope } from "@throughline/client"
import { fieldsOf, type Fields, numberOf, preview, shown, textOf } from "./fields.ts"
import type {
  HeadingRow,
  NoteRow,
  Openable,
  Placed,
  ReasoningRow,
  Row,
  RowContent,
  TextRow,
  Tone,
  ToolRow,
} from "./Row.ts"
import { numeral } from "./time.ts"

/** Characters of text in one row, before it is cut at the next place to cut it. */
const longRow = 2000
/** Characters at which it is cut wherever it is. */
const longestRow = 4000

interface Message {
  readonly heading: HeadingRow & Placed
  /** Its text in order; the last one grows. */
  readonly text: Array<TextRow & Placed>
  reasoning: (ReasoningRow & Placed) | undefined
}

export interface Ending {
  readonly status: "completed" | "failed" | "cancelled"
  readonly detail: string
}

/** Where a text that has become long is cut: after a paragraph, else a line, else a word; 0: not yet. */
const cutOf = (text: string): number => {
  const paragraph = text.indexOf("\n\n")
  if (paragraph >= 0) return paragraph + 2
  if (text.length < longRow) return 0
  const line = text.lastIndexOf("\n") + 1
  if (line > 0) return line
  if (text.length < longestRow) return 0
  const word = text.lastIndexOf(" ", longestRow) + 1
  return word > 0 ? word : longestRow
}

export class Transcript {
  readonly rows: Array<Row> = []
  /** Events received. */
  events = 0
  /** The seq of the last one, and when it and the first were emitted. */
  lastSeq = 0
  startedAt: string | undefined
  lastAt: string | undefined
  name: string | undefined
  ending: Ending | undefined
  /** Rows that changed after they were added, for whoever takes them out. */
  readonly touched = new Set<Row>()
  readonly #messages = new Map<string, Message>()
  readonly #tools = new Map<string, ToolRow & Placed>()
  /** Questions that wait for an answer. */
  readonly #asked = new Map<string, NoteRow & Placed>()
  readonly #usage = new Map<string, string>()
  #isContinued = false

  push(envelope: Envelope): void {
    this.events++
    this.lastSeq = envelope.seq
    this.startedAt ??= envelope.emittedAt
    this.lastAt = envelope.emittedAt
    const event = fieldsOf(envelope.event)
    const fold =
      Object.hasOwn(folds, envelope.kind) && event?.["_tag"] === envelope.kind ? folds[envelope.kind] : undefined
    if (event === undefined || fold === undefined || !fold(this, event, envelope)) this.#unknown(envelope)
    if (envelope.endsRun !== undefined) this.#end(envelope, event ?? {})
  }

  /** What retention took before the page could read it. */
  truncated(from: number, to: number): void {
    const text = `${numeral(to - from + 1)} events, ${from} to ${to}, are no longer stored.`
    this.#add({
      kind: "note",
      tone: "warning",
      label: "Not kept",
      text,
      detail: undefined,
      run: undefined,
      isOpen: false,
    })
  }

  /** The connection was lost for a while; what follows is what came after the last event. */
  resumed(from: string, to: string): void {
    const place = this.lastSeq === 0 ? "" : `; it goes on after event ${numeral(this.lastSeq)}`
    this.#add({ kind: "resumed", cause: "lost", text: `Connection lost at ${from}, back at ${to}${place}.` })
  }

  /** Nobody looked for a while; what follows came meanwhile. Before the first event there is nothing that it follows. */
  paused(from: string, to: string): void {
    if (this.lastSeq === 0) return
    const place = `after event ${numeral(this.lastSeq)}`
    this.#add({ kind: "resumed", cause: "hidden", text: `Hidden from ${from} to ${to}; it goes on ${place}.` })
  }

  /** A row has been opened or closed. */
  toggled(row: Openable): void {
    row.isOpen = !row.isOpen
    this.#touch(row)
  }

  #add<C extends RowContent>(content: C, envelope?: Envelope): C & Placed {
    const row = { ...content, id: this.rows.length, version: 0, seq: envelope?.seq, at: envelope?.emittedAt }
    this.rows.push(row)
    return row
  }

  #touch(row: Placed): void {
    row.version++
    this.touched.add(row as Row)
  }

  note(envelope: Envelope, label: string, text: string, detail?: unknown, tone: Tone = "quiet"): true {
    this.#add({ kind: "note", tone, label, text, detail, run: undefined, isOpen: false }, envelope)
    return true
  }

  #unknown(envelope: Envelope): void {
    this.note(envelope, envelope.kind, preview(envelope.event), envelope.event, "plain")
  }

  started(event: Fields, envelope: Envelope): true {
    this.name = textOf(event["name"]) || undefined
    return this.note(envelope, "Started", this.name ?? "", event["input"], "plain")
  }

  line(event: Fields, envelope: Envelope): boolean {
    const { line, stream } = event
    if (typeof line !== "string") return false
    const isError = stream === "stderr"
    // A frame merged for a slow reader holds several.
    const lines = line.split("\n")
    for (const text of lines) {
      this.#add({ kind: "line", text, isError, isContinuation: this.#isContinued, isOpen: false }, envelope)
      this.#isContinued = false
    }
    this.#isContinued = event["continued"] === true
    return true
  }

  message(id: string, envelope: Envelope, model?: string): Message {
    let message = this.#messages.get(id)
    if (message === undefined) {
      const heading = this.#add<HeadingRow>(
        { kind: "heading", label: envelope.agentId ?? "Assistant", model, usage: this.#usage.get(id) ?? "" },
        envelope,
      )
      message = { heading, text: [], reasoning: undefined }
      this.#messages.set(id, message)
    } else if (model !== undefined && message.heading.model !== model) {
      message.heading.model = model
      this.#touch(message.heading)
    }
    return message
  }

  text(event: Fields, envelope: Envelope): boolean {
    const { messageId, text } = event
    if (typeof messageId !== "string" || typeof text !== "string") return false
    this.#write(this.message(messageId, envelope), text, envelope)
    return true
  }

  #write(message: Message, text: string, envelope: Envelope): void {
    const rows = message.text
    let row = rows.at(-1)
    if (row === undefined) rows.push((row = this.#add<TextRow>({ kind: "text", text: "" }, envelope)))
    row.text += text
    this.#touch(row)
    // What stands in the middle of other rows grows in its place, until it is too long for that.
    const mayCut = this.rows.at(-1) === row || row.text.length > 4 * longestRow
    for (let cut = mayCut ? cutOf(row.text) : 0; cut > 0; cut = cutOf(row.text)) {
      const rest: string = row.text.slice(cut)
      row.text = row.text.slice(0, cut)
      // The next row begins with its first character.
      if (rest === "") break
      row = this.#add<TextRow>({ kind: "text", text: rest }, envelope)
      rows.push(row)
    }
  }

  reasoning(event: Fields, envelope: Envelope): boolean {
    const { messageId, text } = event
    if (typeof messageId !== "string" || typeof text !== "string") return false
    const message = this.message(messageId, envelope)
    if (message.reasoning === undefined) {
      message.reasoning = this.#add<ReasoningRow>({ kind: "reasoning", text, isOpen: false }, envelope)
    } else {
      message.reasoning.text += text
      this.#touch(message.reasoning)
    }
    return true
  }

  committed(event: Fields, envelope: Envelope): boolean {
    const { messageId, text } = event
    if (typeof messageId !== "string" || typeof text !== "string") return false
    const message = this.message(messageId, envelope)
    if (message.text.length === 0) {
      if (text !== "") this.#write(message, text, envelope)
    } else if (message.text.map((row) => row.text).join("") !== text) {
      this.note(envelope, "Message", "as it was committed differs from what was streamed", text, "warning")
    }
    return true
  }

  usage(event: Fields, part: string): boolean {
    const { messageId } = event
    if (typeof messageId !== "string") return false
    this.#usage.set(messageId, part)
    const message = this.#messages.get(messageId)
    if (message !== undefined) {
      message.heading.usage = part
      this.#touch(message.heading)
    }
    return true
  }

  tool(event: Fields, envelope: Envelope, change: (row: ToolRow) => void): boolean {
    const { name, toolCallId } = event
    if (typeof toolCallId !== "string") return false
    let row = this.#tools.get(toolCallId)
    if (row === undefined) {
      row = this.#add<ToolRow>(
        {
          kind: "tool",
          name: "",
          phase: "writing",
          input: "",
          output: undefined,
          error: undefined,
          told: undefined,
          ms: undefined,
          isOpen: false,
        },
        envelope,
      )
      this.#tools.set(toolCallId, row)
    }
    if (typeof name === "string") row.name = name
    change(row)
    this.#touch(row)
    return true
  }

  handedOver(task: string, run: string | undefined, envelope: Envelope): true {
    this.#add(
      { kind: "note", tone: "plain", label: "Subagent", text: task, detail: undefined, run, isOpen: false },
      envelope,
    )
    return true
  }

  asked(event: Fields, envelope: Envelope): boolean {
    const { approvalId, question } = event
    if (typeof approvalId !== "string" || typeof question !== "string") return false
    const row = this.#add<NoteRow>(
      {
        kind: "note",
        tone: "warning",
        label: "Approval needed",
        text: question,
        detail: event["details"],
        run: undefined,
        isOpen: false,
      },
      envelope,
    )
    this.#asked.set(approvalId, row)
    return true
  }

  answered(event: Fields, envelope: Envelope): boolean {
    const { approvalId, decision } = event
    if (typeof decision !== "string") return false
    const by = typeof event["by"] === "string" ? ` by ${event["by"]}` : ""
    const comment = typeof event["comment"] === "string" ? `: ${event["comment"]}` : ""
    const asked = this.#asked.get(textOf(approvalId))
    if (asked !== undefined) {
      asked.label = "Approval"
      asked.tone = "plain"
      this.#touch(asked)
    }
    return this.note(
      envelope,
      decision === "approved" ? "Approved" : decision === "denied" ? "Denied" : "Expired",
      `${by}${comment}`.trim(),
      undefined,
      decision === "approved" ? "good" : "bad",
    )
  }

  #end(envelope: Envelope, event: Fields): void {
    const status = envelope.endsRun!
    const error = fieldsOf(event["error"])
    const iterations = numberOf(event["iterations"]) ?? 0
    const parts =
      status === "completed"
        ? [
            textOf(event["finishReason"]),
            iterations > 0 ? `${iterations} ${iterations === 1 ? "iteration" : "iterations"}` : "",
          ]
        : [textOf(event["reason"]), error === undefined ? "" : textOf(error["message"])]
    this.ending = { status, detail: parts.filter((part) => part !== "").join(" · ") }
    this.#add({ kind: "end", status, text: this.ending.detail }, envelope)
  }
}

const outcomeOf = (event: Fields): { readonly output?: unknown; readonly error?: string } => {
  const outcome = fieldsOf(event["outcome"]) ?? {}
  return outcome["_tag"] === "Failure"
    ? { error: textOf(fieldsOf(outcome["error"])?.["message"]) || "failed" }
    : { output: outcome["output"] }
}

const count = (value: unknown, unit: string): string => {
  const number = numberOf(value)
  return number === undefined ? "" : `${numeral(number)} ${unit}`
}

const joined = (...parts: ReadonlyArray<string>): string => parts.filter((part) => part !== "").join(" · ")

type Fold = (transcript: Transcript, event: Fields, envelope: Envelope) => boolean

const ended: Fold = () => true

/** What each event of the agent vocabulary does; false where it isn't what its tag says. */
const folds: Readonly<Record<string, Fold>> = {
  RunStarted: (transcript, event, envelope) => transcript.started(event, envelope),
  ContextBuilt: (transcript, event, envelope) =>
    transcript.note(
      envelope,
      "Context",
      joined(count(event["messages"], "messages"), count(event["tokens"], "tokens")),
    ),
  ModelStarted: (transcript, event, envelope) => {
    if (typeof event["messageId"] !== "string") return false
    transcript.message(event["messageId"], envelope, textOf(event["model"]))
    return true
  },
  TextDelta: (transcript, event, envelope) => transcript.text(event, envelope),
  ReasoningDelta: (transcript, event, envelope) => transcript.reasoning(event, envelope),
  ToolCallStarted: (transcript, event, envelope) => transcript.tool(event, envelope, () => {}),
  ToolCallDelta: (transcript, event, envelope) =>
    transcript.tool(event, envelope, (row) => {
      row.input += textOf(event["arguments"])
    }),
  ToolCallCompleted: (transcript, event, envelope) =>
    transcript.tool(event, envelope, (row) => {
      row.input = shown(event["arguments"])
      row.phase = "called"
    }),
  ToolExecutionStarted: (transcript, event, envelope) =>
    transcript.tool(event, envelope, (row) => {
      row.phase = "running"
    }),
  ToolExecutionFinished: (transcript, event, envelope) =>
    transcript.tool(event, envelope, (row) => {
      const { error, output } = outcomeOf(event)
      row.phase = error === undefined ? "done" : "failed"
      row.error = error
      row.output = output === undefined ? undefined : shown(output)
      row.ms = numberOf(event["durationMs"])
    }),
  AssistantMessageCommitted: (transcript, event, envelope) => transcript.committed(event, envelope),
  ToolMessageCommitted: (transcript, event, envelope) =>
    transcript.tool(event, envelope, (row) => {
      row.told = shown(event["content"])
    }),
  UsageRecorded: (transcript, event) => {
    const cost = numberOf(event["costUsd"])
    return transcript.usage(
      event,
      joined(
        count(event["inputTokens"], "in"),
        count(event["outputTokens"], "out"),
        cost === undefined ? "" : `$${cost.toFixed(4)}`,
      ),
    )
  },
  CacheMetrics: (_, event) => typeof event["messageId"] === "string",
  ApprovalRequested: (transcript, event, envelope) => transcript.asked(event, envelope),
  ApprovalResolved: (transcript, event, envelope) => transcript.answered(event, envelope),
  SubagentStarted: (transcript, event, envelope) =>
    transcript.handedOver(textOf(event["task"]), textOf(event["runId"]) || undefined, envelope),
  SubagentFinished: (transcript, event, envelope) => {
    const { error, output } = outcomeOf(event)
    return transcript.note(
      envelope,
      error === undefined ? "Subagent done" : "Subagent failed",
      error ?? preview(output),
      output,
      error === undefined ? "good" : "bad",
    )
  },
  DoomLoopDetected: (transcript, event, envelope) =>
    transcript.note(
      envelope,
      "Loop",
      joined(textOf(event["pattern"]), count(event["repeats"], "times")),
      undefined,
      "warning",
    ),
  CompactionCircuitOpened: (transcript, event, envelope) =>
    transcript.note(
      envelope,
      "Compaction given up",
      count(event["failures"], "failures in a row"),
      event["error"],
      "warning",
    ),
  OutputLine: (transcript, event, envelope) => transcript.line(event, envelope),
  Custom: (transcript, event, envelope) =>
    transcript.note(envelope, textOf(event["name"]) || "Custom", preview(event["data"]), event["data"], "plain"),
  RunCompleted: ended,
  RunFailed: ended,
  RunCancelled: ended,
}
