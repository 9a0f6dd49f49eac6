/**
 * A repaired subscription: the frames of a filter in the order of positions, none missing, none twice.
 *
 * All its state is which positions it has dealt with (a floor, and what it had beyond it when it came) and where in the
 * ring it looks on:
 *
 * ```text
 * ring frame at the position after the floor ──▶ delivered if it matches, the floor rises
 *            at a position it has            ──▶ skipped
 *            beyond a hole, or pushed out    ──▶ the archive is read from the floor to its end, the floor rises to there
 * nothing more in the ring                   ──▶ waits for a frame that matches
 * ```
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Cursor from "../Cursor.ts"
import type { Frame } from "../Envelope.ts"
import type { ArchiveItem, EventArchive, ReplayError } from "../EventArchive.ts"
import type { BusFrame, RepairedItem } from "../EventBus.ts"
import * as busLive from "./busLive.ts"
import type { RingFrame } from "./busRing.ts"
import type { Shared, Target } from "./eventBus.ts"
import { PositionSet } from "./positionSet.ts"
import { Signal } from "./signal.ts"

/** Frames handed on at once. */
const chunkSize = 1024

/** What comes next: items that are there, or the archive from the floor on. */
type Phase = { readonly _tag: "Items"; readonly items: ReadonlyArray<RepairedItem> } | { readonly _tag: "Archive" }

const archivePhase: Phase = { _tag: "Archive" }

class Reader {
  readonly signal = new Signal()
  /** Positions that have been dealt with. */
  dealt: PositionSet
  closed = false
  readonly #shared: Shared
  readonly #target: Target
  readonly #encode: (place: Cursor.Place) => string
  /** Frames up to this place have been dealt with. */
  #place: number
  /** The archive must be read, whatever the ring says. */
  #mustRead = false
  /** The frame before which there is a hole that the archive was read for. */
  #readFor = 0
  /** What the reader starts with. */
  #start: ReadonlyArray<RepairedItem>

  constructor(shared: Shared, target: Target, from: busLive.From | undefined) {
    this.#shared = shared
    this.#target = target
    this.#encode = Cursor.encoder(target.scope)
    const { ring } = shared
    this.#place = ring.next - 1
    this.dealt = ring.hadNow()
    this.#start = []
    if (from === undefined) return
    const { place } = from
    const repair = place._tag === "Archive" ? { position: place.position, ahead: [] } : place.repair
    const own = busLive.ownPlace(shared, place)
    if (own !== undefined && busLive.isInRing(shared, own)) {
      this.#place = own.place
      // What had arrived by then the ring knows better than the text, which names so many holes and no more.
      this.dealt = own.order === "arrival" ? ring.hadAt(own.place) : new PositionSet(repair?.position, repair?.ahead)
      return
    }
    if (repair === undefined) {
      const cursor = this.#cursor("arrival", this.#place, busLive.repairOf(ring.seen), undefined)
      this.#start = [busLive.expired(own === undefined ? "elsewhere" : "past", target.scope, from, cursor)]
      return
    }
    this.dealt = new PositionSet(repair.position, repair.ahead)
    this.#mustRead = true
  }

  wake = (): void => this.signal.notify()

  /** Frames may have been missed by the bus; the archive has them. */
  gap = (): void => {
    this.#mustRead = this.dealt.floor !== undefined
    this.signal.notify()
  }

