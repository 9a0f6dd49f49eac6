/**
 * What a request can be refused with, as problem details (RFC 9457): a stable `type` per typed error.
 */
import type { CursorBeyondEnd, CursorScopeMismatch, InvalidCursor } from "@throughline/core/Cursor"
import * as Cursor from "@throughline/core/Cursor"
import type { AppendError } from "@throughline/core/EventStore"
import type { StoreReason } from "@throughline/core/EventStoreError"
import type { RunError } from "@throughline/core/RunItem"
import type { Overflow, QueueRefused } from "@throughline/core/SubscriberQueue"
import * as Effect from "effect/Effect"
import type { ProblemDetails } from "effect/http/ProblemDetails"
import * as Schema from "effect/Schema"

/** The status and the title of each problem. The names are part of the protocol and don't change. */
export const problems = {
  "invalid-id": { status: 400, title: "An id is not valid" },
  "invalid-query": { status: 400, title: "The query is not valid" },
  "invalid-header": { status: 400, title: "A header is not valid" },
  "invalid-body": { status: 400, title: "The body is not valid" },
  "invalid-cursor": { status: 400, title: "The text is no cursor" },
  unauthorized: { status: 401, title: "A credential is needed" },
  "not-found": { status: 404, title: "There is nothing here" },
  "run-unknown": { status: 404, title: "There is no such run" },
  "method-not-allowed": { status: 405, title: "The method is not allowed here" },
  "not-acceptable": { status: 406, title: "None of the accepted media types is available" },
  "request-timeout": { status: 408, title: "The body did not come in time" },
  "run-ended": { status: 409, title: "The run has ended" },
  "producer-fenced": { status: 409, title: "Another producer has taken over" },
  "producer-gap": { status: 409, title: "An append of this producer is missing" },
  "producer-stale": { status: 409, title: "The append is older than the last one" },
  "producer-mismatch": { status: 409, title: "The append was made before with other content" },
  "session-conflict": { status: 409, title: "The run belongs to another session" },
  "vocabulary-mismatch": { status: 409, title: "The run speaks another vocabulary" },
  "cursor-ahead": { status: 409, title: "The cursor is beyond the end" },
  "cursor-stale": { status: 410, title: "The cursor is of a run that was removed" },
  "history-truncated": { status: 410, title: "The history asked for was trimmed" },
  "run-removed": { status: 410, title: "The run was removed" },
  "head-moved": { status: 412, title: "The run has moved on" },
  "too-large": { status: 413, title: "The request is too large" },
  "uri-too-long": { status: 414, title: "The address is too long" },
  "unsupported-media-type": { status: 415, title: "The body is of a media type that is not read here" },
  "too-many-streams": { status: 429, title: "Too many streams are open" },
  "too-many-requests": { status: 429, title: "Too many requests" },
  "headers-too-large": { status: 431, title: "The headers are too large" },
  "corrupt-record": { status: 500, title: "A stored record can't be read" },
  "store-broken": { status: 500, title: "The store can't do its work" },
  "internal-error": { status: 500, title: "The server failed" },
  "no-archive": { status: 501, title: "The store has no archive" },
  "store-unavailable": { status: 503, title: "The store is not available" },
  "durability-unconfirmed": { status: 503, title: "The append is not confirmed" },
  "shutting-down": { status: 503, title: "The server is shutting down" },
  "store-full": { status: 507, title: "The store is full" },
} as const

export type ProblemName = keyof typeof problems

/** The `type` of a problem. */
export const typeOf = (name: ProblemName): string => `urn:throughline:problem:${name}`

/** Seconds a client is told to wait where nothing better is known. */
const retrySoon = 1

