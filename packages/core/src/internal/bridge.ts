/** The body of the event bridge: takes from the source as long as there is room, sets lanes to work, stops in order. */
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
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EventInput, RunId } from "../Envelope.ts"
import type {
  BridgeHandle,
  BridgeInput,
  BridgeStatus,
  BridgeStopped,
  EventBridge,
  Recorded,
  SourceOptions,
} from "../EventBridge.ts"
import { timestamp, type Vocabulary } from "../Vocabulary.ts"
import * as bridgeIntake from "./bridgeIntake.ts"
import * as bridgeLane from "./bridgeLane.ts"
import * as bridgeLease from "./bridgeLease.ts"

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

interface Started<Err> extends BridgeHandle<Err> {
  /** Runs whose end was stored. */
  readonly ended: Effect.Effect<number>
}

const startWith = Effect.fnUntraced(function* <E, A extends EventInput<E>, Err, R>(
  config: Config,
  vocabulary: Vocabulary<E>,
  source: Stream.Stream<A, Err, R>,
  /** Whose run an event belongs to. */
  address: (input: A) => bridgeIntake.Address,
  /** A run that gets its will when the source is over and gave it no end. */
  recorded: bridgeIntake.Address | undefined,
  sourceOptions: SourceOptions<E>,
): Effect.fn.Return<Started<Err>, never, R | Scope.Scope> {
  const { maxPending, stopped, store } = config
  const counts: bridgeLane.Counts = { stored: 0, retried: 0, dead: 0, pending: 0, ended: 0 }
  const lanes = new Map<RunId, bridgeLane.Lane>()
  const open = new Set<RunId>()
  const room = yield* Latch.make(true)
  const finished = yield* Deferred.make<void>()
  // Closed once the bridge has stopped, so that its fibers are alive while it drains.
  const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
  const workers = yield* Scope.provide(FiberSet.make<void>(), scope)
  const mintedId = sourceOptions.producerId ?? (yield* config.random.uuidV7())
  let lanesMade = 0
  let state: BridgeStatus["state"] = "running"
  /** The grace time is over: whatever still comes is dead. */
  let aborted = false
  let sourceExit: Exit.Exit<void, Err> | undefined
  let stopAsked = false

  const finishIfDone = () => {
    if (sourceExit === undefined || counts.pending > 0) return
    state = "stopped"
    Deferred.doneUnsafe(finished, Exit.void)
  }

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

  const intake = bridgeIntake.make({ ...config, vocabulary, address, laneOf })
  const makeWill = (runId: RunId) =>
    intake.encodeWill(runId, () => sourceOptions.will?.(runId) ?? vocabulary.abandoned())

  const lanesWork = bridgeLane.make({
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

  const setToWork = (idle: ReadonlyArray<bridgeLane.Lane>) =>
    Effect.forEach(
      idle,
      (each) =>
        aborted
          ? lanesWork.buryAll(each, stopped)
          : FiberSet.run(workers, lanesWork.run(each), { startImmediately: false }),
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
      counts.pending += end - index
      const idle = yield* intake.deal(inputs, index, end)
      index = end
      yield* setToWork(idle)
    }
  })

  /** The recorded run's will takes the place of the end that its stream didn't give. */
  const endRecorded = Effect.fnUntraced(function* ({ runId, sessionId }: bridgeIntake.Address) {
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
        if (recorded !== undefined && !intake.endDealt()) yield* endRecorded(recorded)
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
      Effect.forEach(Array.from(lanes.values()), (each) => lanesWork.buryAll(each, stopped), {
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

  // Somebody else ended or removed these runs; the next append to one of them, if any, will hear it.
  const refused = (runIds: ReadonlyArray<RunId>) => {
    for (const runId of runIds) {
      const mine = open.delete(runId) ? lanes.get(runId) : undefined
      if (mine === undefined) continue
      mine.keep = false
      if (!mine.running) lanes.delete(runId)
    }
  }
  if (config.lease !== undefined) {
    yield* bridgeLease
      .keepAlive(store, open, config.lease, refused)
      .pipe(Effect.raceFirst(Deferred.await(finished)), Effect.forkIn(scope))
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
    run: bridgeIntake.Address,
    stream: Stream.Stream<EventInput<E>, Err, R>,
    options: SourceOptions<E> = {},
  ): Effect.Effect<Recorded, Err, R> =>
    Effect.gen(function* () {
      const bridge = yield* startWith(config, vocabulary, stream, () => run, run, options)
      const status = yield* bridge.await
      return { ...status, runId: run.runId, ended: (yield* bridge.ended) > 0 }
    }).pipe(Effect.scoped),
})
