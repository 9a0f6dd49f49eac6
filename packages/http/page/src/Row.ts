/** What the list of a run is made of, a row each. */
import { plainText } from "./ansi.ts"
import { shown } from "./fields.ts"

export type Tone = "quiet" | "plain" | "good" | "bad" | "warning"

/** A line of output, with what it says to a terminal. */
export interface LineRow {
  readonly kind: "line"
  readonly text: string
  readonly isError: boolean
  /** It goes on with the line before it, which was too long for one event. */
  readonly isContinuation: boolean
  isOpen: boolean
}

/** Above a message. */
export interface HeadingRow {
  readonly kind: "heading"
  readonly label: string
  model: string | undefined
  usage: string
}

/** A piece of a message: a paragraph, or as much as fits. */
export interface TextRow {
  readonly kind: "text"
  text: string
}

export interface ReasoningRow {
  readonly kind: "reasoning"
  text: string
  isOpen: boolean
}

export interface ToolRow {
  readonly kind: "tool"
  name: string
  phase: "writing" | "called" | "running" | "done" | "failed"
  input: string
  output: string | undefined
  error: string | undefined
  /** What the model was told. */
  told: string | undefined
  ms: number | undefined
  isOpen: boolean
}

export interface NoteRow {
  readonly kind: "note"
  tone: Tone
  label: string
  readonly text: string
  /** JSON to unfold. */
  readonly detail: unknown
  /** A run to go to. */
  readonly run: string | undefined
  isOpen: boolean
}

/** The reader itself has something to say. */
interface ResumedRow {
  readonly kind: "resumed"
  readonly cause: "lost" | "hidden"
  readonly text: string
}

interface EndRow {
  readonly kind: "end"
  readonly status: "completed" | "failed" | "cancelled"
  readonly text: string
}

export type RowContent = LineRow | HeadingRow | TextRow | ReasoningRow | ToolRow | NoteRow | ResumedRow | EndRow

export interface Placed {
  /** Its index among all rows. */
  readonly id: number
  /** Rises with every change. */
  version: number
  /** Of the envelope that began it, and when that was emitted. */
  readonly seq: number | undefined
  readonly at: string | undefined
}

type Each<C> = C extends RowContent ? C & Placed : never

export type Row = Each<RowContent>

/** A row that shows more when it is asked to. */
export type Openable = Extract<Row, { isOpen: boolean }>

/** What a search finds a row by. */
export const searchable = (row: Row): string => {
  switch (row.kind) {
    case "line":
      return plainText(row.text)
    case "heading":
      return `${row.label} ${row.model ?? ""}`
    case "tool":
      return `${row.name}\n${row.input}\n${row.output ?? ""}\n${row.error ?? ""}\n${row.told ?? ""}`
    case "note":
      return `${row.label} ${row.text}\n${row.detail === undefined ? "" : shown(row.detail)}`
    case "end":
      return `${row.status} ${row.text}`
    default:
      return row.text
  }
}
