/** From a request to its endpoint: bounds, path, method, rate, right; and from what comes of it to an answer. */
import type { RunId, SessionId } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import { openApi } from "../Api.ts"
import type { Access, AccessRequest, Action, Resource } from "../Access.ts"
import type { Bounds } from "../Bounds.ts"
import * as Page from "../Page.ts"
import * as Problem from "../Problem.ts"
import * as Append from "./append.ts"
import * as Health from "./health.ts"
import { negotiate } from "./negotiation.ts"
import type { Limit } from "./rateLimit.ts"
import * as Request from "./request.ts"
import * as RunList from "./runList.ts"
import * as RunPage from "./runPage.ts"
import * as RunStream from "./runStream.ts"
import type { Services } from "./services.ts"
import * as SessionStream from "./sessionStream.ts"

type Answer = Effect.Effect<HttpServerResponse.HttpServerResponse, Problem.Refused>

interface Call {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly query: Request.Query
  readonly client: string
  readonly stillAllowed: Effect.Effect<boolean>
  /** Headers that every answer of this request has. */
  readonly headers: Readonly<Record<string, string>>
}

/** A method of a path: what it is about, what its query may have, and what it does. */
interface Endpoint {
  readonly action: Action
  readonly resource: (query: Request.Query) => Result.Result<Resource, Problem.Refused>
  readonly query: ReadonlyArray<string>
  readonly answer: (call: Call) => Answer
}

/** The endpoints of a path by method; a path of files needs no right, as nothing in them came from a run. */
type Methods = { readonly [Method in "GET" | "HEAD" | "POST" | "PUT" | "DELETE"]?: Endpoint }

export interface Options {
  readonly services: Services
  readonly page: Page.Page["Service"] | undefined
  readonly access: Access["Service"]
  readonly cors: { readonly origins: ReadonlyArray<string> | "*" } | undefined
  readonly limit: Limit
}

const answered = Metric.counter("throughline_http_requests_total", {
  description: "Requests that were answered, by method and status; streams count when they end",
  incremental: true,
})

const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])

const pageTypes = ["application/json", "application/x-ndjson", "text/event-stream"] as const

const readNames = ["after", "delivery", "kinds", "limit", "wait", "overflow", "capacity"]

const runMethods = (services: Services, runId: RunId): Methods => {
  const about = (query: Request.Query): Result.Result<Resource, Problem.Refused> =>
    Result.map(sessionIn(query, "sessionId"), (sessionId) => ({ _tag: "Run", runId, sessionId }))
  const typeFor = ({ request }: Call) => {
    const type = negotiate(request.headers["accept"], pageTypes)
    return type === undefined
      ? Effect.fail(Problem.refuse("not-acceptable", `expected Accept to name ${pageTypes.join(", ")}`))
      : Effect.succeed(type)
  }
  return {
    GET: {
      action: "read",
      resource: about,
      query: readNames,
      answer: (call) =>
        Effect.flatMap(typeFor(call), (type) =>
          type === "text/event-stream"
            ? RunStream.serve(services, call.request, runId, call.query, call)
            : RunPage.page(services, call.request, runId, call.query, type),
        ),
    },
    HEAD: {
      action: "read",
      resource: about,
      query: readNames,
      answer: (call) => Effect.flatMap(typeFor(call), (type) => RunPage.head(services, runId, type)),
    },
    POST: {
      action: "append",
      resource: about,
      query: ["vocabulary", "sessionId", "lease"],
      answer: ({ query, request }) =>
        Effect.flatMap(Effect.fromResult(sessionIn(query, "sessionId")), (sessionId) =>
          Append.append(services, request, { runId, sessionId, query }),
        ),
    },
  }
}

const sessionIn = (query: Request.Query, name: string): Result.Result<SessionId | undefined, Problem.Refused> => {
  const text = query.get(name)
  return text === undefined
    ? Result.succeed(undefined)
    : Result.mapError(Request.sessionIdOf(text), ({ detail }) => Problem.refuse("invalid-query", `${name}: ${detail}`))
}

const always = (resource: Resource) => () => Result.succeed(resource)

const read = (endpoint: Omit<Endpoint, "action">): Methods => {
  const whole: Endpoint = { action: "read", ...endpoint }
  // The platform sends no body to HEAD.
  return { GET: whole, HEAD: whole }
}

