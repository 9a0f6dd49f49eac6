/**
 * The bounded queue between a live source and one subscriber: offering never waits, and a slow subscriber loses by a
 * policy of its choice, is told what, and never loses a terminal frame without its stream failing.
 *
 * A non-terminal frame fits if the queue is shorter than `capacity` and holds fewer non-terminals than
 * `capacity - terminalReserve`; a terminal fits if the queue is shorter than `capacity`. What happens to a frame that
 * doesn't fit:
 *
 * | overflow | progress | normal | terminal |
 * | --- | --- | --- | --- |
 * | `dropNonTerminal` | lost | lost | the oldest non-terminal leaves |
 * | `dropProgress` | lost | the oldest progress leaves, else lost | the oldest progress leaves, else the oldest normal |
 * | `summarize` | joins the summary | the oldest progress joins the summary, else lost | the oldest progress joins the summary, else the oldest normal leaves |
 * | `failSubscriber` | `SubscriberOverflow` | `SubscriberOverflow` | the oldest non-terminal leaves, `SubscriberOverflow` |
 * | `backpressure` | the source waits: {@link fromStream} only | | |
 *
 * Where nothing can leave for a terminal, the subscriber is detached: it drains what it has and fails
 * {@link TerminalOverflow}, which says where to repair from.
 *
 * The next frame delivered after a loss carries a `notice` of all that was lost between it and the frame before. A
 * stream that ends, or fails for a reason of its source, reports what is left to report as a last `Gap`; overflows
 * report it in the error. So what was delivered, what merged frames cover and what notices count is what was offered.
 *
 * The summary keeps each frame's place in the order, outside of the capacity. Neighbours of one run and one coalesce key
 * merge, with nothing queued or lost between them. So a slow reader loses frames and not text, up to `summaryBytes`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Frame, type Gap, OverflowNotice, OverflowPolicy, RepairPlace } from "./Envelope.ts"
import { coalescerOf } from "./internal/pendingSummary.ts"
import { PolicyQueue } from "./internal/policyQueue.ts"
import type { Vocabulary } from "./Vocabulary.ts"

/** How much a subscriber may have waiting, and what happens to what doesn't fit. */
export interface QueueOptions {
  /** Frames; at least 1. 64 by default, 1,024 for an adapter's subscription. */
  readonly capacity?: number | undefined
  /**
   * How much of the capacity only terminals may use; 1 by default, 0 for an adapter's subscription. With as much as the
   * capacity the queue takes terminals only.
   */
  readonly terminalReserve?: number | undefined
  /** `dropNonTerminal` by default. */
  readonly overflow?: OverflowPolicy | undefined
  /**
   * Bytes that the pending summary of `summarize` may hold, 256 KiB by default; past them its oldest frame is lost. A
   * pending frame counts 1 KiB, 16 bytes for each value in its event, and two for each character of its texts and of the
   * JSON it came with last.
   */
  readonly summaryBytes?: number | undefined
  /** Says what merges under `summarize`; without it, progress frames that don't fit are lost as `notMergeable`. */
  // oxlint-disable-next-line no-explicit-any -- the queue never names the type of an event, so any vocabulary will do
  readonly vocabulary?: Vocabulary<any> | undefined
}

const defaults = { capacity: 64, terminalReserve: 1, overflow: "dropNonTerminal", summaryBytes: 256 * 1024 } as const

/** Frames an adapter's subscription may have waiting. */
export const defaultAdapterCapacity = 1024

/** A queue option makes no sense; the subscription was not made. */
export class InvalidQueueOptions extends Schema.TaggedError<InvalidQueueOptions>(
  "@throughline/core/SubscriberQueue/InvalidQueueOptions",
)("InvalidQueueOptions", { detail: Schema.String }) {
  override get message() {
    return `the queue options are invalid: ${this.detail}`
  }
}

/** The policy can't be had here; the subscription was not made. */
export class InvalidOverflowPolicy extends Schema.TaggedError<InvalidOverflowPolicy>(
  "@throughline/core/SubscriberQueue/InvalidOverflowPolicy",
)("InvalidOverflowPolicy", { overflow: OverflowPolicy, detail: Schema.String }) {
  override get message() {
    return `the overflow policy ${this.overflow} is not possible here: ${this.detail}`
  }
}

