/** The stage of the bridge's laws: a true store, bridges over troubled views of it, and sources that know what was taken. */
import * as Envelope from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import { type AppendRequest, EventStore } from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Vocabulary from "@throughline/core/Vocabulary"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as FaultPlan from "../FaultPlan.ts"
import * as Law from "../Law.ts"
import * as FaultyEventStore from "../FaultyEventStore.ts"
import * as FaultyStreamAdapter from "../FaultyStreamAdapter.ts"

/** What a bridge is made of. */
export type Below = EventStore | StreamAdapter

type Requirements = Below | SecureRandom.SecureRandom

/** The bridge the laws are about; another may take its place to see that the laws find its bugs. */
export const BridgeUnderTest = Context.Reference<
  (options: EventBridge.BridgeOptions) => Layer.Layer<EventBridge.EventBridge, unknown, Requirements>
>("@throughline/testing/BridgeLaws/BridgeUnderTest", { defaultValue: () => EventBridge.layer })

const LawEvent = Schema.Union([
  Schema.TaggedStruct("Step", { n: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)), text: Schema.String }),
  Schema.TaggedStruct("Done", { n: Schema.Int, text: Schema.String }),
  Schema.TaggedStruct("Lost", {}),
])
export type LawEvent = typeof LawEvent.Type

/** What the runs of the laws speak. */
export const vocabulary = Vocabulary.make({
  name: "bridged",
  version: 1,
  schema: LawEvent,
  endsRun: (event) => (event._tag === "Done" ? "completed" : event._tag === "Lost" ? "failed" : undefined),
  abandoned: () => ({ _tag: "Lost" }) as const,
})

export type Input = EventBridge.BridgeInput<LawEvent>

export const runIdOf = (index: number): Envelope.RunId => Envelope.RunId.make(`run-${index}`)

/** An event that the stage's store refuses as too large. */
export const tooLarge = "x".repeat(300)
const maxLength = 250

/** An event that the vocabulary refuses: steps count from 0. */
export const refusedStep = (n: number): LawEvent => ({ _tag: "Step", n: -1 - n, text: "" })

/** Which event it is, however it was encoded: its `n`, or `Lost`. */
export const nameOf = (event: Envelope.EventJson): number | "Lost" => {
  const parsed = JSON.parse(event) as LawEvent
  return parsed._tag === "Lost" ? "Lost" : parsed.n
}

/** One call of `append`, as the bridge made it. */
export interface AppendSeen {
  readonly at: number
  readonly request: AppendRequest
  /** The tag of the error, `stored`, or nothing: it was interrupted or is under way. */
  answer: string | undefined
}

/** What a bridge asked for, seen between it and the faults. */
export interface Probe {
  readonly appends: Array<AppendSeen>
  readonly renewals: Array<{ readonly at: number; readonly runIds: ReadonlyArray<Envelope.RunId> }>
  /** Frames by room, as they were handed to the live path, or as the store said that it had published them. */
  readonly published: Map<string, Array<Envelope.Frame>>
  /** Frames that were not readable when they were published. */
  readonly early: Array<Envelope.Frame>
  /** All calls so far. */
  calls: number
}

/** How the store treats the appends of a run, besides the faults: by hand. */
export type Treatment = (
  request: AppendRequest,
  append: ReturnType<EventStore["Service"]["append"]>,
) => ReturnType<EventStore["Service"]["append"]>

export const unavailable = (runId: Envelope.RunId) =>
  Effect.fail(new StoreError.AppendFailed({ runId, reason: new StoreError.StoreUnavailable({ detail: "by hand" }) }))

const picky: Treatment = (request, append) => {
  const large = request.events.find(({ event }) => event.length > maxLength)
  return large === undefined
    ? append
    : Effect.fail(
        new StoreError.EventTooLarge({
          runId: request.runId,
          eventId: large.eventId,
          bytes: large.event.length,
          maxBytes: maxLength,
        }),
      )
}

