/**
 * An event store that fails, hangs, answers late, and answers with an error after having done the work, by a plan.
 *
 * It wraps any store, so that what is proven over memory can be tried over a real backend as well.
 *
 * **Example** (A store that is down for two seconds and at times loses its answers)
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as FaultPlan from "@throughline/testing/FaultPlan"
 * import * as FaultyEventStore from "@throughline/testing/FaultyEventStore"
 * import * as Layer from "effect/Layer"
 *
 * export const troubled = FaultyEventStore.layer({
 *   ...FaultPlan.calmStore,
 *   seed: 7,
 *   failAfter: 20,
 *   outages: [{ from: 1_000, lasts: 2_000, mode: "refuse" }],
 * }).pipe(Layer.provide(EventStore.layerMemory()))
 * ```
 */
import { EventArchive } from "@throughline/core/EventArchive"
import { EventStore } from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import type { RunId } from "@throughline/core/Envelope"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { dice, type StorePlan } from "./FaultPlan.ts"

/** What can be called; `replay` is the archive's. */
export type Operation = keyof EventStore["Service"] | "replay"

/** What a faulty store did so far, in calls. */
export interface StoreCounts {
  readonly calls: { readonly [Name in Operation]: number }
  /** Failed before the work. */
  readonly failed: number
  /** Failed after the work. */
  readonly failedAfter: number
  readonly hung: number
  readonly late: number
  /** Failed or held by an outage. */
  readonly refused: number
}

/** The hand on the faults of a store: what they did, and outages by hand besides those of the plan. */
export class StoreFaults extends Context.Service<
  StoreFaults,
  {
    readonly counts: Effect.Effect<StoreCounts>
    /** From now on every call fails (`refuse`), or waits for `up` and then fails (`hang`). */
    readonly down: (mode: "refuse" | "hang") => Effect.Effect<void>
    /** The end of `down`; outages of the plan go on. */
    readonly up: Effect.Effect<void>
    /** Runs a call of an operation under the plan; `failure` makes the error of a fault. */
    readonly meet: <A, E, E2, R>(
      operation: Operation,
      runId: RunId | undefined,
      work: Effect.Effect<A, E, R>,
      failure: (reason: StoreError.StoreUnavailable) => E2,
    ) => Effect.Effect<A, E | E2, R>
  }
>()("@throughline/testing/FaultyEventStore/StoreFaults") {}

const makeFaults = Effect.fnUntraced(function* (plan: StorePlan) {
  const { percent, upTo } = yield* dice(plan.seed)
  const start = yield* Clock.currentTimeMillis
  const counts = {
    calls: {
      append: 0,
      read: 0,
      head: 0,
      runs: 0,
      producer: 0,
      renew: 0,
      appendWill: 0,
      endAbandoned: 0,
      remove: 0,
      replay: 0,
    } satisfies { [Name in Operation]: number },
    failed: 0,
    failedAfter: 0,
    hung: 0,
    late: 0,
    refused: 0,
  }
  const inARow = new Map<string, number>()
  const open = yield* Latch.make(true)
  let byHand: "refuse" | "hang" | undefined

  const down = Effect.fnUntraced(function* () {
    const now = (yield* Clock.currentTimeMillis) - start
    const outage = plan.outages.find(({ from, lasts }) => from <= now && now < from + lasts)
    if (byHand === undefined && outage === undefined) return Option.none<StoreError.StoreUnavailable>()
    counts.refused++
    if (byHand === "hang") yield* open.await
    else if (outage?.mode === "hang") yield* Effect.sleep(outage.from + outage.lasts - now)
    return Option.some(new StoreError.StoreUnavailable({ detail: "an outage of the fault plan" }))
  })

  const draw = Effect.fnUntraced(function* (key: string) {
    const rolled = yield* percent
    const { fail, failAfter, hang, late } = plan
    const fault =
      rolled < fail
        ? "fail"
        : rolled < fail + failAfter
          ? "failAfter"
          : rolled < fail + failAfter + hang
            ? "hang"
            : rolled < fail + failAfter + hang + late
              ? "late"
              : undefined
    const before = inARow.get(key) ?? 0
    if (fault === undefined || fault === "late" || before >= plan.inARow) {
      inARow.delete(key)
      return fault === "late" ? fault : undefined
    }
    inARow.set(key, before + 1)
    return fault
  })

  const meet = Effect.fnUntraced(function* <A, E, E2, R>(
    operation: Operation,
    runId: RunId | undefined,
    work: Effect.Effect<A, E, R>,
    failure: (reason: StoreError.StoreUnavailable) => E2,
  ): Effect.fn.Return<A, E | E2, R> {
    counts.calls[operation]++
    const outage = yield* down()
    if (Option.isSome(outage)) return yield* Effect.fail(failure(outage.value))
    const failed = (detail: string) => Effect.fail(failure(new StoreError.StoreUnavailable({ detail })))
    switch (yield* draw(`${operation} ${runId ?? ""}`)) {
      case "fail":
        counts.failed++
        return yield* failed("a failure of the fault plan")
      case "failAfter":
        yield* work
        counts.failedAfter++
        return yield* failed("a failure of the fault plan, after the work was done")
      case "hang":
        counts.hung++
        if ((yield* upTo(1)) === 1) yield* work
        return yield* Effect.never
      case "late": {
        counts.late++
        const wait = Effect.sleep(yield* upTo(plan.lateMillis))
        return (yield* upTo(1)) === 1 ? yield* Effect.tap(work, wait) : yield* Effect.andThen(wait, work)
      }
      case undefined:
        return yield* work
    }
  })

  return StoreFaults.of({
    counts: Effect.sync(() => ({ ...counts, calls: { ...counts.calls } })),
    down: (mode) =>
      Effect.suspend(() => {
        byHand = mode
        return open.close
      }),
    up: Effect.suspend(() => {
      byHand = undefined
      return open.open
    }),
    meet,
  })
})

