/**
 * Runs over HTTP as an Effect service: what PROTOCOL.md says, read and written.
 *
 * **Example** (Following a run)
 *
 * ```ts
 * import * as RunClient from "@throughline/client/RunClient"
 * import * as AgentEvents from "@throughline/core/AgentEvents"
 * import * as Envelope from "@throughline/core/Envelope"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Console from "effect/Console"
 * import * as Effect from "effect/Effect"
 * import * as FetchHttpClient from "effect/http/FetchHttpClient"
 * import * as Layer from "effect/Layer"
 * import * as Stream from "effect/Stream"
 *
 * const follow = Effect.gen(function* () {
 *   const client = yield* RunClient.RunClient
 *   const items = client.run(Envelope.RunId.make("build-2041"), { vocabulary: AgentEvents.vocabulary })
 *   yield* Stream.runForEach(items, (item) =>
 *     item._tag === "Event" ? Console.log(item.envelope.seq, item.envelope.event._tag) : Effect.void,
 *   )
 * })
 *
 * export const program = follow.pipe(
 *   Effect.provide(
 *     RunClient.layer({ url: "http://127.0.0.1:4096" }).pipe(
 *       Layer.provide([FetchHttpClient.layer, Throughline.layerCrypto]),
 *     ),
 *   ),
 * )
 * ```
 */
import type { RunCursor } from "@throughline/core/Cursor"
import type {
  Delivery,
  Envelope,
  EventInput,
  Merged,
  OverflowNotice,
  RunId,
  SessionId,
} from "@throughline/core/Envelope"
import type { Producer } from "@throughline/core/EventStore"
import type { RunEnded } from "@throughline/core/EventStoreError"
import type { RunHead, RunStatus } from "@throughline/core/RunHead"
import type { CaughtUp, Event, SessionCaughtUp, SessionTruncated, Truncated } from "@throughline/core/RunItem"
import type { Typed } from "@throughline/core/SubscriptionHub"
import type { EventRefused, Vocabulary } from "@throughline/core/Vocabulary"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Url from "effect/http/Url"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as appendCall from "./internal/appendCall.ts"
import * as calls from "./internal/calls.ts"
import * as followStream from "./internal/followStream.ts"
import { defaultIdleTimeout, defaultMaxEventSize } from "./internal/patience.ts"
import { isWhole } from "./internal/place.ts"
import { Reading } from "./internal/reading.ts"
import type { Settings } from "./internal/retrying.ts"
import * as runItems from "./internal/runItems.ts"
import { SessionReading } from "./internal/sessionReading.ts"
import * as RunClientError from "./RunClientError.ts"
import type { AppendError, CallError, PageError, RunError, RunUnknown, SessionError } from "./RunClientError.ts"

/** What a reader lost by the policy it chose, before the next event or before its end. */
export interface Dropped {
  readonly _tag: "Dropped"
  readonly notice: Omit<OverflowNotice, "repair">
}

/** An item of a run's stream; `Dropped` only where the reader chose a queue. */
export type RunItem<E> = (Event<Envelope<E>> & { readonly merged?: Merged }) | CaughtUp | Truncated | Dropped

/** An item of a session's stream; the `cursor` of an event is the session's, and `CaughtUp` has one too. */
export type SessionItem<E> = Event<Envelope<E>> | Omit<SessionCaughtUp, "position"> | SessionTruncated

/** Which events a reader receives; those that end a run pass every filter. */
export interface Filter {
  /** Only these delivery classes. */
  readonly delivery?: ReadonlyArray<Delivery> | undefined
  /** Only these kinds. One that is empty or has a comma can't be asked for. */
  readonly kinds?: ReadonlyArray<string> | undefined
}

export interface SessionOptions extends Filter {
  /** Everything after this cursor of the session; from the start where absent. */
  readonly after?: string | undefined
}

export interface ReadOptions extends Filter {
  /** Everything after this cursor, or after this seq; from the start where absent. */
  readonly after?: RunCursor | undefined
  /** An unknown run is waited for: for as long as it takes, or for 1 to 30 seconds. Fails `RunUnknown` where absent. */
  readonly wait?: true | Duration.Input | undefined
  /** The server keeps a queue for this reader, who prefers fresh to whole; `capacity` is in frames, 64 by default. */
  readonly queue?:
    | {
        readonly overflow: "dropNonTerminal" | "dropProgress" | "summarize" | "failSubscriber"
        readonly capacity?: number | undefined
      }
    | undefined
}

