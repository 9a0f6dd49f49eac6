/** From a request to its endpoint: bounds, path, method, rate, right; and from what comes of it to an answer. */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import { openApi } from "../Api.ts"
import { type Access, type AccessRequest, type Decision, denied } from "../Access.ts"
import type { Bounds } from "../Bounds.ts"
import * as Page from "../Page.ts"
import * as Problem from "../Problem.ts"
import { Streaming } from "../Streams.ts"
import { type Call, type Endpoint, type Methods, methodsAt } from "./endpoints.ts"
import { negotiate } from "./negotiation.ts"
import type { Limit } from "./rateLimit.ts"
import * as Request from "./request.ts"
import type { Services } from "./services.ts"

export interface Options {
  readonly services: Services
  readonly page: Page.Page["Service"] | undefined
  readonly access: Access["Service"]
  readonly cors: { readonly origins: ReadonlyArray<string> | "*" } | undefined
  readonly limit: Limit
  readonly decideWithin: Duration.Input
}

const answered = Metric.counter("throughline_http_requests_total", {
  description: "Requests that were answered, by method and status; streams count when they end",
  incremental: true,
})

const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])

/** One `Host`, as requests are told apart by it (RFC 9112, section 3.2). */
const checkHost = (request: HttpServerRequest.HttpServerRequest): Problem.Refused | undefined => {
  const { httpVersion, rawHeaders } = NodeHttpServerRequest.toIncomingMessage(request)
  if (!httpVersion.startsWith("1.")) return undefined
  let hosts = 0
  for (let index = 0; index < rawHeaders.length; index += 2) if (rawHeaders[index]!.toLowerCase() === "host") hosts++
  return hosts === 1 || (hosts === 0 && httpVersion === "1.0")
    ? undefined
    : Problem.refuse("invalid-header", "expected one Host")
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
  if (cors === undefined) return undefined
  const origin = request.headers["origin"]
  const vary = "Origin, Accept, Authorization"
  if (origin === undefined || (cors.origins !== "*" && !cors.origins.includes(origin))) return { vary }
  return {
    "access-control-allow-origin": cors.origins === "*" ? "*" : origin,
    "access-control-expose-headers": "ETag, Retry-After, Run-Status, Run-Head, Run-First, Run-Next",
    "cross-origin-resource-policy": "cross-origin",
    vary,
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
  if (refused.isLast === true) headers["connection"] = "close"
  if (refused.allow !== undefined) headers["allow"] = refused.allow
  if (refused.name === "unauthorized") headers["www-authenticate"] = 'Bearer realm="throughline"'
  return HttpServerResponse.setHeaders(ProblemDetails.toResponse(Problem.detailsOf(refused)), headers)
}

const notAllowed = (allow: string) =>
  new Problem.Refused({ name: "method-not-allowed", detail: `expected ${allow}`, allow })

const refused = (error: Problem.Refused) => Effect.as(Problem.report(error), refusedResponse(error))

const count = (method: string, { status }: HttpServerResponse.HttpServerResponse) =>
  Metric.update(
    Metric.withAttributes(answered, {
      method: knownMethods.has(method) ? method : "other",
      status: String(status),
    }),
    1,
  )

const isOfStream = ({ call, endpoint }: { readonly call: Call; readonly endpoint: Endpoint }) =>
  call.request.method === "GET" &&
  endpoint.types !== undefined &&
  negotiate(call.request.headers["accept"], endpoint.types) === "text/event-stream"

/** How long a connection that was let go of may take for its last answer, in ms. */
const refusalTimeout = 10_000

/**
 * What an app's server has let go of, where it listens for upgrades: no bound would hold, so it is told so as its
 * connection's last. Behind another answer it can't be told, and nothing ends that one either.
 */
const refuseUpgrade = (request: HttpServerRequest.HttpServerRequest): Problem.Refused | undefined => {
  const incoming = NodeHttpServerRequest.toIncomingMessage(request)
  // Node's own, which its types leave out.
  if (!("upgrade" in incoming) || incoming.upgrade !== true) return undefined
  const { socket } = incoming
  socket.setTimeout(refusalTimeout, () => socket.destroy())
  try {
    NodeHttpServerRequest.toServerResponse(request).once("finish", () => socket.destroySoon())
  } catch {
    // The connection is another answer's.
    socket.destroy()
  }
  return new Problem.Refused({ name: "invalid-header", detail: "no Upgrade can be made here", isLast: true })
}

/** Whether a decision needs no fiber and no time: waiting for those that don't would be most of what an idle stream costs. */
const isKnown = (decision: Effect.Effect<Decision>): decision is Exit.Success<Decision> =>
  Exit.isExit(decision) && Exit.isSuccess(decision)

const isAllowed = ({ _tag }: Decision): boolean => _tag === "Allowed"

/** Makes the handler of all routes. */
export const make = (options: Options) => {
  const { access, cors, decideWithin, limit, page, services } = options

  const deciding = (request: AccessRequest): Effect.Effect<Decision> => {
    try {
      return access.decide(request)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  const decide = (request: AccessRequest): Effect.Effect<Decision> => {
    const decision = deciding(request)
    if (isKnown(decision)) return decision
    return Effect.catchCause(inTime(decision), (cause) =>
      Effect.as(Effect.logError("a right could not be decided, so it is denied", cause), denied),
    )
  }

  /** A decision in a fiber of its own, as whoever can't wait any longer can't wait for the end of its interruption either. */
  const inTime = (decision: Effect.Effect<Decision>): Effect.Effect<Decision> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.forkDetach(decision, { startImmediately: true }), (fiber) => {
        const known = fiber.pollUnsafe()
        if (known !== undefined) return known
        return restore(
          Effect.timeoutOrElse(Fiber.join(fiber), {
            duration: decideWithin,
            orElse: () => Effect.as(Effect.logError("a right was not decided in time, so it is denied"), denied),
          }),
        ).pipe(Effect.onExit(() => Effect.sync(() => fiber.interruptUnsafe())))
      }),
    )

  const permit = Effect.fnUntraced(function* (request: AccessRequest) {
    const decision = yield* decide(request)
    if (decision._tag === "Allowed") return decision
    if (decision._tag === "Unauthorized") return yield* Problem.refuse("unauthorized", "a good credential is needed")
    const { resource } = request
    if (resource._tag === "Run") return yield* Problem.unknownRun(resource.runId)
    return yield* Problem.refuse("not-found", "there is nothing here")
  })

  const stillAllowed = (asked: AccessRequest) => () => {
    const decision = decide(asked)
    return isKnown(decision) ? isAllowed(decision.value) : Effect.map(decision, isAllowed)
  }

  /** Bytes, as many connections may be sent the same. */
  let document: Uint8Array | undefined

  /** What has no run in it: the page's files, and the description of the routes. */
  const file = (request: HttpServerRequest.HttpServerRequest, segments: ReadonlyArray<string>) => {
    if (segments.length === 1 && segments[0] === "openapi.json") {
      document ??= Buffer.from(JSON.stringify(openApi()))
      return HttpServerResponse.uint8Array(document, { contentType: "application/json" })
    }
    const found = page?.files.get(Page.nameOf(segments))
    return found === undefined ? undefined : Page.respond(found, request.headers["if-none-match"])
  }

  /** What a request asks for: an endpoint that it may use, or what needs none. */
  const find = Effect.fnUntraced(function* (
    request: HttpServerRequest.HttpServerRequest,
    headers: Readonly<Record<string, string>>,
  ) {
    const upgrade = refuseUpgrade(request)
    if (upgrade !== undefined) return yield* upgrade
    yield* services.waiting.turn(request)
    const tooLarge = checkSize(request, services.bounds)
    if (tooLarge !== undefined) return yield* tooLarge
    const ambiguous = checkHost(request)
    if (ambiguous !== undefined) return yield* ambiguous
    const address = Request.addressOf(request)
    const from = address === undefined ? "unknown" : Request.clientAt(address)
    yield* limit(from)
    const { path, query: queryText } = Request.splitUrl(request.url)
    const segments = Request.segmentsOf(path)
    if (segments === undefined) return yield* Problem.refuse("not-found", "there is nothing here")
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
      remoteAddress: address,
    }
    const { client } = yield* permit(asked)
    const call: Call = {
      request,
      query,
      client: client ?? from,
      stillAllowed: stillAllowed(asked),
      headers,
    }
    return { endpoint, call }
  })

  const answer = Effect.fnUntraced(function* (
    request: HttpServerRequest.HttpServerRequest,
    headers: Readonly<Record<string, string>>,
  ) {
    const found = yield* Effect.result(find(request, headers))
    if (yield* services.streams.isDraining) {
      const isStream = Result.isSuccess(found) && "endpoint" in found.success && isOfStream(found.success)
      return isStream ? yield* comeBack : yield* Problem.later("shutting-down", "the server is shutting down")
    }
    const wanted = yield* Effect.fromResult(found)
    return "endpoint" in wanted ? yield* wanted.endpoint.answer(wanted.call) : wanted
  })

  /** A browser's `EventSource` that meets any other status than 200 stays away for good. */
  const comeBack = Effect.map(services.streams.comeBack, (text) =>
    HttpServerResponse.text(text, {
      contentType: "text/event-stream",
      headers: { "cache-control": "private, no-store" },
    }),
  )

  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const shared = corsHeaders(cors, request)
    const headers = shared === undefined ? commonHeaders : { ...commonHeaders, ...shared }
    const respond = (response: HttpServerResponse.HttpServerResponse) =>
      Effect.map(Effect.andThen(count(request.method, response), services.streams.isDraining), (isDraining) =>
        // A server that is shutting down answers nothing more on a connection.
        HttpServerResponse.setHeaders(response, isDraining ? { ...headers, connection: "close" } : headers),
      )
    return answer(request, headers).pipe(
      Effect.catchDefect((cause) =>
        Effect.fail(new Problem.Refused({ name: "internal-error", detail: "the server failed", cause })),
      ),
      Effect.catch(refused),
      Effect.flatMap((outcome) =>
        // What answered is over by now: a stream, which lasts, holds none of it.
        outcome instanceof Streaming
          ? services.streams.serve(request, outcome).pipe(
              Effect.catch((error) => (error.name === "shutting-down" ? comeBack : refused(error))),
              Effect.flatMap(respond),
            )
          : respond(outcome),
      ),
      // Servers run requests uninterruptibly unless a router says otherwise; one whose client is gone ends here.
      Effect.interruptible,
    )
  })
}
