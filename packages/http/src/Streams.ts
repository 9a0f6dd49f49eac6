/**
 * The streams that are open: how many there may be, that each still has its right, takes its bytes and hears from the
 * server, and how they are told to come back when it shuts down.
 *
 * One fiber ticks for all of them, so that an idle stream costs a socket, its request and a waiting fiber.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Bounds } from "./Bounds.ts"
import * as Chunk from "./internal/chunk.ts"
import { Outlet } from "./internal/outlet.ts"
import * as sseFrame from "./internal/sseFrame.ts"
import * as Problem from "./Problem.ts"

/** Why the server closes a stream before the run's end. */
export type ClosingReason = "shutdown" | "slow" | "revoked"

/** What a stream's source writes to. */
export interface Sink {
  /** Writes a chunk of frames; returns once the socket can take more. The first write sends the head. */
  readonly chunk: (chunk: Chunk.Chunk) => Effect.Effect<void>
  /** Writes pieces of frames as {@link Sink.chunk} does. */
  readonly write: (pieces: sseFrame.Pieces) => Effect.Effect<void>
  /** Writes a frame, and sends the head if it wasn't. */
  readonly frame: (text: string) => void
  /** Closes the stream with a reason, as the source can't go on. */
  readonly close: (reason: ClosingReason) => void
}

export interface StreamOptions {
  /** Who it is, for the bound per client. */
  readonly client: string
  readonly headers: Readonly<Record<string, string>>
  /** Whether the right still holds; an effect where that has to be waited for. */
  readonly stillAllowed: () => boolean | Effect.Effect<boolean>
  /** Writes the stream; its failure is told by the status before the first write, and by a `failed` frame after it. */
  readonly source: (sink: Sink) => Effect.Effect<void, Problem.Refused>
}

/** How streams are kept. */
export interface Options {
  readonly bounds: Pick<Bounds, "streams" | "streamsPerClient" | "slow">
  /** A comment is sent when nothing else was for this long; 15 s by default. */
  readonly heartbeat?: Duration.Input | undefined
  /** How long clients wait before they reconnect; 2 s by default. */
  readonly retry?: Duration.Input | undefined
  /** How often it is asked whether an open stream still has its right; 5 s by default. */
  readonly recheck?: Duration.Input | undefined
  /** At a shutdown, clients are told to come back after a random time up to this; 10 s by default. */
  readonly comeBackWithin?: Duration.Input | undefined
  /**
   * How long a stream that was revoked, or is there at a shutdown, has to send what waits before its connection is dropped;
   * 1 s by default.
   */
  readonly closeGrace?: Duration.Input | undefined
}

const openStreams = Metric.gauge("throughline_http_streams_open", { description: "Streams that are open" })
const closedStreams = Metric.counter("throughline_http_streams_closed_total", {
  description: "Streams that the server closed before their end, by reason",
  incremental: true,
})
const closedBy = {
  shutdown: Metric.withAttributes(closedStreams, { reason: "shutdown" }),
  slow: Metric.withAttributes(closedStreams, { reason: "slow" }),
  revoked: Metric.withAttributes(closedStreams, { reason: "revoked" }),
}

/** Rights that are asked for at once in a recheck, and how long each may keep others from being asked for. */
const decisionsAtOnce = 16
const decisionsTurn = "100 millis"

/** Ticks that a heartbeat is divided into. */
const ticksPerHeartbeat = 4

/** A stream that is to be served, once: what an endpoint answers with instead of a response. */
export class Streaming {
  #options: StreamOptions | undefined

  constructor(options: StreamOptions) {
    this.#options = options
  }

  /** Gives up the options to who serves them: as long as a stream is open, whoever began it holds this. */
  take(): StreamOptions {
    const options = this.#options!
    this.#options = undefined
    return options
  }
}

