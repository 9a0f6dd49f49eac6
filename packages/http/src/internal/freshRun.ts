/**
 * A run for a reader who prefers fresh to whole, of some of its events: whole up to where it has caught up, from there
 * through a queue that only takes what passes, so that nothing else crowds it out.
 */
import type { EncodedEnvelope, Frame, Gap, RunId } from "@throughline/core/Envelope"
import type { RunError, RunItem, Truncated } from "@throughline/core/RunItem"
import type { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as Stream from "effect/Stream"
import type { Passes } from "./eventFilter.ts"

type Item = RunItem<EncodedEnvelope>

/** The items of what the queue gave; history that was trimmed under the reader is told before the event after it. */
const itemsOf = (waiting: ReadonlyArray<Frame | Gap>, truncated: Array<Truncated>): ReadonlyArray<Item> =>
  waiting.flatMap((item): ReadonlyArray<Item> => {
    const lost: ReadonlyArray<Item> = item.notice === undefined ? [] : [{ _tag: "Dropped", notice: item.notice }]
    if (item._tag === "Gap") return lost
    const { cursor, envelope, merged } = item
    const trimmed: Array<Item> = []
    while (truncated.length > 0 && truncated[0]!.to < envelope.seq) trimmed.push(truncated.shift()!)
    const event: Item = { _tag: "Event", envelope, cursor }
    return [...lost, ...trimmed, merged === undefined ? event : { ...event, merged }]
  })

export const stream = (
  hub: SubscriptionHub["Service"],
  runId: RunId,
  options: {
    readonly after: string | undefined
    readonly queue: SubscriberQueue.QueueOptions
    readonly passes: Passes
  },
): Stream.Stream<Item, RunError | SubscriberQueue.Overflow | SubscriberQueue.QueueRefused> =>
  Stream.suspend(() => {
    const { passes, queue } = options
    let { after } = options
    const truncated: Array<Truncated> = []
    const replay = hub.run(runId, { after, truncated: "skip" }).pipe(
      Stream.takeUntil((item) => item._tag === "CaughtUp"),
      Stream.mapArray((items) => {
        // What it has caught up with binds a reader that came with a bare seq to the run that it found.
        const last = items.findLast((item) => item._tag === "Event" || item._tag === "CaughtUp")
        after = last?.cursor ?? after
        return items
      }),
    )
    const framesOf = (items: ReadonlyArray<Item>): ReadonlyArray<Frame> =>
      items.flatMap((item): ReadonlyArray<Frame> => {
        if (item._tag === "Truncated") truncated.push(item)
        return item._tag === "Event" && passes(item.envelope)
          ? [{ _tag: "Frame", envelope: item.envelope, cursor: item.cursor }]
          : []
      })
    const live = Stream.suspend(() => {
      const followed = Stream.chunks(hub.run(runId, { after, truncated: "skip" }))
      return SubscriberQueue.fromStream(Stream.flattenIterable(Stream.map(followed, framesOf)), queue)
    })
    const delivered = Stream.map(Stream.chunks(live), (waiting) => itemsOf(waiting, truncated))
    return Stream.concat(replay, Stream.flattenIterable(delivered))
  })
