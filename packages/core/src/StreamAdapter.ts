/**
 * Live fan-out by room: best effort, bounded, never in the way of the producer.
 *
 * An adapter may lose, delay, double and reorder; whoever needs every event reads the store, told by a `Gap`, by a hole
 * in the seqs, or by a watchdog. The hub does all three.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type Frame, type Gap, type Room, type RoomKind, type Routing, roomName, roomsOf } from "./Envelope.ts"
import * as SubscriberQueue from "./SubscriberQueue.ts"
import type { AppendResult } from "./EventStore.ts"

/** The live path is down; what is stored is safe. `isRetryable` says whether trying again can help. */
export class AdapterUnavailable extends Schema.TaggedError<AdapterUnavailable>(
  "@throughline/core/StreamAdapter/AdapterUnavailable",
)("AdapterUnavailable", {
  detail: Schema.String,
  isRetryable: Schema.Boolean,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  override get message() {
    return `the live path is not available: ${this.detail}`
  }
}

export class StreamAdapter extends Context.Service<
  StreamAdapter,
  {
    /**
     * Hands frames of one run, in seq order, to whoever listens in the rooms now. Best effort: a success says only that
     * the frames were handed over. Costs nothing where nobody listens.
     */
    readonly publish: (
      rooms: ReadonlyArray<Room>,
      frames: ReadonlyArray<Frame>,
    ) => Effect.Effect<void, AdapterUnavailable>

    /**
     * Returns once the subscription is in place: every frame published from then on arrives, or a `Gap` does. The room
     * is freed when its last listener's scope closes. The stream fails when the live path is lost for good; after a
     * reconnect it yields a `Gap` at once. The queue's losses are gaps too, so it can neither wait (`backpressure`) nor
     * fail its subscriber (`failSubscriber`).
     */
    readonly subscribe: (
      room: Room,
      queue?: SubscriberQueue.QueueOptions,
    ) => Effect.Effect<
      Stream.Stream<Frame | Gap, AdapterUnavailable>,
      AdapterUnavailable | SubscriberQueue.QueueRefused,
      Scope.Scope
    >
  }
>()("@throughline/core/StreamAdapter") {}

/** Publishes what was appended to its rooms of the given kinds, leaving out the rooms that the store has published to. */
export const publishAppended = (
  adapter: StreamAdapter["Service"],
  appended: AppendResult,
  kinds: ReadonlyArray<RoomKind>,
): Effect.Effect<void, AdapterUnavailable> => {
  const already = appended.published.length === 0 ? undefined : new Set(appended.published.map(roomName))
  const groups: Array<{ readonly rooms: ReadonlyArray<Room>; readonly frames: Array<Frame> }> = []
  let previous: Routing | undefined
  for (const frame of appended.frames) {
    // Neighbours nearly always share their rooms, which only these fields decide.
    const { envelope } = frame
    if (
      previous !== undefined &&
      envelope.runId === previous.runId &&
      envelope.sessionId === previous.sessionId &&
      envelope.agentId === previous.agentId &&
      envelope.provider === previous.provider
    ) {
      groups[groups.length - 1]!.frames.push(frame)
      continue
    }
    previous = envelope
    const rooms = roomsOf(envelope, kinds)
    const left = already === undefined ? rooms : rooms.filter((room) => !already.has(roomName(room)))
    groups.push({ rooms: left, frames: [frame] })
  }
  const publish = ({ frames, rooms }: (typeof groups)[number]) =>
    rooms.length === 0 ? Effect.void : adapter.publish(rooms, frames)
  return groups.length === 1 ? publish(groups[0]!) : Effect.forEach(groups, publish, { discard: true })
}

const makeMemory = Effect.sync((): StreamAdapter["Service"] => {
  const rooms = new Map<string, Set<SubscriberQueue.SubscriberQueue<never, never>>>()
  return {
    publish: (targets, frames) =>
      Effect.sync(() => {
        for (const target of targets) {
          const queues = rooms.get(roomName(target))
          if (queues !== undefined) for (const queue of queues) queue.offerAll(frames)
        }
      }),
    subscribe: (room, options) =>
      Effect.gen(function* () {
        const queue = yield* SubscriberQueue.makeForAdapter(options)
        const name = roomName(room)
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            const queues = rooms.get(name)
            if (queues === undefined) rooms.set(name, new Set([queue]))
            else queues.add(queue)
          }),
          () =>
            Effect.sync(() => {
              const queues = rooms.get(name)!
              queues.delete(queue)
              if (queues.size === 0) rooms.delete(name)
            }),
        )
        return queue.stream
      }),
  }
})

/** Fan-out within this process. */
export const layerMemory: Layer.Layer<StreamAdapter> = Layer.effect(StreamAdapter, makeMemory)
