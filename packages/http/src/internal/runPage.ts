/** A run as a page: JSON, NDJSON, or its head alone. */
import * as AppendRules from "@throughline/core/AppendRules"
import * as Cursor from "@throughline/core/Cursor"
import { type RunId, toJson } from "@throughline/core/Envelope"
import type { RunHead } from "@throughline/core/RunHead"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Problem from "../Problem.ts"
import * as EventFilter from "./eventFilter.ts"
import * as headJson from "./headJson.ts"
import { type Query, cursorOf } from "./request.ts"
import type { Services } from "./services.ts"
import { jsonLine } from "./sseFrame.ts"
import * as storeCall from "./storeCall.ts"

export type PageType = "application/json" | "application/x-ndjson"

const defaultLimit = 100
const maxLimit = 1000

const representationOf = (type: PageType) => (type === "application/json" ? "json" : "ndjson")

const headersOf = (head: RunHead, type: PageType) => ({
  ...headJson.headers(head),
  etag: headJson.etag(head, representationOf(type)),
  "cache-control": "private, no-cache",
  vary: "Accept, Authorization",
})

interface KnownHead extends RunHead {
  readonly generation: string
}

const known = (head: RunHead): Effect.Effect<KnownHead, Problem.Refused> =>
  head.generation === undefined
    ? Effect.fail(Problem.unknownRun(head.runId))
    : Effect.succeed({ ...head, generation: head.generation })

/** What a query asks of a page. */
const askedOf = Effect.fnUntraced(function* (query: Query) {
  const passes = yield* Effect.fromResult(EventFilter.fromQuery(query))
  const limit = (yield* Effect.fromResult(query.integer("limit", { from: 1, to: maxLimit }))) ?? defaultLimit
  const after = query.get("after")
  return { limit, passes, place: after === undefined ? { seq: 0, text: "0" } : yield* cursorOf(after) }
})

/** Answers a page that the client has already; one that would be refused is none, whatever its tag. */
const unchanged = (
  request: HttpServerRequest,
  head: KnownHead,
  place: Cursor.RunPlace,
  headers: ReturnType<typeof headersOf>,
) =>
  headJson.matches(request.headers["if-none-match"], headers.etag) &&
  AppendRules.checkPlace(head.runId, head, place) === undefined
    ? HttpServerResponse.empty({ status: 304, headers })
    : undefined

/** The head of a run as headers, wherever its page would begin. */
export const answerHead = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  runId: RunId,
  query: Query,
  type: PageType,
) {
  const { place } = yield* askedOf(query)
  const runHead = yield* Effect.flatMap(storeCall.read(services.store.head(runId)), known)
  const headers = headersOf(runHead, type)
  return (
    unchanged(request, runHead, place, headers) ??
    HttpServerResponse.empty({ status: 200, headers: { ...headers, "content-type": type } })
  )
})

/** A page of a run. */
export const page = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  runId: RunId,
  query: Query,
  type: PageType,
) {
  const { limit, passes, place } = yield* askedOf(query)
  if (request.headers["if-none-match"] !== undefined) {
    // A head costs less than a page.
    const current = yield* Effect.flatMap(storeCall.read(services.store.head(runId)), known)
    const answer = unchanged(request, current, place, headersOf(current, type))
    if (answer !== undefined) return answer
  }

  const { envelopes, head: found } = yield* storeCall.read(services.store.read({ runId, after: place.text, limit }))
  const runHead = yield* known(found)
  const last = envelopes[envelopes.length - 1]
  const next = Cursor.run(last?.seq ?? place.seq, runHead.generation)
  const passing = passes === undefined ? envelopes : envelopes.filter(passes)
  const headers = { ...headersOf(runHead, type), "run-next": next }
  if (type === "application/x-ndjson") {
    return HttpServerResponse.text(passing.map((envelope) => `${jsonLine(envelope)}\n`).join(""), {
      headers,
      contentType: "application/x-ndjson",
    })
  }
  // Envelopes are embedded as they are stored.
  const fields = JSON.stringify({ head: headJson.toJson(runHead), next })
  return HttpServerResponse.text(`${fields.slice(0, -1)},"events":[${passing.map(toJson).join(",")}]}`, {
    headers,
    contentType: "application/json",
  })
})
