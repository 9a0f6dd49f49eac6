/** A live subscription: what the ring has behind a cursor, then a bounded queue. */
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

/** The ring's frames after a place that match and that the reader doesn't have. */
export const behind = ({ ring }: Shared, { matcher }: Target, place: Cursor.BusPlace): Array<RingFrame> => {
  const has =
    place.order === "position" && place.repair !== undefined
      ? new PositionSet(place.repair.position, place.repair.ahead)
      : undefined
  const frames: Array<RingFrame> = []
  for (let at = Math.max(place.place + 1, ring.first); at < ring.next; at++) {
    const frame = ring.at(at)
    if (!matcher.matches(frame.envelope)) continue
    if (has === undefined || frame.position === undefined || !has.has(frame.position)) frames.push(frame)
  }
  return frames
}

/** Opens a live subscription; it is in place when the effect returns. */
export const open = Effect.fnUntraced(function* (
  shared: Shared,
  target: Target,
  from: From | undefined,
  options: SubscriberQueue.QueueOptions | undefined,
) {
  const { index, instance, ring } = shared
  const { matcher, scope } = target
  const queue = yield* SubscriberQueue.make(options)
  const encode = Cursor.encoder(scope)
  const isRun = scope.kind === "Run"
  const cursorAt = (place: number, seen: Pick<RingFrame, "floor" | "ahead">, run: string | undefined): string =>
    encode({ _tag: "Bus", instance, place, order: "arrival", repair: repairOf(seen), run })

  /** What comes before the queue, and the cursor before that. */
  const start = (): { readonly items: ReadonlyArray<RingFrame | LiveBufferExpired>; readonly cursor: string } => {
    const now = cursorAt(ring.next - 1, ring.seen, undefined)
    if (from === undefined) return { items: [], cursor: now }
    const place = ownPlace(shared, from.place)
    if (place === undefined) return { items: [expired("elsewhere", scope, from, now)], cursor: now }
    const frames = behind(shared, target, place)
    if (isInRing(shared, place)) return { items: frames, cursor: from.text }
    const cursor = cursorAt(ring.first - 1, ring.before, undefined)
    return { items: [expired("past", scope, from, cursor), ...frames], cursor }
  }

  const { cursor, items } = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const remove = index.add({
        matcher,
        since: ring.next,
        offer: (frame) => {
          // Once it is detached nothing more is for it.
          if (!queue.offer(frame)) remove()
        },
        gap: ({ reason }) => queue.gap(reason),
      })
      return { ...start(), remove }
    }),
    ({ remove }) => Effect.sync(remove),
  )

  /** The cursor of what was delivered last: where a loss is repaired from. */
  let last = cursor
  const located = (notice: OverflowNotice): OverflowNotice => ({
    ...notice,
    repair: { ...notice.repair, cursor: last },
  })
  const locatedError = ({ _tag, notice, repair }: SubscriberQueue.Overflow): SubscriberQueue.Overflow => {
    const fields = { repair: { ...repair, cursor: last }, ...(notice && { notice: located(notice) }) }
    return _tag === "TerminalOverflow"
      ? new SubscriberQueue.TerminalOverflow(fields)
      : new SubscriberQueue.SubscriberOverflow(fields)
  }
  const deliver = (item: RingFrame | Gap | LiveBufferExpired): BusItem => {
    if (item._tag === "LiveBufferExpired") return item
    if (item._tag === "Gap") return item.notice === undefined ? item : { ...item, notice: located(item.notice) }
    const { envelope, merged, notice, position } = item
    const runCursor = item.cursor
    const next = cursorAt(item.place, item, isRun ? runCursor : undefined)
    const frame: { -readonly [Field in keyof BusFrame]: BusFrame[Field] } = {
      _tag: "Frame",
      envelope,
      cursor: next,
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
  const waiting = items.length === 0 ? live : Stream.concat(Stream.fromIterable(items, { chunkSize }), live)
  return waiting.pipe(
    Stream.mapArray((chunk) => chunk.map(deliver) as [BusItem, ...Array<BusItem>]),
    Stream.mapError(locatedError),
  )
})
