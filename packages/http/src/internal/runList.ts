/** The heads of runs, a page at a time. */
import { type RunId, type SessionId } from "@throughline/core/Envelope"
import type { RunsRequest } from "@throughline/core/EventStore"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Problem from "../Problem.ts"
import * as headJson from "./headJson.ts"
import { type Query, runIdOf } from "./request.ts"
import type { Services } from "./services.ts"
import * as storeCall from "./storeCall.ts"

const defaultLimit = 100
const maxLimit = 1000

const statuses = ["running", "completed", "failed", "cancelled"] as const

/** Where a list goes on: after a run and when it began, as text. */
const placeText = (startedAt: number, runId: RunId): string => `${startedAt.toString(36)}~${runId}`

const placeOf = (text: string): Option.Option<NonNullable<RunsRequest["before"]>> => {
  const match = /^([0-9a-z]{1,11})~(.+)$/.exec(text)
  return match === null
    ? Option.none()
    : Option.map(Result.getSuccess(runIdOf(match[2]!)), (runId) => ({
        runId,
        startedAt: Number.parseInt(match[1]!, 36),
      }))
}

/** A page of the list. */
export const list = Effect.fnUntraced(function* (services: Services, query: Query, sessionId: SessionId | undefined) {
  const limit = (yield* Effect.fromResult(query.integer("limit", { from: 1, to: maxLimit }))) ?? defaultLimit
  const status = yield* Effect.fromResult(query.literal("status", statuses))
  const text = query.get("before")
  const before = text === undefined ? Option.none() : placeOf(text)
  if (text !== undefined && Option.isNone(before)) {
    return yield* Problem.refuse("invalid-query", "before is not valid: expected the next of the page before")
  }
  const heads = yield* storeCall.read(
    services.store.runs({ sessionId, status, limit, before: Option.getOrUndefined(before) }),
  )
  const last = heads[heads.length - 1]
  const next = last?.startedAt === undefined || heads.length < limit ? undefined : placeText(last.startedAt, last.runId)
  return HttpServerResponse.jsonUnsafe(
    { runs: heads.map(headJson.toJson), next },
    { headers: { "cache-control": "private, no-cache" } },
  )
})
