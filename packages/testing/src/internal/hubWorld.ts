/** The stage of the hub's laws: a true store, hubs over troubled views of it, producers, and readers that come and go. */
import { EventArchive } from "@throughline/core/EventArchive"
import * as Envelope from "@throughline/core/Envelope"
import { type AppendResult, EventStore, type LeaseRequest, type ReadRequest } from "@throughline/core/EventStore"
import { StreamAdapter, publishAppended } from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as FaultPlan from "../FaultPlan.ts"
import * as FaultyEventStore from "../FaultyEventStore.ts"
import * as FaultyStreamAdapter from "../FaultyStreamAdapter.ts"

/** What a hub is made of. */
export type Below = EventStore | EventArchive | StreamAdapter

/** The hub the laws are about; another may take its place to see that the laws find its bugs. */
export const HubUnderTest = Context.Reference<
  (options?: SubscriptionHub.HubOptions) => Layer.Layer<SubscriptionHub.SubscriptionHub, unknown, Below>
>("@throughline/testing/HubLaws/HubUnderTest", { defaultValue: () => SubscriptionHub.layer })

const Step = Schema.Union([
  Schema.TaggedStruct("Step", { n: Schema.Int, delivery: Envelope.Delivery }),
  Schema.TaggedStruct("Done", {}),
  Schema.TaggedStruct("Lost", {}),
])

/** What the runs of the laws speak. */
export const vocabulary = Vocabulary.make({
  name: "laws",
  version: 1,
  schema: Step,
  delivery: (event) => (event._tag === "Step" ? event.delivery : "terminal"),
  endsRun: (event) => (event._tag === "Done" ? "completed" : event._tag === "Lost" ? "failed" : undefined),
  abandoned: () => ({ _tag: "Lost" }) as const,
})

const deliveries = Envelope.Delivery.literals

export const runIdOf = (index: number): Envelope.RunId => Envelope.RunId.make(`run-${index}`)
export const runRoom = (runId: Envelope.RunId): Envelope.Room => ({ _tag: "Run", runId })

/** Events ready to append; each its own id. */
export const step = (n: number) =>
  Effect.orDie(Vocabulary.encode(vocabulary, { event: { _tag: "Step", n, delivery: deliveries[n % 3]! } }))
export const done = Effect.orDie(Vocabulary.encode(vocabulary, { event: { _tag: "Done" } }))
export const will = Effect.orDie(Vocabulary.encode(vocabulary, { event: { _tag: "Lost" } }))

/** One read of a hub and what came of it. */
interface ReadSeen extends ReadRequest {
  readonly at: number
  readonly returned: number
}

/** What a hub asked for, counted between it and the faults. */
export interface Probe {
  readonly reads: Array<ReadSeen>
  heads: number
  replays: number
  wills: number
  /** Subscribes by room name, those that failed too. */
  readonly subscribes: Map<string, number>
  /** Subscriptions open now, by room name. */
  readonly open: Map<string, number>
  /** The most reads of one run that were under way at once. */
  mostReads: number
  /** All calls so far. */
  calls: number
}

const makeProbe = (): Probe => ({
  reads: [],
  heads: 0,
  replays: 0,
  wills: 0,
  subscribes: new Map(),
  open: new Map(),
  mostReads: 0,
  calls: 0,
})

const tally = (counts: Map<string, number>, key: string, by: number): number => {
  const next = (counts.get(key) ?? 0) + by
  if (next === 0) counts.delete(key)
  else counts.set(key, next)
  return next
}

const probed = (probe: Probe, below: Context.Context<Below>): Context.Context<Below> => {
  const store = Context.get(below, EventStore)
  const archive = Context.get(below, EventArchive)
  const adapter = Context.get(below, StreamAdapter)
  const reading = new Map<string, number>()
  return Context.make(EventStore, {
    ...store,
    read: (request) =>
      Effect.suspend(() => {
        probe.calls++
        probe.mostReads = Math.max(probe.mostReads, tally(reading, request.runId, 1))
        return store.read(request).pipe(
          Effect.tap((page) =>
            Effect.map(Clock.currentTimeMillis, (at) => {
              probe.reads.push({ ...request, at, returned: page.envelopes.length })
            }),
          ),
          Effect.ensuring(Effect.sync(() => tally(reading, request.runId, -1))),
        )
      }),
    head: (runId) =>
      Effect.suspend(() => {
        probe.calls++
        probe.heads++
        return store.head(runId)
      }),
    appendWill: (runId, expected) =>
      Effect.suspend(() => {
        probe.calls++
        probe.wills++
        return store.appendWill(runId, expected)
      }),
  }).pipe(
    Context.add(EventArchive, {
      replay: (request) => {
        probe.calls++
        probe.replays++
        return archive.replay(request)
      },
    }),
    Context.add(StreamAdapter, {
      publish: adapter.publish,
      subscribe: (room, options) =>
        Effect.suspend(() => {
          probe.calls++
          const name = Envelope.roomName(room)
          tally(probe.subscribes, name, 1)
          return Effect.tap(adapter.subscribe(room, options), () =>
            Effect.acquireRelease(
              Effect.sync(() => tally(probe.open, name, 1)),
              () => Effect.sync(() => tally(probe.open, name, -1)),
            ),
          )
        }),
    }),
  )
}

/** What goes wrong below the hubs. */
export interface Trouble {
  readonly store: FaultPlan.StorePlan
  readonly adapter: FaultPlan.AdapterPlan
}

export const calm: Trouble = { store: FaultPlan.calmStore, adapter: FaultPlan.calmAdapter }

