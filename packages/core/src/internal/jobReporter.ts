/** Where a pool's lifecycle events go: to the bus, and through a bridge of the pool's own into the runs of the caller's choice. */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { makeGeneration } from "../AppendRules.ts"
import * as Cursor from "../Cursor.ts"
import type { EncodedEnvelope, RunId } from "../Envelope.ts"
import * as EventBridge from "../EventBridge.ts"
import { EventBus } from "../EventBus.ts"
import { EventStore } from "../EventStore.ts"
import * as JobEvents from "../JobEvents.ts"
import type { NewJob } from "../JobRecord.ts"
import { StreamAdapter } from "../StreamAdapter.ts"
import * as Vocabulary from "../Vocabulary.ts"
import * as eventIds from "./eventIds.ts"

/** The fields of a job that say where its events go and under what. */
type Told = Pick<NewJob, "id" | "name" | "report">

export interface Reporter {
  /** Whether anybody would be told; building an event for nobody costs more than the rest of a small job. */
  readonly hears: (job: Told) => boolean
  /** Tells events in order. Never fails the job; waits where the store of runs is behind. */
  readonly tell: (job: Told, events: ReadonlyArray<JobEvents.JobEvent>) => Effect.Effect<void>
}

/** Events on their way into runs; beyond it, jobs wait for the store. */
const reportCapacity = 1024

const correlationOf = (job: Told) => ({ jobId: job.id, jobName: job.name })

/** Appends to runs. They are written without a lease: who enqueued a job may be long gone when it ends. */
const makeBridge = Effect.fnUntraced(function* (
  random: SecureRandom.SecureRandom["Service"],
): Effect.fn.Return<
  Queue.Enqueue<EventBridge.BridgeInput<JobEvents.JobEvent>>,
  never,
  EventStore | StreamAdapter | Scope.Scope
> {
  const bridge = yield* EventBridge.make({ lease: false }).pipe(
    Effect.provideService(SecureRandom.SecureRandom, random),
  )
  const queue = yield* Queue.bounded<EventBridge.BridgeInput<JobEvents.JobEvent>, Cause.Done>(reportCapacity)
  const handle = yield* bridge.start(JobEvents.vocabulary, Stream.fromQueue(queue))
  yield* Effect.addFinalizer(() => Effect.andThen(Queue.end(queue), Effect.timeoutOption(handle.await, "5 seconds")))
  return queue
})

/** Publishes on the bus as a run of the pool's own, which no store knows. */
const makeLive = Effect.fnUntraced(function* (bus: EventBus["Service"], random: SecureRandom.SecureRandom["Service"]) {
  const generation = yield* makeGeneration(random)
  const runId = `jobs-${generation}` as RunId
  const mint = eventIds.make(random)
  let seq = 0
  return (job: Told, events: ReadonlyArray<JobEvents.JobEvent>) =>
    Effect.flatMap(Effect.zip(mint(events.length), Clock.currentTimeMillis), ([nextId, now]) => {
      const correlation = correlationOf(job)
      const emittedAt = Vocabulary.timestamp(now)
      return bus.publish(
        events.flatMap((event) => {
          const encoded = Vocabulary.encodeWith(JobEvents.vocabulary, { event, correlation }, nextId(), emittedAt)
          if (Result.isFailure(encoded)) return []
          // A run that nobody ends: `endsRun` is about the run that the job reports under.
          const { endsRun: _endsRun, ...fields } = encoded.success
          const envelope: EncodedEnvelope = {
            ...fields,
            seq: ++seq,
            runId,
            schemaVersion: JobEvents.vocabulary.id.version,
          }
          return [{ _tag: "Frame" as const, envelope, cursor: Cursor.run(seq, generation) }]
        }),
      )
    })
})

export const make = Effect.fnUntraced(function* (options: {
  readonly random: SecureRandom.SecureRandom["Service"]
  /** Whether to publish on the bus what goes into no run. */
  readonly publish: boolean
}): Effect.fn.Return<Reporter, never, Scope.Scope> {
  const { publish, random } = options
  const bus = publish ? Option.getOrUndefined(yield* Effect.serviceOption(EventBus)) : undefined
  const store = yield* Effect.serviceOption(EventStore)
  const adapter = yield* Effect.serviceOption(StreamAdapter)
  const live = bus === undefined ? undefined : yield* makeLive(bus, random)
  const runs =
    Option.isSome(store) && Option.isSome(adapter)
      ? yield* makeBridge(random).pipe(
          Effect.provideService(EventStore, store.value),
          Effect.provideService(StreamAdapter, adapter.value),
        )
      : undefined

  return {
    hears: (job) => live !== undefined || (runs !== undefined && job.report !== undefined),
    tell: (job, events) => {
      if (events.length === 0) return Effect.void
      const { report } = job
      if (report === undefined || runs === undefined) return live === undefined ? Effect.void : live(job, events)
      const { runId, sessionId } = report
      const correlation = correlationOf(job)
      // The bridge publishes to the bus what it has stored.
      return Effect.asVoid(
        Queue.offerAll(
          runs,
          events.map((event) => ({
            runId,
            event,
            correlation,
            ...(sessionId === undefined ? undefined : { sessionId }),
          })),
        ),
      )
    },
  }
})