const probed = (probe: Probe, truth: Context.Context<Below>, troubled: Context.Context<Below>, treat: Treatment) => {
  const store = Context.get(troubled, EventStore)
  const adapter = Context.get(troubled, StreamAdapter)
  const isStored = ({ envelope }: Envelope.Frame) =>
    Context.get(truth, EventStore)
      .read({ runId: envelope.runId, after: envelope.seq - 1, limit: 1 })
      .pipe(
        Effect.map(({ envelopes }) => envelopes[0] !== undefined && Equal.equals({ ...envelopes[0] }, { ...envelope })),
        Effect.orElseSucceed(() => false),
      )
  const called = <A, E>(call: Effect.Effect<A, E>) =>
    Effect.suspend(() => {
      probe.calls++
      return call
    })
  const note = (rooms: ReadonlyArray<Envelope.Room>, frames: ReadonlyArray<Envelope.Frame>): void => {
    for (const room of rooms) {
      const name = Envelope.roomName(room)
      probe.published.set(name, [...(probe.published.get(name) ?? []), ...frames])
    }
  }
  return Context.make(EventStore, {
    ...store,
    append: (request) =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => {
        const seen: AppendSeen = { at, request, answer: undefined }
        probe.appends.push(seen)
        return called(picky(request, treat(request, store.append(request)))).pipe(
          Effect.tapError((error) => Effect.sync(() => (seen.answer = error._tag))),
          Effect.tap(({ frames, published }) =>
            Effect.sync(() => {
              seen.answer = "stored"
              note(published, frames)
            }),
          ),
        )
      }),
    producer: (runId, producerId) => called(store.producer(runId, producerId)),
    renew: (runIds, lease) =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => {
        probe.renewals.push({ at, runIds })
        return called(store.renew(runIds, lease))
      }),
  }).pipe(
    Context.add(StreamAdapter, {
      ...adapter,
      publish: Effect.fnUntraced(function* (rooms, frames) {
        for (const frame of frames) if (!(yield* isStored(frame))) probe.early.push(frame)
        note(rooms, frames)
        yield* called(adapter.publish(rooms, frames))
      }),
    }),
  )
}

/** What goes wrong below a bridge. */
export interface Trouble {
  readonly store: FaultPlan.StorePlan
  readonly adapter: FaultPlan.AdapterPlan
}

export const calm: Trouble = { store: FaultPlan.calmStore, adapter: FaultPlan.calmAdapter }

/** One process: a bridge over its own troubled view of the store and the live path. */
export interface Process {
  readonly bridge: EventBridge.EventBridge["Service"]
  readonly letters: ReadonlyArray<EventBridge.DeadLetter>
  readonly probe: Probe
  readonly storeFaults: FaultyEventStore.StoreFaults["Service"]
}

/** Starts a process over the store and the adapter of the case; it ends with the scope. */
export const start = Effect.fnUntraced(function* (
  trouble: Trouble = calm,
  options: EventBridge.BridgeOptions = {},
  treat: Treatment = (_, append) => append,
) {
  const truth = yield* Effect.context<Below>()
  const makeBridge = yield* BridgeUnderTest
  const troubled = yield* Layer.build(
    Layer.mergeAll(FaultyEventStore.layer(trouble.store), FaultyStreamAdapter.layer(trouble.adapter)).pipe(
      Layer.provide(Layer.succeedContext(truth)),
      Layer.fresh,
    ),
  )
  const probe: Probe = { appends: [], renewals: [], published: new Map(), early: [], calls: 0 }
  const letters: Array<EventBridge.DeadLetter> = []
  const built = yield* Layer.build(
    makeBridge({
      appendTimeout: "1 second",
      ...options,
      onDeadLetter: (letter) =>
        Effect.suspend(() => {
          letters.push(letter)
          return options.onDeadLetter?.(letter) ?? Effect.void
        }),
    }).pipe(Layer.provide(Layer.succeedContext(probed(probe, truth, troubled, treat))), Layer.fresh),
  )
  return {
    bridge: Context.get(built, EventBridge.EventBridge),
    letters,
    probe,
    storeFaults: Context.get(troubled, FaultyEventStore.StoreFaults),
  } satisfies Process
})

