/** A server of a test's own, and clients that see every byte. */
import type { RunId } from "@throughline/core/Envelope"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Context from "effect/Context"
import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import { request as nodeRequest, type IncomingHttpHeaders, type ClientRequest } from "node:http"
import * as Access from "../src/Access.ts"
import type * as Routes from "../src/Routes.ts"
import * as Server from "../src/Server.ts"
import { Streams } from "../src/Streams.ts"

export const mac = Layer.provide(Mac.layerWebCrypto, Throughline.layerCrypto)

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface RequestOptions {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** One request over a connection of its own, so that a test never meets what another left behind. */
export const ask = (base: string, path: string, options: RequestOptions = {}) =>
  Effect.callback<Answer, Error>((resume) => {
    const url = new URL(base)
    const request = nodeRequest(
      {
        host: url.hostname,
        port: url.port,
        path,
        method: options.method ?? "GET",
        headers: { host: url.host, ...options.headers },
        agent: false,
      },
      (response) => {
        const chunks: Array<Buffer> = []
        response.on("data", (chunk: Buffer) => chunks.push(chunk))
        response.on("error", (error) => resume(Effect.fail(error)))
        response.on("end", () =>
          resume(
            Effect.succeed({
              status: response.statusCode!,
              headers: response.headers,
              body: Buffer.concat(chunks).toString(),
            }),
          ),
        )
      },
    )
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end(options.body)
    return Effect.sync(() => request.destroy())
  })

/** A stream as a client sees it: its text so far, and whether it is over. */
class StreamClient {
  text = ""
  status: number | undefined = undefined
  headers: IncomingHttpHeaders = {}
  isClosed = false
  readonly request: ClientRequest
  #changed: Array<() => void> = []

  constructor(base: string, path: string, headers: Readonly<Record<string, string>>) {
    const url = new URL(base)
    this.request = nodeRequest(
      {
        host: url.hostname,
        port: url.port,
        path,
        headers: { host: url.host, accept: "text/event-stream", ...headers },
        agent: false,
      },
      (response) => {
        this.status = response.statusCode
        this.headers = response.headers
        this.#notify()
        response.setEncoding("utf8")
        response.on("data", (chunk: string) => {
          this.text += chunk
          this.#notify()
        })
        response.on("close", () => this.#close())
        response.on("error", () => this.#close())
      },
    )
    this.request.on("error", () => this.#close())
    this.request.end()
  }

  #close(): void {
    this.isClosed = true
    this.#notify()
  }

  #notify(): void {
    const waiting = this.#changed
    this.#changed = []
    for (const wake of waiting) wake()
  }

  /** Waits until something holds; a test that waits in vain is ended by its own deadline. */
  until(holds: (client: StreamClient) => boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const look = () => {
        if (holds(this)) resume(Effect.void)
        else this.#changed.push(look)
      }
      look()
    })
  }

  untilText(text: string): Effect.Effect<void> {
    return this.until((client) => client.text.includes(text) || client.isClosed)
  }

  readonly closed: Effect.Effect<void> = this.until((client) => client.isClosed)

  get frames(): ReadonlyArray<Frame> {
    return framesOf(this.text)
  }

  /** The seqs of the envelopes received, in order. */
  get seqs(): ReadonlyArray<number> {
    return this.frames.flatMap(({ event, data }) =>
      event === undefined && data !== undefined ? [(JSON.parse(data) as { seq: number }).seq] : [],
    )
  }

  control(event: string): ReadonlyArray<Record<string, unknown>> {
    return this.frames.filter((frame) => frame.event === event).map((frame) => JSON.parse(frame.data!))
  }
}

interface Frame {
  readonly id?: string
  readonly event?: string
  readonly data?: string
  readonly retry?: string
  readonly comment?: string
}

/** The whole frames of a text. */
const framesOf = (text: string): ReadonlyArray<Frame> =>
  text
    .split("\n\n")
    .slice(0, -1)
    .map((frame) => {
      const fields: Record<string, string> = {}
      for (const line of frame.split("\n")) {
        const colon = line.indexOf(":")
        const name = colon === 0 ? "comment" : line.slice(0, colon)
        const value = line.slice(colon + 1).replace(/^ /, "")
        fields[name] = fields[name] === undefined ? value : `${fields[name]}\n${value}`
      }
      return fields
    })

/** Opens a stream; it is dropped with the scope. */
const follow = (base: string, path: string, headers: Readonly<Record<string, string>> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new StreamClient(base, path, headers)),
    (client) => Effect.sync(() => client.request.destroy()),
  )

export interface ServeOptions<E> {
  readonly routes?: Routes.Options
  readonly throughline?: Throughline.ThroughlineOptions
  readonly backend?: Layer.Layer<Throughline.Throughline>
  readonly listen?: Server.ListenOptions
  readonly access?: Layer.Layer<Access.Access, E, HttpServer.HttpServer | Mac.Mac>
}

/** Serves a store of its own until the scope closes. */
export const serve = Effect.fnUntraced(function* <E = never>(options: ServeOptions<E> = {}) {
  const app = Server.layer(options.routes).pipe(
    Layer.provideMerge(options.backend ?? Throughline.layerMemory(options.throughline)),
    Layer.provide(options.access ?? (Access.layerOpen() as Layer.Layer<Access.Access, never, HttpServer.HttpServer>)),
    Layer.provide(mac),
    Layer.provideMerge(Server.layerListen({ port: 0, ...options.listen })),
  )
  const context = yield* Layer.build(app)
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = NetAddress.isInetAddress(address) ? address.port : 0
  const base = `http://127.0.0.1:${port}`
  const store = Context.get(context, EventStore.EventStore)
  const adapter = Context.get(context, StreamAdapter.StreamAdapter)

  /** Appends as a producer in the same process does: stored, then published. */
  const append = Effect.fnUntraced(function* (
    runId: RunId,
    events: ReadonlyArray<AgentEvents.AgentEvent>,
    request: Partial<EventStore.AppendRequest> = {},
  ) {
    const encoded = yield* Effect.forEach(events, (event) =>
      Effect.provide(Vocabulary.encode(AgentEvents.vocabulary, { event }), Throughline.layerCrypto),
    )
    const appended = yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: encoded, ...request })
    yield* StreamAdapter.publishAppended(adapter, appended, ["Run", "Session"])
    return appended
  })

  return {
    base,
    port,
    context,
    store,
    adapter,
    append,
    streams: Context.get(context, Streams),
    ask: (path: string, request?: RequestOptions) => ask(base, path, request),
    follow: (path: string, headers?: Readonly<Record<string, string>>) => follow(base, path, headers),
    post: (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
      ask(base, path, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify(body),
      }),
  }
})

export type Served = Effect.Success<ReturnType<typeof serve>>

export const delta = (text: string): AgentEvents.AgentEvent => ({ _tag: "TextDelta", messageId: "m", text })
export const started: AgentEvents.AgentEvent = { _tag: "RunStarted", name: "test" }
export const completed: AgentEvents.AgentEvent = { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }

/** A problem's name in an answer. */
export const problemOf = (answer: Answer): string =>
  (JSON.parse(answer.body) as { type: string }).type.replace("urn:throughline:problem:", "")