// Its methods are the sink, as thousands of streams would each hold a set of closures.
class OpenStream implements Sink {
  readonly outlet: Outlet
  readonly client: string
  readonly stillAllowed: () => boolean | Effect.Effect<boolean>
  /** What is sent first; given up once it is. */
  #head: { readonly headers: Readonly<Record<string, string>>; readonly retry: Chunk.Chunk } | undefined
  /** Why the server closed it. */
  closing: ClosingReason | undefined = undefined
  #fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** Whether it is being asked whether its right still holds. */
  isBeingChecked = false
  /** Ticks since the last write. */
  idleTicks = 0

  constructor(outlet: Outlet, { client, headers, stillAllowed }: StreamOptions, retry: Chunk.Chunk) {
    this.outlet = outlet
    this.client = client
    this.stillAllowed = stillAllowed
    this.#head = { headers, retry }
  }

  get started(): boolean {
    return this.#head === undefined
  }

  frame(text: string): void {
    if (!this.outlet.isOpen) return
    this.#begin()
    this.idleTicks = 0
    this.outlet.write(Chunk.of(text))
  }

  #begin(): void {
    const head = this.#head
    if (head === undefined) return
    this.#head = undefined
    this.outlet.begin(head.headers, head.retry)
  }

  chunk(chunk: Chunk.Chunk): Effect.Effect<void> {
    this.#begin()
    this.idleTicks = 0
    return this.outlet.write(chunk) ? Effect.void : this.outlet.drained()
  }

  write(pieces: sseFrame.Pieces): Effect.Effect<void> {
    this.#begin()
    this.idleTicks = 0
    for (let piece = pieces.take(); piece !== undefined; piece = pieces.take()) {
      if (!this.outlet.write(piece)) return Effect.flatMap(this.outlet.drained(), () => this.write(pieces))
    }
    return Effect.void
  }

  /** Tells the client why, and ends the stream; `before` is sent first. */
  close(reason: ClosingReason, before = ""): void {
    if (this.closing !== undefined) return
    this.closing = reason
    this.#begin()
    this.outlet.end(Chunk.of(before + sseFrame.controlFrame("closing", { reason })))
    this.#fiber?.interruptUnsafe()
  }

  /** Of a socket that takes nothing: it is told why while there is a chance that it takes that, and dropped after. */
  stuck(): void {
    if (this.outlet.isOpen) this.close("slow")
    else this.outlet.destroy()
  }

  /** The fiber of its source: stopped when the stream is closed. */
  begun(fiber: Fiber.Fiber<unknown, unknown>): void {
    this.#fiber = fiber
    if (this.closing !== undefined) fiber.interruptUnsafe()
  }
}

/** The open streams of a server. */
export class Streams extends Context.Service<
  Streams,
  {
    /**
     * Serves a stream until its source ends, the client goes, or it is closed. Fails `too-many-streams` past the bounds,
     * `shutting-down`, and as the source does where it fails before its first write.
     */
    readonly serve: (
      request: HttpServerRequest,
      streaming: Streaming,
    ) => Effect.Effect<HttpServerResponse.HttpServerResponse, Problem.Refused>
    /** How many are open. */
    readonly open: Effect.Effect<number>
    readonly isDraining: Effect.Effect<boolean>
    /** What a new stream is told while draining: when to come back, and why it closes. */
    readonly comeBack: Effect.Effect<string>
    /** Tells every stream to come back later, closes it, and refuses new ones from then on. */
    readonly drain: Effect.Effect<void>
  }
>()("@throughline/http/Streams") {}

