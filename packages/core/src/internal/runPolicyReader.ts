/**
 * A reader of a run that would rather lose events than fall behind.
 *
 * ```text
 *  lossless reader ── replay, at this reader's pace ──────────────────▶ items
 *        └── from CaughtUp on: a pump, always at the head ──▶ queue ──▶ items
 * ```
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EncodedEnvelope, Envelope, Frame, Gap } from "../Envelope.ts"
import { CorruptRecord } from "../EventStoreError.ts"
import type { RunError, RunItem, Truncated } from "../RunItem.ts"
import * as SubscriberQueue from "../SubscriberQueue.ts"
import type { Vocabulary } from "../Vocabulary.ts"
import type * as RunReader from "./runReader.ts"

type Encoded = RunItem<EncodedEnvelope>
type Item = RunItem<EncodedEnvelope | Envelope<unknown>>
type NonEmpty<A> = [A, ...Array<A>]
type Failure = RunError | SubscriberQueue.Overflow

/** Feeds the queue with all that a reader at the head gets. */
const pump = (
  reader: Stream.Stream<Encoded, RunError>,
  queue: SubscriberQueue.SubscriberQueue<RunError>,
  truncated: Array<Truncated>,
) =>
  Stream.runForEachArray(reader, (items) =>
    Effect.suspend(() => {
      let taken = true
      for (const item of items) {
        if (item._tag === "Event") {
          taken = queue.offer({ _tag: "Frame", envelope: item.envelope, cursor: item.cursor })
        } else if (item._tag === "Truncated") truncated.push(item)
      }
      return taken ? Effect.void : Effect.interrupt
    }),
  ).pipe(Effect.onExit((exit) => Effect.sync(() => (Exit.isSuccess(exit) ? queue.end() : queue.failCause(exit.cause)))))

/** The items of what the queue gave; history that was trimmed under the pump is told before the event after it. */
const itemsOf = (waiting: ReadonlyArray<Frame | Gap>, truncated: Array<Truncated>): Array<Encoded> => {
  const items: Array<Encoded> = []
  for (const item of waiting) {
    if (item.notice !== undefined) items.push({ _tag: "Dropped", notice: item.notice })
    if (item._tag === "Gap") continue
    const { cursor, envelope, merged } = item
    while (truncated.length > 0 && truncated[0]!.to < envelope.seq) items.push(truncated.shift()!)
    items.push(merged === undefined ? { _tag: "Event", envelope, cursor } : { _tag: "Event", envelope, cursor, merged })
  }
  return items
}

/** Decodes the events of a stream; what is before one that can't be decoded is delivered first. */
const decoded = (
  stream: Stream.Stream<Encoded, Failure>,
  vocabulary: Vocabulary<unknown>,
): Stream.Stream<Item, Failure> =>
  Stream.transformPull(stream, (pull) => {
    let corrupt: CorruptRecord | undefined
    const deliver = (chunk: ReadonlyArray<Encoded>): Pull.Pull<NonEmpty<Item>, Failure> => {
      const items: Array<Item> = []
      for (const item of chunk) {
        if (item._tag !== "Event") {
          items.push(item)
          continue
        }
        const event = vocabulary.decode(item.envelope.event)
        if (Result.isFailure(event)) {
          const { runId, seq } = item.envelope
          corrupt = new CorruptRecord({ runId, seq, problem: event.failure })
          break
        }
        items.push({ ...item, envelope: { ...item.envelope, event: event.success } })
      }
      return items.length === 0 ? next() : Effect.succeed(items as NonEmpty<Item>)
    }
    const next = (): Pull.Pull<NonEmpty<Item>, Failure> =>
      corrupt === undefined ? Effect.flatMap(pull, deliver) : Effect.fail(corrupt)
    return Effect.succeed(Effect.suspend(next))
  })

/** Puts a queue between a lossless reader, which must not decode, and whoever reads the stream. */
export const make = Effect.fnUntraced(function* (
  pull: RunReader.Step,
  options: {
    readonly queue: SubscriberQueue.QueueOptions
    readonly vocabulary: Vocabulary<unknown> | undefined
  },
): Effect.fn.Return<Stream.Stream<Item, Failure>, SubscriberQueue.QueueRefused, Scope.Scope> {
  const { vocabulary } = options
  const queue = yield* SubscriberQueue.make<RunError>({
    ...options.queue,
    vocabulary: options.queue.vocabulary ?? vocabulary,
  })
  // A reader without a vocabulary leaves events as they are stored.
  const reader = Stream.fromPull(Effect.succeed(pull)) as Stream.Stream<Encoded, RunError>
  const truncated: Array<Truncated> = []
  const replay = Stream.takeUntil(reader, (item) => item._tag === "CaughtUp")
  const live = Stream.unwrap(Effect.as(Effect.forkScoped(pump(reader, queue, truncated)), queue.stream)).pipe(
    // Every frame is an item, and a gap of this queue has a notice.
    Stream.mapArray((waiting) => itemsOf(waiting, truncated) as NonEmpty<Encoded>),
  )
  const items: Stream.Stream<Encoded, Failure> = Stream.concat(replay, live)
  return vocabulary === undefined ? items : decoded(items, vocabulary)
})
