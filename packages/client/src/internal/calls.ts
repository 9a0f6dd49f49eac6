/** What is asked of a server once: pages, heads, lists, leases, removals. */
import { runPlace, type RunCursor } from "@throughline/core/Cursor"
import { Ending, type Envelope, RunId, SessionId, Timestamp } from "@throughline/core/Envelope"
import type { RunHead } from "@throughline/core/RunHead"
import { type Vocabulary, VocabularyId } from "@throughline/core/Vocabulary"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Head, ListOptions, PageOptions } from "../RunClient.ts"
import type { RunError as Refusal } from "../RunError.ts"
import * as RunClientError from "../RunClientError.ts"
import { mostOfProblem } from "./answer.ts"
import { call, type CallOptions } from "./calling.ts"
import { Lost, Violation } from "./failure.ts"
import type { Settings } from "./retrying.ts"
import { decodeEvent, query, unaskable, WireEnvelope } from "./runItems.ts"

const Status = Schema.Union([Schema.Literal("running"), Ending])

const HeadJson = Schema.Struct({
  runId: RunId,
  status: Status,
  firstSeq: Schema.Int,
  lastSeq: Schema.Int,
  cursor: Schema.optionalKey(Schema.String),
  sessionId: Schema.optionalKey(SessionId),
  vocabulary: Schema.optionalKey(VocabularyId),
  startedAt: Schema.optionalKey(Timestamp),
  lastActivityAt: Schema.optionalKey(Timestamp),
})

const ListJson = Schema.Struct({ runs: Schema.Array(HeadJson), next: Schema.optionalKey(Schema.String) })
const PageJson = Schema.Struct({ head: HeadJson, next: Schema.String, events: Schema.Array(WireEnvelope) })

const decodeList = Schema.decodeUnknownOption(Schema.fromJsonString(ListJson))
const decodePage = Schema.decodeUnknownOption(Schema.fromJsonString(PageJson))
const decodeStatus = Schema.decodeUnknownOption(Status)

/** The generation in a run cursor. */
const generationOf = (cursor: string): string | undefined => cursor.split("-")[1]

const millis = (timestamp: string): number => DateTime.toEpochMillis(DateTime.makeUnsafe(timestamp))

const headOf = ({ cursor, lastActivityAt, startedAt, ...head }: typeof HeadJson.Type): RunHead => {
  const generation = cursor === undefined ? undefined : generationOf(cursor)
  return {
    ...head,
    ...(generation === undefined ? undefined : { generation }),
    ...(startedAt === undefined ? undefined : { startedAt: millis(startedAt) }),
    ...(lastActivityAt === undefined ? undefined : { lastActivityAt: millis(lastActivityAt) }),
  }
}

/** Bytes of a head in a list. */
const mostOfHead = 2048

/** The answer, or what is left of its failure once `refused` has said what a refusal is. */
const asked = <A, E>(
  settings: Settings,
  what: RunClientError.Asked,
  request: HttpClientRequest.HttpClientRequest,
  options: CallOptions<A>,
  refused: (refusal: Refusal) => E,
): Effect.Effect<A, E | RunClientError.Unreachable | RunClientError.ProtocolViolation> =>
  Effect.mapError(
    call(settings, HttpClientRequest.setHeaders(request, settings.headers), options),
    (error): E | RunClientError.Unreachable | RunClientError.ProtocolViolation =>
      error instanceof Lost || error instanceof Violation ? RunClientError.givenUp(what, error) : refused(error),
  )

const json = { accept: "application/json" }

export const list = (settings: Settings, { before, limit = 100, sessionId, status }: ListOptions) => {
  const url = settings.urlOf("/runs")
  if (sessionId !== undefined) url.searchParams.set("session", sessionId)
  if (status !== undefined) url.searchParams.set("status", status)
  if (before !== undefined) url.searchParams.set("before", before)
  url.searchParams.set("limit", String(limit))
  const what = sessionId === undefined ? {} : { sessionId }
  return asked(
    settings,
    what,
    HttpClientRequest.get(url, { headers: json }),
    {
      what: "a list of runs",
      most: mostOfProblem + limit * mostOfHead,
      read: (text, { status: answered }) =>
        answered === 200
          ? Option.getOrUndefined(Option.map(decodeList(text), ({ next, runs }) => ({ runs: runs.map(headOf), next })))
          : undefined,
    },
    (refusal) => RunClientError.refused(what, refusal),
  )
}