/** The request is refused; `name` decides type, title and status, `fields` are the problem's own. */
export class Refused extends Schema.TaggedError<Refused>("@throughline/http/Problem/Refused")("Refused", {
  name: Schema.Literals(Object.keys(problems) as ReadonlyArray<ProblemName>),
  detail: Schema.String,
  fields: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  /** Seconds until it is worth another try. */
  retryAfter: Schema.optionalKey(Schema.Int),
  /** Methods that the path has, for 405. */
  allow: Schema.optionalKey(Schema.String),
  /** Nothing more is answered on the connection. */
  isLast: Schema.optionalKey(Schema.Boolean),
  /** What went wrong below, which is for the log and never for the client. */
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  get status(): number {
    return problems[this.name].status
  }
  override get message() {
    return this.detail
  }
}

/** A refusal by name. */
export const refuse = (name: ProblemName, detail: string, fields?: Readonly<Record<string, unknown>>): Refused =>
  fields === undefined ? new Refused({ name, detail }) : new Refused({ name, detail, fields })

/** A refusal that is worth another try. */
export const later = (name: ProblemName, detail: string, retryAfter = retrySoon): Refused =>
  new Refused({ name, detail, retryAfter: Math.max(1, Math.ceil(retryAfter)) })

/** The problem as it goes over the wire. */
export const detailsOf = ({ detail, fields, name }: Refused): ProblemDetails => ({
  type: typeOf(name),
  title: problems[name].title,
  status: problems[name].status,
  detail,
  ...fields,
})

/** Logs what went wrong below: the client isn't told. */
export const report = (refused: Refused): Effect.Effect<void> =>
  refused.status >= 500 && refused.cause !== undefined
    ? Effect.logError(`${refused.name}: ${refused.detail}`, refused.cause)
    : Effect.void

/** The answer where a run is unknown, and where the caller may not know of it: the two are the same. */
export const unknownRun = (runId: string): Refused => refuse("run-unknown", `there is no run ${runId}`)

/** What a store says of itself stays here: it can name files and hosts. */
const ofReason = (reason: StoreReason, isAppend: boolean): Refused => {
  switch (reason._tag) {
    case "StoreUnavailable":
      return new Refused({
        name: "store-unavailable",
        detail: isAppend
          ? "the store did not answer; whether the append was done is unknown: send it again with the same producer headers"
          : "the store did not answer",
        retryAfter: retrySoon,
        cause: reason,
      })
    case "StoreFull":
      return new Refused({ name: "store-full", detail: "the store has no room left", cause: reason })
    case "StoreBroken":
      return new Refused({ name: "store-broken", detail: "the store can't do its work", cause: reason })
    case "InvalidRequest":
      return refuse(isAppend ? "invalid-body" : "invalid-query", reason.detail)
  }
}

/** Everything that the services below can say no with. */
export type BackendError =
  | AppendError
  | RunError
  | Overflow
  | QueueRefused
  | InvalidCursor
  | CursorScopeMismatch
  | CursorBeyondEnd

/** What a typed error is over HTTP. */
export const ofError = (error: BackendError): Refused => {
  switch (error._tag) {
    case "AppendFailed":
      return ofReason(error.reason, true)
    case "ReadFailed":
      return ofReason(error.reason, false)
    case "RunEnded":
      return refuse("run-ended", error.message, { endSeq: error.endSeq, ending: error.ending })
    case "SeqConflict":
      return refuse("head-moved", error.message, {
        cursor: error.generation === undefined ? "0" : Cursor.run(error.headSeq, error.generation),
      })
    case "SessionConflict":
      // The run's session is not for everybody who may append to the run.
      return refuse("session-conflict", `run ${error.runId} does not belong to session ${error.given}`)
    case "ProducerFenced":
      return refuse("producer-fenced", error.message, { currentEpoch: error.currentEpoch })
    case "ProducerGap":
      return refuse("producer-gap", error.message, { expectedNumber: error.expectedNumber })
    case "ProducerStale":
      return refuse("producer-stale", error.message, { lastNumber: error.lastNumber })
    case "ProducerMismatch":
      return refuse("producer-mismatch", error.message)
    case "VocabularyMismatch":
      return refuse("vocabulary-mismatch", error.message, { vocabulary: error.stored })
    case "EventTooLarge":
      return refuse("too-large", error.message, { limit: error.maxBytes })
    case "DurabilityUnconfirmed":
      return new Refused({
        name: "durability-unconfirmed",
        detail: "the append is stored but not confirmed: send it again with the same producer headers",
        retryAfter: retrySoon,
        cause: error,
      })
    case "HistoryTruncated":
      return refuse("history-truncated", error.message, {
        oldestSeq: error.oldestSeq,
        next: Cursor.run(error.oldestSeq - 1, error.generation),
      })
    case "CursorAhead":
      return refuse("cursor-ahead", error.message, { lastSeq: error.headSeq })
    case "CursorBeyondEnd":
      return refuse("cursor-ahead", error.message)
    case "CursorStale":
      return refuse("cursor-stale", error.message)
    case "InvalidCursor":
    case "CursorScopeMismatch":
      return refuse("invalid-cursor", error.message)
    case "CorruptRecord":
      return new Refused({
        name: "corrupt-record",
        detail: `record ${error.seq} of run ${error.runId} can't be read`,
        fields: { seq: error.seq },
        cause: error,
      })
    case "RunRemoved":
      return refuse("run-removed", `run ${error.runId} was removed`)
    case "InvalidQueueOptions":
    case "InvalidOverflowPolicy":
      return refuse("invalid-query", error.message)
    case "SubscriberOverflow":
    case "TerminalOverflow":
      return later("too-many-requests", error.message)
  }
}
