/**
 * The live stream of a process: every frame that is published here, to whoever's filter it matches.
 *
 * ```text
 * bridge ──▶ publish ──▶ ring of recent frames ──▶ index (run, session, agent, kind) ──▶ a bounded queue per subscriber
 * rooms  ──▶                  └── serves cursors                                           └── or a repaired reader
 * ```
 *
 * Publishing never waits for a subscriber. A subscriber that falls behind loses what its queue's policy says and is told
 * so in place; one with `repair: true` loses nothing: what it missed is read from the archive.
 *
 * **Example** (The failures of all runs)
 *
 * ```ts
 * import * as EventBus from "@throughline/core/EventBus"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * export const watchFailures = Effect.gen(function* () {
 *   const bus = yield* EventBus.EventBus
 *   const failures = yield* bus.subscribe({ kinds: ["RunFailed"] })
 *   yield* Stream.runForEach(failures, (item) =>
 *     item._tag === "Frame" ? Effect.logError(`${item.envelope.runId} failed`) : Effect.void,
 *   )
 * }).pipe(Effect.scoped)
 * ```
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { makeGeneration } from "./AppendRules.ts"
import type { CursorScopeMismatch, InvalidCursor } from "./Cursor.ts"
import type { AgentId, Frame, Gap, Room, RunId, SessionId } from "./Envelope.ts"
import { type ArchiveTruncated, EventArchive, type ReplayError } from "./EventArchive.ts"
import type { EventFilter, InvalidFilter } from "./EventFilter.ts"
import * as eventBus from "./internal/eventBus.ts"
import { type AdapterUnavailable, StreamAdapter } from "./StreamAdapter.ts"
import type * as SubscriberQueue from "./SubscriberQueue.ts"

/** A frame as a subscriber of the bus receives it. */
export interface BusFrame extends Frame {
  /** Resumes a subscription of the same scope after this frame. */
  readonly cursor: string
  /** The frame's place in its run: `<seq>-<generation>`. */
  readonly runCursor: string
}

/**
 * What a bus can't go on from: what lies between is not in this stream. It is the first item where that goes for the cursor
 * that was given, and a later one where a reader that came with a cursor is so slow that the ring went on past it.
 *
 * `past`: newer frames have pushed it out of the ring; the stream goes on with the oldest frame left. `elsewhere`: another
 * bus or an archive cut the cursor; the stream goes on with what is published next.
 */
export const LiveBufferExpired = Schema.TaggedStruct("LiveBufferExpired", {
  reason: Schema.Literals(["past", "elsewhere"]),
  /** Where what is missing can be read. */
  repair: Schema.Struct({
    /** The cursor that was given, or of the last frame: with `repair: true` the same subscription goes on from it without a gap or a double. */
    cursor: Schema.String,
    /** Everything missing is at a position after this one; absent where frames have no positions. */
    position: Schema.optionalKey(Schema.Int),
    /** The same as a cursor of `EventArchive.replay` with the same filter. */
    archive: Schema.optionalKey(Schema.String),
    /** The run cursor of the last frame, for a subscription to one run: `SubscriptionHub.run` goes on from it. */
    run: Schema.optionalKey(Schema.String),
  }),
  /** Where the stream goes on: the cursor before the frame that follows. */
  cursor: Schema.String,
})
export type LiveBufferExpired = typeof LiveBufferExpired.Type

/** What a subscription yields. `Gap`: a room that feeds the bus may have lost frames. */
export type BusItem = BusFrame | Gap | LiveBufferExpired

/** What a repaired subscription yields. `Truncated`: a run's history was trimmed before it could be read. */
export type RepairedItem = BusFrame | ArchiveTruncated | LiveBufferExpired

/** How a subscription's stream can fail: as its queue's policy says. */
export type BusError = SubscriberQueue.Overflow

/** Why a subscription was refused. */
export type SubscribeError = InvalidCursor | CursorScopeMismatch | SubscriberQueue.QueueRefused

export interface SubscribeOptions {
  /** Everything after this cursor; what is published from now on where absent. */
  readonly cursor?: string | undefined
  /** What may wait for a slow reader, and what becomes of the rest. */
  readonly queue?: SubscriberQueue.QueueOptions | undefined
  readonly repair?: false | undefined
}

