/** A live subscription: what the ring has behind a cursor, then a bounded queue. */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Cursor from "../Cursor.ts"
import type { Gap, OverflowNotice } from "../Envelope.ts"
import type { BusFrame, BusItem, LiveBufferExpired } from "../EventBus.ts"
import * as SubscriberQueue from "../SubscriberQueue.ts"
import type { RingFrame } from "./busRing.ts"
import type { Shared, Target } from "./eventBus.ts"
import { PositionSet } from "./positionSet.ts"

/** The cursor a subscriber came with. */
export interface From {
  readonly place: Cursor.Place
  readonly text: string
}

/** Frames whose cursors are written at once while the ring's part is delivered. */
const chunkSize = 256

/** Where the archive goes on after what a frame's `floor` and `ahead` say. */
export const repairOf = (seen: Pick<RingFrame, "floor" | "ahead">): Cursor.RepairPlace | undefined =>
  seen.floor === undefined ? undefined : { position: seen.floor, ahead: seen.ahead }

/** The notice that stands for what a cursor's bus has no more. */
export const expired = (
  reason: LiveBufferExpired["reason"],
  scope: Cursor.Scope,
  { place, text }: From,
  cursor: string,
): LiveBufferExpired => {
  const position = place._tag === "Archive" ? place.position : place.repair?.position
  return {
    _tag: "LiveBufferExpired",
    reason,
    repair: {
      cursor: text,
      ...(position === undefined ? undefined : { position, archive: Cursor.archive(scope, position) }),
      ...(place._tag === "Archive" || place.run === undefined ? undefined : { run: place.run }),
    },
    cursor,
  }
}

/** The place in the stream of this bus; `undefined`: it is a place elsewhere. */
export const ownPlace = ({ instance, ring }: Shared, place: Cursor.Place): Cursor.BusPlace | undefined =>
  place._tag === "Bus" && place.instance === instance && place.place < ring.next ? place : undefined

/** Whether the ring has everything that arrived after a place of this bus. */
export const isInRing = ({ ring }: Shared, { place }: Cursor.BusPlace): boolean => place >= ring.first - 1

/** The ring's frames after a place and before now that match and that the reader doesn't have, read when it gets to them. */
class Behind {
  /** The place to look on. */
  at: number
  /** From here on the queue has the frames. */
  readonly end: number
  readonly #shared: Shared
  readonly #target: Target
  readonly #has: PositionSet | undefined

  constructor(shared: Shared, target: Target, { order, place, repair }: Cursor.BusPlace) {
    this.#shared = shared
    this.#target = target
    this.at = Math.max(place + 1, shared.ring.first)
    this.end = shared.ring.next
    if (order === "position" && repair !== undefined) this.#has = new PositionSet(repair.position, repair.ahead)
  }

  /** Up to so many of the next; what the ring no longer has is passed over. */
  take(count: number): Array<RingFrame> {
    const { ring } = this.#shared
    const frames: Array<RingFrame> = []
    for (this.at = Math.max(this.at, ring.first); this.at < this.end && frames.length < count; this.at++) {
      const frame = ring.at(this.at)
      if (!this.#target.matcher.matches(frame.envelope)) continue
      if (frame.position === undefined || this.#has?.has(frame.position) !== true) frames.push(frame)
    }
    return frames
  }
}

/** Opens a live subscription; it is in place when the effect returns. */
export const open = Effect.fnUntraced(function* (
  shared: Shared,
  target: Target,
  from: From | undefined,
  options: SubscriberQueue.QueueOptions | undefined,
) {
  const { index, instance, ring } = shared
  const capacity = options?.capacity ?? chunkSize
  const { matcher, scope } = target
  const queue = yield* SubscriberQueue.make(options)
  const encode = Cursor.encoder(scope)
  const isRun = scope.kind === "Run"
  const fromAt = (place: number, seen: Pick<RingFrame, "floor" | "ahead">, run: string | undefined): From => {
    const here: Cursor.Place = { _tag: "Bus", instance, place, order: "arrival", repair: repairOf(seen), run }
    return { place: here, text: encode(here) }
  }

  /** What had arrived when the subscription was opened. */
  const atOpen = { floor: ring.seen.floor, ahead: ring.seen.ahead }

  /**
   * What comes before the queue, and the cursor before that. At once there is no more of it than a chunk, or than a
   * smaller queue may hold: a reader that is stuck keeps nothing else that the ring has dropped.
   */
  const start = () => {
    const now = fromAt(ring.next - 1, ring.seen, undefined)
    if (from === undefined) return { items: [], behind: undefined, last: now }
    const place = ownPlace(shared, from.place)
    if (place === undefined)
      return { items: [expired("elsewhere", scope, from, now.text)], behind: undefined, last: now }
    const behind = new Behind(shared, target, place)
    const items = behind.take(Math.min(chunkSize, capacity))
    if (isInRing(shared, place)) return { items, behind, last: from }
    const last = fromAt(ring.first - 1, ring.before, undefined)
    return { items: [expired("past", scope, from, last.text), ...items], behind, last }
  }

  const opened = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const remove = index.add({
        matcher,
        since: ring.next,
        offer: (frame) => {
          // Once it is detached nothing more is for it.
          if (!queue.offer(frame)) remove()
        },
        gap: ({ notice, reason }) => queue.gap(reason, notice),
      })
      return { ...start(), remove }
    }),
    ({ remove }) => Effect.sync(remove),
  )

