/**
 * A lane of the bridge: one run's queue, its identity as a producer, and what becomes of each batch.
 *
 * ```text
 * batch ─▶ append ─┬▶ stored ─▶ publish
 *           ▲      ├▶ can be mended: the same batch again, by the schedule
 *           └──────┤
 *                  ├▶ one event is too large: it is dead, the rest is the batch
 *                  └▶ anything else: the batch is dead; of unknown outcome: the epoch is raised
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type { EncodedEvent, EventInput, RoomKind, RunId, SessionId } from "../Envelope.ts"
import type { BridgeFailure, DeadLetter, DeadLetterCause } from "../EventBridge.ts"
import type { EventBus } from "../EventBus.ts"
import type { AppendError, AppendRequest, AppendResult, EventStore } from "../EventStore.ts"
import { AppendFailed, type EventTooLarge, ReadFailed, StoreBroken, StoreUnavailable } from "../EventStoreError.ts"
import { publishAppended, type StreamAdapter } from "../StreamAdapter.ts"
import type { EventRefused, VocabularyId } from "../Vocabulary.ts"

/** Events that go into one append. */
export interface Batch {
  readonly _tag: "Batch"
  readonly sessionId: SessionId | undefined
  readonly events: Array<EncodedEvent>
  /** UTF-16 units of the events' JSON. */
  size: number
  /** Its last event ends the run. */
  ends: boolean
}

/** An event that its vocabulary refused; it keeps its place in the order up to the dead letters. */
interface Refused {
  readonly _tag: "Refused"
  readonly sessionId: SessionId | undefined
  readonly input: EventInput<unknown>
  readonly cause: EventRefused
  readonly ends: boolean
}

export type Work = Batch | Refused

/** One run's queue and state. It is forgotten as soon as the run has ended and nothing waits. */
export interface Lane {
  readonly runId: RunId
  readonly producerId: string
  /** 0: not yet known, the store is asked before the first append. */
  epoch: number
  /** Of the next append. */
  number: number
  readonly waiting: Array<Work>
  /** What is being appended: neither stored nor dead. */
  current: Work | undefined
  running: boolean
  /** The will, once it is encoded; `null`: there is none. */
  will: EncodedEvent | null | undefined
  /** The store has this lane's will. */
  willStored: boolean
  /** Its end went to the dead letters: the lease is left to expire. */
  endLost: boolean
  /** Why nothing more is appended. */
  closed: AppendError | undefined
  /** What this lane knows must not be forgotten: another one would append where this one may not. */
  keep: boolean
}

export const makeLane = (runId: RunId, producerId: string, epoch: number): Lane => ({
  runId,
  producerId,
  epoch,
  number: 1,
  waiting: [],
  current: undefined,
  running: false,
  will: undefined,
  willStored: false,
  endLost: false,
  closed: undefined,
  keep: false,
})

export interface Counts {
  stored: number
  retried: number
  dead: number
  /** Taken from the source, neither stored nor dead. */
  pending: number
  /** Runs whose end was stored. */
  ended: number
}

/** What the lanes of one bridge share. */
export interface Shared {
  readonly store: EventStore["Service"]
  readonly adapter: StreamAdapter["Service"]
  /** Where there is one. */
  readonly bus: EventBus["Service"] | undefined
  readonly vocabulary: VocabularyId
  readonly rooms: ReadonlyArray<RoomKind>
  readonly leaseTtl: Duration.Input | undefined
  readonly retry: Schedule.Schedule<unknown, BridgeFailure>
  readonly appendTimeout: Duration.Duration
  readonly publishTimeout: Duration.Duration
  readonly makeWill: (runId: RunId) => Effect.Effect<EncodedEvent | null>
  readonly onDeadLetter: (letter: DeadLetter) => Effect.Effect<void>
  readonly counts: Counts
  /** Runs that are renewed. */
  readonly open: Set<RunId>
  /** Events left the bridge, stored or dead. */
  readonly settled: (events: number) => void
  readonly forget: (lane: Lane) => void
}

const isRetryable = (error: BridgeFailure): boolean =>
  error._tag === "AppendFailed" || error._tag === "ReadFailed" || error._tag === "DurabilityUnconfirmed"
    ? error.isRetryable
    : false

/** Whether the store may have written the batch although it failed, now or when a late answer gets there. */
const isUnknown = (error: AppendError): boolean =>
  error._tag === "DurabilityUnconfirmed" ||
  (error._tag === "AppendFailed" && (error.reason._tag === "StoreUnavailable" || error.reason._tag === "StoreBroken"))

/** Somebody else writes under this producer's id and has the epoch; this lane must never take it back. */
const isFenced = (error: AppendError, number: number): boolean =>
  error._tag === "ProducerFenced" ||
  (number === 1 && (error._tag === "ProducerMismatch" || error._tag === "ProducerStale"))

