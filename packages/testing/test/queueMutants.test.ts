import type { Delivery, Frame, Gap } from "@throughline/core/Envelope"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as Mutant from "@throughline/testing/Mutant"
import * as SubscriberQueueLaws from "@throughline/testing/SubscriberQueueLaws"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"

type Queue = SubscriberQueueLaws.QueueUnderTest
type Options = SubscriberQueue.QueueOptions
type Chunk = readonly [Frame | Gap, ...Array<Frame | Gap>]

/** The queue with its options or its face changed. */
const mutant = (
  bug: string,
  law: SubscriberQueueLaws.QueueLaw,
  wrap: (queue: Queue, options: Options) => Partial<Queue>,
  configure: (options: Options) => Options = (options) => options,
): Mutant.Mutant<SubscriberQueueLaws.QueueMaker> => ({
  bug,
  law: law.name,
  subject: Layer.succeed(SubscriberQueueLaws.QueueMaker, {
    make: (options) =>
      Effect.map(SubscriberQueue.make<SubscriberQueueLaws.SourceFailure>(configure(options)), (queue) => ({
        ...queue,
        ...wrap(queue, options),
      })),
  }),
})

const unchanged = () => ({})

/** Every chunk changed. */
const chunks =
  (f: (items: Chunk) => Chunk) =>
  (queue: Queue): Partial<Queue> => ({ stream: Stream.mapArray(queue.stream, f) })

const delivered = (frame: Frame, delivery: Delivery): Frame => ({
  ...frame,
  envelope: { ...frame.envelope, delivery },
})

const silenced = (item: Frame | Gap): Frame | Gap => {
  const { notice, ...rest } = item
  return notice === undefined ? item : rest
}

const isMerged = (item: Frame | Gap) => item._tag === "Frame" && item.merged !== undefined

Mutant.suite("SubscriberQueue", SubscriberQueueLaws.laws, [
  mutant(
    "lets other frames into the reserve of the terminals",
    SubscriberQueueLaws.asTheModel,
    unchanged,
    (options) => ({ ...options, terminalReserve: 0 }),
  ),
  mutant(
    "delivers the summary after what is queued",
    SubscriberQueueLaws.asTheModel,
    chunks((items) => items.toSorted((left, right) => Number(isMerged(left)) - Number(isMerged(right))) as never),
  ),
  mutant(
    "tells of a loss with the newest frame, not with the one that follows it",
    SubscriberQueueLaws.asTheModel,
    chunks((items) => {
      const notice = items.find((item) => item.notice !== undefined)?.notice
      if (notice === undefined) return items
      const silent = items.map(silenced)
      silent.push({ ...silent.pop()!, notice })
      return silent as never
    }),
  ),
  mutant(
    "says nothing of what it lost",
    SubscriberQueueLaws.conserved,
    chunks((items) => items.map(silenced) as never),
  ),
  mutant(
    "counts a merged frame as one",
    SubscriberQueueLaws.conserved,
    chunks(
      (items) =>
        items.map((item) =>
          item._tag === "Frame" && item.merged ? { ...item, merged: { ...item.merged, frames: 1 } } : item,
        ) as never,
    ),
  ),
  mutant("drops terminals as it drops what is normal", SubscriberQueueLaws.terminalsSurvive, (queue) => {
    const terminals = new Set<string>()
    const lower = (frame: Frame) => {
      if (frame.envelope.delivery !== "terminal") return frame
      terminals.add(frame.cursor)
      return delivered(frame, "normal")
    }
    const raise = (item: Frame | Gap) =>
      item._tag === "Frame" && terminals.has(item.cursor) ? delivered(item, "terminal") : item
    return {
      offer: (frame) => queue.offer(lower(frame)),
      offerAll: (frames) => queue.offerAll(frames.map(lower)),
      stream: Stream.map(queue.stream, raise),
    }
  }),
  mutant("lets a subscriber full of terminals go without a word", SubscriberQueueLaws.terminalsSurvive, (queue) => ({
    stream: Stream.catchTag(queue.stream, "TerminalOverflow", () => Stream.empty),
  })),
  mutant("drops progress where it should summarize", SubscriberQueueLaws.textSurvives, unchanged, (options) => ({
    ...options,
    overflow: options.overflow === "summarize" ? "dropProgress" : options.overflow,
  })),
  mutant("forgets the capacity", SubscriberQueueLaws.bounded, unchanged, (options) => ({
    ...options,
    capacity: 1_000_000,
  })),
  mutant("takes backpressure for dropProgress", SubscriberQueueLaws.refused, unchanged, (options) => ({
    ...options,
    overflow: options.overflow === "backpressure" ? "dropProgress" : options.overflow,
  })),
])
