/** A bus beside a store, and what both have been given: the ground on which the laws of the bus are played. */
import type { Frame } from "@throughline/core/Envelope"
import { type BusFrame, type BusItem, EventBus, type RepairedItem } from "@throughline/core/EventBus"
import type { EventFilter } from "@throughline/core/EventFilter"
import { EventStore } from "@throughline/core/EventStore"
import type { QueueOptions } from "@throughline/core/SubscriberQueue"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as BusHistory from "./busHistory.ts"

/** What a history has done so far. */
class BusWorld {
  /** Published frames, each once, in the order of publishing. */
  readonly published: Array<Frame> = []
  /** All that was stored, by position. */
  readonly stored: Array<Frame> = []

  /**
   * Whether this bus has seen more holes than a cursor names: 64, or fewer in 300 characters where a store numbers with
   * large gaps.
   */
  get hasManyHoles(): boolean {
    const positions = this.published.map(({ position }) => position!).toSorted((left, right) => left - right)
    let holes = 0
    let characters = String(positions[0] ?? 0).length
    for (const [index, position] of positions.entries()) {
      const gap = index === 0 ? 0 : position - positions[index - 1]! - 1
      if (gap > 0) {
        holes += 1
        characters += `_${gap}_1`.length
      }
    }
    return Math.max(holes, this.stored.length - this.published.length) > 64 || characters > 300
  }

  /** Stored here and not yet published, by run, the oldest first. */
  readonly #waiting = new Map<number, Array<ReadonlyArray<Frame>>>()
  #events = 0
  readonly #bus: EventBus["Service"]
  readonly #store: EventStore["Service"]

  constructor(bus: EventBus["Service"], store: EventStore["Service"]) {
    this.#bus = bus
    this.#store = store
  }

  /** Appends events of the first one's run. */
  store(shapes: ReadonlyArray<BusHistory.Shape>): Effect.Effect<ReadonlyArray<Frame>, unknown> {
    const { run } = shapes[0]!
    const sessionId = BusHistory.sessionIdOf(run)
    return Effect.map(
      this.#store.append({
        runId: BusHistory.runIdOf(run),
        ...(sessionId === undefined ? undefined : { sessionId }),
        vocabulary: { name: "law", version: 1 },
        events: shapes.map((shape) => BusHistory.eventOf(++this.#events, shape)),
      }),
      ({ frames }) => {
        this.stored.push(...frames)
        return frames
      },
    )
  }

  publish(frames: ReadonlyArray<Frame>): Effect.Effect<void> {
    return Effect.andThen(
      Effect.sync(() => this.published.push(...frames)),
      this.#bus.publish(frames),
    )
  }

  play(command: BusHistory.Command): Effect.Effect<void, unknown> {
    const waiting = this.#waiting
    switch (command._tag) {
      case "Store":
        return Effect.map(this.store(command.shapes), (frames) => {
          if (command.foreign) return
          const { run } = command.shapes[0]!
          waiting.set(run, [...(waiting.get(run) ?? []), frames])
        })
      case "Publish": {
        const runs = [...waiting.keys()]
        const run = runs[command.pick % runs.length]
        const frames = run === undefined ? undefined : waiting.get(run)!.shift()
        if (run === undefined || frames === undefined) return Effect.void
        if (waiting.get(run)!.length === 0) waiting.delete(run)
        return this.publish(frames)
      }
      case "Again":
        return this.#bus.publish(this.published.slice(-command.back, this.published.length))
    }
  }