/** Makes the registry; its streams are closed with the scope. */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<Streams["Service"], never, Scope.Scope> {
  const { bounds } = options
  const streams = new Set<OpenStream>()
  const perClient = new Map<string, number>()
  const tick = Duration.toMillis(Duration.fromInputUnsafe(options.heartbeat ?? "15 seconds")) / ticksPerHeartbeat
  const slow = Duration.toMillis(Duration.fromInputUnsafe(bounds.slow))
  const retry = Chunk.of(sseFrame.retryFrame(Duration.toMillis(Duration.fromInputUnsafe(options.retry ?? "2 seconds"))))
  const comeBackWithin = Duration.toMillis(Duration.fromInputUnsafe(options.comeBackWithin ?? "10 seconds"))
  const closeGrace = options.closeGrace ?? "1 second"
  const draining = Deferred.makeUnsafe<void>()

  /**
   * Waits until an ended stream is sent. One that has come to its end, or is too slow, is given time as long as its socket
   * takes something, until the server shuts down.
   */
  const finish = (stream: OpenStream) =>
    Effect.suspend(() => {
      const { closing, outlet } = stream
      if (outlet.isDone) return Effect.void
      const isPatient = closing === undefined || closing === "slow"
      const dropped = Effect.andThen(
        isPatient ? Deferred.await(draining) : Effect.void,
        Effect.delay(
          Effect.sync(() => outlet.destroy()),
          closeGrace,
        ),
      )
      return Effect.raceFirst(outlet.done(), dropped)
    })

  const beat = Effect.sync(() => {
    for (const stream of streams) {
      const { outlet } = stream
      if (stream.started && !outlet.waits && ++stream.idleTicks >= ticksPerHeartbeat) {
        stream.idleTicks = 1
        outlet.write(sseFrame.keepAlive)
      }
    }
  })

  const obey = (stream: OpenStream, isAllowed: boolean) => {
    stream.isBeingChecked = false
    if (!isAllowed) stream.close("revoked")
  }

  const scope = yield* Effect.scope
  const recheck = Effect.suspend(() => {
    const checks: Array<readonly [OpenStream, Effect.Effect<boolean>]> = []
    for (const stream of streams) {
      if (stream.isBeingChecked) continue
      const check = stream.stillAllowed()
      if (typeof check === "boolean") obey(stream, check)
      else checks.push([stream, check])
    }
    return Effect.forEach(
      checks,
      ([stream, check]) => {
        stream.isBeingChecked = true
        const checked = Effect.map(check, (isAllowed) => obey(stream, isAllowed))
        return Effect.flatMap(Effect.forkIn(checked, scope, { startImmediately: true }), (fiber) =>
          // A decision that takes long is waited for beside those of others.
          fiber.pollUnsafe() === undefined ? Effect.timeoutOption(Fiber.await(fiber), decisionsTurn) : Effect.void,
        )
      },
      { concurrency: decisionsAtOnce, discard: true },
    )
  })

  yield* Effect.forkScoped(Effect.forever(Effect.delay(beat, tick)))
  yield* Effect.forkScoped(Effect.forever(Effect.delay(recheck, options.recheck ?? "5 seconds")))

  /** Random, so that clients don't come back all at once. */
  const comeBack = Effect.map(Random.next, (part) => sseFrame.retryFrame(part * comeBackWithin))

  const tellShutdown = (stream: OpenStream) =>
    Effect.map(comeBack, (before) => {
      stream.close("shutdown", before)
      // Whoever comes back on this very connection would meet this server again.
      stream.outlet.endConnection()
    })

  const drain = Effect.gen(function* () {
    yield* Deferred.succeed(draining, undefined)
    for (const stream of streams) yield* tellShutdown(stream)
  })

  const enter = (stream: OpenStream): Problem.Refused | undefined => {
    const { client } = stream
    const open = perClient.get(client) ?? 0
    if (Deferred.isDoneUnsafe(draining)) return Problem.later("shutting-down", "the server is shutting down")
    if (streams.size >= bounds.streams) {
      return Problem.later("too-many-streams", `${bounds.streams} streams are open, which is the most there may be`, 5)
    }
    if (open >= bounds.streamsPerClient) {
      return Problem.later(
        "too-many-streams",
        `${bounds.streamsPerClient} streams of this client are open, which is the most there may be`,
        5,
      )
    }
    perClient.set(client, open + 1)
    streams.add(stream)
    return undefined
  }

  const leave = (stream: OpenStream) =>
    Effect.suspend(() => {
      streams.delete(stream)
      const { client } = stream
      const open = perClient.get(client)! - 1
      if (open === 0) perClient.delete(client)
      else perClient.set(client, open)
      return Metric.update(openStreams, streams.size)
    })

  /** What is left to do once a source has come to its end, or was stopped. */
  const settle = Effect.fnUntraced(function* (stream: OpenStream, exit: Exit.Exit<void, Problem.Refused>) {
    if (stream.closing !== undefined) yield* Metric.update(closedBy[stream.closing], 1)
    else if (Exit.isFailure(exit)) {
      const error = refusedBy(exit.cause)
      if (!stream.started) return yield* error
      yield* Problem.report(error)
      stream.frame(sseFrame.controlFrame("failed", Problem.detailsOf(error)))
    }
    stream.outlet.end()
    yield* finish(stream)
    return sent
  })

  const follow = (stream: OpenStream, source: StreamOptions["source"]) =>
    Metric.update(openStreams, streams.size).pipe(
      Effect.andThen(
        Effect.forkChild(
          Effect.suspend(() => source(stream)),
          { startImmediately: true },
        ),
      ),
      Effect.flatMap((fiber) => {
        stream.begun(fiber)
        return Effect.flatMap(ended(fiber), (exit) => settle(stream, exit))
      }),
    )

  const leaveBy = (stream: OpenStream, exit: Exit.Exit<unknown, unknown>) =>
    // The request is interrupted when its client goes, or when the app is taken down without having been drained.
    Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
      ? tellShutdown(stream).pipe(Effect.andThen(finish(stream)), Effect.andThen(leave(stream)))
      : leave(stream)

  // Each step is made in the one before: what waits as long as the stream is open then holds no more than its own.
  const serve = (request: HttpServerRequest, streaming: Streaming) =>
    Effect.suspend(() => {
      let entered: OpenStream | undefined
      return Effect.onExit(
        // Enters where its leaving is certain, as it may be interrupted at any step.
        Effect.suspend(() => {
          const outlet = new Outlet(request)
          // Nobody would be told that its client is gone, as that was told before.
          if (!outlet.isOpen) return Effect.interrupt
          const streamOptions = streaming.take()
          const stream = new OpenStream(outlet, streamOptions, retry)
          const refused = enter(stream)
          if (refused !== undefined) return Effect.fail(refused)
          entered = stream
          outlet.onStuck(slow, () => stream.stuck())
          return follow(stream, streamOptions.source)
        }),
        (exit) => (entered === undefined ? Effect.void : leaveBy(entered, exit)),
      )
    })

  yield* Effect.addFinalizer(() => drain)
  return Streams.of({
    serve,
    open: Effect.sync(() => streams.size),
    isDraining: Deferred.isDone(draining),
    comeBack: Effect.map(comeBack, (before) => before + sseFrame.controlFrame("closing", { reason: "shutdown" })),
    drain,
  })
})

/** Waits for a fiber, with less than `Fiber.await` needs to be told off: whoever is told too late ignores it. */
const ended = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.callback((resume) => {
    fiber.addObserver((exit) => resume(Effect.succeed(exit)))
  })

/** What a source failed with; a defect is for the log. */
const refusedBy = (cause: Cause.Cause<Problem.Refused>): Problem.Refused => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error)
    ? error.value
    : new Problem.Refused({ name: "internal-error", detail: "the stream can't go on", cause: Cause.squash(cause) })
}

/** What the platform is answered once a stream has written its own response. */
const sent = HttpServerResponse.empty({ status: 200 })

export const layer = (options: Options): Layer.Layer<Streams> => Layer.effect(Streams, make(options))
