/**
 * Frames as Pub/Sub messages: events of one run with neighbouring seqs, in the records they are stored in.
 *
 * ```
 * 1 FIRSTSEQ COUNT ENTRY OFFSET RUN GENERATION SESSION SCHEMAVERSION "VOCABULARY"
 * LENGTHS
 * RECORDS
 * ```
 *
 * `ENTRY` is the id of the append in the archive's index, `-` where there is none; `OFFSET` is how many events of the
 * append come before the first. `SESSION` is `*` where there is none; the vocabulary's name may be left out. `LENGTHS` are
 * those of all records but the last, in UTF-16 code units, joined by commas; `RECORDS` follow each other without a
 * separator. The append script writes the same text, so that an event is encoded once, for the stream and for the room.
 */
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope, Frame } from "@throughline/core/Envelope"
import { RunId, SessionId } from "@throughline/core/Envelope"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as eventRecord from "./internal/eventRecord.ts"
import * as position from "./internal/position.ts"

const version = 1

/**
 * Bytes of the records in one message. Redis keeps a message for each connection that hasn't taken it yet, and cuts those
 * that keep too much (`client-output-buffer-limit pubsub`, 32 MiB by default).
 */
export const mostBytes = 1024 * 1024

/** A message in the place of frames that are too large for one: none of this format, so whoever gets it reads the store. */
export const unread = "0"

/** The lengths line of records. */
export const lengthsOf = (records: ReadonlyArray<string>): string => {
  if (records.length < 2) return ""
  let lengths = String(records[0]!.length)
  for (let index = 1; index < records.length - 1; index++) lengths += `,${records[index]!.length}`
  return lengths
}

const message = (frames: ReadonlyArray<Frame>): string => {
  const first = frames[0]!
  const { runId, schemaVersion, seq, sessionId } = first.envelope
  const place =
    first.position === undefined ? "- 0" : `${position.entryOf(first.position)} ${position.offsetOf(first.position)}`
  const records = frames.map((frame) => eventRecord.encode(frame.envelope))
  const generation = first.cursor.slice(first.cursor.indexOf("-") + 1)
  return `${version} ${seq} ${frames.length} ${place} ${runId} ${generation} ${sessionId ?? "*"} ${schemaVersion}\n${lengthsOf(records)}\n${records.join("")}`
}

const follows = (frame: Frame, previous: Frame): boolean => {
  const { envelope } = frame
  const before = previous.envelope
  return (
    envelope.seq === before.seq + 1 &&
    envelope.runId === before.runId &&
    envelope.sessionId === before.sessionId &&
    envelope.schemaVersion === before.schemaVersion &&
    frame.cursor.endsWith(previous.cursor.slice(previous.cursor.indexOf("-"))) &&
    (frame.position === undefined
      ? previous.position === undefined
      : frame.position === (previous.position ?? Number.NaN) + 1)
  )
}

/** The messages of frames in order: one, unless neighbours don't follow each other. */
export const encode = (frames: ReadonlyArray<Frame>): Array<string> => {
  const messages: Array<string> = []
  let start = 0
  for (let index = 1; index <= frames.length; index++) {
    if (index < frames.length && follows(frames[index]!, frames[index - 1]!)) continue
    messages.push(message(frames.slice(start, index)))
    start = index
  }
  return messages
}

const header = /^1 ([1-9]\d*) ([1-9]\d*) (-|0-\d+) (\d+) (\S+) ([a-z0-9]{8}) (\S+) (-?\d+)(?: |$)/
const isRunId = Schema.is(RunId)
const isSessionId = Schema.is(SessionId)

const splitRecords = (lengths: string, text: string, count: number): Array<string> | undefined => {
  const records: Array<string> = []
  let at = 0
  if (lengths !== "") {
    for (const length of lengths.split(",")) {
      records.push(text.slice(at, at + Number(length)))
      at += Number(length)
    }
  }
  records.push(text.slice(at))
  return records.length === count ? records : undefined
}

/** The frames in a message; the failure says why it is none. */
export const decode = (text: string): Result.Result<ReadonlyArray<Frame>, string> => {
  const headerEnd = text.indexOf("\n")
  const lengthsEnd = text.indexOf("\n", headerEnd + 1)
  const match = headerEnd === -1 || lengthsEnd === -1 ? null : header.exec(text.slice(0, headerEnd))
  if (match === null) return Result.fail("it has no header of this version")
  const [, seq, count, entry, offset, runId, generation, session, schemaVersion] = match
  const sessionId = session === "*" ? undefined : session
  if (!isRunId(runId) || !(sessionId === undefined || isSessionId(sessionId))) return Result.fail("its ids are none")
  const records = splitRecords(text.slice(headerEnd + 1, lengthsEnd), text.slice(lengthsEnd + 1), Number(count))
  if (records === undefined) return Result.fail(`it doesn't hold ${count} records`)
  const run = { runId, sessionId, schemaVersion: Number(schemaVersion) }
  const firstSeq = Number(seq)
  const firstPosition = entry === "-" ? undefined : position.firstOf(entry!) + Number(offset)
  const frames: Array<Frame> = []
  for (let index = 0; index < records.length; index++) {
    const envelope = eventRecord.decode(records[index]!, firstSeq + index, run)
    if (Result.isFailure(envelope)) return Result.fail(`its record ${index + 1}: ${envelope.failure}`)
    frames.push(frameOf(envelope.success, generation!, firstPosition, index))
  }
  return Result.succeed(frames)
}

const frameOf = (
  envelope: EncodedEnvelope,
  generation: string,
  firstPosition: number | undefined,
  index: number,
): Frame => {
  const cursor = Cursor.run(envelope.seq, generation)
  return firstPosition === undefined
    ? { _tag: "Frame", envelope, cursor }
    : { _tag: "Frame", envelope, cursor, position: firstPosition + index }
}
