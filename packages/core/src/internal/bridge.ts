/** The body of the event bridge: takes from the source, deals events out to lanes, renews leases, stops in order. */
import * as Clock from "effect/Clock"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EventInput, RunId, SessionId } from "../Envelope.ts"
import type {
  BridgeHandle,
  BridgeInput,
  BridgeStatus,
  BridgeStopped,
  EventBridge,
  Recorded,
  SourceOptions,
} from "../EventBridge.ts"
import { EventRefused, encodeWith, timestamp, type Vocabulary } from "../Vocabulary.ts"
import * as bridgeLane from "./bridgeLane.ts"
import * as eventIds from "./eventIds.ts"

/** The options of a bridge, all of them. */
export interface Config extends Pick<
  bridgeLane.Shared,
  "store" | "adapter" | "bus" | "rooms" | "retry" | "appendTimeout" | "publishTimeout" | "onDeadLetter"
> {
  readonly random: SecureRandom.SecureRandom["Service"]
  readonly maxBatchEvents: number
  readonly maxBatchSize: number
  readonly maxPending: number
  readonly lease: { readonly ttl: Duration.Input; readonly renewEvery: Duration.Input } | undefined
  readonly grace: Duration.Duration
  readonly stopped: BridgeStopped
}

/** The run that a stream of `record` is. */
interface RecordedRun {
  readonly runId: RunId
  readonly sessionId?: SessionId | undefined
}

/** Runs renewed in one call. */
const renewalsPerCall = 1000

interface Started<Err> extends BridgeHandle<Err> {
  /** Runs whose end was stored. */
  readonly ended: Effect.Effect<number>
}

