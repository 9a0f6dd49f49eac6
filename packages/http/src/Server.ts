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
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { Socket } from "node:net"
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
}

const defaultPort = 4096

/** What Node refuses before a request is one, told as the routes tell it. */
const clientErrors: Readonly<Record<string, Problem.ProblemName>> = {
  HPE_HEADER_OVERFLOW: "headers-too-large",
  ERR_HTTP_REQUEST_TIMEOUT: "request-timeout",
}

const refuseRaw = (error: NodeJS.ErrnoException, socket: Socket): void => {
  if (error.code === "ECONNRESET" || !socket.writable || socket.bytesWritten > 0) {
    // Nobody reads, or a response is on its way that an answer would corrupt.
    socket.destroy()
    return
  }
  const name = clientErrors[error.code ?? ""] ?? "invalid-header"
  const body = JSON.stringify(Problem.detailsOf(Problem.refuse(name, "the request can't be read")))
  const { status, title } = Problem.problems[name]
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

/**
 * Requests that come between listening and the routes wait for these: Node would leave them without an answer for ever, and
 * that is when the clients of a server that was restarted come back.
 */
const holdEarly = (server: Server): void => {
  const early: Array<[IncomingMessage, ServerResponse]> = []
  const hold = (request: IncomingMessage, response: ServerResponse) => early.push([request, response])
  const release = (name: string | symbol) => {
    if (name !== "request") return
    server.off("newListener", release)
    server.off("request", hold)
    // Once the listener that is being added is there.
    queueMicrotask(() => {
      for (const [request, response] of early.splice(0)) server.emit("request", request, response)
    })
  }
  server.on("request", hold)
  server.on("newListener", release)
}

const make = (options: ListenOptions) => (): Server => {
  const headersTimeout = Duration.toMillis(Duration.fromInputUnsafe(options.headersTimeout ?? "10 seconds"))
  const server = createServer({
    headersTimeout,
    requestTimeout: Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds")),
    connectionsCheckingInterval: Math.min(2000, headersTimeout),
    keepAliveTimeout: 5000,
    maxHeaderSize: 16 * 1024,
    // One `Host`, as requests are told apart by it.
    requireHostHeader: true,
  })
  server.timeout = Duration.toMillis(Duration.fromInputUnsafe(options.idleTimeout ?? "60 seconds"))
  server.maxConnections = options.maxConnections ?? 12_000
  server.on("clientError", refuseRaw)
  holdEarly(server)
  return server
}

/** The server and its address. */
export const layerListen = (
  options: ListenOptions = {},
): Layer.Layer<HttpServer.HttpServer, HttpServerError.ServeError> =>
  NodeHttpServer.layerServer(make(options), {
    port: options.port ?? defaultPort,
    host: options.host ?? "127.0.0.1",
    gracefulShutdownTimeout: "5 seconds",
  })

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