export interface PageOptions extends Filter {
  /** Everything after this cursor, or after this seq; from the start where absent. */
  readonly after?: RunCursor | undefined
  /** Events to look at, from 1 to 1,000; 100 by default. A filter leaves some of them out. */
  readonly limit?: number | undefined
}

export interface Page<E> {
  /** The run's head in the same view as the page. */
  readonly head: RunHead
  /** What to read on after; the head's own cursor where nothing follows yet. */
  readonly next: string
  readonly events: ReadonlyArray<Envelope<E>>
}

/** Where a run begins and ends, and how it stands. */
export interface Head extends Pick<RunHead, "runId" | "firstSeq" | "lastSeq"> {
  readonly status: Exclude<RunStatus, "unknown">
  readonly generation: string
  /** The run cursor of its last event. */
  readonly cursor: string
}

export interface ListOptions {
  /** Only runs of this session. */
  readonly sessionId?: SessionId | undefined
  readonly status?: Exclude<RunStatus, "unknown"> | undefined
  /** Runs at most, from 1 to 1,000; 100 by default. */
  readonly limit?: number | undefined
  /** The `next` of the list before. */
  readonly before?: string | undefined
}

export interface RunList {
  /** Last started first; without their leases. */
  readonly runs: ReadonlyArray<RunHead>
  /** Where the list goes on; absent: it doesn't. */
  readonly next: string | undefined
}

export interface AppendRequest<E> {
  readonly runId: RunId
  readonly vocabulary: Vocabulary<E>
  /** At least one. */
  readonly events: ReadonlyArray<EventInput<E>>
  /** The run's session, set by its first append or never. */
  readonly sessionId?: SessionId | undefined
  /** Who appends; an identity of this one append where absent. */
  readonly producer?: Producer | undefined
  /** The run cursor that must be the head, or `"0"`: the run must be new. */
  readonly expected?: string | undefined
  /** The run is ended as abandoned when nobody appends or renews for that long, from 1 second to an hour. */
  readonly lease?: Duration.Input | undefined
}

/** Where each event is, and the head as far as this append knows. */
export type Appended = typeof appendCall.Appended.Type

/** Reads and writes the runs of a server. */
export class RunClient extends Context.Service<
  RunClient,
  {
    /**
     * The run: every event after `after`, once each, in order, to the end; then the stream completes. With neither filter
     * nor queue a missing seq is never passed over. A connection that fails, says nothing for the idle timeout, or closes
     * before the run's end is made again and goes on after what was received. `CaughtUp` comes once, `Truncated` where
     * retention has taken what was asked for. Interrupting the stream closes the connection.
     *
     * With a vocabulary the events are decoded, and one that isn't of it fails `CorruptRecord`.
     */
    readonly run: {
      <E>(runId: RunId, options: ReadOptions & Typed<E>): Stream.Stream<RunItem<E>, RunError>
      (runId: RunId, options?: ReadOptions): Stream.Stream<RunItem<unknown>, RunError>
    }

    /**
     * The session: every event of all its runs after `after`, those to come too, in the order in which they were stored.
     * It has no end; its connections are made again as those of `run`. Fails `Refused` with `no-archive` where the server's
     * store keeps no sessions.
     */
    readonly session: {
      <E>(sessionId: SessionId, options: SessionOptions & Typed<E>): Stream.Stream<SessionItem<E>, SessionError>
      (sessionId: SessionId, options?: SessionOptions): Stream.Stream<SessionItem<unknown>, SessionError>
    }

    /**
     * Appends events, all or none, and tries again while whether it was done is unknown. `eventId` and `emittedAt` are minted
     * once, before the first try, so what a lost answer has written is not written again.
     */
    readonly append: <E>(request: AppendRequest<E>) => Effect.Effect<Appended, AppendError | EventRefused>

    /** Stored events of a run and its head, without waiting. `next` and the page's head say whether more is stored. */
    readonly page: {
      <E>(runId: RunId, options: PageOptions & Typed<E>): Effect.Effect<Page<E>, PageError>
      (runId: RunId, options?: PageOptions): Effect.Effect<Page<unknown>, PageError>
    }

    /** A run's head; cheap. */
    readonly head: (runId: RunId) => Effect.Effect<Head, RunUnknown | CallError>

    /** Heads of runs, last started first. */
    readonly list: (options?: ListOptions) => Effect.Effect<RunList, CallError>

    /** Extends the lease of an open run to so long from now, from 1 second to an hour; it gets one where it has none. */
    readonly renew: (runId: RunId, lease: Duration.Input) => Effect.Effect<void, RunUnknown | RunEnded | CallError>

    /** Removes a run; `false` where there was none, also because a try whose answer was lost has removed it. */
    readonly remove: (runId: RunId) => Effect.Effect<boolean, CallError>
  }
