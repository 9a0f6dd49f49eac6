/**
 * The bounded queue between a live source and one subscriber.
 *
 * Offering never waits: what doesn't fit is dropped, and the subscriber is told by a `Gap` in its place.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Frame, Gap } from "./Envelope.ts"

/** How much a subscriber may have waiting. */
export interface QueueOptions {
  /** Frames; 1,024 by default, at least 1. */
  readonly capacity?: number | undefined
}

export const defaultCapacity = 1024

/** A queue option makes no sense; the subscription was not made. */
export class InvalidQueueOptions extends Schema.TaggedError<InvalidQueueOptions>(
  "@throughline/core/SubscriberQueue/InvalidQueueOptions",
)("InvalidQueueOptions", { detail: Schema.String }) {
  override get message() {
    return `the queue options are invalid: ${this.detail}`
  }
}

/** A subscriber's queue; the source offers, `stream` takes what is waiting as one chunk. */
export interface SubscriberQueue<in out E = never> {
  readonly offerAll: (frames: ReadonlyArray<Frame>) => void
  /** Says that frames may be missing from here on. */
  readonly gap: (reason: Gap["reason"]) => void
  /** Ends the stream with an error after what is waiting. */
  readonly fail: (error: E) => void
  readonly stream: Stream.Stream<Frame | Gap, E>
}

/** Makes a queue that is gone when the scope closes. */
export const make = Effect.fnUntraced(function* <E = never>(
  options: QueueOptions = {},
): Effect.fn.Return<SubscriberQueue<E>, InvalidQueueOptions, Scope.Scope> {
  const capacity = options.capacity ?? defaultCapacity
  if (!Number.isSafeInteger(capacity) || capacity < 1) {
    return yield* new InvalidQueueOptions({ detail: `capacity ${capacity}: expected an integer from 1` })
  }
  const queue = yield* Effect.acquireRelease(
    Queue.make<Frame | Gap, E>({ capacity, strategy: "dropping" }),
    Queue.shutdown,
  )
  // Set while frames are being dropped; the gap takes the place of all of them, after what is waiting.
  let gap: Gap["reason"] | undefined
  const mark = (reason: Gap["reason"]) => {
    gap = reason
    // Where nothing is waiting the taker must be woken; the queue then has room.
    Queue.offerUnsafe(queue, { _tag: "Gap", reason })
  }
  const take = Effect.map(Queue.takeAll(queue), (frames) => {
    if (gap === undefined) return frames
    const reason = gap
    gap = undefined
    if (frames[frames.length - 1]!._tag !== "Gap") frames.push({ _tag: "Gap", reason })
    return frames
  })
  return {
    offerAll: (frames) => {
      if (gap !== undefined) return
      if (Queue.offerAllUnsafe(queue, frames as Array<Frame>).length > 0) mark("overflow")
    },
    gap: (reason) => {
      if (gap === undefined) mark(reason)
    },
    fail: (error) => {
      Queue.failCauseUnsafe(queue, Cause.fail(error))
    },
    stream: Stream.fromPull(Effect.succeed(take)),
  }
})
