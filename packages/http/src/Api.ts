/**
 * The routes as an `HttpApi`: what `/openapi.json` is made of, and what a typed client of them (`HttpApiClient`) is
 * derived from.
 *
 * Streams are described by their media type: their frames are in PROTOCOL.md, and are read by `RunClient`.
 */
import { Delivery, EventId, RunId, schema as envelopeSchema, SessionId } from "@throughline/core/Envelope"
import { VocabularyId } from "@throughline/core/Vocabulary"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Record from "effect/Record"
import * as Schema from "effect/Schema"
import { PostedEvent, Renewal } from "./internal/append.ts"
import { type ProblemName, problems, typeOf } from "./Problem.ts"

/** A run without its events, as JSON. */
export const Head = Schema.Struct({
  runId: RunId,
  status: Schema.Literals(["running", "completed", "failed", "cancelled"]),
  firstSeq: Schema.Int,
  lastSeq: Schema.Int,
  cursor: Schema.optionalKey(Schema.String),
  sessionId: Schema.optionalKey(SessionId),
  vocabulary: Schema.optionalKey(VocabularyId),
  startedAt: Schema.optionalKey(Schema.String),
  lastActivityAt: Schema.optionalKey(Schema.String),
}).annotate({ identifier: "Head", description: "A run without its events; times are ISO 8601." })

/** An envelope as JSON; `event` is the vocabulary's. */
export const Envelope = envelopeSchema(Schema.Unknown).annotate({
  identifier: "Envelope",
  description: "An event with its routing fields, as it is stored.",
})

/** A page of a run. */
export const Page = Schema.Struct({ head: Head, next: Schema.String, events: Schema.Array(Envelope) }).annotate({
  identifier: "Page",
  description: "Events of a run, its head in the same view, and the cursor to read on after.",
})

/** A page of the list of runs. */
export const Runs = Schema.Struct({ runs: Schema.Array(Head), next: Schema.optionalKey(Schema.String) }).annotate({
  identifier: "Runs",
})

/** What an append is answered with. */
export const Appended = Schema.Struct({
  events: Schema.Array(Schema.Struct({ seq: Schema.Int, eventId: EventId, cursor: Schema.String })),
  cursor: Schema.String,
}).annotate({ identifier: "Appended", description: "Where each event is, and the head as far as this append knows." })

/** Whether the store and the live path answer. */
export const Health = Schema.Struct({
  status: Schema.Literals(["ok", "failing"]),
  store: Schema.Literals(["ok", "failing"]),
  live: Schema.Literals(["ok", "failing"]),
}).annotate({ identifier: "Health" })

const Input = PostedEvent.annotate({ identifier: "EventInput", description: "An event to append." })

/** Problems as answers: one schema for each status, whose types are listed. */
const refusals = (...names: ReadonlyArray<ProblemName>) => {
  const byStatus = new Map<number, Array<ProblemName>>()
  for (const name of names) {
    const { status } = problems[name]
    byStatus.set(status, [...(byStatus.get(status) ?? []), name])
  }
  return [...byStatus].map(([status, sameStatus]) =>
    Schema.StructWithRest(
      Schema.Struct({
        type: Schema.Literals(sameStatus.map(typeOf)),
        title: Schema.String,
        status: Schema.Int,
        detail: Schema.String,
      }),
      [Schema.Record(Schema.String, Schema.Unknown)],
    ).pipe(HttpApiSchema.asJson({ contentType: ProblemDetails.contentType }), HttpApiSchema.status(status)),
  )
}

const always = [
  "invalid-query",
  "unauthorized",
  "not-found",
  "method-not-allowed",
  "uri-too-long",
  "headers-too-large",
  "too-many-requests",
  "internal-error",
  "store-broken",
  "store-unavailable",
  "shutting-down",
] as const satisfies ReadonlyArray<ProblemName>

const onRun = [...always, "invalid-id", "run-unknown"] as const

const onBody = [
  "invalid-body",
  "invalid-header",
  "request-timeout",
  "too-large",
  "unsupported-media-type",
  "store-full",
] as const

const asEventStream = HttpApiSchema.asText({ contentType: "text/event-stream" })
const asLines = HttpApiSchema.asText({ contentType: "application/x-ndjson" })

const EventStream = Schema.String.annotate({
  description: "Envelopes as frames with `id:` and `data:`, control frames with `event:`; see PROTOCOL.md.",
}).pipe(asEventStream)