/** The head in the headers of an answer. */
const headIn = (runId: RunId, headers: Readonly<Record<string, string | undefined>>): Head | undefined => {
  const status = Option.getOrUndefined(decodeStatus(headers["run-status"]))
  const cursor = headers["run-head"] ?? ""
  const generation = generationOf(cursor)
  const firstSeq = Number(headers["run-first"])
  const lastSeq = Number.parseInt(cursor, 10)
  return status === undefined || generation === undefined || !Number.isSafeInteger(firstSeq + lastSeq)
    ? undefined
    : { runId, status, firstSeq, lastSeq, generation, cursor }
}

export const head = (settings: Settings, runId: RunId) =>
  asked(
    settings,
    { runId },
    HttpClientRequest.head(settings.urlOf(`/runs/${runId}/events`)),
    {
      what: "a head",
      most: mostOfProblem,
      read: (_, { headers, status }) => (status === 200 ? headIn(runId, headers) : undefined),
    },
    (refusal) =>
      // Such an answer has no body that could say more.
      refusal.status === 404 ? new RunClientError.RunUnknown({ runId }) : RunClientError.refused({ runId }, refusal),
  )

export const page = Effect.fnUntraced(function* <E>(
  settings: Settings,
  runId: RunId,
  given: PageOptions & { readonly vocabulary?: Vocabulary<E> | undefined },
) {
  const { after, limit } = given
  const unasked = unaskable({ runId }, given)
  if (unasked !== undefined) return yield* unasked
  const place: { readonly generation?: string } = yield* runPlace(after)
  const url = settings.urlOf(`/runs/${runId}/events`)
  query(url.searchParams, given)
  if (after !== undefined) url.searchParams.set("after", String(after))
  if (limit !== undefined) url.searchParams.set("limit", String(limit))
  const answer = yield* asked(
    settings,
    { runId },
    HttpClientRequest.get(url, { headers: json }),
    {
      what: "a page",
      // UTF-8 has no more for a character.
      most: settings.maxEventSize * 4,
      read: (text, { status }) => (status === 200 ? Option.getOrUndefined(decodePage(text)) : undefined),
    },
    (refusal) => RunClientError.ofPage(runId, refusal, { cursor: cursorText(after), generation: place.generation }),
  )
  const events: Array<Envelope<E>> = []
  for (const { merged: _, ...envelope } of answer.events) {
    events.push(yield* Effect.fromResult(decodeEvent(envelope, given.vocabulary)))
  }
  return { head: headOf(answer.head), next: answer.next, events }
})

const cursorText = (cursor: RunCursor | undefined): string | undefined =>
  cursor === undefined ? undefined : String(cursor)

const done = (status: number): true | undefined => (status === 204 ? true : undefined)

export const renew = (settings: Settings, runId: RunId, lease: Duration.Input) => {
  const seconds = Math.ceil(Duration.toSeconds(lease))
  const request = HttpClientRequest.put(settings.urlOf(`/runs/${runId}/lease`)).pipe(
    HttpClientRequest.bodyText(JSON.stringify({ seconds }), "application/json"),
  )
  return Effect.asVoid(
    asked(
      settings,
      { runId },
      request,
      { what: "a renewal", most: mostOfProblem, read: (_, { status }) => done(status) },
      (refusal) => RunClientError.ofRenewal(runId, refusal),
    ),
  )
}

export const remove = (settings: Settings, runId: RunId) =>
  asked(
    settings,
    { runId },
    HttpClientRequest.delete(settings.urlOf(`/runs/${runId}`)),
    { what: "a removal", most: mostOfProblem, read: (_, { status }) => done(status) },
    (refusal) => (refusal.code === "run-unknown" ? undefined : RunClientError.refused({ runId }, refusal)),
  ).pipe(
    Effect.catch((error) => (error === undefined ? Effect.succeed(false) : Effect.fail(error))),
    Effect.map((removed): boolean => removed),
  )
