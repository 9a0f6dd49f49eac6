/** The bridge's way in: events are encoded as they come and dealt out to their runs' lanes, as batches. */
import * as Clock from "effect/Clock"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { EncodedEvent, EventInput, RunId, SessionId } from "../Envelope.ts"
import { EventRefused, encodeWith, timestamp, type Vocabulary } from "../Vocabulary.ts"
import type { Lane } from "./bridgeLane.ts"
import * as eventIds from "./eventIds.ts"

/** Where an event belongs. */
export interface Address {
  readonly runId: RunId
  readonly sessionId?: SessionId | undefined
}

export interface Intake<in E, in A> {
  /** Deals out a part of a chunk; answers the lanes that were idle and must be set to work. */
  readonly deal: (inputs: ReadonlyArray<A>, from: number, to: number) => Effect.Effect<ReadonlyArray<Lane>>
  /** An event that ends its run was dealt out. */
  readonly endDealt: () => boolean
  /** The encoded will; `null`, with a warning, where it can't be one. */
  readonly encodeWill: (runId: RunId, make: () => E) => Effect.Effect<EncodedEvent | null>
}

export const make = <E, A extends EventInput<E>>(options: {
  readonly vocabulary: Vocabulary<E>
  readonly random: SecureRandom.SecureRandom["Service"]
  readonly address: (input: A) => Address
  readonly laneOf: (runId: RunId) => Lane
  readonly maxBatchEvents: number
  readonly maxBatchSize: number
}): Intake<E, A> => {
  const { address, laneOf, maxBatchEvents, maxBatchSize, vocabulary } = options
  const mint = eventIds.make(options.random)
  let ended = false

  // A vocabulary's functions are the user's; one event they throw on must not take the others with it.
  const refused = (problem: unknown) => new EventRefused({ vocabulary: vocabulary.id.name, problem: String(problem) })

  const encode = (input: EventInput<E>, nextId: eventIds.NextId, now: string) => {
    try {
      return encodeWith(vocabulary, input, input.eventId ?? nextId(), now)
    } catch (cause) {
      return Result.fail(refused(cause))
    }
  }

  const wouldEnd = (event: E): boolean => {
    try {
      return vocabulary.endsRun(event) !== undefined
    } catch {
      return false
    }
  }

  /** Joins the batch that waits last, if that is within the bounds and doesn't cross a run's end or session. */
  const enqueue = (lane: Lane, event: EncodedEvent, sessionId: SessionId | undefined): void => {
    const size = event.event.length
    const ends = event.endsRun !== undefined
    const last = lane.waiting[lane.waiting.length - 1]
    if (
      last?._tag === "Batch" &&
      !last.ends &&
      last.events.length < maxBatchEvents &&
      last.size + size <= maxBatchSize &&
      (sessionId === undefined || sessionId === last.sessionId)
    ) {
      last.events.push(event)
      last.size += size
      last.ends = ends
    } else {
      lane.waiting.push({ _tag: "Batch", sessionId, events: [event], size, ends })
    }
    ended ||= ends
  }

  const refuse = (lane: Lane, input: A, sessionId: SessionId | undefined, cause: EventRefused): void => {
    const ends = wouldEnd(input.event)
    lane.waiting.push({ _tag: "Refused", sessionId, input, cause, ends })
    ended ||= ends
  }

  return {
    deal: Effect.fnUntraced(function* (inputs, from, to) {
      const nextId = yield* mint(to - from)
      const now = timestamp(yield* Clock.currentTimeMillis)
      // Imperative and in one step, as it runs for every event.
      const idle: Array<Lane> = []
      let lane: Lane | undefined
      for (let index = from; index < to; index++) {
        const input = inputs[index]!
        const { runId, sessionId } = address(input)
        if (lane?.runId !== runId) lane = laneOf(runId)
        const encoded = encode(input, nextId, now)
        if (Result.isSuccess(encoded)) enqueue(lane, encoded.success, sessionId)
        else refuse(lane, input, sessionId, encoded.failure)
        if (!lane.running) {
          lane.running = true
          idle.push(lane)
        }
      }
      return idle
    }),

    endDealt: () => ended,

    encodeWill: Effect.fnUntraced(function* (runId, makeEvent) {
      const nextId = yield* mint(1)
      const now = timestamp(yield* Clock.currentTimeMillis)
      const encoded = yield* Effect.try({ try: makeEvent, catch: refused }).pipe(
        Effect.flatMap((event) => Effect.fromResult(encode({ event }, nextId, now))),
        Effect.result,
      )
      if (Result.isSuccess(encoded) && encoded.success.endsRun !== undefined) return encoded.success
      const why = Result.isFailure(encoded) ? encoded.failure.message : "its event doesn't end the run"
      yield* Effect.logWarning(`run ${runId} is written without a will: ${why}`)
      return null
    }),
  }
}
