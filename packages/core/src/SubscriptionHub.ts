/**
 * The read side: each event of a run once, in order, to the end, whatever the live path does.
 */
import * as Channel from "effect/Channel"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Cursor from "./Cursor.ts"
import {
  defaultRooms,
  type EncodedEnvelope,
  type Envelope,
  type RoomKind,
  type RunId,
  type SessionId,
} from "./Envelope.ts"
import { EventArchive } from "./EventArchive.ts"
import { EventBus } from "./EventBus.ts"
import { EventStore, type Page, type ReadError } from "./EventStore.ts"
import * as RunFeed from "./internal/runFeed.ts"
import * as RunPolicyReader from "./internal/runPolicyReader.ts"
import * as RunReader from "./internal/runReader.ts"
import * as SessionReader from "./internal/sessionReader.ts"
import * as StoreAccess from "./internal/storeAccess.ts"
import type { RunError, RunItem, SessionError, SessionItem } from "./RunItem.ts"
import { StreamAdapter } from "./StreamAdapter.ts"
import type * as SubscriberQueue from "./SubscriberQueue.ts"
import type { Vocabulary } from "./Vocabulary.ts"

export interface RunOptions {
  /** Everything after this cursor, or after this seq; from the start where absent. */
  readonly after?: Cursor.RunCursor | undefined
  /** What trimmed history does: fail with `HistoryTruncated` (the default), or a `Truncated` item and on. */
  readonly truncated?: "fail" | "skip" | undefined
}

/** A reader that may lose events rather than fall behind. */
export interface Queued {
  /**
   * The reader follows the run through a queue of its own from where it has caught up: what doesn't fit leaves by the
   * queue's policy, told by a `Dropped` item. Without this a slow reader loses nothing: it is served from the store at
   * its own pace. `summarize` merges by the reader's vocabulary unless the queue names one.
   */
  readonly queue: SubscriberQueue.QueueOptions | undefined
}

export interface Typed<in out E> {
  /** Decodes events; reading a run of another vocabulary fails `VocabularyMismatch`, an undecodable one `CorruptRecord`. */
  readonly vocabulary: Vocabulary<E>
}

/** Watches runs: the read side of the library. */
export class SubscriptionHub extends Context.Service<
  SubscriptionHub,
  {
    /**
     * The run, whole: for any `after`, exactly the seqs after it to the end, once each, in order; then the stream
     * completes. An unknown run is waited for. A slow reader is served from the store at its own pace and holds a page
     * of memory. Readers of one run in one process share one live subscription and one repair read.
     *
     * Fails when the store stays down past the retry budget (`ReadFailed`), when the run is removed (`RunRemoved`), and
     * as `EventStore.read` does on cursors (`CursorAhead`, `CursorStale`, `InvalidCursor`, `HistoryTruncated`) and
     * records (`CorruptRecord`).
     *
     * With a `queue` the reader gets no promise of the whole: past the replay, it loses what its policy says, and is
     * told. It fails as `SubscriberQueue` says, and at once for a queue that can't be (`backpressure`: leave it out).
     */
    readonly run: {
      <E>(
        runId: RunId,
        options: RunOptions & Typed<E> & Queued,
      ): Stream.Stream<RunItem<Envelope<E>>, RunError | SubscriberQueue.Overflow | SubscriberQueue.QueueRefused>
      (
        runId: RunId,
        options: RunOptions & Queued,
      ): Stream.Stream<RunItem<EncodedEnvelope>, RunError | SubscriberQueue.Overflow | SubscriberQueue.QueueRefused>
      <E>(runId: RunId, options: RunOptions & Typed<E>): Stream.Stream<RunItem<Envelope<E>>, RunError>
      (runId: RunId, options?: RunOptions): Stream.Stream<RunItem<EncodedEnvelope>, RunError>
    }

    /**
     * The two parts of a run for callers that want them apart: the first page after a place, and the stream of all that
     * follows that page. No overlap, no hole.
     */
    readonly subscribeRun: (
      runId: RunId,
      options: { readonly after?: Cursor.RunCursor | undefined; readonly limit: number },
    ) => Effect.Effect<
      { readonly replay: Page; readonly live: Stream.Stream<RunItem<EncodedEnvelope>, RunError> },
      ReadError
    >

    /**
     * All runs of a session, present and future, in position order; it never ends. Resumed by position. Needs a store
     * with an archive; live frames only wake the archive read.
     */
    readonly session: {
      <E>(
        sessionId: SessionId,
        options: { readonly after?: string | undefined } & Typed<E>,
      ): Stream.Stream<SessionItem<Envelope<E>>, SessionError, EventArchive>
      (
        sessionId: SessionId,
        options?: { readonly after?: string | undefined },
      ): Stream.Stream<SessionItem<EncodedEnvelope>, SessionError, EventArchive>
    }

    /**
     * Has a run that is being watched looked at in the store now: for whoever did to it what no live frame tells, so that its
     * readers needn't wait for the watchdog. A run that was removed ends them with `RunRemoved`. Only this hub's readers: those
     * of other processes are left to their watchdogs.
     */
    readonly look: (runId: RunId) => Effect.Effect<void>
  }
>()("@throughline/core/SubscriptionHub") {}

