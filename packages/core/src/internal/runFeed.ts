/**
 * The shared side of watching one run in one process: one live subscription, one repair read, one watchdog.
 *
 * ```text
 *  live frames ──▶ window ──▶ readers (woken by `signal`)
 *       │ hole, gap, reconnect      ▲
 *       ▼                           │
 *  keeper: look at the head, repair from the store, end a run whose producer is gone
 *       ▲ watchdog; polling with backoff while the live path is down
 * ```
 */
import type { TimeoutError } from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Cursor from "../Cursor.ts"
import type { Frame, Gap, RoomKind, RunId } from "../Envelope.ts"
import type { EventBus } from "../EventBus.ts"
import type { AppendResult, AppendWillError, EventStore, Page, ReadError } from "../EventStore.ts"
import { AppendFailed, type ReadFailed, StoreBroken } from "../EventStoreError.ts"
import type { RunHead } from "../RunHead.ts"
import { publishAppended, type StreamAdapter } from "../StreamAdapter.ts"
import { RunWindow } from "./runWindow.ts"
import { Signal } from "./signal.ts"
import type { StoreAccess } from "./storeAccess.ts"

export interface FeedOptions {
  readonly watchdog: Duration.Duration
  readonly grace: Duration.Duration
  readonly pageEvents: number
  readonly bufferEvents: number
  readonly bufferSize: number
  readonly rooms: ReadonlyArray<RoomKind>
}

export interface FeedServices {
  readonly store: EventStore["Service"]
  readonly adapter: StreamAdapter["Service"]
  /** Where there is one. */
  readonly bus: EventBus["Service"] | undefined
  readonly access: StoreAccess
}

/** How often the store is looked at while the live path is down: from here, doubling while nothing is new. */
const firstPoll = 50
const slowestPoll = 1000
const subscribeTimeout = "5 seconds"
const storeDied = new StoreBroken({ detail: "a defect in the store" })
const writeTimeout = "10 seconds"

const resubscribe = Schedule.exponential("50 millis").pipe(
  Schedule.modifyDelay(({ duration }) => Effect.succeed(Duration.min(duration, Duration.seconds(5)))),
  Schedule.jittered,
)

export class RunFeed {
  readonly window: RunWindow
  /** Notified whenever a reader may have something to do. */
  readonly signal = new Signal()
  /** Notified when the keeper should look at the store before its time. */
  readonly poked = new Signal()
  /** Looks are counted as they start; `looked` is the last one that came to an end. 0: none yet. */
  looks = 0
  looked = 0
  /** Looks that failed past the retry budget. */
  failures = 0
  failure: ReadFailed | undefined = undefined
  live = false
  pollDelay = firstPoll

  constructor(options: FeedOptions) {
    this.window = new RunWindow(options.bufferEvents, options.bufferSize)
  }

  /** Takes in live frames; whatever they don't make whole is left to the keeper. */
  receive(items: ReadonlyArray<Frame | Gap>): void {
    let pushed = false
    let wanting = false
    for (const item of items) {
      const outcome = item._tag === "Gap" ? "hole" : this.window.pushFrame(item)
      if (outcome === "pushed") pushed = true
      else if (outcome !== "known") wanting = true
    }
    if (pushed) this.signal.notify()
    if (wanting) this.poked.notify()
  }

  setLive(live: boolean): void {
    if (live === this.live && this.looks > 0) return
    this.live = live
    this.pollDelay = firstPoll
    this.poked.notify()
  }
}

/** Makes the feed of a run; it works until the scope closes. */
export const make = Effect.fnUntraced(function* (runId: RunId, services: FeedServices, options: FeedOptions) {
  const feed = new RunFeed(options)
  yield* Effect.forkScoped(listen(runId, feed, services, options), { startImmediately: true })
  yield* Effect.forkScoped(keep(runId, feed, services, options), { startImmediately: true })
  return feed
})

/** Keeps the live subscription up. After every (re)connect the keeper looks at the store, so nothing between is missed. */
const listen = (runId: RunId, feed: RunFeed, { adapter }: FeedServices, options: FeedOptions) => {
  const subscription = Effect.gen(function* () {
    const stream = yield* Effect.timeout(
      adapter.subscribe({ _tag: "Run", runId }, { capacity: options.bufferEvents }),
      subscribeTimeout,
    )
    feed.setLive(true)
    // A lost live path is no failure of the reader: the keeper polls until it is back.
    yield* Effect.ignore(Stream.runForEachArray(stream, (items) => Effect.sync(() => feed.receive(items))))
  }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => feed.setLive(false))))
  return subscription.pipe(
    Effect.retry(resubscribe),
    Effect.catchCause((cause) => Effect.logDebug(`the live path of run ${runId} is down`, cause)),
    // A path that connects and breaks at once is not tried in a tight loop.
    Effect.andThen(Effect.sleep("50 millis")),
    Effect.forever,
  )
}

/** A will that is due: its lease was first seen expired `grace` before `at`. */
interface DueWill {
  readonly leaseVersion: number
  readonly at: number
}

