import { type Frame, type Gap, type Room, roomName } from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import { layerMemory, StreamAdapter } from "@throughline/core/StreamAdapter"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import type * as Law from "@throughline/testing/Law"
import * as Mutant from "@throughline/testing/Mutant"
import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

type Adapter = StreamAdapter["Service"]
type AdapterMutant = Mutant.Mutant<EventStore.EventStore | StreamAdapter, StoreOptions>

/** The memory adapter with some of its methods replaced. */
const mutant = (
  bug: string,
  law: Law.Law<EventStore.EventStore | StreamAdapter, StoreOptions>,
  wrap: (adapter: Adapter) => Effect.Effect<Partial<Adapter>, never, Scope.Scope>,
): AdapterMutant => ({
  bug,
  law: law.name,
  subject: Layer.effect(
    StreamAdapter,
    Effect.gen(function* () {
      const adapter = yield* StreamAdapter
      return { ...adapter, ...(yield* wrap(adapter)) }
    }),
  ).pipe(Layer.provide(layerMemory), Layer.merge(EventStore.layerMemory())),
})

const everywhere: Room = { _tag: "All" }

const mutants: ReadonlyArray<AdapterMutant> = [
  mutant("drops frames and says no Gap", StreamAdapterLaws.arrives, (adapter) =>
    Effect.succeed({
      subscribe: (room, queue) =>
        Effect.map(adapter.subscribe(room, queue), (stream) => Stream.filter(stream, (item) => item._tag !== "Gap")),
    }),
  ),
  mutant("says Gap before what was waiting", StreamAdapterLaws.arrives, (adapter) =>
    Effect.succeed({
      subscribe: (room, queue) =>
        Effect.map(adapter.subscribe(room, queue), (stream) =>
          Stream.mapArray(stream, (items) => {
            const [first, ...others] = items.toSorted((left, right) => (left._tag < right._tag ? 1 : -1))
            return [first!, ...others]
          }),
        ),
    }),
  ),
  mutant("subscribes once somebody takes", StreamAdapterLaws.arrives, (adapter) =>
    Effect.succeed({
      subscribe: (room, queue) =>
        Effect.succeed(Stream.scoped(Stream.unwrap(Effect.orDie(adapter.subscribe(room, queue))))),
    }),
  ),
  mutant("hands every frame to every room", StreamAdapterLaws.arrives, (adapter) =>
    Effect.succeed({
      publish: (_, frames) => adapter.publish([everywhere], frames),
      subscribe: (_, queue) => adapter.subscribe(everywhere, queue),
    }),
  ),
  mutant("publishes a batch backwards", StreamAdapterLaws.arrives, (adapter) =>
    Effect.succeed({ publish: (rooms, frames) => adapter.publish(rooms, frames.toReversed()) }),
  ),
  mutant("holds all that a stuck subscriber doesn't take", StreamAdapterLaws.bounded, (adapter) =>
    Effect.succeed({ subscribe: (room) => adapter.subscribe(room, { capacity: 1_000_000 }) }),
  ),
  mutant("waits for a subscriber that takes nothing", StreamAdapterLaws.apart, () =>
    Effect.sync(() => {
      const queues = new Map<string, Set<Queue.Queue<Frame | Gap>>>()
      return {
        publish: (rooms, frames) =>
          Effect.forEach(
            rooms.flatMap((room) => [...(queues.get(roomName(room)) ?? [])]),
            (queue) => Queue.offerAll(queue, frames),
            { discard: true },
          ),
        subscribe: (room, options) =>
          Effect.gen(function* () {
            const queue = yield* Queue.bounded<Frame | Gap>(options?.capacity ?? 64)
            queues.set(roomName(room), (queues.get(roomName(room)) ?? new Set()).add(queue))
            return Stream.fromQueue(queue)
          }),
      }
    }),
  ),
  mutant("takes any capacity", StreamAdapterLaws.refused, (adapter) =>
    Effect.succeed({ subscribe: (room) => adapter.subscribe(room, { capacity: 8 }) }),
  ),
  mutant("closes a room with its first listener", StreamAdapterLaws.freed, (adapter) =>
    Effect.sync(() => {
      const scopes = new Map<string, Array<Scope.Closeable>>()
      return {
        subscribe: (room, queue) =>
          Effect.gen(function* () {
            const scope = yield* Scope.make()
            const mine = scopes.get(roomName(room)) ?? []
            scopes.set(roomName(room), [...mine, scope])
            yield* Effect.addFinalizer(() =>
              Effect.forEach(scopes.get(roomName(room)) ?? [], (other) => Scope.close(other, Exit.void)),
            )
            return yield* Scope.provide(adapter.subscribe(room, queue), scope)
          }),
      }
    }),
  ),
  mutant("keeps the subscriptions of closed scopes", StreamAdapterLaws.roundsLeaveNothing, (adapter) =>
    Effect.map(Scope.Scope, (scope) => ({
      subscribe: (room, queue) => Scope.provide(adapter.subscribe(room, queue), scope),
    })),
  ),
]

Mutant.suite("StreamAdapter", StreamAdapterLaws.laws, mutants)