/** The endpoints at a path, where there are any. */
const methodsAt = (
  services: Services,
  segments: ReadonlyArray<string>,
): Result.Result<Methods | undefined, Problem.Refused> => {
  const [first, id, last] = segments
  if (segments.length === 1) {
    switch (first) {
      case "runs":
        return Result.succeed(
          read({
            resource: (query) =>
              Result.map(sessionIn(query, "session"), (sessionId): Resource => ({ _tag: "Runs", sessionId })),
            query: ["session", "status", "limit", "before"],
            answer: ({ query }) =>
              Effect.flatMap(Effect.fromResult(sessionIn(query, "session")), (sessionId) =>
                RunList.list(services, query, sessionId),
              ),
          }),
        )
      case "health":
        return Result.succeed(
          read({ resource: always({ _tag: "Health" }), query: [], answer: () => Health.check(services) }),
        )
      case "metrics":
        return Result.succeed(
          read({
            resource: always({ _tag: "Metrics" }),
            query: [],
            answer: () =>
              Effect.map(PrometheusMetrics.format(), (text) =>
                HttpServerResponse.text(text, {
                  contentType: "text/plain; version=0.0.4; charset=utf-8",
                  headers: { "cache-control": "no-store" },
                }),
              ),
          }),
        )
    }
  }
  if (first === "runs" && segments.length === 2) {
    return Result.map(Request.runIdOf(id!), (runId) => ({
      DELETE: {
        action: "remove",
        resource: always({ _tag: "Run", runId }),
        query: [],
        answer: () => Append.remove(services, runId),
      },
    }))
  }
  if (first === "runs" && segments.length === 3 && last === "events") {
    return Result.map(Request.runIdOf(id!), (runId) => runMethods(services, runId))
  }
  if (first === "runs" && segments.length === 3 && last === "lease") {
    return Result.map(Request.runIdOf(id!), (runId) => ({
      PUT: {
        action: "append",
        resource: always({ _tag: "Run", runId }),
        query: [],
        answer: ({ request }) => Append.renew(services, request, runId),
      },
    }))
  }
  if (first === "sessions" && segments.length === 3 && last === "events") {
    return Result.map(Request.sessionIdOf(id!), (sessionId) => sessionMethods(services, sessionId))
  }
  return Result.succeed(undefined)
}

const sessionMethods = (services: Services, sessionId: SessionId): Methods => {
  const endpoint = {
    action: "read",
    resource: always({ _tag: "Session", sessionId }),
    query: ["after", "delivery", "kinds"],
  } as const
  const acceptable = ({ request }: Call) =>
    negotiate(request.headers["accept"], ["text/event-stream"]) === undefined
      ? Effect.fail(Problem.refuse("not-acceptable", "expected Accept to name text/event-stream"))
      : Effect.void
  return {
    GET: {
      ...endpoint,
      answer: (call) =>
        Effect.andThen(acceptable(call), SessionStream.serve(services, call.request, sessionId, call.query, call)),
    },
    HEAD: {
      ...endpoint,
      answer: (call) =>
        Effect.as(acceptable(call), HttpServerResponse.empty({ status: 200, headers: RunStream.headers })),
    },
  }
}

const checkSize = (request: HttpServerRequest.HttpServerRequest, bounds: Bounds): Problem.Refused | undefined => {
  if (request.url.length > bounds.urlLength) {
    return Problem.refuse("uri-too-long", `the address has more than ${bounds.urlLength} characters`)
  }
  let length = 0
  for (const name in request.headers) length += name.length + request.headers[name]!.length
  return length > bounds.headerLength
    ? Problem.refuse("headers-too-large", `the headers have more than ${bounds.headerLength} characters`)
    : undefined
}

/** Of every answer: what it is isn't guessed, where it came from isn't told on, and no other site embeds it. */
const commonHeaders: Readonly<Record<string, string>> = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
}

const corsHeaders = (cors: Options["cors"], request: HttpServerRequest.HttpServerRequest) => {
  const origin = request.headers["origin"]
  if (cors === undefined || origin === undefined) return undefined
  if (cors.origins !== "*" && !cors.origins.includes(origin)) return undefined
  return {
    "access-control-allow-origin": cors.origins === "*" ? "*" : origin,
    "access-control-expose-headers": "ETag, Retry-After, Run-Status, Run-Head, Run-First, Run-Next",
    "cross-origin-resource-policy": "cross-origin",
    vary: "Origin, Accept, Authorization",
  }
}

const preflight = (allow: string) =>
  HttpServerResponse.empty({
    status: 204,
    headers: {
      "access-control-allow-methods": allow,
      "access-control-allow-headers":
        "Accept, Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID, Producer-Epoch, Producer-Id, Producer-Seq",
      "access-control-max-age": "600",
    },
  })