/** The store and this lane don't agree on the number; a new epoch starts over. */
const isOutOfStep = (error: AppendError): boolean =>
  error._tag === "ProducerGap" || error._tag === "ProducerStale" || error._tag === "ProducerMismatch"

const eventsIn = (work: Work): number => (work._tag === "Batch" ? work.events.length : 1)

const noAnswer = (timeout: Duration.Duration) =>
  new StoreUnavailable({ detail: `no answer within ${Duration.format(timeout)}` })

const died = (cause: unknown) => new StoreBroken({ detail: "a defect in the store", cause })

export const make = (shared: Shared) => {
  const { adapter, bus, counts, open, store } = shared

  /** Hands work over as a dead letter. From its first step on the events count as dead. */
  const bury = (lane: Lane, work: Work, cause: DeadLetterCause, again = true): Effect.Effect<void> =>
    Effect.suspend(() => {
      const events = eventsIn(work)
      counts.dead += events
      if (work.ends) {
        lane.endLost = true
        lane.keep = true
        open.delete(lane.runId)
      }
      const letter: DeadLetter = {
        runId: lane.runId,
        sessionId: work.sessionId,
        cause,
        events: work._tag === "Batch" ? work.events : [],
        unencoded: work._tag === "Batch" ? [] : [work.input],
      }
      return Effect.suspend(() => shared.onDeadLetter(letter)).pipe(
        Effect.catchDefect((defect) => Effect.logError("the dead-letter handler died", defect)),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (again && Exit.hasInterrupts(exit)) {
              // The bridge stops in the middle of the handler: the letter is handed over once more.
              counts.dead -= events
              lane.waiting.unshift(work)
            } else shared.settled(events)
          }),
        ),
      )
    })

  /** The lane's current work is dead. */
  const buryCurrent = (lane: Lane, cause: DeadLetterCause) =>
    Effect.suspend(() => {
      const work = lane.current!
      lane.current = undefined
      return bury(lane, work, cause)
    })

  const retried = <A, E extends BridgeFailure>(attempt: Effect.Effect<A, E>): Effect.Effect<A, E> => {
    let tries = 0
    const counted = Effect.suspend(() => {
      if (tries++ > 0) counts.retried++
      return attempt
    })
    return Effect.retry(counted, { schedule: shared.retry, while: isRetryable })
  }

  const askEpoch = (lane: Lane) => {
    const failed = (reason: StoreUnavailable | StoreBroken) =>
      Effect.fail(new ReadFailed({ runId: lane.runId, reason }))
    return store.producer(lane.runId, lane.producerId).pipe(
      Effect.catchDefect((defect) => failed(died(defect))),
      Effect.timeoutOrElse({
        duration: shared.appendTimeout,
        orElse: () => failed(noAnswer(shared.appendTimeout)),
      }),
      retried,
      Effect.map((state) => (Option.isSome(state) ? state.value.epoch : 0) + 1),
    )
  }

  const requestOf = (lane: Lane, { ends, events, sessionId }: Batch): AppendRequest => ({
    runId: lane.runId,
    vocabulary: shared.vocabulary,
    events,
    producer: { id: lane.producerId, epoch: lane.epoch, number: lane.number },
    ...(sessionId === undefined ? undefined : { sessionId }),
    ...(shared.leaseTtl === undefined || ends || lane.endLost
      ? undefined
      : {
          lease: {
            ttl: shared.leaseTtl,
            ...(lane.will == null || lane.willStored ? undefined : { will: lane.will }),
          },
        }),
  })

  /** The batch as one append, tried until it succeeds, can't, or the schedule gives up; `unknown`: it may be stored. */
  const append = (lane: Lane, batch: Batch) => {
    const failed = (reason: StoreUnavailable | StoreBroken) =>
      Effect.fail(new AppendFailed({ runId: lane.runId, reason }))
    let unknown = false
    return store.append(requestOf(lane, batch)).pipe(
      Effect.catchDefect((defect) => failed(died(defect))),
      Effect.timeoutOrElse({
        duration: shared.appendTimeout,
        orElse: () => failed(noAnswer(shared.appendTimeout)),
      }),
      Effect.tapError((error) =>
        Effect.sync(() => {
          if (isUnknown(error)) unknown = true
        }),
      ),
      retried,
      Effect.withSpan(
        "EventBridge.append",
        { attributes: { runId: lane.runId, events: batch.events.length, number: lane.number } },
        { captureStackTrace: false },
      ),
      Effect.result,
      Effect.map((result) => ({ result, unknown })),
    )
  }

  /** Readers repair from the store; a live path that is down must not hold up what makes events durable. */
  const atMost = (lane: Lane, where: string, publishing: Effect.Effect<void, unknown>): Effect.Effect<void> =>
    publishing.pipe(
      Effect.timeout(shared.publishTimeout),
      Effect.catchCause((cause) => Effect.logDebug(`run ${lane.runId} was not published to ${where}`, cause)),
    )

  const publish = (lane: Lane, appended: AppendResult): Effect.Effect<void> => {
    const toRooms = atMost(lane, "its rooms", publishAppended(adapter, appended, shared.rooms))
    if (bus === undefined) return toRooms
    const toBus = Effect.suspend(() => bus.publish(appended.frames))
    return Effect.andThen(atMost(lane, "the bus", toBus), toRooms)
  }

  const stored = (lane: Lane, batch: Batch, appended: AppendResult): Effect.Effect<void> => {
    const events = batch.events.length
    counts.stored += events
    lane.current = undefined
    lane.number++
    lane.willStored = true
    lane.keep = !batch.ends
    if (batch.ends) {
      counts.ended++
      open.delete(lane.runId)
    } else if (shared.leaseTtl !== undefined && !lane.endLost) open.add(lane.runId)
    return Effect.ensuring(
      publish(lane, appended),
      Effect.sync(() => shared.settled(events)),
    )
  }

  /** One event can't be stored: it is dead alone, the rest stays the lane's work. `false`: it isn't the batch's. */
  const buryTooLarge = (lane: Lane, batch: Batch, error: EventTooLarge): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      let index = -1
      for (const [at, event] of batch.events.entries()) {
        if (event.eventId !== error.eventId) continue
        if (index < 0 || event.event.length > batch.events[index]!.event.length) index = at
      }
      if (index < 0) return Effect.succeed(false)
      const event = batch.events[index]!
      const alone: Batch = { ...batch, events: [event], size: event.event.length, ends: event.endsRun !== undefined }
      const rest = batch.events.toSpliced(index, 1)
      lane.current =
        rest.length === 0
          ? undefined
          : { ...batch, events: rest, size: batch.size - alone.size, ends: batch.ends && !alone.ends }
      return Effect.as(bury(lane, alone, error), true)
    })

  const giveUp = (lane: Lane, error: AppendError, unknown: boolean): Effect.Effect<void> => {
    if (error._tag === "RunEnded" || isFenced(error, lane.number)) {
      lane.closed = error
      lane.keep = error._tag !== "RunEnded"
      open.delete(lane.runId)
    } else if (unknown || isOutOfStep(error)) {
      // The batch may still arrive late; under an older epoch it is refused.
      lane.epoch++
      lane.number = 1
      lane.willStored = false
      lane.keep = true
    }
    return buryCurrent(lane, error)
  }

  const work = Effect.fnUntraced(function* (lane: Lane) {
    const first = lane.current!
    if (first._tag === "Refused") return yield* buryCurrent(lane, first.cause)
    if (lane.closed !== undefined) return yield* buryCurrent(lane, lane.closed)
    if (lane.epoch === 0) {
      const epoch = yield* Effect.result(askEpoch(lane))
      if (Result.isFailure(epoch)) return yield* buryCurrent(lane, epoch.failure)
      lane.epoch = epoch.success
    }
    if (lane.will === undefined && shared.leaseTtl !== undefined) lane.will = yield* shared.makeWill(lane.runId)
    while (lane.current?._tag === "Batch") {
      const batch = lane.current
      const { result, unknown } = yield* append(lane, batch)
      if (Result.isSuccess(result)) return yield* stored(lane, batch, result.success)
      const error = result.failure
      if (error._tag !== "EventTooLarge") return yield* giveUp(lane, error, unknown)
      if (error.eventId === lane.will?.eventId) {
        lane.will = null
        yield* Effect.logWarning(`run ${lane.runId} is written without a will`, error)
      } else if (!(yield* buryTooLarge(lane, batch, error))) return yield* giveUp(lane, error, unknown)
    }
  })

  const next = (lane: Lane): boolean => {
    lane.current = lane.waiting.shift()
    if (lane.current !== undefined) return true
    lane.running = false
    if (!lane.keep) shared.forget(lane)
    return false
  }

  return {
    /** Works until nothing waits. */
    run: Effect.fnUntraced(function* (lane: Lane) {
      while (next(lane)) yield* work(lane)
    }),

    /** Hands over all that is left as dead letters. No fiber must be running the lane. */
    buryAll: Effect.fnUntraced(function* (lane: Lane, cause: DeadLetterCause) {
      lane.running = true
      for (let left = lane.current ?? lane.waiting.shift(); left !== undefined; left = lane.waiting.shift()) {
        lane.current = undefined
        yield* bury(lane, left, cause, false)
      }
      lane.running = false
    }),
  }
}
