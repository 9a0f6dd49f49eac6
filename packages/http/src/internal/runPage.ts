/** A run as a page: JSON, NDJSON, or its head alone. */
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

const known = (head: RunHead): Effect.Effect<RunHead, Problem.Refused> =>
  head.status === "unknown" ? Effect.fail(Problem.unknownRun(head.runId)) : Effect.succeed(head)

/** The head of a run as headers. */
export const head = Effect.fnUntraced(function* (services: Services, runId: RunId, type: string) {
  const runHead = yield* Effect.flatMap(storeCall.read(services.store.head(runId)), known)
  const pageType = type === "application/x-ndjson" ? type : "application/json"
  return HttpServerResponse.empty({
    status: 200,
    headers: { ...headersOf(runHead, pageType), "content-type": type },
  })
})

/** A page of a run. */
export const page = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  runId: RunId,
  query: Query,
  type: PageType,
) {
  const passes = yield* Effect.fromResult(EventFilter.fromQuery(query))
  const limit = (yield* Effect.fromResult(query.integer("limit", { from: 1, to: maxLimit }))) ?? defaultLimit
  const after = query.get("after")
  const place = after === undefined ? { seq: 0, text: "0" } : yield* cursorOf(after)

  const ifNoneMatch = request.headers["if-none-match"]
  if (ifNoneMatch !== undefined) {
    const runHead = yield* Effect.flatMap(storeCall.read(services.store.head(runId)), known)
    const headers = headersOf(runHead, type)
    if (headJson.matches(ifNoneMatch, headers.etag)) return HttpServerResponse.empty({ status: 304, headers })
  }

  const { envelopes, head: runHead } = yield* storeCall.read(services.store.read({ runId, after: place.text, limit }))
  yield* known(runHead)
  const last = envelopes[envelopes.length - 1]
  const next = Cursor.run(last?.seq ?? place.seq, runHead.generation!)
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
