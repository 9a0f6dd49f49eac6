/** A run as Server-Sent Events. */
import type { EncodedEnvelope, RunId } from "@throughline/core/Envelope"
import type { RunHead } from "@throughline/core/RunHead"
import type { RunError, RunItem } from "@throughline/core/RunItem"
import type { QueueOptions, QueueRefused } from "@throughline/core/SubscriberQueue"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Problem from "../Problem.ts"
import { type Sink, type StreamOptions, Streaming } from "../Streams.ts"
import * as eachChunk from "./eachChunk.ts"
import * as EventFilter from "./eventFilter.ts"
import * as FreshRun from "./freshRun.ts"
import * as headJson from "./headJson.ts"
import { type Query, cursorOf } from "./request.ts"
import type { Services } from "./services.ts"
import * as sseFrame from "./sseFrame.ts"
import * as storeCall from "./storeCall.ts"

export const headers = {
  "content-type": "text/event-stream",
  "cache-control": "private, no-store",
  "x-accel-buffering": "no",
}

type Item = RunItem<EncodedEnvelope>

const policies = ["dropNonTerminal", "dropProgress", "summarize", "failSubscriber"] as const
const maxCapacity = 10_000
/** Nothing is sent while the answer may still be 404, and a client that hears nothing for long takes it for lost. */
const maxWait = 30

/** What a request asks of a stream. */
const askedOf = Effect.fnUntraced(function* (request: HttpServerRequest, query: Query) {
  const passes = yield* Effect.fromResult(EventFilter.fromQuery(query))
  const text = request.headers["last-event-id"] || query.get("after")
  const place = text === undefined ? undefined : yield* cursorOf(text)
  const wait = query.get("wait")
  const seconds =
    wait === undefined || wait === ""
      ? undefined
      : yield* Effect.fromResult(query.integer("wait", { from: 1, to: maxWait }))
  const overflow = yield* Effect.fromResult(query.literal("overflow", policies))
  const capacity = yield* Effect.fromResult(query.integer("capacity", { from: 1, to: maxCapacity }))
  if (overflow === undefined && capacity !== undefined) {
    return yield* Problem.refuse("invalid-query", "capacity is for readers with an overflow policy")
  }
  return { capacity, overflow, passes, place, seconds, waits: wait !== undefined }
})

/** The queue of a reader who prefers fresh to whole. */
const queueOf = (
  services: Services,
  { capacity, overflow }: Effect.Success<ReturnType<typeof askedOf>>,
  head: RunHead,
) => {
  if (overflow === undefined) return undefined
  const vocabulary = services.vocabularies.find(
    ({ id }) => head.vocabulary === undefined || id.name === head.vocabulary.name,
  )
  return { overflow, capacity, vocabulary } satisfies QueueOptions
}

/** Waits for the first event of an unknown run, at most for the seconds given. */
const awaited = Effect.fnUntraced(function* (services: Services, runId: RunId, seconds: number) {
  const first = yield* services.hub.run(runId).pipe(
    Stream.filter((item) => item._tag === "Event"),
    Stream.runHead,
    Effect.mapError(Problem.ofError),
    Effect.timeoutOption(seconds * 1000),
  )
  if (Option.isNone(first)) return yield* Problem.unknownRun(runId)
})

interface SourceOptions {
  readonly runId: RunId
  readonly after: string | undefined
  readonly queue: QueueOptions | undefined
  readonly passes: EventFilter.Passes | undefined
  /** How many seconds an unknown run is waited for before the stream begins; `undefined`: not at all. */
  readonly wait: number | undefined
}

/** Writes a run to a sink, until its end. */
class Source {
  #isLive = false
  #end: { readonly status: string; readonly cursor: string } | undefined = undefined
  readonly #services: Services
  readonly #options: SourceOptions
  readonly #sink: Sink

  constructor(services: Services, options: SourceOptions, sink: Sink) {
    this.#services = services
    this.#options = options
    this.#sink = sink
  }