/** One process: a hub over its own troubled view of the store and the live path. */
export interface Process {
  readonly hub: SubscriptionHub.SubscriptionHub["Service"]
  readonly archive: EventArchive["Service"]
  readonly probe: Probe
  readonly store: EventStore["Service"]
  readonly adapter: StreamAdapter["Service"]
  readonly storeFaults: FaultyEventStore.StoreFaults["Service"]
  readonly adapterFaults: FaultyStreamAdapter.AdapterFaults["Service"]
}

/** Starts a process over the store and adapter of the case; it ends with the scope. */
export const start = Effect.fnUntraced(function* (trouble: Trouble = calm, options: SubscriptionHub.HubOptions = {}) {
  const below = yield* Effect.context<Below>()
  const makeHub = yield* HubUnderTest
  const troubled = yield* Layer.build(
    Layer.mergeAll(FaultyEventStore.layerWithArchive(trouble.store), FaultyStreamAdapter.layer(trouble.adapter)).pipe(
      Layer.provide(Layer.succeedContext(below)),
      Layer.fresh,
    ),
  )
  const probe = makeProbe()
  const seen = probed(probe, troubled)
  const hub = yield* Layer.build(makeHub(options).pipe(Layer.provide(Layer.succeedContext(seen)), Layer.fresh))
  return {
    hub: Context.get(hub, SubscriptionHub.SubscriptionHub),
    archive: Context.get(seen, EventArchive),
    probe,
    store: Context.get(troubled, EventStore),
    adapter: Context.get(troubled, StreamAdapter),
    storeFaults: Context.get(troubled, FaultyEventStore.StoreFaults),
    adapterFaults: Context.get(troubled, FaultyStreamAdapter.AdapterFaults),
  } satisfies Process
})

const retry = Schedule.spaced("50 millis")

/**
 * A producer of one process: appends exactly once through the troubled store and publishes, best effort, through the
 * troubled adapter. Its appends tell `RunEnded` by answering `undefined`.
 */
export const producer = (id: string, { adapter, store }: Pick<Process, "adapter" | "store">) => {
  const numbers = new Map<string, number>()
  return Effect.fnUntraced(function* (
    runId: Envelope.RunId,
    events: ReadonlyArray<Envelope.EncodedEvent>,
    options: { readonly sessionId?: Envelope.SessionId | undefined; readonly lease?: LeaseRequest | undefined } = {},
  ): Effect.fn.Return<AppendResult | undefined> {
    const number = (numbers.get(runId) ?? 0) + 1
    const appended = yield* store
      .append({
        runId,
        vocabulary: vocabulary.id,
        events,
        producer: { id, epoch: 1, number },
        ...options,
      })
      .pipe(
        Effect.timeout("1 second"),
        Effect.retry({
          schedule: retry,
          while: (error) => error._tag === "TimeoutError" || (error._tag === "AppendFailed" && error.isRetryable),
        }),
        Effect.catchTag("RunEnded", () => Effect.undefined),
        Effect.orDie,
      )
    if (appended === undefined) return undefined
    numbers.set(runId, number)
    yield* Effect.ignore(Effect.timeout(publishAppended(adapter, appended, Envelope.defaultRooms), "1 second"))
    return appended
  })
}

/** Steps ready to append. */
export const steps = (count: number) => Effect.forEach(Array.from({ length: count }).keys(), step)

/**
 * Appends to the case's own store at once, and publishes, best effort, through an adapter; without one, every live
 * message is lost.
 */
export const write = Effect.fnUntraced(function* (
  adapter: StreamAdapter["Service"] | undefined,
  runId: Envelope.RunId,
  events: ReadonlyArray<Envelope.EncodedEvent>,
  options: { readonly sessionId?: Envelope.SessionId | undefined; readonly lease?: LeaseRequest | undefined } = {},
) {
  const store = yield* EventStore
  const appended = yield* Effect.orDie(store.append({ runId, vocabulary: vocabulary.id, events, ...options }))
  if (adapter !== undefined) {
    // An outage may hold it up, and the caller drives the clock.
    yield* publishAppended(adapter, appended, Envelope.defaultRooms).pipe(
      Effect.ignore,
      Effect.forkScoped({ startImmediately: true }),
    )
  }
  return appended
})

/** The truth: what the case's own store holds of a run. */
export const canonical = Effect.fnUntraced(function* (runId: Envelope.RunId) {
  const store = yield* EventStore
  const envelopes: Array<Envelope.EncodedEnvelope> = []
  while (true) {
    const page = yield* Effect.orDie(store.read({ runId, after: envelopes.length, limit: 1000 }))
    envelopes.push(...page.envelopes)
    if (page.envelopes.length === 0) return { envelopes, head: page.head }
  }
})

/** Lets what is under way go as far as it can without time passing. */
export const settle = Effect.replicateEffect(Effect.yieldNow, 20, { discard: true })

/** Lets what is under way go on until a condition holds, with no time passing; `false` if it doesn't. */
export const atOnce = Effect.fnUntraced(function* (holds: () => boolean) {
  for (let turn = 0; turn < 50 && !holds(); turn++) yield* settle
  return holds()
})

/** Lets virtual time pass until a condition holds; `false` if it doesn't within `bound` ms. */
export const until = Effect.fnUntraced(function* (holds: () => boolean, bound: number) {
  const begin = yield* Clock.currentTimeMillis
  let pace = 20
  yield* settle
  while (!holds()) {
    const passed = (yield* Clock.currentTimeMillis) - begin
    if (passed >= bound) return false
    yield* TestClock.adjust(Math.min(pace, bound - passed))
    yield* settle
    pace = Math.min(pace * 1.5, 1000)
  }
  return true
})
