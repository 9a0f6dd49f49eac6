/**
 * A Node server of the routes alone, with bounds on connections that an app of your own has to set itself, and a
 * shutdown that tells streams to come back before it closes them.
 */
import type { EventStore } from "@throughline/core/EventStore"
import type { StreamAdapter } from "@throughline/core/StreamAdapter"
import type { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import type { Access } from "./Access.ts"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import type * as HttpServerError from "effect/http/HttpServerError"
import * as Layer from "effect/Layer"
import { type IncomingMessage, Server, type ServerOptions, type ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Problem from "./Problem.ts"
import * as Routes from "./Routes.ts"
import * as Streams from "./Streams.ts"

export interface ListenOptions {
  /** 4096 by default; 0: any that is free. */
  readonly port?: number | undefined
  /** An address of this machine, `127.0.0.1` by default. */
  readonly host?: string | undefined
  /** Connections at once, streams included; 12,000 by default. */
  readonly maxConnections?: number | undefined
  /** How long a client may take to send its headers; 10 s by default. Past it: 408. */
  readonly headersTimeout?: Duration.Input | undefined
  /** How long a client may take to send a whole request; 30 s by default. Past it: 408. */
  readonly requestTimeout?: Duration.Input | undefined
  /**
   * How long a connection may stay without a byte moving, 60 s by default. Past it it is dropped, as one that doesn't take
   * its answer is. Longer than the heartbeat of the routes, which keeps idle streams.
   */
  readonly idleTimeout?: Duration.Input | undefined
  /**
   * How long requests that are under way have to be answered once the server shuts down, 5 s by default; what isn't one is
   * closed at once.
   */
  readonly shutdownGrace?: Duration.Input | undefined
}

const defaultPort = 4096

/** What Node refuses before a request is one, told as the routes tell it. */
const clientErrors: Readonly<Record<string, Problem.ProblemName>> = {
  HPE_HEADER_OVERFLOW: "headers-too-large",
  ERR_HTTP_REQUEST_TIMEOUT: "request-timeout",
}

/** Answers on a connection that has no response, as its last. */
const refuseRaw = (socket: Duplex, refused: Problem.Refused): void => {
  const body = JSON.stringify(Problem.detailsOf(refused))
  const { status, title } = Problem.problems[refused.name]
  const lines = [
    `HTTP/1.1 ${status} ${title}`,
    "Content-Type: application/problem+json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
    ...(refused.allow === undefined ? [] : [`Allow: ${refused.allow}`]),
  ]
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`)
}

const noTunnels = new Problem.Refused({
  name: "method-not-allowed",
  detail: "this is no proxy",
  allow: "GET, HEAD, POST, PUT, DELETE",
})

/**
 * A server that waits, once it is closed, for the requests under way and for nothing else. Node's own also waits for
 * connections that have sent no whole request, such as those that browsers open ahead; it keeps the connection of a last
 * answer for more requests; and it cuts off answers that are still being sent.
 */
class PromptServer extends Server {
  readonly #connections = new Set<Socket>()
  readonly #responses = new Set<ServerResponse>()

  constructor(options: ServerOptions) {
    super(options)
    const connections = this.#connections
    const responses = this.#responses
    // One listener for all, as each of thousands of idle streams would hold its own.
    const disconnect = function (this: Socket) {
      connections.delete(this)
    }
    const finish = function (this: ServerResponse) {
      responses.delete(this)
    }
    this.on("connection", (socket: Socket) => {
      if (!this.listening) {
        socket.destroy()
        return
      }
      connections.add(socket)
      socket.on("close", disconnect)
    })
    // No other protocol is spoken here. Node lets go of a connection that it has a listener for, and of all bounds with it;
    // once it has none, such a request is one like others, which Node reads no further than to its end.
    this.on("newListener", (name) => {
      if (name === "upgrade") queueMicrotask(() => this.removeAllListeners("upgrade"))
    })
    const begin = (request: IncomingMessage, response: ServerResponse) => {
      if (request.headers.upgrade !== undefined) response.shouldKeepAlive = false
      responses.add(response)
      response.on("close", finish)
    }
    this.on("request", begin)
    this.on("checkContinue", begin)
    // Expectations that nobody knows may be passed over (RFC 9110, section 10.1.1).
    this.on("checkExpectation", (request, response) => this.emit("request", request, response))
    this.on("connect", (_: IncomingMessage, socket: Duplex) => {
      // Node has let go of it.
      socket.on("error", () => socket.destroy())
      socket.resume()
      this.#refuse(socket, noTunnels)
    })
    this.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
      const name = clientErrors[error.code ?? ""] ?? "invalid-header"
      if (error.code === "ECONNRESET") socket.destroy()
      else this.#refuse(socket, Problem.refuse(name, "the request can't be read"))
    })
  }

  /** Refuses what became no request, unless that would be in the middle of an answer. */
  #refuse(socket: Duplex, refused: Problem.Refused): void {
    const isAnswering = Array.from(this.#responses).some(({ headersSent, req }) => headersSent && req.socket === socket)
    if (isAnswering || !socket.writable) socket.destroy()
    else refuseRaw(socket, refused)
  }

  /** Those of which nothing is asked. */
  override closeIdleConnections(): void {
    const asked = new Set(Array.from(this.#responses, ({ req }) => req.socket))
    for (const socket of this.#connections) if (!asked.has(socket)) socket.destroy()
  }

  override close(callback?: (error?: Error) => void): this {
    super.close(callback)
    // Of requests that were sent at once, without waiting for answers, the last is waited for.
    const last = new Map(Array.from(this.#responses, (response) => [response.req.socket, response]))
    for (const [socket, response] of last) {
      if (!response.headersSent) response.shouldKeepAlive = false
      response.once("finish", () => socket.destroySoon())
    }
    return this
  }
}

/**
 * Requests that come between listening and the routes wait for these: Node would leave them without an answer for ever, and
 * that is when the clients of a server that was restarted come back.
 */
const holdEarly = (server: Server): void => {
  const early: Array<["request" | "checkContinue", IncomingMessage, ServerResponse]> = []
  const hold = (request: IncomingMessage, response: ServerResponse) => early.push(["request", request, response])
  const holdContinue = (request: IncomingMessage, response: ServerResponse) =>
    early.push(["checkContinue", request, response])
  const release = (name: string | symbol) => {
    if (name !== "request") return
    server.off("newListener", release)
    server.off("request", hold)
    server.off("checkContinue", holdContinue)
    // Once the listeners that are being added are there.
    queueMicrotask(() => {
      for (const [event, request, response] of early.splice(0)) {
        // Of clients that are gone, nothing would end what is begun now.
        if (!request.socket.destroyed) server.emit(event, request, response)
      }
    })
  }
  server.on("request", hold)
  server.on("checkContinue", holdContinue)
  server.on("newListener", release)
}

const make = (options: ListenOptions): Server => {
  const headersTimeout = Duration.toMillis(Duration.fromInputUnsafe(options.headersTimeout ?? "10 seconds"))
  const server = new PromptServer({
    headersTimeout,
    requestTimeout: Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds")),
    connectionsCheckingInterval: Math.min(2000, headersTimeout),
    keepAliveTimeout: 5000,
    maxHeaderSize: 16 * 1024,
    // Asked for by the routes, which say what is wrong.
    requireHostHeader: false,
  })
  server.timeout = Duration.toMillis(Duration.fromInputUnsafe(options.idleTimeout ?? "60 seconds"))
  server.maxConnections = options.maxConnections ?? 12_000
  holdEarly(server)
  return server
}

/** Takes no more connections, and returns once those that are there are gone: those that take longer than the grace, too. */
const closed = (server: Server, grace: Duration.Input) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
  }).pipe(Effect.timeoutOrElse({ duration: grace, orElse: () => Effect.sync(() => server.closeAllConnections()) }))

/** The server and its address. */
export const layerListen = (
  options: ListenOptions = {},
): Layer.Layer<HttpServer.HttpServer, HttpServerError.ServeError> =>
  Layer.effect(
    HttpServer.HttpServer,
    Effect.gen(function* () {
      const server = make(options)
      const { host = "127.0.0.1", port = defaultPort, shutdownGrace = "5 seconds" } = options
      const { address, serve } = yield* NodeHttpServer.make(() => server, {
        port,
        host,
        disablePreemptiveShutdown: true,
      })
      return HttpServer.make({
        address,
        serve: (app, middleware) =>
          Effect.andThen(
            middleware === undefined ? serve(app) : serve(app, middleware),
            // Before the fibers of requests are ended, as they wait for the connections that their answers are sent on.
            Effect.addFinalizer(() => closed(server, shutdownGrace)),
          ),
      })
    }),
  )

/** The routes on a server of their own: every path is theirs. */
export const layer = (
  options: Routes.Options = {},
): Layer.Layer<
  Streams.Streams,
  never,
  HttpServer.HttpServer | EventStore | SubscriptionHub | StreamAdapter | Access | SecureRandom
> =>
  Layer.effect(
    Streams.Streams,
    Effect.gen(function* () {
      const { handle, streams } = yield* Routes.make(options)
      yield* HttpServer.serveEffect(handle)
      // Finalizers run last to first: streams are told and closed before the server waits for its connections.
      yield* Effect.addFinalizer(() => streams.drain)
      return streams
    }),
  )