const overflowFields = {
  /** What was lost since the last frame, where anything was. */
  notice: Schema.optionalKey(OverflowNotice),
  /** What to read to get everything after the last frame received. */
  repair: RepairPlace,
}

/** The subscriber was too slow, and asked to be told by this failure. All that was waiting was delivered before. */
export class SubscriberOverflow extends Schema.TaggedError<SubscriberOverflow>(
  "@throughline/core/SubscriberQueue/SubscriberOverflow",
)("SubscriberOverflow", overflowFields) {
  override get message() {
    return `the subscriber was too slow; read run ${this.repair.runId} after ${this.repair.after}`
  }
}

/** A terminal frame didn't fit and nothing could leave for it. All that was waiting was delivered before. */
export class TerminalOverflow extends Schema.TaggedError<TerminalOverflow>(
  "@throughline/core/SubscriberQueue/TerminalOverflow",
)("TerminalOverflow", overflowFields) {
  override get message() {
    return `the subscriber's queue was full of terminal frames; read run ${this.repair.runId} after ${this.repair.after}`
  }
}

/** How a subscriber's stream fails by itself. */
export type Overflow = SubscriberOverflow | TerminalOverflow

/** Why a queue was not made. */
export type QueueRefused = InvalidQueueOptions | InvalidOverflowPolicy

/** A subscriber's queue: the source offers and never waits, `stream` takes what is waiting as one chunk. */
export interface SubscriberQueue<in E = never, out Failure = E | Overflow> {
  /** False once the subscriber is detached or the queue is ended: nothing more is taken. */
  readonly offer: (frame: Frame) => boolean
  /** Offers frames in their order, as {@link SubscriberQueue.offer} does. */
  readonly offerAll: (frames: ReadonlyArray<Frame>) => boolean
  /**
   * Says that frames may be missing here: those of the notice, where the source knows. Between two frames the reader gets
   * one `Gap` at most, which tells of all gaps and losses there, with the first one's reason.
   */
  readonly gap: (reason: Gap["reason"], notice?: OverflowNotice) => void
  /** Ends the stream with an error after what is waiting. */
  readonly fail: (error: E) => void
  readonly failCause: (cause: Cause.Cause<E>) => void
  /** Completes the stream after what is waiting. */
  readonly end: () => void
  /** For one reader. Interrupted when the queue's scope closes. */
  readonly stream: Stream.Stream<Frame | Gap, Failure>
}

interface Bounds {
  readonly capacity: number
  readonly terminalReserve: number
  readonly overflow: OverflowPolicy
  readonly summaryBytes: number
}

const bounds = (options: QueueOptions, base: Bounds): Effect.Effect<Bounds, InvalidQueueOptions> => {
  const capacity = options.capacity ?? base.capacity
  const terminalReserve = options.terminalReserve ?? base.terminalReserve
  const summaryBytes = options.summaryBytes ?? base.summaryBytes
  const refuse = (detail: string) => Effect.fail(new InvalidQueueOptions({ detail }))
  if (!Number.isSafeInteger(capacity) || capacity < 1) {
    return refuse(`capacity ${capacity}: expected an integer from 1`)
  }
  if (!Number.isSafeInteger(terminalReserve) || terminalReserve < 0 || terminalReserve > capacity) {
    return refuse(`terminalReserve ${terminalReserve}: expected an integer from 0 to the capacity ${capacity}`)
  }
  if (!Number.isSafeInteger(summaryBytes) || summaryBytes < 0) {
    return refuse(`summaryBytes ${summaryBytes}: expected an integer from 0`)
  }
  return Effect.succeed({ capacity, terminalReserve, overflow: options.overflow ?? base.overflow, summaryBytes })
}

type Ending<E> =
  | { readonly _tag: "End" }
  | { readonly _tag: "Fail"; readonly cause: Cause.Cause<E> }
  | { readonly _tag: "Closed" }