export interface RepairOptions {
  /** Everything after this cursor, which may also be one of the archive; what is published from now on where absent. */
  readonly cursor?: string | undefined
  readonly repair: true
}

/** A way to subscribe, by arguments that say to what. */
export interface Subscribe<in Args extends ReadonlyArray<unknown>, out E = never> {
  /**
   * The whole stream after a cursor: what the ring no longer has is read from the archive, then it is live. No gap and no
   * double, in the order of positions. A slow reader is served from the archive at its own pace and has no queue.
   *
   * What other processes store is found when something that matches is published here; see {@link feedFrom}. A cursor
   * names up to 64 holes, as other processes leave them in the positions that are published here; some 40 on a store that
   * leaves large gaps between appends, as Redis does. With more of them, once the cursor is past the ring or used elsewhere,
   * frames beyond may come twice; none is ever missing.
   */
  (
    ...args: [...Args, options: RepairOptions]
  ): Effect.Effect<
    Stream.Stream<RepairedItem, ReplayError>,
    InvalidCursor | CursorScopeMismatch | E,
    Scope.Scope | EventArchive
  >
  /**
   * What is published from the moment the effect returns, after what the ring has behind the cursor. The stream emits
   * what is waiting as one chunk.
   */
  (
    ...args: [...Args, options?: SubscribeOptions]
  ): Effect.Effect<Stream.Stream<BusItem, BusError>, SubscribeError | E, Scope.Scope>
}

/** What a bus holds. */
export interface BusStatus {
  readonly subscribers: number
  /** Runs, sessions, agents and kinds that somebody subscribed to. */
  readonly indexed: number
  readonly ringFrames: number
  /** UTF-16 units of the JSON of the ring's frames, and 512 for each. */
  readonly ringSize: number
}

/** Publishing and subscribing within a process. */
export class EventBus extends Context.Service<
  EventBus,
  {
    /**
     * Hands stored frames to the subscribers they match, in the order given; never waits. A frame that was
     * taken in before is left out, for the 8,192 runs that were published last (or as many as the ring has frames). Of a
     * run in which over 1,024 seqs are missing, the older ones may come again. A `Gap` goes to everybody.
     */
    readonly publish: (frames: ReadonlyArray<Frame | Gap>) => Effect.Effect<void>
    readonly subscribeAll: Subscribe<[]>
    readonly subscribeRun: Subscribe<[runId: RunId]>
    readonly subscribeSession: Subscribe<[sessionId: SessionId]>
    readonly subscribeAgent: Subscribe<[agentId: AgentId]>
    /** Subscribes to what a filter matches; a filter of one run, session or agent shares its cursors. */
    readonly subscribe: Subscribe<[filter: EventFilter], InvalidFilter>
    readonly status: Effect.Effect<BusStatus>
  }
>()("@throughline/core/EventBus") {}

/** How a bus works. What is out of bounds is taken for the nearest bound, what is no number for the default. */
export interface BusOptions {
  /** Frames in the ring, from 1 to 1,048,576; 8,192 by default. */
  readonly ringFrames?: number | undefined
  /** UTF-16 units of the JSON of the ring's frames, 512 added for each, from 0; 16 Mi by default. */
  readonly ringSize?: number | undefined
}

const within = (given: number | undefined, least: number, most: number, otherwise: number): number =>
  given === undefined || Number.isNaN(given) ? otherwise : Math.min(most, Math.max(least, given))

/** No run is called this, so that asking for it costs next to nothing. */
const nobody = "-" as RunId

/** The last position that the archive knows; `undefined` where it can't tell. */
const endOf = (archive: EventArchive["Service"]): Effect.Effect<number | undefined> =>
  Stream.runLast(archive.replay({ filter: { runIds: [nobody] } })).pipe(
    Effect.map((item) => (Option.isSome(item) && item.value._tag === "Checkpoint" ? item.value.position : undefined)),
    Effect.catchCause((cause) =>
      Effect.as(Effect.logDebug("the bus starts without knowing the archive's end", cause), undefined),
    ),
  )