const startWith = Effect.fnUntraced(function* <E, A extends EventInput<E>, Err, R>(
  config: Config,
  vocabulary: Vocabulary<E>,
  source: Stream.Stream<A, Err, R>,
  /** Whose run an event belongs to. */
  address: (input: A) => RecordedRun,
  /** A run that gets its will when the source is over and gave it no end. */
  recorded: RecordedRun | undefined,
  sourceOptions: SourceOptions<E>,
): Effect.fn.Return<Started<Err>, never, R | Scope.Scope> {
  const { maxBatchEvents, maxBatchSize, maxPending, store } = config
  const counts: bridgeLane.Counts = { stored: 0, retried: 0, dead: 0, pending: 0, ended: 0 }
  const lanes = new Map<RunId, bridgeLane.Lane>()
  const open = new Set<RunId>()
  const room = yield* Latch.make(true)
  const finished = yield* Deferred.make<void>()
  // Closed once the bridge has stopped, so that its fibers are alive while it drains.
  const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
  const workers = yield* Scope.provide(FiberSet.make<void>(), scope)
  const mint = eventIds.make(config.random)
  const mintedId = sourceOptions.producerId ?? (yield* config.random.uuidV7())
  let lanesMade = 0
  let state: BridgeStatus["state"] = "running"
  /** The grace time is over: whatever still comes is dead. */
  let aborted = false
  let sourceExit: Exit.Exit<void, Err> | undefined
  let stopAsked = false
  /** An event that ends its run was taken. */
  let endTaken = false

  const finishIfDone = () => {
    if (sourceExit === undefined || counts.pending > 0) return
    state = "stopped"
    Deferred.doneUnsafe(finished, Exit.void)
  }

  const encode = (input: EventInput<E>, nextId: eventIds.NextId, now: string) => {
    try {
      return encodeWith(vocabulary, input, input.eventId ?? nextId(), now)
    } catch (cause) {
      // A vocabulary's functions are the user's; one event they throw on must not take the others with it.
      return Result.fail(new EventRefused({ vocabulary: vocabulary.id.name, problem: String(cause) }))
    }
  }

  const makeWill = Effect.fnUntraced(function* (runId: RunId) {
    const nextId = yield* mint(1)
    const now = timestamp(yield* Clock.currentTimeMillis)
    const encoded = yield* Effect.sync(() => {
      try {
        const event = sourceOptions.will === undefined ? vocabulary.abandoned() : sourceOptions.will(runId)
        return encode({ event }, nextId, now)
      } catch (cause) {
        return Result.fail(new EventRefused({ vocabulary: vocabulary.id.name, problem: String(cause) }))
      }
    })
    if (Result.isSuccess(encoded) && encoded.success.endsRun !== undefined) return encoded.success
    const why = Result.isFailure(encoded) ? encoded.failure.message : "its event doesn't end the run"
    yield* Effect.logWarning(`run ${runId} is written without a will: ${why}`)
    return null
  })

  const lane = bridgeLane.make({
    ...config,
    vocabulary: vocabulary.id,
    leaseTtl: config.lease?.ttl,
    makeWill,
    counts,
    open,
    settled: (events) => {
      counts.pending -= events
      if (counts.pending < maxPending) room.openUnsafe()
      finishIfDone()
    },
    forget: ({ runId }) => lanes.delete(runId),
  })

  const laneOf = (runId: RunId): bridgeLane.Lane => {
    let found = lanes.get(runId)
    if (found === undefined) {
      // A forgotten lane's number can't be gone on with, so each lane of a minted producer is a producer of its own.
      found =
        sourceOptions.producerId === undefined
          ? bridgeLane.makeLane(runId, `${mintedId}.${lanesMade++}`, 1)
          : bridgeLane.makeLane(runId, mintedId, 0)
      lanes.set(runId, found)
    }
    return found
  }

  /** Encodes events and deals them out; answers the lanes that must be set to work. Imperative: it runs per event. */
  const deal = (
    inputs: ReadonlyArray<A>,
    from: number,
    to: number,
    nextId: eventIds.NextId,
    now: string,
  ): ReadonlyArray<bridgeLane.Lane> => {
    const idle: Array<bridgeLane.Lane> = []
    let to_: bridgeLane.Lane | undefined
    for (let index = from; index < to; index++) {
      const input = inputs[index]!
      const { runId, sessionId } = address(input)
      if (to_?.runId !== runId) to_ = laneOf(runId)
      const waiting = to_.waiting
      const encoded = encode(input, nextId, now)
      if (Result.isFailure(encoded)) {
        waiting.push({ _tag: "Refused", sessionId, input, cause: encoded.failure, ends: endsRun(input.event) })
      } else {
        const event = encoded.success
        const size = event.event.length
        const last = waiting[waiting.length - 1]
        if (
          last?._tag === "Batch" &&
          !last.ends &&
          last.events.length < maxBatchEvents &&
          last.size + size <= maxBatchSize &&
          (sessionId === undefined || sessionId === last.sessionId)
        ) {
          last.events.push(event)
          last.size += size
          last.ends = event.endsRun !== undefined
        } else {
          waiting.push({ _tag: "Batch", sessionId, events: [event], size, ends: event.endsRun !== undefined })
        }
        if (event.endsRun !== undefined) endTaken = true
      }
      if (!to_.running) {
        to_.running = true
        idle.push(to_)
      }
    }
    counts.pending += to - from
    return idle
  }

  /** Whether a refused event would have ended its run, as far as the vocabulary can tell. */
  const endsRun = (event: E): boolean => {
    try {
      const ends = vocabulary.endsRun(event) !== undefined
      if (ends) endTaken = true
      return ends
    } catch {
      return false
    }
  }

  const setToWork = (idle: ReadonlyArray<bridgeLane.Lane>) =>
    Effect.forEach(
      idle,
      (each) =>
        aborted
          ? lane.buryAll(each, config.stopped)
          : FiberSet.run(workers, lane.run(each), { startImmediately: false }),
      { discard: true },
    )

  /** Takes a chunk of the source in, as far as there is room; waits for more until all of it is in. */
  const take = Effect.fnUntraced(function* (inputs: ReadonlyArray<A>) {
    let index = 0
    while (index < inputs.length) {
      const free = aborted ? inputs.length : maxPending - counts.pending
      if (free <= 0) {
        room.closeUnsafe()
        yield* room.await
        continue
      }
      const end = Math.min(inputs.length, index + free)
      const nextId = yield* mint(end - index)
      const now = timestamp(yield* Clock.currentTimeMillis)
      const idle = deal(inputs, index, end, nextId, now)
      index = end
      yield* setToWork(idle)
    }
  })

  /** The recorded run's will takes the place of the end that its stream didn't give. */
  const endRecorded = Effect.fnUntraced(function* ({ runId, sessionId }: RecordedRun) {
    const mine = laneOf(runId)
    mine.will ??= yield* makeWill(runId)
    if (mine.will === null) return
    const event = { ...mine.will, emittedAt: timestamp(yield* Clock.currentTimeMillis) }
    mine.waiting.push({ _tag: "Batch", sessionId, events: [event], size: event.event.length, ends: true })
    counts.pending++
    if (mine.running) return
    mine.running = true
    yield* setToWork([mine])
  })

  // Interrupted only while it waits for the source: what was taken is always dealt out.
  const pump = Effect.gen(function* () {
    const pull = yield* Effect.interruptible(Stream.toPull(source))
    while (true) yield* take(yield* Effect.interruptible(pull))
  }).pipe(
    Effect.scoped,
    Effect.onExit(
      Effect.fnUntraced(function* (exit) {
        if (state === "running") state = "draining"
        if (recorded !== undefined && !endTaken) yield* endRecorded(recorded)
        sourceExit = sourceExitOf(exit, stopAsked)
        finishIfDone()
      }),
    ),
  )
  const pumping = yield* Effect.forkIn(pump, scope, { uninterruptible: true })

  const stopTaking = Effect.sync(() => {
    stopAsked = true
    if (state === "running") state = "draining"
    pumping.interruptUnsafe()
  })

  const status = Effect.sync((): BridgeStatus => ({
    state,
    stored: counts.stored,
    retried: counts.retried,
    dead: counts.dead,
  }))

  const abort = Effect.gen(function* () {
    aborted = true
    room.openUnsafe()
    yield* FiberSet.clear(workers)
    const handOver = Effect.andThen(
      Effect.forEach(Array.from(lanes.values()), (each) => lane.buryAll(each, config.stopped), {
        concurrency: "unbounded",
        discard: true,
      }),
      Fiber.await(pumping),
    )
    const done = yield* Effect.timeoutOption(handOver, config.grace)
    if (done._tag === "None") {
      yield* Effect.logError("the bridge stopped before its dead-letter handler, or its source, was done")
    }
    state = "stopped"
    yield* Deferred.succeed(finished, undefined)
  }).pipe(Effect.uninterruptible)

  const stop = Effect.gen(function* () {
    yield* stopTaking
    const done = yield* Effect.timeoutOption(Deferred.await(finished), config.grace)
    if (done._tag === "None") yield* abort
    return yield* status
  })
  yield* Effect.addFinalizer(() => stop)

  const renew = Effect.fnUntraced(function* (runIds: ReadonlyArray<RunId>, ttl: Duration.Input) {
    const { refused } = yield* store.renew(runIds, { ttl })
    for (const runId of refused) {
      // Somebody else ended or removed the run; the lane's next append, if any, will hear it.
      if (!open.delete(runId)) continue
      const refusedLane = lanes.get(runId)
      if (refusedLane === undefined) continue
      refusedLane.keep = false
      if (!refusedLane.running) lanes.delete(runId)
    }
  })

  if (config.lease !== undefined) {
    const { renewEvery, ttl } = config.lease
    const renewOpen = Effect.suspend(() => {
      const runIds = Array.from(open)
      const pages = Array.from({ length: Math.ceil(runIds.length / renewalsPerCall) }, (_, page) =>
        runIds.slice(page * renewalsPerCall, (page + 1) * renewalsPerCall),
      )
      return Effect.forEach(pages, (page) => renew(page, ttl), { discard: true })
    })
    yield* renewOpen.pipe(
      Effect.retry({
        schedule: Schedule.jittered(Schedule.exponential("100 millis")),
        while: (error) => error.isRetryable,
      }),
      Effect.timeout(renewEvery),
      Effect.catchCause((cause) => Effect.logDebug("open runs were not renewed", cause)),
      Effect.delay(renewEvery),
      Effect.forever,
      Effect.raceFirst(Deferred.await(finished)),
      Effect.forkIn(scope),
    )
  }

  return {
    status,
    drain: Effect.andThen(stopTaking, Effect.andThen(Deferred.await(finished), status)),
    stop,
    await: Effect.andThen(
      Deferred.await(finished),
      Effect.suspend(() =>
        sourceExit !== undefined && Exit.isFailure(sourceExit) ? Effect.failCause(sourceExit.cause) : status,
      ),
    ),
    ended: Effect.sync(() => counts.ended),
  }
})

const sourceExitOf = <Err>(exit: Exit.Exit<never, Err | Cause.Done>, stopAsked: boolean): Exit.Exit<void, Err> => {
  const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
  if (Pull.isDoneCause(cause) || (stopAsked && Cause.hasInterruptsOnly(cause))) return Exit.void
  return Exit.failCause(cause as Cause.Cause<Err>)
}

export const make = (config: Config): EventBridge["Service"] => ({
  start: <E, Err, R>(
    vocabulary: Vocabulary<E>,
    source: Stream.Stream<BridgeInput<E>, Err, R>,
    options: SourceOptions<E> = {},
  ) => startWith(config, vocabulary, source, (input) => input, undefined, options),

  record: <E, Err, R>(
    vocabulary: Vocabulary<E>,
    run: RecordedRun,
    stream: Stream.Stream<EventInput<E>, Err, R>,
    options: SourceOptions<E> = {},
  ): Effect.Effect<Recorded, Err, R> =>
    Effect.gen(function* () {
      const bridge = yield* startWith(config, vocabulary, stream, () => run, run, options)
      const status = yield* bridge.await
      return { ...status, runId: run.runId, ended: (yield* bridge.ended) > 0 }
    }).pipe(Effect.scoped),
})