>()("@throughline/client/RunClient") {}

export interface Options {
  /** Where the server's routes are, their prefix included. */
  readonly url: string | URL
  /** Sent as `Authorization: Bearer …`. */
  readonly token?: Redacted.Redacted | undefined
  /**
   * How failed tries are repeated; it starts over with every event. By default from 1 s, doubling to 30 s, jittered, no
   * sooner than the server asks for, for 30 tries in a row; a schedule given decides alone.
   */
  readonly retry?: Schedule.Schedule<unknown> | undefined
  /** A connection on which no byte came for so long is lost; 45 s by default, three times the server's heartbeat. */
  readonly idleTimeout?: Duration.Input | undefined
  /** Anything but a stream, such as an append, is asked for again when it took so long; 30 s by default. */
  readonly callTimeout?: Duration.Input | undefined
  /** Characters that the lines of one event may have; 16 Mi by default. */
  readonly maxEventSize?: number | undefined
}

/** A client of the server at `options.url`; fails on text that is no URL. */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<RunClient["Service"], Cause.IllegalArgumentError, HttpClient.HttpClient | SecureRandom> {
  const base = yield* Effect.fromResult(Url.fromString(String(options.url)))
  const random = yield* SecureRandom
  const settings: Settings = {
    client: yield* HttpClient.HttpClient,
    headers: options.token === undefined ? {} : { authorization: `Bearer ${Redacted.value(options.token)}` },
    urlOf: (path) => {
      const url = new URL(base)
      url.pathname = `${url.pathname.replace(/\/$/, "")}${path}`
      return url
    },
    retry: options.retry,
    idleTimeout: Duration.fromInputUnsafe(options.idleTimeout ?? defaultIdleTimeout),
    callTimeout: Duration.fromInputUnsafe(options.callTimeout ?? "30 seconds"),
    maxEventSize: options.maxEventSize ?? defaultMaxEventSize,
  }
  const run = <E>(runId: RunId, given: ReadOptions & Partial<Typed<E>> = {}) => {
    const url = settings.urlOf(`/runs/${runId}/events`)
    const refused = runItems.unaskable({ runId }, given)
    if (refused !== undefined) return Stream.fail(refused)
    runItems.query(url.searchParams, given)
    return followStream.make(settings, {
      url,
      start: () => new Reading(given.after, { wire: runItems.wire, isWhole: isWhole(url.searchParams), runId }),
      decode: runItems.decoder(given.vocabulary),
      refused: (refusal, progress): RunError => RunClientError.ofRead(runId, refusal, progress),
      givenUp: (cause) => RunClientError.givenUp({ runId }, cause),
    })
  }
  const session = <E>(sessionId: SessionId, given: SessionOptions & Partial<Typed<E>> = {}) => {
    const url = settings.urlOf(`/sessions/${sessionId}/events`)
    const refused = runItems.unaskable({ sessionId }, given)
    if (refused !== undefined) return Stream.fail(refused)
    runItems.query(url.searchParams, given)
    return followStream.make(settings, {
      url,
      start: () => new SessionReading(given.after, runItems.wire, sessionId),
      decode: runItems.sessionDecoder(given.vocabulary),
      refused: (refusal, { cursor }): SessionError => RunClientError.ofSession(sessionId, refusal, cursor),
      givenUp: (cause) => RunClientError.givenUp({ sessionId }, cause),
    })
  }
  const page = <E>(runId: RunId, given: PageOptions & Partial<Typed<E>> = {}) => calls.page(settings, runId, given)
  return RunClient.of({
    run,
    session,
    append: (request) => Effect.provideService(appendCall.append(settings, request), SecureRandom, random),
    page,
    head: (runId) => calls.head(settings, runId),
    list: (given = {}) => calls.list(settings, given),
    renew: (runId, lease) => calls.renew(settings, runId, lease),
    remove: (runId) => calls.remove(settings, runId),
  })
})

/** A client of the server at `options.url`, over any `HttpClient`. */
export const layer = (
  options: Options,
): Layer.Layer<RunClient, Cause.IllegalArgumentError, HttpClient.HttpClient | SecureRandom> =>
  Layer.effect(RunClient, make(options))
