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
  const parse = storable(format === "ndjson" ? parseJson : vocabulary.decode, maxEventBytes)
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
      : { event, problem: `not ${noun}: ${parsed.failure.split("\n").join(" ").slice(0, maxProblem)}` }
  }
}

type Parse = (line: string) => Result.Result<AgentEvent, string>

/** A problem may quote the line, which can be as long as an event. */
const maxProblem = 300

const parseJson: Parse = (line) => {
  try {
    // JSON.parse gives JSON.
    return Result.succeed({ _tag: "Custom", name: "ndjson", data: JSON.parse(line) as Schema.Json })
  } catch (cause) {
    return Result.fail((cause as SyntaxError).message)
  }
}

/**
 * Only what the bridge will be able to encode is an event. Not all that can be parsed is: numbers can be infinite
 * (`1e999`) or longer when printed again (`1e20`), and brackets nested deeper than the stack takes make decoding and
 * encoding throw.
 */
const storable =
  (parse: Parse, maxEventBytes: number): Parse =>
  (line) => {
    if (nestsDeeper(line, maxDepth)) return Result.fail(`nested deeper than ${maxDepth} levels`)
    try {
      const parsed = parse(line)
      if (Result.isFailure(parsed)) return parsed
      const encoded = vocabulary.encode(parsed.success)
      if (Result.isFailure(encoded)) return Result.fail(encoded.failure.problem)
      return Buffer.byteLength(encoded.success) <= maxEventBytes ? parsed : Result.fail("longer than an event may be")
    } catch (cause) {
      return Result.fail(String(cause))
    }
  }

/** A depth that every reader's stack takes, however deep in calls it is when it decodes. */
const maxDepth = 200

/** Whether the brackets of a JSON text nest deeper than `depth`. */
const nestsDeeper = (json: string, depth: number): boolean => {
  if (json.length <= depth) return false
  let level = 0
  let inString = false
  for (let index = 0; index < json.length; index++) {
    const unit = json.charCodeAt(index)
    if (inString) {
      if (unit === 0x5c) index++
      else if (unit === 0x22) inString = false
    } else if (unit === 0x22) inString = true
    else if (unit === 0x5b || unit === 0x7b) {
      if (++level > depth) return true
    } else if (unit === 0x5d || unit === 0x7d) level--
  }
  return false
}
