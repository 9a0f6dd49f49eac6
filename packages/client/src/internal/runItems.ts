/** What a reader asks for, and what it gets, checked and decoded. */
import * as Envelope from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import type { Vocabulary } from "@throughline/core/Vocabulary"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { ReadOptions, RunItem } from "../RunClient.ts"
import { ProtocolViolation } from "../RunClientError.ts"
import type { Decode } from "./runStream.ts"

/** Puts what a reader asks for into the query. */
export const query = (search: URLSearchParams, { delivery, kinds, queue, wait }: ReadOptions): void => {
  if (delivery !== undefined) search.set("delivery", delivery.join(","))
  if (kinds !== undefined) search.set("kinds", kinds.join(","))
  if (queue !== undefined) search.set("overflow", queue.overflow)
  if (queue?.capacity !== undefined) search.set("capacity", String(queue.capacity))
  if (wait !== undefined) search.set("wait", wait === true ? "" : String(Math.ceil(Duration.toSeconds(wait))))
}

const { repair: _, ...noticeFields } = Envelope.OverflowNotice.fields

const Wire = Schema.Struct({
  ...Envelope.schema(Schema.Unknown).fields,
  merged: Schema.optionalKey(Schema.Struct({ firstSeq: Schema.Int, lastSeq: Schema.Int, frames: Schema.Int })),
})

const decodeEnvelope = Schema.decodeUnknownResult(Wire)
const decodeNotice = Schema.decodeUnknownResult(Schema.Struct(noticeFields))

/** Checks what was received, and decodes its event where a vocabulary says how. */
export const decoder = <E>(runId: Envelope.RunId, vocabulary: Vocabulary<E> | undefined): Decode<RunItem<E>> => {
  const violation = (what: string, problem: unknown) =>
    Result.fail(new ProtocolViolation({ runId, detail: `${what}: ${String(problem)}` }))
  return (item) => {
    switch (item._tag) {
      case "CaughtUp":
      case "Truncated":
        return Result.succeed(item)
      case "Dropped": {
        const notice = decodeNotice(item.notice)
        return Result.isSuccess(notice)
          ? Result.succeed({ _tag: "Dropped", notice: notice.success })
          : violation("a notice can't be read", notice.failure)
      }
      case "Event": {
        const decoded = decodeEnvelope(item.envelope)
        if (Result.isFailure(decoded)) return violation(`seq ${item.envelope.seq} can't be read`, decoded.failure)
        const { merged, ...envelope } = decoded.success
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
    }
  }
}
