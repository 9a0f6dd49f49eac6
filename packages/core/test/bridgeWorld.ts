/** A bridge over memory as its tests see it, and the events they send through it. */
import { it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import * as EventStore from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

export const { vocabulary } = AgentEvents
export type AgentEvent = AgentEvents.AgentEvent
export type Input = EventBridge.BridgeInput<AgentEvent>

export const runA = Envelope.RunId.make("a")
export const runB = Envelope.RunId.make("b")
export const chat = Envelope.SessionId.make("chat")

export const line = (text: string): AgentEvent => ({ _tag: "OutputLine", stream: "stdout", line: text })
export const end: AgentEvent = { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }
export const to = (runId: Envelope.RunId, ...events: ReadonlyArray<AgentEvent>): ReadonlyArray<Input> =>
  events.map((event) => ({ runId, event }))
export const lines = (count: number) => Array.from({ length: count }, (_, index) => line(String(index + 1)))

/** A bridge over memory whose store and adapter can be wrapped; what it appends, and its dead letters, are kept. */
export const world = Effect.fnUntraced(function* (
  options: EventBridge.BridgeOptions = {},
  wrapStore: (store: EventStore.EventStore["Service"]) => Partial<EventStore.EventStore["Service"]> = () => ({}),
  wrapAdapter: (
    adapter: StreamAdapter.StreamAdapter["Service"],
  ) => Partial<StreamAdapter.StreamAdapter["Service"]> = () => ({}),
) {
  const store = yield* EventStore.EventStore
  const adapter = yield* StreamAdapter.StreamAdapter
  const appends: Array<EventStore.AppendRequest> = []
  const letters: Array<EventBridge.DeadLetter> = []
  const wrapped = { ...store, ...wrapStore(store) }
  const bridge = yield* EventBridge.make({
    onDeadLetter: (letter) => Effect.sync(() => void letters.push(letter)),
    ...options,
  }).pipe(
    Effect.provideService(EventStore.EventStore, {
      ...wrapped,
      append: (request) =>
        Effect.suspend(() => {
          appends.push(request)
          return wrapped.append(request)
        }),
    }),
    Effect.provideService(StreamAdapter.StreamAdapter, { ...adapter, ...wrapAdapter(adapter) }),
  )
  return { bridge, store, adapter, appends, letters }
})

export const layer = Layer.mergeAll(EventStore.layerMemory(), StreamAdapter.layerMemory).pipe(
  Layer.provideMerge(Layer.mergeAll(SecureRandom.layerWebCrypto, Digest.layerWebCrypto)),
)

export const settle = Effect.replicateEffect(Effect.yieldNow, 30, { discard: true })

export const textsOf = Effect.fnUntraced(function* (runId: Envelope.RunId) {
  const store = yield* EventStore.EventStore
  const page = yield* store.read({ runId, limit: 1000 })
  return page.envelopes.map(({ event }) => {
    const parsed = JSON.parse(event) as { readonly _tag: string; readonly line?: string }
    return parsed.line ?? parsed._tag
  })
})

export const unavailable = (runId: Envelope.RunId) =>
  new StoreError.AppendFailed({ runId, reason: new StoreError.StoreUnavailable({ detail: "a test" }) })

export type Services =
  | EventStore.EventStore
  | StreamAdapter.StreamAdapter
  | SecureRandom.SecureRandom
  | Digest.Digest
  | Scope.Scope

export const promise = <E>(name: string, body: Effect.Effect<void, E, Services>) =>
  it.effect(name, () => Effect.provide(Effect.scoped(body), layer))
