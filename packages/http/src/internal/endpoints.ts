/** The endpoints: what is at a path, what each method of it is about, and what it does. */
import type { RunId, SessionId } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Result from "effect/Result"
import type { Action, Resource } from "../Access.ts"
import * as Problem from "../Problem.ts"
import type { StreamOptions, Streaming } from "../Streams.ts"
import * as Append from "./append.ts"
import * as Health from "./health.ts"
import { negotiate } from "./negotiation.ts"
import * as Request from "./request.ts"
import * as RunList from "./runList.ts"
import * as RunPage from "./runPage.ts"
import * as RunStream from "./runStream.ts"
import type { Services } from "./services.ts"
import * as SessionStream from "./sessionStream.ts"

type Answer = Effect.Effect<HttpServerResponse.HttpServerResponse | Streaming, Problem.Refused>

/** A request that may be answered. */
export interface Call extends Pick<StreamOptions, "client" | "headers" | "stillAllowed"> {
  readonly request: HttpServerRequest
  readonly query: Request.Query
}

/** A method of a path: what it is about, what its query may have, and what it does. */
export interface Endpoint {
  readonly action: Action
  readonly resource: (query: Request.Query) => Result.Result<Resource, Problem.Refused>
  readonly query: ReadonlyArray<string>
  /** The media types to choose from, the favourite first, where there are several or it is a stream. */
  readonly types?: ReadonlyArray<string>
  readonly answer: (call: Call) => Answer
}

/** The endpoints of a path by method; a path of files needs no right, as nothing in them came from a run. */
export type Methods = { readonly [Method in "GET" | "HEAD" | "POST" | "PUT" | "DELETE"]?: Endpoint }

const pageTypes = ["application/json", "application/x-ndjson", "text/event-stream"] as const

const streamTypes = ["text/event-stream"] as const

const accepted = <const A extends string>({ request }: Call, types: ReadonlyArray<A>) => {
  const type = negotiate(request.headers["accept"], types)
  return type === undefined
    ? Effect.fail(Problem.refuse("not-acceptable", `expected Accept to name ${types.join(", ")}`))
    : Effect.succeed(type)
}

const readNames = ["after", "delivery", "kinds", "limit", "wait", "overflow", "capacity"]

const runMethods = (services: Services, runId: RunId): Methods => {
  const about = (query: Request.Query): Result.Result<Resource, Problem.Refused> =>
    Result.map(sessionIn(query, "sessionId"), (sessionId) => ({ _tag: "Run", runId, sessionId }))
  return {
    GET: {
      action: "read",
      resource: about,
      query: readNames,
      types: pageTypes,
      answer: (call) =>
        Effect.flatMap(accepted(call, pageTypes), (type) =>
          type === "text/event-stream"
            ? RunStream.serve(services, call.request, runId, call.query, call)
            : services.waiting.page(
                call.client,
                call.request,
                RunPage.page(services, call.request, runId, call.query, type),
              ),
        ),
    },
    HEAD: {
      action: "read",
      resource: about,
      query: readNames,
      answer: (call) =>
        Effect.flatMap(accepted(call, pageTypes), (type) =>
          type === "text/event-stream"
            ? RunStream.answerHead(services, call.request, runId, call.query)
            : RunPage.answerHead(services, call.request, runId, call.query, type),
        ),
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
export const methodsAt = (
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
            answer: ({ client, query, request }) =>
              Effect.flatMap(Effect.fromResult(sessionIn(query, "session")), (sessionId) =>
                services.waiting.page(client, request, RunList.list(services, query, sessionId)),
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
            answer: ({ client, request }) =>
              services.waiting.page(
                client,
                request,
                Effect.map(PrometheusMetrics.format(), (text) =>
                  HttpServerResponse.text(text, {
                    contentType: "text/plain; version=0.0.4; charset=utf-8",
                    headers: { "cache-control": "no-store" },
                  }),
                ),
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
  return {
    GET: {
      ...endpoint,
      types: streamTypes,
      answer: (call) =>
        Effect.andThen(
          accepted(call, streamTypes),
          SessionStream.serve(services, call.request, sessionId, call.query, call),
        ),
    },
    HEAD: {
      ...endpoint,
      answer: (call) => Effect.andThen(accepted(call, streamTypes), SessionStream.answerHead(services, call.query)),
    },
  }
}
