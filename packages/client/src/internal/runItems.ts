/** What a reader asks for, and what it gets, checked and decoded. */
import * as Envelope from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import type { Vocabulary } from "@throughline/core/Vocabulary"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Filter, ReadOptions, RunItem, SessionItem } from "../RunClient.ts"
import { type Asked, Refused } from "../RunClientError.ts"
import { Violation } from "./failure.ts"
import type { Item, Wire } from "./reading.ts"
import type { SessionItem as ReadItem } from "./sessionReading.ts"

/** Why the query can't say what is asked for: kinds are separated by commas there. */
export const unaskable = (what: Asked, { kinds }: Filter): Refused | undefined => {
  const kind = kinds?.find((name) => name === "" || name.includes(","))
  if (kind === undefined) return undefined
  const detail = `the kind ${JSON.stringify(kind)} can't be asked for: kinds are separated by commas`
  return new Refused({ ...what, name: "invalid-query", status: 0, detail })
}

/** Puts what a reader asks for into the query. */
export const query = (search: URLSearchParams, { delivery, kinds, queue, wait }: ReadOptions): void => {
  if (delivery !== undefined) search.set("delivery", delivery.join(","))
  if (kinds !== undefined) search.set("kinds", kinds.join(","))
  if (queue !== undefined) search.set("overflow", queue.overflow)
  if (queue?.capacity !== undefined) search.set("capacity", String(queue.capacity))
  if (wait !== undefined) search.set("wait", wait === true ? "" : String(Math.ceil(Duration.toSeconds(wait))))
}

const { repair: _, ...noticeFields } = Envelope.OverflowNotice.fields

/** An envelope as the server sends it. */
export const WireEnvelope = Schema.Struct({
  ...Envelope.schema(Schema.Unknown).fields,
  merged: Schema.optionalKey(Schema.Struct({ firstSeq: Schema.Int, lastSeq: Schema.Int, frames: Schema.Int })),
})

const Notice = Schema.Struct(noticeFields)

const orViolation = <A>(read: Result.Result<A, Schema.SchemaError>, what: string): A => {
  if (Result.isSuccess(read)) return read.success
  throw new Violation(`${what} can't be read: ${String(read.failure)}`)
}

const decodeEnvelope = Schema.decodeUnknownResult(WireEnvelope)
const decodeNotice = Schema.decodeUnknownResult(Notice)

/** What frames carry, read by its schema. */
export const wire: Wire<typeof WireEnvelope.Type, typeof Notice.Type> = {
  envelope: (fields) => orViolation(decodeEnvelope(fields), `seq ${String(fields["seq"])}`),
  notice: (fields) => orViolation(decodeNotice(fields), "a notice"),
}

/** An envelope whose event a vocabulary reads, where there is one. */
export const decodeEvent = <E>(
  envelope: Envelope.Envelope<unknown>,
  vocabulary: Vocabulary<E> | undefined,
): Result.Result<Envelope.Envelope<E>, CorruptRecord> => {
  const { event, runId, seq } = envelope
  const read: Result.Result<E, string> =
    // Nobody said what it is, so `E` is unknown.
    vocabulary === undefined ? Result.succeed(event as E) : vocabulary.decode(JSON.stringify(event))
  return Result.isFailure(read)
    ? Result.fail(new CorruptRecord({ runId, seq, problem: read.failure }))
    : Result.succeed({ ...envelope, event: read.success })
}

/** Decodes events where a vocabulary says how. */
export const decoder =
  <E>(vocabulary: Vocabulary<E> | undefined) =>
  (item: Item<typeof WireEnvelope.Type, typeof Notice.Type>): Result.Result<RunItem<E>, CorruptRecord> => {
    if (item._tag !== "Event") return Result.succeed(item)
    const { merged, ...envelope } = item.envelope
    return Result.map(decodeEvent(envelope, vocabulary), (decoded) => ({
      _tag: "Event",
      envelope: decoded,
      cursor: item.cursor,
      ...(merged === undefined ? undefined : { merged }),
    }))
  }

/** The same for a session, whose events are never merged. */
export const sessionDecoder =
  <E>(vocabulary: Vocabulary<E> | undefined) =>
  (item: ReadItem<typeof WireEnvelope.Type>): Result.Result<SessionItem<E>, CorruptRecord> => {
    switch (item._tag) {
      case "CaughtUp":
        return Result.succeed(item)
      case "Truncated":
        // An id that no run can have is shown as it is.
        return Result.succeed({ ...item, runId: item.runId as Envelope.RunId })
      case "Event":
        return Result.map(decodeEvent(item.envelope, vocabulary), (envelope) => ({
          _tag: "Event",
          envelope,
          cursor: item.cursor,
        }))
    }
  }
