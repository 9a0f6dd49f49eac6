import * as Cursor from "@throughline/core/Cursor"
import { EventId, type Frame, type RunId } from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import { type AppendRequest, EventStore, layerMemory } from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import { StreamAdapter, layerMemory as layerMemoryAdapter } from "@throughline/core/StreamAdapter"
import * as BridgeLaws from "@throughline/testing/BridgeLaws"
import type * as Law from "@throughline/testing/Law"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"

type Store = EventStore["Service"]
type Adapter = StreamAdapter["Service"]
type Bridge = EventBridge.EventBridge["Service"]

type BridgeMutant = Mutant.Mutant<BridgeLaws.Below, StoreOptions>

/** What a bug puts between the bridge and the rest of the world. */
interface Bug {
  readonly store?: (store: Store, adapter: Adapter) => Partial<Store>
  readonly adapter?: (adapter: Adapter) => Partial<Adapter>
  readonly options?: Partial<EventBridge.BridgeOptions>
  readonly bridge?: (bridge: Bridge) => Partial<Bridge>
}

/** The bridge with one bug in it, over memory. */
const mutant = (bug: string, law: Law.Law<BridgeLaws.Below>, makeBug: () => Bug): BridgeMutant => ({
  bug,
  law: law.name,
  subject: Layer.mergeAll(
    layerMemory(),
    layerMemoryAdapter,
    Layer.succeed(BridgeLaws.BridgeUnderTest, (options) =>
      Layer.effect(
        EventBridge.EventBridge,
        Effect.gen(function* () {
          const { adapter: bugInAdapter, bridge: bugInBridge, options: bugInOptions, store: bugInStore } = makeBug()
          const store = yield* EventStore
          const adapter = yield* StreamAdapter
          const bridge = yield* EventBridge.make({ ...options, ...bugInOptions }).pipe(
            Effect.provideService(EventStore, { ...store, ...bugInStore?.(store, adapter) }),
            Effect.provideService(StreamAdapter, { ...adapter, ...bugInAdapter?.(adapter) }),
          )
          return { ...bridge, ...bugInBridge?.(bridge) }
        }),
      ),
    ),
  ),
})

const producerIn = ({ producer, runId }: AppendRequest) => `${runId} ${producer!.id}`

/** Numbers of a producer as a bug would count them, by run and producer. */
const counter = () => {
  const counts = new Map<string, number>()
  return {
    next: (request: AppendRequest) => (counts.get(producerIn(request)) ?? 0) + 1,
    count: (request: AppendRequest) => void counts.set(producerIn(request), (counts.get(producerIn(request)) ?? 0) + 1),
  }
}

