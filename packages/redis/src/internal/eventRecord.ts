/**
 * An event as a Redis string: one line of JSON with its routing fields, a line feed, and the event's JSON text as it came.
 *
 * What a run's head says (run, session, vocabulary) is not repeated, and the seq is the entry's id. The first line names
 * the format's version, and the length and CRC-32 of the text, so that what was cut or altered shows.
 */
import {
  EncodedEnvelope,
  type EncodedEvent,
  type FoundEnvelope,
  isEncoded,
  type RunId,
  type SessionId,
} from "@throughline/core/Envelope"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { crc32 } from "node:zlib"

const version = 1

/** What an event's record needs from its run. */
export interface Run {
  readonly runId: RunId
  readonly sessionId: SessionId | undefined
  readonly schemaVersion: number
}

const isEmpty = (record: Readonly<Record<string, string>>): boolean => {
  for (const _ in record) return false
  return true
}

/** The same content is the same text, whatever order its keys were written in. */
const sorted = (record: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(record).toSorted(([left], [right]) => (left < right ? -1 : 1)))

const plain = /^[\w.:-]*$/

/** A text as JSON: ids, times and kinds are what they look like. */
const quoted = (text: string): string => (plain.test(text) ? `"${text}"` : JSON.stringify(text))

const optional = (key: string, value: string): string => `,"${key}":${quoted(value)}`

/** The record of an event. */
export const encode = (event: EncodedEvent): string => {
  const { correlation, tags } = event
  // Put together by hand: once for every event, and a third of the time of one object printed.
  let line = `{"v":${version},"i":${quoted(event.eventId)},"k":${quoted(event.kind)},"d":"${event.delivery}","t":${quoted(event.emittedAt)}`
  if (event.agentId !== undefined) line += optional("a", event.agentId)
  if (event.provider !== undefined) line += optional("p", event.provider)
  if (event.turnId !== undefined) line += optional("u", event.turnId)
  if (event.endsRun !== undefined) line += optional("e", event.endsRun)
  if (tags.length > 0) line += `,"g":${JSON.stringify(tags)}`
  if (!isEmpty(correlation)) line += `,"c":${JSON.stringify(sorted(correlation))}`
  return `${line},"n":${event.event.length},"h":${crc32(event.event)}}\n${event.event}`
}

/** The first line as {@link encode} writes it. Its values are the envelope's, which the envelope's schema checks. */
interface Line {
  readonly v: unknown
  readonly n: unknown
  readonly h: unknown
  readonly i?: unknown
  readonly k?: unknown
  readonly d?: unknown
  readonly t?: unknown
  readonly a?: unknown
  readonly p?: unknown
  readonly u?: unknown
  readonly e?: unknown
  readonly g?: unknown
  readonly c?: unknown
}

const decodeEnvelope = Schema.decodeUnknownResult(EncodedEnvelope)

// Shared by all envelopes without any.
const noTags: ReadonlyArray<string> = Object.freeze([])
const noCorrelation: Readonly<Record<string, string>> = Object.freeze({})

const isLine = (value: unknown): value is Line =>
  typeof value === "object" && value !== null && "v" in value && "n" in value && "h" in value

/** The envelope in a record; the failure says what is wrong with it. */
export const decode = (record: string, seq: number, run: Run): Result.Result<EncodedEnvelope, string> => {
  const end = record.indexOf("\n")
  if (end === -1) return Result.fail("it is no record of this store")
  let line: unknown
  try {
    line = JSON.parse(record.slice(0, end))
  } catch {
    return Result.fail("its first line is not JSON")
  }
  if (!isLine(line)) return Result.fail("it is no record of this store")
  if (line.v !== version) return Result.fail(`its format is ${String(line.v)}, and this is a reader of ${version}`)
  const event = record.slice(end + 1)
  if (event.length !== line.n) return Result.fail(`its event has ${event.length} characters of ${String(line.n)}`)
  if (crc32(event) !== line.h) return Result.fail("its event was altered")
  const found = foundIn(line, seq, run, event)
  return isEncoded(found) ? Result.succeed(found) : Result.mapError(decodeEnvelope(found), (problem) => problem.message)
}

/** A record as the envelope it should be, its fields in the order of the schema's. */
const foundIn = (line: Line, seq: number, run: Run, event: string): FoundEnvelope => {
  const found: FoundEnvelope = { eventId: line.i, seq, runId: run.runId }
  if (run.sessionId !== undefined) found.sessionId = run.sessionId
  if (line.a !== undefined) found.agentId = line.a
  if (line.p !== undefined) found.provider = line.p
  if (line.u !== undefined) found.turnId = line.u
  found.kind = line.k
  found.delivery = line.d
  if (line.e !== undefined) found.endsRun = line.e
  found.emittedAt = line.t
  found.tags = line.g ?? noTags
  found.correlation = line.c ?? noCorrelation
  found.schemaVersion = run.schemaVersion
  found.event = event
  return found
}