  /** The cursor of what was delivered last: where a loss is repaired from. */
  let last: From = opened.last
  const located = (notice: OverflowNotice): OverflowNotice => ({
    ...notice,
    repair: { ...notice.repair, cursor: last.text },
  })
  const locatedError = ({ _tag, notice, repair }: SubscriberQueue.Overflow): SubscriberQueue.Overflow => {
    const fields = { repair: { ...repair, cursor: last.text }, ...(notice && { notice: located(notice) }) }
    return _tag === "TerminalOverflow"
      ? new SubscriberQueue.TerminalOverflow(fields)
      : new SubscriberQueue.SubscriberOverflow(fields)
  }
  const deliver = (item: RingFrame | Gap | LiveBufferExpired): BusItem => {
    if (item._tag === "LiveBufferExpired") return item
    if (item._tag === "Gap") return item.notice === undefined ? item : { ...item, notice: located(item.notice) }
    const { envelope, merged, notice, position } = item
    const runCursor = item.cursor
    const next = fromAt(item.place, item, isRun ? runCursor : undefined)
    const frame: { -readonly [Field in keyof BusFrame]: BusFrame[Field] } = {
      _tag: "Frame",
      envelope,
      cursor: next.text,
      runCursor,
    }
    if (position !== undefined) frame.position = position
    if (notice !== undefined) frame.notice = located(notice)
    if (merged !== undefined) frame.merged = merged
    last = next
    return frame
  }
  // What the queue yields is what it was offered, or made of that by adding to it.
  const live = queue.stream as Stream.Stream<RingFrame | Gap, SubscriberQueue.Overflow>
  const { behind } = opened
  /** What comes next before the queue. */
  const nextBehind = (): ReadonlyArray<RingFrame | LiveBufferExpired> => {
    if (opened.items.length > 0) return opened.items.splice(0)
    if (behind === undefined || behind.at >= behind.end) return []
    if (behind.at >= ring.first) return behind.take(chunkSize)
    // The ring went on past the reader, which then goes on with what is left of it, or with the queue.
    const goesOn =
      ring.first < behind.end
        ? fromAt(ring.first - 1, ring.before, undefined)
        : fromAt(behind.end - 1, atOpen, undefined)
    const notice = expired("past", scope, last, goesOn.text)
    last = goesOn
    return [notice, ...behind.take(chunkSize)]
  }
  const items = Effect.suspend(() => {
    const next = nextBehind()
    return Arr.isReadonlyArrayNonEmpty(next) ? Effect.succeed(next) : Cause.done()
  })
  const hasItems = opened.items.length > 0 || behind !== undefined
  return (hasItems ? Stream.concat(Stream.fromPull(Effect.succeed(items)), live) : live).pipe(
    Stream.mapArray((chunk) => chunk.map(deliver) as [BusItem, ...Array<BusItem>]),
    Stream.mapError(locatedError),
  )
})