const keep = Effect.fnUntraced(function* (
  runId: RunId,
  feed: RunFeed,
  services: FeedServices,
  options: FeedOptions,
): Effect.fn.Return<never> {
  const { window } = feed
  let due: DueWill | undefined
  let leaseExpiresAt: number | undefined

  const interval = Effect.gen(function* () {
    const watchdog = Math.ceil(Duration.toMillis(options.watchdog) * (0.8 + 0.4 * (yield* Random.next)))
    // The first look waits a moment for the subscription, so that one look serves both.
    const pace = feed.live ? watchdog : feed.looks === 0 ? firstPoll : Math.min(feed.pollDelay, watchdog)
    const now = yield* Clock.currentTimeMillis
    const appointment = due?.at ?? leaseExpiresAt
    return appointment === undefined || appointment <= now ? pace : Math.min(pace, appointment - now)
  })

  const watchLease = Effect.fnUntraced(function* (head: RunHead) {
    const { lease } = head
    const now = yield* Clock.currentTimeMillis
    leaseExpiresAt = lease?.expiresAt
    if (head.status !== "running" || lease === undefined || lease.expiresAt > now || !lease.hasWill) {
      due = undefined
      return
    }
    if (due?.leaseVersion !== lease.version) {
      due = { leaseVersion: lease.version, at: now + Duration.toMillis(options.grace) }
      return
    }
    if (now < due.at) return
    const appended: Result.Result<AppendResult, AppendWillError | TimeoutError> = yield* services.store
      .appendWill(runId, { leaseVersion: lease.version, expectedSeq: head.lastSeq })
      .pipe(
        Effect.catchDefect(() => Effect.fail(new AppendFailed({ runId, reason: storeDied }))),
        Effect.timeout(writeTimeout),
        Effect.result,
      )
    // Refused: somebody was quicker, or the producer is back, or this process may not write. It keeps watching.
    if (Result.isFailure(appended)) return
    due = undefined
    // Published first: readers that see the end leave, and the last of them closes this feed.
    if (services.bus !== undefined) yield* services.bus.publish(appended.success.frames)
    yield* publishAppended(services.adapter, appended.success, options.rooms).pipe(
      Effect.timeout(writeTimeout),
      Effect.ignore,
    )
    feed.receive(appended.success.frames)
  })

  const adopt = (head: RunHead): void => {
    if (head.generation !== window.generation || head.lastSeq < window.head) window.jump(head)
    else window.note(head)
  }

  /** Reads what is missing after the window. More than a page of it is left to the readers, each at its own pace. */
  const repair = Effect.fnUntraced(function* (generation: string) {
    const read: Result.Result<Page, ReadError> = yield* Effect.result(
      services.access.page(runId, Cursor.run(window.head, generation), options.pageEvents),
    )
    if (Result.isFailure(read)) {
      if (read.failure._tag === "ReadFailed") return yield* read.failure
      // Trimmed, corrupt, removed or gone: readers meet it at their own place.
      const head = yield* services.access.head(runId)
      window.jump(head)
      return head
    }
    const { envelopes, head } = read.success
    if (head.generation !== window.generation) {
      adopt(head)
      return head
    }
    for (const envelope of envelopes) {
      if (envelope.seq === window.head + 1) window.push(envelope, Cursor.run(envelope.seq, generation))
    }
    if (head.lastSeq > window.head) window.jump(head)
    window.note(head)
    return head
  })

  const look = Effect.gen(function* () {
    const { generation } = window
    if (generation !== undefined && window.seen > window.head) return yield* repair(generation)
    const head = yield* services.access.head(runId)
    if (generation === undefined && head.generation !== undefined && feed.looked > 0) {
      // The run was unknown and its readers wait at its start: one read serves them all.
      window.jump({ ...head, lastSeq: 0, status: "running" })
      return yield* repair(head.generation)
    }
    if (generation === undefined || head.generation !== generation || head.lastSeq <= window.head) {
      adopt(head)
      return head
    }
    return yield* repair(generation)
  })

  let poke = 0
  while (true) {
    const pace = yield* interval
    yield* Effect.timeoutOption(feed.poked.changed(poke), pace)
    const isPoked = poke !== feed.poked.version
    poke = feed.poked.version
    const { base, ending, generation, head: before } = window
    const number = ++feed.looks
    const isFirst = feed.looked === 0
    const head: Result.Result<RunHead, ReadFailed> = yield* Effect.result(look)
    if (Result.isFailure(head)) {
      feed.failures++
      feed.failure = head.failure
    } else {
      feed.looked = number
      yield* watchLease(head.success)
      if (!feed.live) feed.pollDelay = window.head > before ? firstPoll : Math.min(feed.pollDelay * 2, slowestPoll)
    }
    // Readers that disagree with the window poke; all others wait for a change of it, and are let sleep without one.
    if (
      isPoked ||
      isFirst ||
      Result.isFailure(head) ||
      window.base !== base ||
      window.head !== before ||
      window.ending !== ending ||
      window.generation !== generation
    ) {
      feed.signal.notify()
    }
    // Frames that a repair did not reach make it go on; a frame that the store knows nothing of must not.
    if (window.seen > window.head) {
      if (window.head > before) poke = -1
      else window.seen = window.head
    }
  }
})