type Chunk = [Frame | Gap, ...Array<Frame | Gap>]

interface Waiting {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly wake: () => void
}

const settled = Promise.resolve()

/** A queue between an offering source and a reader that waits. */
class Subscriber<E> {
  readonly #queue: PolicyQueue
  #ending: Ending<E> | undefined = undefined
  #waiting: Array<Waiting> | undefined = undefined
  /** Whether the event loop has yet to turn since a reader was woken. */
  #isWarm = false

  constructor(queue: PolicyQueue) {
    this.#queue = queue
  }

  readonly offer = (frame: Frame): boolean => {
    const queue = this.#queue
    if (this.#ending !== undefined) return false
    queue.offer(frame)
    if (this.#waiting !== undefined) this.#wake()
    return queue.detached === undefined
  }

  readonly offerAll = (frames: ReadonlyArray<Frame>): boolean => {
    const queue = this.#queue
    if (this.#ending !== undefined) return false
    for (const frame of frames) queue.offer(frame)
    if (this.#waiting !== undefined) this.#wake()
    return queue.detached === undefined
  }

  readonly gap = (reason: Gap["reason"], notice?: OverflowNotice): void => {
    if (this.#ending !== undefined || this.#queue.detached !== undefined) return
    this.#queue.gap(reason, notice)
    if (this.#waiting !== undefined) this.#wake()
  }

  readonly finish = (ending: Ending<E>): void => {
    if (ending._tag === "Closed" || (this.#ending === undefined && this.#queue.detached === undefined)) {
      this.#ending = ending
      if (this.#waiting !== undefined) this.#wake()
    }
  }

  get #ready(): boolean {
    return this.#queue.ready || this.#ending !== undefined || this.#queue.detached !== undefined
  }

  /**
   * A reader that waits is woken once the source has done its work: by a microtask, so that the source isn't held up and
   * a burst is taken as one chunk. What comes after that waits until the event loop has turned: a source that doesn't
   * rest is read a turn at a time, and readers that offer to each other's queues don't keep the loop from turning.
   */
  #wake(): void {
    if (!this.#ready) return
    const waiting = this.#waiting!
    const wasWarm = this.#isWarm
    this.#waiting = undefined
    this.#isWarm = true
    for (const { fiber, wake } of waiting) {
      if (!wasWarm) void settled.then(wake)
      fiber.currentDispatcher.scheduleTask(wasWarm ? wake : this.#cool, 0)
    }
  }

  readonly #cool = (): void => {
    this.#isWarm = false
  }

  readonly #wait: Pull.Pull<Chunk, E | Overflow> = Effect.withFiber((fiber) =>
    Effect.callback((resume) => {
      if (this.#ready) return resume(this.pull)
      const reader = { fiber, wake: () => resume(this.pull) }
      ;(this.#waiting ??= []).push(reader)
      return Effect.sync(() => {
        const others = this.#waiting?.filter((other) => other !== reader)
        // Nobody: a wake without a reader would have no fiber to cool by.
        this.#waiting = others?.length === 0 ? undefined : others
      })
    }),
  )

  readonly pull: Pull.Pull<Chunk, E | Overflow> = Effect.suspend((): Pull.Pull<Chunk, E | Overflow> => {
    const queue = this.#queue
    if (this.#ending?._tag === "Closed") return Effect.interrupt
    if (queue.ready) {
      const chunk = queue.take()
      if (chunk.length > 0) return Effect.succeed(chunk as Chunk)
    }
    if (queue.detached !== undefined) return Effect.fail(this.#overflow())
    if (this.#ending !== undefined) {
      const notice = queue.rest()
      if (notice !== undefined) return Effect.succeed([{ _tag: "Gap", reason: "overflow", notice }])
      return this.#ending._tag === "Fail" ? Effect.failCause(this.#ending.cause) : Cause.done()
    }
    return this.#wait
  })

  #overflow(): Overflow {
    const queue = this.#queue
    const notice = queue.rest()
    const repair = queue.repair(notice)
    const fields = notice === undefined ? { repair } : { notice, repair }
    return queue.detached === "TerminalOverflow" ? new TerminalOverflow(fields) : new SubscriberOverflow(fields)
  }
}

const scoped = <E>(options: QueueOptions, base: Bounds, gaps: boolean) =>
  Effect.flatMap(bounds(options, base), (valid) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const coalescer = options.vocabulary === undefined ? undefined : coalescerOf(options.vocabulary)
        return new Subscriber<E>(new PolicyQueue({ ...valid, coalescer, gaps }))
      }),
      (subscriber) => Effect.sync(() => subscriber.finish({ _tag: "Closed" })),
    ),
  )

const face = <E, Failure>(subscriber: Subscriber<E>, stream: Stream.Stream<Frame | Gap, Failure>) => ({
  offer: subscriber.offer,
  offerAll: subscriber.offerAll,
  gap: subscriber.gap,
  fail: (error: E) => subscriber.finish({ _tag: "Fail", cause: Cause.fail(error) }),
  failCause: (cause: Cause.Cause<E>) => subscriber.finish({ _tag: "Fail", cause }),
  end: () => subscriber.finish({ _tag: "End" }),
  stream,
})

const refusePolicy = (overflow: OverflowPolicy, detail: string) =>
  Effect.fail(new InvalidOverflowPolicy({ overflow, detail }))

/** Makes a subscriber's queue for a live source; it is gone when the scope closes. */
export const make = Effect.fnUntraced(function* <E = never>(
  options: QueueOptions = {},
): Effect.fn.Return<SubscriberQueue<E>, QueueRefused, Scope.Scope> {
  if (options.overflow === "backpressure") {
    return yield* refusePolicy("backpressure", "a live source can't wait for its subscribers")
  }
  const subscriber = yield* scoped<E>(options, defaults, false)
  return face(subscriber, Stream.fromPull(Effect.succeed(subscriber.pull)))
})

/**
 * Makes the queue of a reader that repairs itself, as an adapter's subscriber does: a loss is a `Gap` in its place, told
 * at once, and nothing but its source makes the stream fail.
 */
export const makeForAdapter = Effect.fnUntraced(function* <E = never>(
  options: QueueOptions = {},
): Effect.fn.Return<SubscriberQueue<E, E>, QueueRefused, Scope.Scope> {
  if (options.overflow === "backpressure" || options.overflow === "failSubscriber") {
    return yield* refusePolicy(options.overflow, "an adapter's subscriber is told of losses by a Gap")
  }
  const subscriber = yield* scoped<E>(
    options,
    { ...defaults, capacity: defaultAdapterCapacity, terminalReserve: 0 },
    true,
  )
  // Nothing detaches a subscriber that is told by gaps.
  return face(subscriber, Stream.fromPull(Effect.succeed(subscriber.pull as Pull.Pull<Chunk, E>)))
})

/**
 * A source of frames that is read, behind a subscriber's queue. With `backpressure` the source waits while
 * `capacity` frames are waiting and nothing is lost; any other policy reads at the source's pace and loses as it says.
 */
export const fromStream = <E, R>(
  source: Stream.Stream<Frame, E, R>,
  options: QueueOptions = {},
): Stream.Stream<Frame | Gap, E | Overflow | QueueRefused, R> =>
  options.overflow === "backpressure"
    ? Stream.unwrap(Effect.map(bounds(options, defaults), ({ capacity }) => Stream.buffer(source, { capacity })))
    : Stream.unwrap(
        Effect.gen(function* () {
          const subscriber = yield* scoped<E>(options, defaults, false)
          yield* Stream.runForEachArray(source, (frames) =>
            subscriber.offerAll(frames) ? Effect.void : Effect.interrupt,
          ).pipe(
            Effect.onExit((exit) =>
              Effect.sync(() =>
                subscriber.finish(Exit.isSuccess(exit) ? { _tag: "End" } : { _tag: "Fail", cause: exit.cause }),
              ),
            ),
            Effect.forkScoped,
          )
          return Stream.fromPull(Effect.succeed(subscriber.pull))
        }),
      )
