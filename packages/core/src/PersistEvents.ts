/**
 * A built-in job that appends events to a run: for events that must be stored although whoever has them can't wait for the
 * store, or is gone when it is back.
 *
 * **Example** (An event that survives a store which is away)
 *
 * ```ts
 * import * as AgentEvents from "@throughline/core/AgentEvents"
 * import * as Envelope from "@throughline/core/Envelope"
 * import * as JobPool from "@throughline/core/JobPool"
 * import * as PersistEvents from "@throughline/core/PersistEvents"
 * import * as Effect from "effect/Effect"
 *
 * export const persist = Effect.gen(function* () {
 *   const pool = yield* JobPool.JobPool
 *   const runId = Envelope.RunId.make("chat-42")
 *   const payload = yield* PersistEvents.payload(AgentEvents.vocabulary, { runId }, [
 *     { event: { _tag: "RunCompleted", finishReason: "stop", iterations: 3 } },
 *   ])
 *   return yield* pool.enqueue(PersistEvents.PersistEvents, payload)
 * })
 * ```
 */
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { defaultRooms, EncodedEvent, type EventInput, type RoomKind, RunId, SessionId } from "./Envelope.ts"
import { EventBus } from "./EventBus.ts"
import { type AppendResult, EventStore } from "./EventStore.ts"
import * as StoreError from "./EventStoreError.ts"
import * as Job from "./Job.ts"
import type { EngineFailed } from "./JobError.ts"
import type { HandlerOptions, JobPool } from "./JobPool.ts"
import { publishAppended, StreamAdapter } from "./StreamAdapter.ts"
import * as Vocabulary from "./Vocabulary.ts"

/** The append that is to be made. */
export const Payload = Schema.Struct({
  runId: RunId,
  sessionId: Schema.optionalKey(SessionId),
  vocabulary: Vocabulary.VocabularyId,
  events: Schema.NonEmptyArray(EncodedEvent),
  /**
   * What makes a repeated append the same one. Absent: an identity of the job's own, so that however often it runs the events are
   * stored once.
   */
  producer: Schema.optionalKey(Schema.Struct({ id: Schema.String, epoch: Schema.Int, number: Schema.Int })),
})
export type Payload = typeof Payload.Type

/** Why the events were not stored; the store's own errors. */
export const Failure = Schema.Union([
  StoreError.AppendFailed,
  StoreError.RunEnded,
  StoreError.SeqConflict,
  StoreError.SessionConflict,
  StoreError.ProducerFenced,
  StoreError.ProducerGap,
  StoreError.ProducerStale,
  StoreError.ProducerMismatch,
  StoreError.VocabularyMismatch,
  StoreError.EventTooLarge,
  StoreError.DurabilityUnconfirmed,
])
export type Failure = typeof Failure.Type

/** A gap closes when the append before it, a job too perhaps, is made. Other refusals stay what they are. */
const mayPass = (error: Failure): boolean =>
  error._tag === "AppendFailed" || error._tag === "DurabilityUnconfirmed"
    ? error.isRetryable
    : error._tag === "ProducerGap"

/**
 * Appends events to a run, once however often the job runs, and gives the seqs of the first and the last.
 *
 * What the run refuses for good (it has ended, it speaks another vocabulary) goes straight to the dead letters.
 */
export const PersistEvents = Job.make("throughline.persist-events", {
  payload: Payload,
  success: Schema.Struct({ firstSeq: Schema.Int, lastSeq: Schema.Int }),
  error: Failure,
  maxAttempts: 20,
  giveUp: (error) => !mayPass(error),
})

/** Encodes events for the job; fails `EventRefused` if the vocabulary can't. */
export const payload = Effect.fnUntraced(function* <E>(
  vocabulary: Vocabulary.Vocabulary<E>,
  run: { readonly runId: RunId; readonly sessionId?: SessionId | undefined },
  inputs: readonly [EventInput<E>, ...ReadonlyArray<EventInput<E>>],
): Effect.fn.Return<Payload, Vocabulary.EventRefused, SecureRandom> {
  const [first, ...rest] = inputs
  const { runId, sessionId } = run
  return {
    runId,
    vocabulary: vocabulary.id,
    events: [
      yield* Vocabulary.encode(vocabulary, first),
      ...(yield* Effect.forEach(rest, (input) => Vocabulary.encode(vocabulary, input))),
    ],
    ...(sessionId === undefined ? undefined : { sessionId }),
  }
})

/**
 * The handler: appends to the program's `EventStore`, then publishes to its `StreamAdapter` and `EventBus` where it has them. What
 * a live path misses, its readers repair from the store.
 */
export const layer = (
  options: HandlerOptions & {
    /** Kinds of rooms that are published to; `Run` and `Session` by default. */
    readonly rooms?: ReadonlyArray<RoomKind> | undefined
  } = {},
): Layer.Layer<never, EngineFailed, JobPool | EventStore> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const adapter = yield* Effect.serviceOption(StreamAdapter)
      const bus = yield* Effect.serviceOption(EventBus)

      const publish = Effect.fnUntraced(
        function* (appended: AppendResult) {
          if (Option.isSome(bus)) yield* bus.value.publish(appended.frames)
          if (Option.isSome(adapter)) yield* publishAppended(adapter.value, appended, options.rooms ?? defaultRooms)
        },
        Effect.timeout("1 second"),
        Effect.catchCause((cause) => Effect.logDebug("events that a job persisted were not published", cause)),
      )

      return Job.toLayer(
        PersistEvents,
        Effect.fnUntraced(function* ({ events, producer, runId, sessionId, vocabulary }, { id }) {
          const store = yield* EventStore
          const appended = yield* store.append({
            runId,
            sessionId,
            vocabulary,
            events,
            producer: producer ?? { id: `job:${id}`, epoch: 1, number: 1 },
          })
          yield* publish(appended)
          const seqs = appended.frames.map(({ envelope }) => envelope.seq)
          return { firstSeq: seqs[0] ?? 0, lastSeq: seqs.at(-1) ?? 0 }
        }),
        options,
      )
    }),
  )