  /** The next phase, or `undefined`: nothing to do until the signal. */
  next(): Phase | undefined {
    if (this.#start.length > 0) {
      const items = this.#start
      this.#start = []
      return { _tag: "Items", items }
    }
    const { ring } = this.#shared
    if (this.#mustRead || (this.#place < ring.first - 1 && this.dealt.floor !== undefined)) {
      // Whatever is in the ring by now was stored before, so the archive tells it.
      this.#place = ring.next - 1
      this.#mustRead = false
      return archivePhase
    }
    if (this.#place < ring.first - 1) {
      // Frames without positions, and the archive can't be asked for what came between.
      const { scope } = this.#target
      const place = { _tag: "Bus", instance: this.#shared.instance, place: this.#place, order: "arrival" } as const
      const from = { ...place, repair: undefined, run: undefined }
      this.#place = ring.first - 1
      const cursor = this.#cursor("arrival", this.#place, undefined, undefined)
      return {
        _tag: "Items",
        items: [busLive.expired("past", scope, { place: from, text: this.#encode(from) }, cursor)],
      }
    }
    const items: Array<RepairedItem> = []
    while (this.#place < ring.next - 1 && items.length < chunkSize) {
      const frame = ring.at(this.#place + 1)
      if (this.#needsArchive(frame)) {
        if (items.length > 0) break
        this.#readFor = frame.place
        return archivePhase
      }
      this.#place = frame.place
      if (this.#pass(frame)) items.push(this.#item(frame, "position", frame.place, this.#repair()))
    }
    return items.length === 0 ? undefined : { _tag: "Items", items }
  }

  #needsArchive({ place, position }: RingFrame): boolean {
    const { floor } = this.dealt
    if (floor === undefined || this.#readFor === place) return false
    return position === undefined || (position > floor + 1 && !this.dealt.has(position))
  }

  /** Deals with a frame of the ring; answers whether it is to be delivered. */
  #pass({ envelope, position }: RingFrame): boolean {
    if (position === undefined) {
      // The archive was read for it, unless there is none of its run.
      return this.dealt.floor === undefined && this.#target.matcher.matches(envelope)
    }
    if (this.dealt.floor === undefined) this.dealt.raiseTo(position - 1)
    if (this.dealt.has(position)) return false
    this.dealt.raiseTo(position)
    return this.#target.matcher.matches(envelope)
  }

  /** What an item of the archive is to the reader; `undefined`: nothing. */
  fromArchive(item: ArchiveItem): RepairedItem | undefined {
    if (item._tag === "Truncated") return item
    if (item._tag === "Checkpoint") {
      this.dealt.raiseTo(item.position)
      return undefined
    }
    const had = this.dealt.has(item.position)
    this.dealt.raiseTo(item.position)
    // Looked for from the start of the ring: what is there and not at these positions has not been dealt with.
    return had
      ? undefined
      : this.#item({ ...item, _tag: "Frame", cursor: item.runCursor }, "position", 0, this.#repair())
  }

  archiveCursor(): string {
    return this.#encode({ _tag: "Archive", position: this.dealt.floor ?? 0 })
  }

  #repair(): Cursor.RepairPlace | undefined {
    return busLive.repairOf(this.dealt)
  }

  #cursor(
    order: Cursor.BusPlace["order"],
    place: number,
    repair: Cursor.RepairPlace | undefined,
    run: string | undefined,
  ): string {
    return this.#encode({ _tag: "Bus", instance: this.#shared.instance, place, order, repair, run })
  }

  #item(
    { cursor: runCursor, envelope, position }: Frame,
    order: Cursor.BusPlace["order"],
    place: number,
    repair: Cursor.RepairPlace | undefined,
  ): BusFrame {
    const run = this.#target.scope.kind === "Run" ? runCursor : undefined
    return {
      _tag: "Frame",
      envelope,
      cursor: this.#cursor(order, place, repair, run),
      runCursor,
      ...(position === undefined ? undefined : { position }),
    }
  }
}

/** Opens a repaired subscription; it is in place when the effect returns. */
export const open = Effect.fnUntraced(function* (
  shared: Shared,
  target: Target,
  from: busLive.From | undefined,
  archive: EventArchive["Service"],
) {
  const { reader } = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const opened = new Reader(shared, target, from)
      const since = shared.ring.next
      const remove = shared.index.add({ matcher: target.matcher, since, offer: opened.wake, gap: opened.gap })
      return { reader: opened, remove }
    }),
    (opened) =>
      Effect.sync(() => {
        opened.remove()
        opened.reader.closed = true
        opened.reader.wake()
      }),
  )

  const next: Effect.Effect<Phase, Cause.Done> = Effect.suspend(() => {
    if (reader.closed) return Cause.done()
    const { version } = reader.signal
    const phase = reader.next()
    if (phase !== undefined) return Effect.succeed(phase)
    // Yields once woken: what is published in the same breath is read together, and not on the publisher's stack.
    return Effect.andThen(reader.signal.changed(version), Effect.andThen(Effect.yieldNow, next))
  })

  const replay: Stream.Stream<RepairedItem, ReplayError> = Stream.suspend(() =>
    archive.replay({ filter: target.matcher.filter, after: reader.archiveCursor() }),
  ).pipe(
    Stream.map((item) => reader.fromArchive(item)),
    Stream.filter((item) => item !== undefined),
  )

  return Stream.fromEffectRepeat(next).pipe(
    Stream.flatMap((phase) => (phase._tag === "Items" ? Stream.fromIterable(phase.items) : replay)),
  )
})