/** A source by hand. */
export interface Feed<A> {
  readonly stream: Stream.Stream<A, string>
  /** What the bridge took, in order. */
  readonly taken: ReadonlyArray<A>
  readonly give: (inputs: ReadonlyArray<A>) => Effect.Effect<void>
  readonly end: Effect.Effect<void>
  readonly fail: Effect.Effect<void>
}

export const feed = Effect.fnUntraced(function* <A>(): Effect.fn.Return<Feed<A>> {
  const queue = yield* Queue.unbounded<A, string | Cause.Done>()
  const taken: Array<A> = []
  const pull = Effect.map(Queue.takeAll(queue), (inputs) => {
    taken.push(...inputs)
    return inputs
  })
  return {
    stream: Stream.fromPull(Effect.succeed(pull)),
    taken,
    give: (inputs) => Effect.asVoid(Queue.offerAll(queue, inputs)),
    end: Effect.asVoid(Queue.end(queue)),
    fail: Effect.asVoid(Queue.fail(queue, "the source broke")),
  }
})

/** The truth: what the case's own store holds of a run. */
export const stored = Effect.fnUntraced(function* (runId: Envelope.RunId) {
  const store = yield* EventStore
  const envelopes: Array<Envelope.EncodedEnvelope> = []
  while (true) {
    const page = yield* Effect.orDie(store.read({ runId, after: envelopes.length, limit: 1000 }))
    envelopes.push(...page.envelopes)
    if (page.envelopes.length === 0) return { envelopes, head: page.head }
  }
})

/** The names of a run's stored events, in order. */
export const storedNames = (runId: Envelope.RunId) =>
  Effect.map(stored(runId), ({ envelopes }) => envelopes.map(({ event }) => nameOf(event)))

/** The name of an event that a source gave. */
export const nameOfInput = ({ event }: { readonly event: LawEvent }): number | "Lost" =>
  event._tag === "Lost" ? "Lost" : event.n

/** The names of the events in a dead letter. */
export const namesIn = (letter: EventBridge.DeadLetter): ReadonlyArray<number | "Lost"> => [
  ...letter.events.map(({ event }) => nameOf(event)),
  ...letter.unencoded.map((input) => nameOfInput(input as { readonly event: LawEvent })),
]

/** Lets what is under way go as far as it can without time passing. */
export const settle = Effect.replicateEffect(Effect.yieldNow, 25, { discard: true })

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

/**
 * Starts a bridge that ends with the case. Virtual time passes while it stops: a law that breaks while something is
 * stuck must be able to tell.
 */
export const open = Effect.fnUntraced(function* <Err>(
  { bridge }: Process,
  source: Stream.Stream<Input, Err>,
  options?: EventBridge.SourceOptions<LawEvent>,
) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Effect.ignore(within(60_000, "closing", Scope.close(scope, Exit.void))))
  const handle = yield* Scope.provide(bridge.start(vocabulary, source, options), scope)
  return { handle, close: Scope.close(scope, Exit.void) }
})

/** Runs an effect in a fiber that ends with the case; virtual time passes while it is interrupted. */
export const fork = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
  yield* Effect.addFinalizer(() => Effect.ignore(within(60_000, "the interruption", Fiber.interrupt(fiber))))
  return fiber
})

/** Runs an effect while virtual time passes; not being done within `bound` ms breaks the law. */
export const within = Effect.fnUntraced(function* <A, E, R>(
  bound: number,
  what: string,
  effect: Effect.Effect<A, E, R>,
): Effect.fn.Return<Exit.Exit<A, E>, Law.LawBroken, R> {
  const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
  yield* until(() => fiber.pollUnsafe() !== undefined, bound)
  return fiber.pollUnsafe() ?? (yield* Law.broken(`${what} was not done within ${bound / 1000} s`))
})

/** The status of a bridge once it is done, however long that takes. */
export const finished = <E>(handle: EventBridge.BridgeHandle<E>) =>
  Effect.flatMap(within(600_000, "the bridge", handle.await), Effect.orDie)

/** Lets virtual time pass, and what is due then go as far as it can. */
export const pass = (millis: number) => Effect.andThen(settle, Effect.andThen(TestClock.adjust(millis), settle))