const refusedResponse = (refused: Problem.Refused): HttpServerResponse.HttpServerResponse => {
  const headers: Record<string, string> = { "cache-control": "no-store" }
  if (refused.retryAfter !== undefined) headers["retry-after"] = String(refused.retryAfter)
  if (refused.allow !== undefined) headers["allow"] = refused.allow
  if (refused.name === "unauthorized") headers["www-authenticate"] = 'Bearer realm="throughline"'
  return HttpServerResponse.setHeaders(ProblemDetails.toResponse(Problem.detailsOf(refused)), headers)
}

/** Makes the handler of all routes. */
export const make = (options: Options) => {
  const { access, cors, limit, page, services } = options

  const permit = Effect.fnUntraced(function* (request: AccessRequest) {
    const decision = yield* Effect.catchCause(access.decide(request), (cause) =>
      Effect.as(Effect.logError("a right could not be decided, so it is denied", cause), { _tag: "Denied" } as const),
    )
    if (decision._tag === "Allowed") return decision
    if (decision._tag === "Unauthorized") return yield* Problem.refuse("unauthorized", "a good credential is needed")
    const { resource } = request
    if (resource._tag === "Run") return yield* Problem.unknownRun(resource.runId)
    return yield* Problem.refuse("not-found", "there is nothing here")
  })

  let document: string | undefined

  /** What has no run in it: the page's files, and the description of the routes. */
  const file = (request: HttpServerRequest.HttpServerRequest, segments: ReadonlyArray<string>) => {
    if (segments.length === 1 && segments[0] === "openapi.json") {
      document ??= JSON.stringify(openApi())
      return HttpServerResponse.text(document, { contentType: "application/json" })
    }
    const found = page?.files.get(Page.nameOf(segments))
    return found === undefined ? undefined : Page.respond(found, request.headers["if-none-match"])
  }

  const answer = Effect.fnUntraced(function* (
    request: HttpServerRequest.HttpServerRequest,
    headers: Readonly<Record<string, string>>,
  ) {
    const tooLarge = checkSize(request, services.bounds)
    if (tooLarge !== undefined) return yield* tooLarge
    const address = Request.addressOf(request) ?? "unknown"
    yield* limit(address)
    if (yield* services.streams.isDraining) {
      return yield* Problem.later("shutting-down", "the server is shutting down")
    }
    const { path, query: queryText } = Request.splitUrl(request.url)
    const segments = Request.segmentsOf(path)
    if (segments === undefined) return yield* Problem.refuse("invalid-id", "the path is not encoded as it should be")
    const methods = yield* Effect.fromResult(methodsAt(services, segments))
    if (methods === undefined) {
      const served = file(request, segments)
      if (served === undefined) return yield* Problem.refuse("not-found", "there is nothing here")
      return request.method === "GET" || request.method === "HEAD" ? served : yield* notAllowed("GET, HEAD")
    }
    const allow = Object.keys(methods).join(", ")
    if (request.method === "OPTIONS" && headers["access-control-allow-origin"] !== undefined) return preflight(allow)
    const endpoint = Object.hasOwn(methods, request.method) ? methods[request.method as keyof Methods] : undefined
    if (endpoint === undefined) return yield* notAllowed(allow)
    const query = yield* Effect.fromResult(Request.Query.parse(queryText, endpoint.query))
    const asked: AccessRequest = {
      action: endpoint.action,
      resource: yield* Effect.fromResult(endpoint.resource(query)),
      bearer: Request.bearerOf(request),
      token: Request.tokenOf(queryText),
      headers: request.headers,
      remoteAddress: Request.addressOf(request),
    }
    const { client } = yield* permit(asked)
    return yield* endpoint.answer({
      request,
      query,
      client: client ?? address,
      stillAllowed: Effect.isSuccess(permit(asked)),
      headers,
    })
  })

  const notAllowed = (allow: string) =>
    new Problem.Refused({ name: "method-not-allowed", detail: `expected ${allow}`, allow })

  const report = (refused: Problem.Refused) =>
    refused.status >= 500 && refused.cause !== undefined
      ? Effect.logError(`${refused.name}: ${refused.detail}`, refused.cause)
      : Effect.void

  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const headers = { ...commonHeaders, ...corsHeaders(cors, request) }
    return answer(request, headers).pipe(
      Effect.catchDefect((cause) =>
        Effect.fail(new Problem.Refused({ name: "internal-error", detail: "the server failed", cause })),
      ),
      Effect.catch((refused) => Effect.as(report(refused), refusedResponse(refused))),
      Effect.map(HttpServerResponse.setHeaders(headers)),
      Effect.tap(({ status }) =>
        Metric.update(
          Metric.withAttributes(answered, {
            method: knownMethods.has(request.method) ? request.method : "other",
            status: String(status),
          }),
          1,
        ),
      ),
    )
  })
}
