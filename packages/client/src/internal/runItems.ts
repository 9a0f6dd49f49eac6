/** What a reader asks for, and what it gets, checked and decoded. */
import * as Envelope from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import type { Vocabulary } from "@throughline/core/Vocabulary"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { ReadOptions, RunItem } from "../RunClient.ts"
import { Violation } from "./failure.ts"
import type { Item, Wire } from "./reading.ts"

/** A kind that the query can't carry, as kinds are separated by commas there. */
export const unaskable = ({ kinds }: ReadOptions): string | undefined =>
  kinds?.find((kind) => kind === "" || kind.includes(","))

/** Puts what a reader asks for into the query. */
export const query = (search: URLSearchParams, { delivery, kinds, queue, wait }: ReadOptions): void => {
  if (delivery !== undefined) search.set("delivery", delivery.join(","))
  if (kinds !== undefined) search.set("kinds", kinds.join(","))
  if (queue !== undefined) search.set("overflow", queue.overflow)
  if (queue?.capacity !== undefined) search.set("capacity", String(queue.capacity))
  if (wait !== undefined) search.set("wait", wait === true ? "" : String(Math.ceil(Duration.toSeconds(wait))))
}

const { repair: _, ...noticeFields } = Envelope.OverflowNotice.fields

const WireEnvelope = Schema.Struct({
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

/** Decodes events where a vocabulary says how. */
export const decoder =
  <E>(runId: Envelope.RunId, vocabulary: Vocabulary<E> | undefined) =>
  (item: Item<typeof WireEnvelope.Type, typeof Notice.Type>): Result.Result<RunItem<E>, CorruptRecord> => {
    if (item._tag !== "Event") return Result.succeed(item)
    const { merged, ...envelope } = item.envelope
    const { event, seq } = envelope
    const read: Result.Result<E, string> =
      // Nobody said what it is, so `E` is unknown.
      vocabulary === undefined ? Result.succeed(event as E) : vocabulary.decode(JSON.stringify(event))
    if (Result.isFailure(read)) return Result.fail(new CorruptRecord({ runId, seq, problem: read.failure }))
    return Result.succeed({
      _tag: "Event",
      envelope: { ...envelope, event: read.success },
      cursor: item.cursor,
      ...(merged === undefined ? undefined : { merged }),
    })
  }