/** How a hub works; each has a default. */
export interface HubOptions {
  /** How often a run that is being watched is looked at in the store, jittered by a fifth; 5 s by default. */
  readonly watchdog?: Duration.Input | undefined
  /** How long an expired lease is left to its producer before the run's will is appended; 15 s by default. */
  readonly grace?: Duration.Input | undefined
  /** How reads of the store are retried; by default from 50 ms, doubling to 5 s, jittered, for 2 minutes in all. */
  readonly retry?: Schedule.Schedule<unknown> | undefined
  /** How long one read of the store may take before it counts as failed; 10 s by default. */
  readonly readTimeout?: Duration.Input | undefined
  /** Events in one page of a replay; 1,000 by default. */
  readonly pageEvents?: number | undefined
  /** Events kept of a watched run, shared by its readers, and events waiting in its live subscription; 4,096 by default. */
  readonly bufferEvents?: number | undefined
  /** UTF-16 units of the JSON of the events kept of a watched run; 4 Mi by default. */
  readonly bufferSize?: number | undefined
  /** Kinds of rooms that a will is published to; `Run` and `Session` by default. */
  readonly rooms?: ReadonlyArray<RoomKind> | undefined
}

/** The default retry of reads: from 50 ms, doubling to 5 s, jittered, for 2 minutes in all. */
export const defaultRetry: Schedule.Schedule<unknown> = Schedule.exponential("50 millis").pipe(
  Schedule.modifyDelay(({ duration }) => Effect.succeed(Duration.min(duration, Duration.seconds(5)))),
  Schedule.jittered,
  Schedule.upTo({ duration: "2 minutes" }),
)

type AnyRunOptions = RunOptions & Partial<Typed<unknown> & Queued>

/** Makes a hub; what it shares between readers is gone when the scope closes. */
export const make = Effect.fnUntraced(function* (options: HubOptions = {}) {
  const store = yield* EventStore
  const adapter = yield* StreamAdapter
  const bus = Option.getOrUndefined(yield* Effect.serviceOption(EventBus))
  const watchdog = Duration.fromInputUnsafe(options.watchdog ?? "5 seconds")
  const retry = options.retry ?? defaultRetry
  const pageEvents = options.pageEvents ?? 1000
  const access = StoreAccess.make(store, { retry, readTimeout: options.readTimeout ?? "10 seconds" })
  const feedOptions: RunFeed.FeedOptions = {
    watchdog,
    grace: Duration.fromInputUnsafe(options.grace ?? "15 seconds"),
    pageEvents,
    bufferEvents: options.bufferEvents ?? 4096,
    bufferSize: options.bufferSize ?? 4 * 1024 * 1024,
    rooms: options.rooms ?? defaultRooms,
  }
  const feeds = yield* RcMap.make({
    lookup: (runId: RunId) => RunFeed.make(runId, { store, adapter, bus, access }, feedOptions),
  })
  const sessionFeeds = yield* RcMap.make({
    lookup: (sessionId: SessionId) => SessionReader.makeFeed(sessionId, adapter),
  })
  const readerServices: RunReader.ReaderServices = {
    access,
    decoder: new RunReader.Decoder(),
    feed: (runId, scope) => Scope.provide(RcMap.get(feeds, runId), scope),
  }

  const reader = (
    runId: RunId,
    runOptions: AnyRunOptions,
    vocabulary: Vocabulary<unknown> | undefined,
    scope: Scope.Scope,
  ) =>
    RunReader.make(
      {
        runId,
        after: runOptions.after,
        truncated: runOptions.truncated ?? "fail",
        vocabularyId: runOptions.vocabulary?.id,
        vocabulary,
        pageEvents,
      },
      readerServices,
      scope,
    )

  const run = (runId: RunId, runOptions: AnyRunOptions = {}) => {
    const { queue, vocabulary } = runOptions
    if (queue === undefined) {
      return Stream.fromChannel(
        Channel.fromTransform((_, scope) => Effect.sync(() => reader(runId, runOptions, vocabulary, scope))),
      )
    }
    // What the queue drops is never decoded.
    return Stream.unwrap(
      Effect.flatMap(Effect.scope, (scope) =>
        RunPolicyReader.make(reader(runId, runOptions, undefined, scope), { queue, vocabulary }),
      ),
    )
  }

  const subscribeRun: SubscriptionHub["Service"]["subscribeRun"] = Effect.fnUntraced(function* (
    runId,
    { after, limit },
  ) {
    const replay = yield* access.page(runId, after ?? 0, limit)
    const { envelopes, head } = replay
    const { seq } = yield* Cursor.runPlace(after)
    const last = envelopes.length === 0 ? seq : envelopes[envelopes.length - 1]!.seq
    const next = head.generation === undefined ? last : Cursor.run(last, head.generation)
    return { replay, live: run(runId, { after: next }) as Stream.Stream<RunItem<EncodedEnvelope>, RunError> }
  })

  const session = (
    sessionId: SessionId,
    sessionOptions: { readonly after?: string | undefined } & Partial<Typed<unknown>> = {},
  ) =>
    Stream.scoped(
      Stream.unwrap(
        Effect.gen(function* () {
          const archive = yield* EventArchive
          const feed = yield* RcMap.get(sessionFeeds, sessionId)
          const { after, vocabulary } = sessionOptions
          return SessionReader.stream({ sessionId, after, vocabulary, watchdog, retry }, { archive, access, feed })
        }),
      ),
    )

  const look = Effect.fnUntraced(function* (runId: RunId) {
    if (!(yield* RcMap.has(feeds, runId))) return
    const feed = yield* RcMap.get(feeds, runId)
    feed.poked.notify()
  }, Effect.scoped)

  // The overloads say by type what the one body does by option: with a vocabulary, envelopes are decoded.
  return SubscriptionHub.of({
    run: run as SubscriptionHub["Service"]["run"],
    subscribeRun,
    session: session as SubscriptionHub["Service"]["session"],
    look,
  })
})

/** The hub over a store and an adapter. */
export const layer = (options?: HubOptions): Layer.Layer<SubscriptionHub, never, EventStore | StreamAdapter> =>
  Layer.effect(SubscriptionHub, make(options))