  run(): Effect.Effect<void, Problem.Refused> {
    // Suspended, so that what it is made of is gone once it runs: that would be most of what an idle stream holds.
    const delivered = Effect.suspend(() => this.#deliverAll())
    return Effect.flatMap(Effect.mapError(delivered, Problem.ofError), () => this.#finish())
  }

  #deliverAll(): Effect.Effect<void, RunError | QueueRefused> {
    const { after, passes, queue, runId } = this.#options
    const { hub } = this.#services
    const whole = { after, truncated: "skip" } as const
    const deliver = (items: ReadonlyArray<Item>) => this.#deliver(items, 0)
    if (queue === undefined) return eachChunk.run(hub.run(runId, whole), deliver)
    const fresh =
      passes === undefined ? hub.run(runId, { ...whole, queue }) : FreshRun.stream(hub, runId, { after, queue, passes })
    return Effect.catchTag(eachChunk.run(fresh, deliver), ["SubscriberOverflow", "TerminalOverflow"], ({ notice }) =>
      Effect.sync(() => {
        if (notice !== undefined) this.#control({ _tag: "Dropped", notice })
        this.#sink.close("slow")
      }),
    )
  }

  #finish(): Effect.Effect<void, Problem.Refused> {
    const end = this.#end
    if (end !== undefined) return Effect.sync(() => this.#sink.frame(sseFrame.controlFrame("end", end)))
    // The run ended at the very cursor that the reader came with.
    return Effect.map(storeCall.read(this.#services.store.head(this.#options.runId)), (head) =>
      this.#sink.frame(sseFrame.controlFrame("end", { status: head.status, cursor: headJson.cursorOf(head) })),
    )
  }

  /** Writes the events up to the next control frame, then that, and so on. */
  #deliver(items: ReadonlyArray<Item>, from: number): Effect.Effect<void> {
    let index = from
    for (let item = items[index]; item !== undefined && item._tag !== "Event"; item = items[++index]) {
      this.#control(item)
    }
    const start = index
    while (index < items.length && items[index]!._tag === "Event") index++
    if (index === start) return Effect.void
    // The shared slices of the window are passed on as they are.
    const events = (
      start === 0 && index === items.length ? items : items.slice(start, index)
    ) as ReadonlyArray<sseFrame.RunEvent>
    const written = this.#write(events)
    return index === items.length ? written : Effect.flatMap(written, () => this.#deliver(items, index))
  }

  #write(events: ReadonlyArray<sseFrame.RunEvent>): Effect.Effect<void> {
    const { passes } = this.#options
    const last = events[events.length - 1]!
    if (last.envelope.endsRun !== undefined) this.#end = { status: last.envelope.endsRun, cursor: last.cursor }
    const passing = passes === undefined ? events : events.filter(({ envelope }) => passes(envelope))
    if (passing.length === 0) return Effect.void
    if (!this.#isLive) return this.#sink.write(sseFrame.replayPieces(passing))
    const { frames } = this.#services
    const chunk = frames.chunk(passing)
    return chunk === undefined ? this.#sink.write(frames.pieces(passing)) : this.#sink.chunk(chunk)
  }

  #control(item: Exclude<Item, { readonly _tag: "Event" }>): void {
    switch (item._tag) {
      case "CaughtUp":
        this.#isLive = true
        return this.#sink.frame(sseFrame.controlFrame("caught-up", { head: item.head, cursor: item.cursor }))
      case "Truncated":
        return this.#sink.frame(sseFrame.controlFrame("truncated", { from: item.from, to: item.to }))
      case "Dropped": {
        const { repair: _, ...notice } = item.notice
        return this.#sink.frame(sseFrame.controlFrame("dropped", notice))
      }
    }
  }
}

/** Made apart from the request, so that a stream holds nothing else of it. */
const sourceOf =
  (services: Services, options: SourceOptions): StreamOptions["source"] =>
  (sink) => {
    const source = new Source(services, options, sink)
    return options.wait === undefined
      ? source.run()
      : Effect.andThen(awaited(services, options.runId, options.wait), () => source.run())
  }

/** The head of a run as headers, and those of its stream. */
export const answerHead = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  runId: RunId,
  query: Query,
) {
  yield* askedOf(request, query)
  const runHead = yield* storeCall.read(services.store.head(runId))
  if (runHead.status === "unknown") return yield* Problem.unknownRun(runId)
  return HttpServerResponse.empty({ status: 200, headers: { ...headJson.headers(runHead), ...headers } })
})

/** Answers with the stream of a run; 204 where the cursor is the end of an ended run. */
export const serve = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  runId: RunId,
  query: Query,
  stream: Pick<StreamOptions, "client" | "headers" | "stillAllowed">,
) {
  const asked = yield* askedOf(request, query)
  const { passes, place, seconds, waits } = asked
  const head = yield* storeCall.read(services.store.head(runId))
  if (head.status === "unknown" && !waits) return yield* Problem.unknownRun(runId)
  const hasEnded = head.status !== "unknown" && head.status !== "running"
  if (
    hasEnded &&
    place?.seq === head.lastSeq &&
    (place.generation === undefined || place.generation === head.generation)
  ) {
    return HttpServerResponse.empty({ status: 204 })
  }
  return new Streaming({
    client: stream.client,
    stillAllowed: stream.stillAllowed,
    headers: { ...stream.headers, ...headers },
    source: sourceOf(services, {
      runId,
      after: place?.text,
      queue: queueOf(services, asked, head),
      passes,
      wait: head.status === "unknown" ? seconds : undefined,
    }),
  })
})