const Lines = Schema.String.annotate({ description: "An envelope a line." }).pipe(asLines)

const text = (description: string) => Schema.optionalKey(Schema.String.annotate({ description }))
const count = (description: string, from: number, to: number) =>
  Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: from, maximum: to })).annotate({ description }))

const filter = {
  after: text("What follows this cursor; for a run a bare seq too."),
  delivery: text(`Comma-separated delivery classes to receive: ${Delivery.literals.join(", ")}.`),
  kinds: text("Comma-separated kinds to receive. The envelope that ends the run passes every filter."),
}

const reading = {
  ...filter,
  limit: count("Pages only: events in the page; 100 by default.", 1, 1000),
  wait: text("Streams only: an unknown run is waited for; with a value, that many seconds (1 to 30) at most."),
  overflow: Schema.optionalKey(
    Schema.Literals(["dropNonTerminal", "dropProgress", "summarize", "failSubscriber"]).annotate({
      description: "Streams only: what may be lost by a reader who prefers fresh to whole.",
    }),
  ),
  capacity: count("Streams only: frames that may wait under an overflow policy; 64 by default.", 1, 10_000),
}

const Unchanged = HttpApiSchema.Empty(304).annotate({ description: "Nothing has changed." })

const ifNoneMatch = text("Pages only: 304 where nothing has changed.")

const runParams = { runId: RunId }

const about = (summary: string, description?: string) =>
  OpenApi.annotations({ summary, ...(description === undefined ? undefined : { description }) })

const runsGroup = HttpApiGroup.make("runs")
  .add(
    HttpApiEndpoint.get("list", "/runs", {
      query: {
        session: text("Only runs of this session."),
        status: Schema.optionalKey(Schema.Literals(["running", "completed", "failed", "cancelled"])),
        limit: count("Runs in the page; 100 by default.", 1, 1000),
        before: text("The `next` of the page before."),
      },
      success: Runs,
      error: refusals(...always),
    }).annotateMerge(about("Heads of runs, last started first")),
    HttpApiEndpoint.get("read", "/runs/:runId/events", {
      params: runParams,
      query: reading,
      headers: {
        "last-event-id": text("Streams only: the cursor to go on after; wins over `after`."),
        "if-none-match": ifNoneMatch,
      },
      success: [Page, Lines, EventStream, HttpApiSchema.NoContent, Unchanged],
      error: refusals(
        ...onRun,
        "not-acceptable",
        "invalid-cursor",
        "cursor-ahead",
        "cursor-stale",
        "history-truncated",
        "run-removed",
        "corrupt-record",
        "too-many-streams",
      ),
    }).annotateMerge(
      about(
        "A run: a page as JSON or NDJSON, or live as Server-Sent Events, by Accept",
        "204 answers a stream that was resumed at the end of an ended run.",
      ),
    ),
    HttpApiEndpoint.head("head", "/runs/:runId/events", {
      params: runParams,
      query: reading,
      headers: { "if-none-match": ifNoneMatch },
      success: [HttpApiSchema.Empty(200), Unchanged],
      error: refusals(...onRun, "not-acceptable", "invalid-cursor"),
    }).annotateMerge(about("A run's head, as headers: Run-Status, Run-Head, Run-First, and for pages ETag")),
    HttpApiEndpoint.post("append", "/runs/:runId/events", {
      params: runParams,
      query: {
        vocabulary: text("The vocabulary's name; the server's first by default."),
        sessionId: text("The run's session, set by its first append or never."),
        lease: count("Seconds: the run is ended as abandoned when nobody appends or renews for that long.", 1, 3600),
      },
      headers: {
        "producer-id": text("With Producer-Epoch and Producer-Seq: a repeat of the last append writes nothing."),
        "producer-epoch": text("From 1; a higher one fences the lower."),
        "producer-seq": text("Counts appends from 1 within an epoch."),
        "if-match": text('The quoted run cursor that must be the head, or "0": the run must be new.'),
      },
      payload: [
        Schema.Union([Input, Schema.Array(Input)]),
        Schema.String.annotate({ description: "An event input a line." }).pipe(asLines),
      ],
      success: Appended,
      error: refusals(
        ...onRun,
        ...onBody,
        "run-ended",
        "producer-fenced",
        "producer-gap",
        "producer-stale",
        "producer-mismatch",
        "session-conflict",
        "vocabulary-mismatch",
        "head-moved",
        "durability-unconfirmed",
      ),
    }).annotateMerge(about("Appends one event or a batch, whole or not at all")),
    HttpApiEndpoint.put("renew", "/runs/:runId/lease", {
      params: runParams,
      payload: Renewal,
      success: HttpApiSchema.NoContent,
      error: refusals(...onRun, ...onBody, "run-ended"),
    }).annotateMerge(about("Renews the lease of a run that is written over HTTP")),
    HttpApiEndpoint.delete("remove", "/runs/:runId", {
      params: runParams,
      success: HttpApiSchema.NoContent,
      error: refusals(...onRun),
    }).annotateMerge(about("Removes a run")),
  )
  .annotateMerge(OpenApi.annotations({ title: "Runs" }))

