/**
 * What a line of output means: how each `--format` turns lines into events.
 *
 * - `lines`: every line is an `OutputLine`.
 * - `ndjson`: a line of standard output is JSON, recorded as a `Custom` named `ndjson`.
 * - `agent`: a line of standard output is the JSON of an `AgentEvent`.
 *
 * Standard error is text in every format. A line that isn't what its format says is recorded as an `OutputLine` and
 * counted, so nothing is lost; that includes lines too long for one event. Blank lines are `OutputLine`s and not
 * counted.
 */
import { type AgentEvent, vocabulary } from "@throughline/core/AgentEvents"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Line } from "./LineSplitter.ts"

export const Format = Schema.Literals(["lines", "ndjson", "agent"])
export type Format = typeof Format.Type

export type OutputStream = "stdout" | "stderr"

/** A line's event; `problem` says why a line isn't what its format promised. */
export interface Parsed {
  readonly event: AgentEvent
  readonly problem?: string
}

/** Reads the lines of one output stream; it remembers whether a long line is under way. */
export type LineReader = (line: Line) => Parsed

const outputLine = (stream: OutputStream, line: Line): AgentEvent =>
  line.continued
    ? { _tag: "OutputLine", stream, line: line.text, continued: true }
    : { _tag: "OutputLine", stream, line: line.text }

/** Bytes of an `OutputLine`'s JSON beside the line itself, rounded up. */
export const outputLineOverhead = 128

/** Makes the reader of one stream; `maxEventBytes` bounds an event's JSON. */
export const reader = (format: Format, stream: OutputStream, maxEventBytes: number): LineReader => {
  const text: LineReader = (line) => ({ event: outputLine(stream, line) })
  if (format === "lines" || stream === "stderr") return text
  const parse = format === "ndjson" ? parseJson(maxEventBytes) : vocabulary.decode
  const noun = format === "ndjson" ? "JSON" : "an agent event"
  let inLongLine = false
  return (line) => {
    const first = !inLongLine
    inLongLine = line.continued
    const event = outputLine(stream, line)
    if (line.continued || !first) return first ? { event, problem: `too long for ${noun}` } : { event }
    if (line.text.trim() === "") return { event }
    const parsed = parse(line.text)
    return Result.isSuccess(parsed)
      ? { event: parsed.success }
      : { event, problem: `not ${noun}: ${parsed.failure.split("\n").join(" ")}` }
  }
}

/** JSON as a `Custom` event, if that fits the bound: printing a number again can be longer than the line was (`1e20`). */
const parseJson =
  (maxEventBytes: number) =>
  (line: string): Result.Result<AgentEvent, string> => {
    let data: Schema.Json
    try {
      // JSON.parse gives JSON.
      data = JSON.parse(line) as Schema.Json
    } catch (cause) {
      return Result.fail((cause as SyntaxError).message)
    }
    const event: AgentEvent = { _tag: "Custom", name: "ndjson", data }
    if (line.length * 8 <= maxEventBytes) return Result.succeed(event)
    return Buffer.byteLength(JSON.stringify(event)) <= maxEventBytes
      ? Result.succeed(event)
      : Result.fail("longer than an event may be")
  }