const mutants: ReadonlyArray<BridgeMutant> = [
  mutant("publishes before it appends", BridgeLaws.storedBeforeLive, () => ({
    store: (store, adapter) => ({
      append: Effect.fnUntraced(function* (request) {
        const head = yield* Effect.orDie(store.head(request.runId))
        const generation = head.generation ?? "00000000"
        const frames = request.events.map((event, index): Frame => {
          const seq = head.lastSeq + 1 + index
          const envelope = { ...event, seq, runId: request.runId, schemaVersion: request.vocabulary.version }
          return { _tag: "Frame", envelope, cursor: Cursor.run(seq, generation) }
        })
        yield* Effect.ignore(adapter.publish([{ _tag: "Run", runId: request.runId }], frames))
        return yield* store.append(request)
      }),
    }),
    adapter: () => ({ publish: () => Effect.void }),
  })),

  mutant("publishes only what the first try appended", BridgeLaws.storedBeforeLive, () => {
    const tried = new Set<string>()
    return {
      store: (store) => ({
        append: Effect.fnUntraced(function* (request) {
          const key = request.events[0]!.eventId
          const again = tried.has(key)
          tried.add(key)
          const appended = yield* store.append(request)
          return again ? { ...appended, frames: [] } : appended
        }),
      }),
    }
  }),

  mutant("retries with a new producer number", BridgeLaws.once, () => {
    const numbers = counter()
    return {
      store: (store) => ({
        append: (request) =>
          Effect.suspend(() => {
            const number = numbers.next(request)
            const appended = store.append({ ...request, producer: { ...request.producer!, number } })
            // A number is taken as soon as the store used it, whether or not the bridge heard of it.
            return Effect.onExit(appended, () =>
              Effect.map(Effect.orDie(store.producer(request.runId, request.producer!.id)), (state) => {
                if (state._tag === "Some" && state.value.lastNumber === number) numbers.count(request)
              }),
            )
          }),
      }),
    }
  }),

  mutant("retries a batch with new event ids", BridgeLaws.once, () => {
    let tries = 0
    return {
      store: (store) => ({
        append: (request) =>
          Effect.suspend(() => {
            const suffix = (tries++).toString(16).padStart(6, "0")
            const events = request.events.map((event) => ({
              ...event,
              eventId: EventId.make(`${event.eventId.slice(0, -6)}${suffix}`),
            }))
            return store.append({ ...request, events })
          }),
      }),
    }
  }),

  mutant("gives up without raising its epoch", BridgeLaws.unknownOutcome, () => {
    const numbers = counter()
    return {
      store: (store) => ({
        append: (request) =>
          store
            .append({ ...request, producer: { ...request.producer!, epoch: 1, number: numbers.next(request) } })
            .pipe(Effect.tap(() => Effect.sync(() => numbers.count(request)))),
      }),
    }
  }),

  mutant("takes a fenced run back", BridgeLaws.fenced, () => {
    const raised = new Map<RunId, { readonly epoch: number; readonly from: number }>()
    const send = (store: Store, request: AppendRequest) => {
      const up = raised.get(request.runId)
      const { epoch, id, number } = request.producer!
      const producer = up === undefined ? { epoch, id, number } : { epoch: up.epoch, id, number: number - up.from + 1 }
      return store.append({ ...request, producer })
    }
    return {
      store: (store) => ({
        append: (request) =>
          Effect.catchTag(
            Effect.suspend(() => send(store, request)),
            "ProducerFenced",
            ({ currentEpoch }) => {
              raised.set(request.runId, { epoch: currentEpoch + 1, from: request.producer!.number })
              return send(store, request)
            },
          ),
      }),
    }
  }),

  mutant("drops its dead letters", BridgeLaws.conserved, () => ({ options: { onDeadLetter: () => Effect.void } })),

  mutant("drops a whole batch for one event that is too large", BridgeLaws.conserved, () => ({
    store: (store) => ({
      append: (request) =>
        Effect.catchTag(store.append(request), "EventTooLarge", () => Effect.succeed({ frames: [], published: [] })),
    }),
  })),

  mutant("appends one run after the other", BridgeLaws.apart, () => {
    const one = Semaphore.makeUnsafe(1)
    return { store: (store) => ({ append: (request) => one.withPermits(1)(store.append(request)) }) }
  }),

  mutant("appends past the end of a run", BridgeLaws.cutAtTheEnd, () => ({
    store: (store) => ({
      append: (request) =>
        Effect.catchTag(store.append(request), "RunEnded", () => Effect.succeed({ frames: [], published: [] })),
    }),
  })),

  mutant("never renews a lease", BridgeLaws.keptAlive, () => ({
    store: () => ({ renew: (runIds) => Effect.succeed({ renewed: runIds, refused: [] }) }),
  })),

  mutant("leaves its runs without a will", BridgeLaws.keptAlive, () => ({
    store: (store) => ({
      append: (request) =>
        store.append(request.lease === undefined ? request : { ...request, lease: { ttl: request.lease.ttl } }),
    }),
  })),

  mutant("renews every run it ever wrote to", BridgeLaws.renewedNoMore, () => {
    const written = new Set<RunId>()
    return {
      store: (store) => ({
        append: (request) => Effect.tap(store.append(request), () => Effect.sync(() => written.add(request.runId))),
        renew: (_, lease) => store.renew([...written], lease),
      }),
    }
  }),

  mutant("records a stream without its will", BridgeLaws.recorded, () => ({
    bridge: (bridge) => ({
      record: (vocabulary, run, stream, options) =>
        Effect.gen(function* () {
          const source = Stream.map(stream, (input) => ({ ...input, ...run }))
          const handle = yield* bridge.start(vocabulary, source, options)
          return { ...(yield* handle.await), runId: run.runId, ended: true }
        }).pipe(Effect.scoped),
    }),
  })),

  mutant("forgets to stop with its scope", BridgeLaws.nothingLeft, () => ({
    bridge: (bridge) => ({
      start: (vocabulary, source, options) =>
        Effect.flatMap(Scope.make(), (scope) => Scope.provide(bridge.start(vocabulary, source, options), scope)),
    }),
  })),
]

Mutant.suite("EventBridge", BridgeLaws.laws, mutants)