const sessionsGroup = HttpApiGroup.make("sessions")
  .add(
    HttpApiEndpoint.get("read", "/sessions/:sessionId/events", {
      params: { sessionId: SessionId },
      query: filter,
      headers: { "last-event-id": text("The cursor to go on after; wins over `after`.") },
      success: EventStream,
      error: refusals(
        ...always,
        "invalid-id",
        "not-acceptable",
        "invalid-cursor",
        "cursor-ahead",
        "no-archive",
        "too-many-streams",
      ),
    }).annotateMerge(about("All runs of a session, present and future, as Server-Sent Events")),
  )
  .annotateMerge(OpenApi.annotations({ title: "Sessions" }))

const serverGroup = HttpApiGroup.make("server")
  .add(
    HttpApiEndpoint.get("health", "/health", {
      success: [Health, Health.pipe(HttpApiSchema.status(503))],
    }).annotateMerge(about("Whether store and live path answer, asked when the request comes")),
    HttpApiEndpoint.get("metrics", "/metrics", {
      success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" })),
      error: refusals(...always),
    }).annotateMerge(about("Metrics of the process as Prometheus text")),
    HttpApiEndpoint.get("openapi", "/openapi.json", { success: Schema.Unknown }).annotateMerge(about("This document")),
  )
  .annotateMerge(OpenApi.annotations({ title: "Server" }))

/** How a caller may say who it is; which is asked for is the server's `Access`. */
const security = {
  bearer: { type: "http", scheme: "bearer" },
  link: { type: "apiKey", in: "query", name: "token", description: "The token of a signed link." },
}

/** All routes. */
export const Api = HttpApi.make("throughline")
  .add(runsGroup)
  .add(sessionsGroup)
  .add(serverGroup)
  .annotateMerge(
    OpenApi.annotations({
      title: "Throughline",
      version: "1",
      description: "Runs over HTTP: resumable event streams, pages and appends, as PROTOCOL.md says.",
      // Relative to this document, so it holds under any prefix.
      servers: [{ url: "." }],
      transform: (document) => ({
        ...document,
        components: { ...document["components"], securitySchemes: security },
        security: [{}, { bearer: [] }, { link: [] }],
      }),
    }),
  )

/** What answers GET answers HEAD, without a body. */
const headOf = (get: OpenApi.OpenAPISpecOperation): OpenApi.OpenAPISpecOperation => ({
  ...get,
  operationId: `${get.operationId}.head`,
  ...(get.summary === undefined ? undefined : { summary: `${get.summary}: the headers alone` }),
  responses: withoutBodies(get.responses),
})

const withoutBodies = (responses: OpenApi.OpenAPISpecResponses): OpenApi.OpenAPISpecResponses =>
  Record.map(responses, ({ description, headers }) => ({
    description,
    ...(headers === undefined ? undefined : { headers }),
  }))

/** The OpenAPI document of the routes. */
export const openApi = (): OpenApi.OpenAPISpec => {
  const document = OpenApi.fromApi(Api)
  for (const methods of Object.values(document.paths)) {
    if (methods.head !== undefined) methods.head.responses = withoutBodies(methods.head.responses)
    else if (methods.get !== undefined) methods.head = headOf(methods.get)
    // An operation's own list would say that it takes no credential.
    for (const name of ["get", "head", "post", "put", "delete"] as const) {
      const operation = methods[name]
      if (operation !== undefined) operation.security = document.security
    }
  }
  return document
}