/**
 * Makes a bus. Where the program has an `EventArchive`, it is asked for its end, so that what is stored from then on and
 * published out of order is known to be missing from the first frame's cursor on.
 */
export const make = Effect.fnUntraced(function* (
  options: BusOptions = {},
): Effect.fn.Return<EventBus["Service"], never, SecureRandom.SecureRandom | Digest.Digest> {
  const archive = yield* Effect.serviceOption(EventArchive)
  return eventBus.make({
    position: Option.isSome(archive) ? yield* endOf(archive.value) : undefined,
    instance: yield* makeGeneration(yield* SecureRandom.SecureRandom),
    digest: yield* Digest.Digest,
    ringFrames: Math.floor(within(options.ringFrames, 1, 2 ** 20, 8192)),
    ringSize: within(options.ringSize, 0, Number.MAX_SAFE_INTEGER, 16 * 1024 * 1024),
  })
})

/** A bus in the memory of this process. */
export const layer = (options?: BusOptions): Layer.Layer<EventBus, never, SecureRandom.SecureRandom | Digest.Digest> =>
  Layer.effect(EventBus, make(options))

/** Frames that may wait between a room and the bus. */
const feedCapacity = 8192

const shortestPause = Duration.millis(100)
const longestPause = Duration.seconds(5)

/** How a room that went down is listened to again: from 100 ms, doubling to 5 s, jittered. */
const reconnect = Schedule.min([Schedule.exponential(shortestPause), Schedule.spaced(longestPause)]).pipe(
  Schedule.jittered,
)

const isRetryable = (error: { readonly _tag: string; readonly isRetryable?: boolean }): boolean =>
  error.isRetryable === true

/**
 * Publishes what arrives in a room of the adapter, until the scope closes: so a process sees runs that it doesn't
 * produce. What the bus took in before is left out, as `publish` says, so a process may feed the rooms that it publishes to
 * itself, however far they lag.
 *
 * Returns once it listens. When the room goes down it is listened to again, with a `Gap` to everybody: after 100 ms,
 * doubling to 5 s until a subscription has delivered something or has lasted 5 s. It is given up, with an error in the log, when the adapter says that trying again can't help.
 */
export const feedFrom = Effect.fnUntraced(function* (
  room: Room,
): Effect.fn.Return<void, AdapterUnavailable | SubscriberQueue.QueueRefused, EventBus | StreamAdapter | Scope.Scope> {
  const bus = yield* EventBus
  const adapter = yield* StreamAdapter
  const listen = adapter.subscribe(room, { capacity: feedCapacity })
  // Whatever a bus does to one batch, the next is taken in.
  const publish = (frames: ReadonlyArray<Frame | Gap>): Effect.Effect<void> =>
    Effect.suspend(() => bus.publish(frames)).pipe(
      Effect.catchCause((cause) => Effect.logError("frames of a room were not published to the bus", cause)),
    )
  /** The subscription has delivered something. */
  let delivered = false
  const pump = (stream: Effect.Success<typeof listen>) =>
    Stream.runForEachArray(stream, (frames) => {
      delivered = true
      return publish(frames)
    })
  const lost = publish([{ _tag: "Gap", reason: "reconnected" }])
  const attempt = Effect.gen(function* () {
    delivered = false
    const began = yield* Clock.currentTimeMillis
    yield* Effect.andThen(lost, pump(yield* listen)).pipe(
      Effect.onError(() =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          if (now - began >= Duration.toMillis(longestPause)) delivered = true
        }),
      ),
    )
  }).pipe(Effect.scoped)
  // A subscription that worked begins the pauses anew when it goes down.
  const again: typeof attempt = Effect.suspend(() =>
    attempt.pipe(
      Effect.retry({ schedule: reconnect, while: (error) => isRetryable(error) && !delivered }),
      Effect.catchIf(
        (error) => isRetryable(error) && delivered,
        () => Effect.delay(again, shortestPause),
      ),
    ),
  )
  yield* pump(yield* listen).pipe(
    Effect.catchIf(isRetryable, () => again),
    Effect.catch((error) => Effect.andThen(lost, Effect.logError("the bus is no longer fed from a room", error))),
    (pumping) => Effect.forkScoped(pumping, { startImmediately: true }),
  )
})