const readFailed = (runId?: RunId) => (reason: StoreError.StoreUnavailable) =>
  new StoreError.ReadFailed({ ...(runId === undefined ? undefined : { runId }), reason })

const appendFailed = (runId?: RunId) => (reason: StoreError.StoreUnavailable) =>
  new StoreError.AppendFailed({ ...(runId === undefined ? undefined : { runId }), reason })

const wrapStore = (store: EventStore["Service"], { meet }: StoreFaults["Service"]): EventStore["Service"] => ({
  append: (request) => meet("append", request.runId, store.append(request), appendFailed(request.runId)),
  read: (request) => meet("read", request.runId, store.read(request), readFailed(request.runId)),
  head: (runId) => meet("head", runId, store.head(runId), readFailed(runId)),
  runs: (request) => meet("runs", undefined, store.runs(request), readFailed()),
  producer: (runId, id) => meet("producer", runId, store.producer(runId, id), readFailed(runId)),
  renew: (runIds, lease) => meet("renew", runIds[0], store.renew(runIds, lease), appendFailed()),
  appendWill: (runId, expected) => meet("appendWill", runId, store.appendWill(runId, expected), appendFailed(runId)),
  endAbandoned: (options) => meet("endAbandoned", undefined, store.endAbandoned(options), appendFailed()),
  remove: (runId) => meet("remove", runId, store.remove(runId), appendFailed(runId)),
})

/** Wraps a store; calls meet the faults of the plan. */
export const layer = (plan: StorePlan): Layer.Layer<EventStore | StoreFaults, never, EventStore> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const store = yield* EventStore
      const faults = yield* makeFaults(plan)
      return Context.make(EventStore, wrapStore(store, faults)).pipe(Context.add(StoreFaults, faults))
    }),
  )

/**
 * Wraps an archive; it shares the faults of its store, outages too. A replay meets them when it begins and before each
 * of its chunks; what it then leaves out, the next replay from the same cursor has.
 */
export const layerArchive: Layer.Layer<EventArchive, never, EventArchive | StoreFaults> = Layer.effect(
  EventArchive,
  Effect.gen(function* () {
    const archive = yield* EventArchive
    const { meet } = yield* StoreFaults
    const check = meet("replay", undefined, Effect.void, readFailed())
    return EventArchive.of({
      replay: (request) =>
        Stream.unwrap(
          Effect.as(check, archive.replay(request).pipe(Stream.mapArrayEffect((items) => Effect.as(check, items)))),
        ),
    })
  }),
)

/** A store with its archive. */
export const layerWithArchive = (
  plan: StorePlan,
): Layer.Layer<EventStore | EventArchive | StoreFaults, never, EventStore | EventArchive> =>
  Layer.provideMerge(layerArchive, layer(plan))
