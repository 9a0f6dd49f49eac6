/** Servers that do as a test says, and the two readers as one. */
import * as Envelope from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { RunError, runEvents } from "../src/index.ts"
import * as RunClient from "../src/RunClient.ts"

export const generation = "abcd1234"
export const base = "http://server.test"
export const runId = Envelope.RunId.make("r1")

const envelope = (seq: number, fields: Readonly<Record<string, unknown>> = {}) => ({
  eventId: `01930000-0000-7000-8000-${String(seq).padStart(12, "0")}`,
  seq,
  runId,
  kind: "Note",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  schemaVersion: 1,
  event: { text: `é漢🚲 ${seq}` },
  ...fields,
})

/** A field that is `undefined` is left out. */
export const event = (seq: number, fields: Readonly<Record<string, unknown>> = {}, of = generation): string =>
  `id: ${seq}-${of}\ndata: ${JSON.stringify(envelope(seq, fields))}\n\n`

export const control = (name: string, data: unknown): string => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`

export const caughtUp = (head: number, cursor?: string): string => control("caught-up", { head, cursor })

export const events = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, index) => event(from + index)).join("")

/** The last event of a run, and the frame that says so. */
export const ending = (seq: number): string =>
  event(seq, { endsRun: "completed", delivery: "terminal" }) + endFrame(seq)

export const endFrame = (seq: number, of = generation): string =>
  control("end", { status: "completed", cursor: `${seq}-${of}` })

/** How the body of a response goes on after its chunks. */
export type Rest = "closes" | "fails" | "stays"

interface Body {
  readonly chunks: ReadonlyArray<string | Uint8Array>
  readonly rest: Rest
  readonly status: number
}

/** An open body that a test writes to. */
interface Feed {
  readonly push: (text: string) => void
}

/** What was asked, in order, and what became of the bodies. */
export interface Log {
  readonly requests: Array<{ readonly url: URL; readonly init: RequestInit }>
  /** Bodies that the reader closed. */
  cancelled: number
  /** Requests that nobody has ended: neither the server nor the reader. */
  open: number
  /** Chunks of bodies that the reader took, or that wait for it. */
  chunks: number
  /** Bodies that stay open, by request. */
  readonly feeds: Array<Feed>
}

export const streamed = (
  text: string | ReadonlyArray<string | Uint8Array>,
  rest: Rest = "closes",
  status = 200,
): Body => ({
  chunks: typeof text === "string" ? [text] : text,
  rest,
  status,
})

/** A response without a body that goes on. */
export const answer = (status: number, body: unknown = null, headers: Readonly<Record<string, string>> = {}) =>
  new Response(body === null || typeof body === "string" ? body : JSON.stringify(body), { status, headers })

export const problem = (status: number, name: string, fields: Readonly<Record<string, unknown>> = {}) =>
  answer(
    status,
    { type: `urn:throughline:problem:${name}`, title: name, status, detail: `because ${name}`, ...fields },
    { "content-type": "application/problem+json" },
  )

/** A server as a `fetch`; the last answer is repeated. An error is a connection that can't be made. */
export type Script = (after: number, request: number) => Body | Response | Error | "never answers"

const encoder = new TextEncoder()

/** A server that does as the script says; its bodies end with their requests only where they heed the signal. */
export const serverOf = (
  script: Script,
  { heedsSignal = true }: { readonly heedsSignal?: boolean } = {},
): { readonly fetch: typeof globalThis.fetch; readonly log: Log } => {
  const log: Log = { requests: [], cancelled: 0, open: 0, chunks: 0, feeds: [] }
  const fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(input instanceof Request ? input.url : input)
    const index = log.requests.push({ url, init }) - 1
    const made = script(Number.parseInt(url.searchParams.get("after") ?? "0", 10), index)
    if (made instanceof Error) throw made
    if (made instanceof Response) return made
    log.open++
    let isOpen = true
    const end = () => {
      if (isOpen) log.open--
      isOpen = false
    }
    const signal = heedsSignal ? init.signal : undefined
    if (made === "never answers") {
      return new Promise((_, reject) => {
        signal?.addEventListener("abort", () => {
          log.cancelled++
          end()
          reject(signal.reason as Error)
        })
      })
    }
    const { chunks, rest, status } = made
    let next = 0
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        signal?.addEventListener("abort", () => {
          log.cancelled++
          end()
          controller.error(signal.reason)
        })
        log.feeds[index] = { push: (text) => controller.enqueue(encoder.encode(text)) }
      },
      pull: (controller) => {
        const chunk = chunks[next++]
        if (chunk !== undefined) {
          log.chunks++
          controller.enqueue(typeof chunk === "string" ? encoder.encode(chunk) : chunk)
          return
        }
        if (rest === "stays") return
        end()
        if (rest === "closes") controller.close()
        else controller.error(new TypeError("terminated"))
      },
      cancel: () => {
        log.cancelled++
        end()
      },
    })
    return new Response(body, { status, headers: { "content-type": "text/event-stream" } })
  }
  return { fetch, log }
}

interface Item {
  readonly _tag: string
  readonly envelope?: { readonly seq: number }
  readonly head?: number
  readonly cursor?: string
  readonly from?: number
  readonly to?: number
  readonly notice?: object
}

/** What a reader got, and how it ended. */
interface Read {
  readonly items: ReadonlyArray<Item>
  readonly seqs: ReadonlyArray<number>
  /** `ended`, or the code of the failure. */
  readonly end: string
}

interface Options {
  readonly after?: string | number | undefined
  readonly query?: "filtered" | undefined
  readonly attempts?: number | undefined
  readonly maxEventSize?: number | undefined
  readonly idleTimeout?: number | undefined
}

export interface Reader {
  readonly name: string
  readonly read: (fetch: typeof globalThis.fetch, options?: Options) => Promise<Read>
}

const readOf = (items: ReadonlyArray<Item>, end: string): Read => ({
  items,
  seqs: items.flatMap((item) => (item.envelope === undefined ? [] : [item.envelope.seq])),
  end,
})

const attemptsByDefault = 8

const plain: Reader = {
  name: "runEvents",
  read: async (fetch, { query, ...options } = {}) => {
    const items: Array<Item> = []
    const url = `${base}/runs/${runId}/events${query === "filtered" ? "?kinds=Note" : ""}`
    try {
      for await (const item of runEvents(url, { attempts: attemptsByDefault, backoff: () => 0, ...options, fetch })) {
        items.push(item)
      }
      return readOf(items, "ended")
    } catch (error) {
      if (!(error instanceof RunError)) throw error
      return readOf(items, error.code)
    }
  },
}

/** The Effect client over a `fetch`. */
export const layerOf = (fetch: typeof globalThis.fetch, options: Partial<RunClient.Options> = {}) =>
  RunClient.layer({ url: base, retry: Schedule.recurs(attemptsByDefault - 1), ...options }).pipe(
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(Layer.succeed(FetchHttpClient.Fetch, fetch)),
    Layer.provide(Throughline.layerCrypto),
  )

/** The codes of the plain client for the errors of this one. */
const codes: Readonly<Record<string, string>> = {
  Unreachable: "unreachable",
  ProtocolViolation: "protocol-violation",
  RunUnknown: "run-unknown",
  CursorStale: "cursor-stale",
  CursorAhead: "cursor-ahead",
  RunRemoved: "run-removed",
}

const effect: Reader = {
  name: "RunClient",
  read: (fetch, { after, attempts = attemptsByDefault, query, ...options } = {}) =>
    Effect.gen(function* () {
      const client = yield* RunClient.RunClient
      const items: Array<Item> = []
      const exit = yield* client
        .run(runId, { after, ...(query === "filtered" ? { kinds: ["Note"] } : undefined) })
        .pipe(
          Stream.runForEach((item) => Effect.sync(() => items.push(item))),
          Effect.exit,
        )
      if (Exit.isSuccess(exit)) return readOf(items, "ended")
      const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
      if (error === undefined) return yield* Effect.failCause(exit.cause)
      return readOf(items, error._tag === "Refused" ? error.name : (codes[error._tag] ?? error._tag))
    }).pipe(Effect.provide(layerOf(fetch, { ...options, retry: Schedule.recurs(attempts - 1) })), Effect.runPromise),
}

export const readers: ReadonlyArray<Reader> = [plain, effect]

export const range = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index)