  /** Publishes all that waits. */
  settle(): Effect.Effect<void, unknown> {
    return Effect.suspend(() => this.publish(Array.from(this.#waiting.values()).flat(2))).pipe(
      Effect.andThen(Effect.sync(() => this.#waiting.clear())),
    )
  }

  /** Stores and publishes one event; its id. */
  finish(shape: BusHistory.Shape): Effect.Effect<string, unknown> {
    return Effect.flatMap(this.store([shape]), (frames) => Effect.as(this.publish(frames), frames[0]!.envelope.eventId))
  }
}

export const makeWorld = Effect.gen(function* () {
  return new BusWorld(yield* EventBus, yield* EventStore)
})

/** Subscribes as a history says. */
export const subscribe = (
  subscribed: BusHistory.Subscription,
  options: { readonly cursor?: string | undefined; readonly queue?: QueueOptions | undefined } = {},
) =>
  Effect.flatMap(EventBus, (bus) => {
    switch (subscribed.by) {
      case "all":
        return bus.subscribeAll(options)
      case "run":
        return bus.subscribeRun(BusHistory.runIdOf(subscribed.of), options)
      case "session":
        return bus.subscribeSession(BusHistory.sessionIdOf(subscribed.of)!, options)
      case "agent":
        return bus.subscribeAgent(BusHistory.agentIdOf(subscribed.of), options)
      case "filter":
        return bus.subscribe(BusHistory.filterOf(subscribed.plan), options)
    }
  })

/** Subscribes as a history says, repaired. */
export const subscribeRepaired = (subscribed: BusHistory.Subscription, cursor?: string) =>
  Effect.flatMap(EventBus, (bus) => {
    const options = { cursor, repair: true } as const
    switch (subscribed.by) {
      case "all":
        return bus.subscribeAll(options)
      case "run":
        return bus.subscribeRun(BusHistory.runIdOf(subscribed.of), options)
      case "session":
        return bus.subscribeSession(BusHistory.sessionIdOf(subscribed.of)!, options)
      case "agent":
        return bus.subscribeAgent(BusHistory.agentIdOf(subscribed.of), options)
      case "filter":
        return bus.subscribe(BusHistory.filterOf(subscribed.plan), options)
    }
  })

/** Reads up to and with the event of an id. */
export const readTo = <Item extends BusItem | RepairedItem, E>(
  stream: Stream.Stream<Item, E>,
  eventId: string,
): Effect.Effect<Array<Item>, E> =>
  Stream.runCollect(Stream.takeUntil(stream, (item) => item._tag === "Frame" && item.envelope.eventId === eventId))

export const framesOf = <Item extends { readonly _tag: string }>(items: ReadonlyArray<Item>) =>
  items.filter((item): item is Extract<Item, { readonly _tag: "Frame" }> => item._tag === "Frame")

export const idsOf = (frames: ReadonlyArray<{ readonly envelope: Frame["envelope"] }>): ReadonlyArray<string> =>
  frames.map(({ envelope }) => envelope.eventId)

/** The ids of frames that a filter means. */
export const matching = (frames: ReadonlyArray<Frame>, filter: EventFilter): ReadonlyArray<string> =>
  idsOf(frames.filter(({ envelope }) => BusHistory.means(filter, envelope)))

/** An envelope of a shape, for asking what a filter means of it. */
export const envelopeOf = (shape: BusHistory.Shape): Frame["envelope"] => {
  const sessionId = BusHistory.sessionIdOf(shape.run)
  return {
    ...BusHistory.eventOf(0, shape),
    seq: 1,
    runId: BusHistory.runIdOf(shape.run),
    ...(sessionId === undefined ? undefined : { sessionId }),
    schemaVersion: 1,
  }
}

/** Pulls on until the event of an id has come. */
export const pullTo = Effect.fnUntraced(function* <E>(
  pull: Effect.Effect<ReadonlyArray<BusItem>, E>,
  eventId: string,
  each: (frames: ReadonlyArray<BusFrame>) => void,
) {
  while (true) {
    const frames = framesOf(yield* pull)
    each(frames)
    if (frames.some(({ envelope }) => envelope.eventId === eventId)) return
  }
})

export const sorted = (ids: ReadonlyArray<string>): ReadonlyArray<string> => ids.toSorted()
