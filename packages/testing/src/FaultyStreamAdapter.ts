/**
 * A live path that loses, doubles, delays and reorders frames and is down at times, by a plan.
 *
 * It wraps any adapter. All of it is within what the port allows, so whoever reads through it must still see each event
 * once, in order.
 *
 * **Example** (An adapter that loses every third frame and reconnects after a second)
 *
 * ```ts
 * import * as StreamAdapter from "@throughline/core/StreamAdapter"
 * import * as FaultPlan from "@throughline/testing/FaultPlan"
 * import * as FaultyStreamAdapter from "@throughline/testing/FaultyStreamAdapter"
 * import * as Layer from "effect/Layer"
 *
 * export const lossy = FaultyStreamAdapter.layer({
 *   ...FaultPlan.calmAdapter,
 *   seed: 7,
 *   lose: 33,
 *   outages: [{ from: 500, lasts: 1_000, mode: "gap" }],
 * }).pipe(Layer.provide(StreamAdapter.layerMemory))
 * ```
 */
import type { Frame, Gap } from "@throughline/core/Envelope"
import { AdapterUnavailable, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type AdapterOutage, type AdapterPlan, dice } from "./FaultPlan.ts"

/** What a faulty adapter did so far: frames as each subscriber got them, calls, outages and subscriptions. */
export interface AdapterCounts {
  readonly delivered: number
  readonly lost: number
  readonly doubled: number
  readonly delayed: number
  readonly reordered: number
  readonly publishes: number
  readonly publishesFailed: number
  readonly subscribes: number
  readonly subscribesFailed: number
  /** Subscriptions open now. */
  readonly open: number
  /** Outages begun. */
  readonly outages: number
  /** Streams failed by an outage. */
  readonly broken: number
  /** Gaps that told a subscriber of a reconnect. */
  readonly reconnected: number
}

/** The hand on the faults of an adapter: what they did, and outages by hand besides those of the plan. */
export class AdapterFaults extends Context.Service<
  AdapterFaults,
  {
    readonly counts: Effect.Effect<AdapterCounts>
    /** An outage from now on, until `up`. */
    readonly down: (mode: AdapterOutage["mode"]) => Effect.Effect<void>
    /** The end of the outages there are. */
    readonly up: Effect.Effect<void>
  }
>()("@throughline/testing/FaultyStreamAdapter/AdapterFaults") {}

const unavailable = (detail: string) => new AdapterUnavailable({ detail, isRetryable: true })

interface Subscriber {
  readonly queue: SubscriberQueue.SubscriberQueue<AdapterUnavailable, AdapterUnavailable>
}

const make = Effect.fnUntraced(function* (plan: AdapterPlan) {
  const adapter = yield* StreamAdapter
  const { percent, upTo } = yield* dice(plan.seed)
  const counts = {
    delivered: 0,
    lost: 0,
    doubled: 0,
    delayed: 0,
    reordered: 0,
    publishes: 0,
    publishesFailed: 0,
    subscribes: 0,
    subscribesFailed: 0,
    outages: 0,
    broken: 0,
    reconnected: 0,
  }
  const subscribers = new Set<Subscriber>()
  const live = yield* Latch.make(true)
  /** The outage of this moment. */
  let outage: AdapterOutage["mode"] | undefined

  const down = (mode: AdapterOutage["mode"]) =>
    Effect.suspend(() => {
      counts.outages++
      outage = mode
      if (mode === "fail") {
        for (const { queue } of subscribers) {
          counts.broken++
          queue.fail(unavailable("an outage of the fault plan"))
        }
        subscribers.clear()
      }
      return live.close
    })

  const up = Effect.suspend(() => {
    if (outage === "gap" || outage === "hang") {
      for (const { queue } of subscribers) {
        counts.reconnected++
        queue.gap("reconnected")
      }
    }
    outage = undefined
    return live.open
  })

  /** Fails in an outage; in one that hangs, once it is over. */
  const reach = Effect.suspend(() => {
    if (outage === undefined) return Effect.void
    const failed = Effect.fail(unavailable("an outage of the fault plan"))
    return outage === "hang" ? Effect.andThen(live.await, failed) : failed
  })

  const publish: StreamAdapter["Service"]["publish"] = Effect.fnUntraced(
    function* (rooms, frames) {
      counts.publishes++
      yield* reach
      const rolled = yield* percent
      if (rolled < plan.failPublish) return yield* unavailable("a failure of the fault plan")
      yield* adapter.publish(rooms, frames)
      if (rolled < plan.failPublish + plan.failPublishAfter) {
        return yield* unavailable("a failure of the fault plan, after the frames went out")
      }
    },
    Effect.tapError(() => Effect.sync(() => counts.publishesFailed++)),
  )

  /** How one frame meets the plan on its way to one subscriber. */
  const fault = Effect.map(percent, (rolled) => {
    const { delay, double, lose, reorder } = plan
    if (rolled < lose) return "lose"
    if (rolled < lose + double) return "double"
    if (rolled < lose + double + delay) return "delay"
    return rolled < lose + double + delay + reorder ? "reorder" : undefined
  })

  const transport = Effect.fnUntraced(function* (queue: Subscriber["queue"]) {
    const late = yield* FiberSet.make()
    /** The frame that waits to change places with the next one. */
    let held: Frame | undefined
    const offer = (...frames: ReadonlyArray<Frame>) => {
      counts.delivered += frames.length
      queue.offerAll(frames)
    }
    const later = (millis: number, effect: Effect.Effect<void>) => FiberSet.run(late, Effect.delay(effect, millis))
    return Effect.fnUntraced(function* (frame: Frame) {
      if (outage !== undefined) {
        counts.lost++
        return
      }
      const met = yield* fault
      if (met === "lose") {
        counts.lost++
        return
      }
      if (met === "delay") {
        counts.delayed++
        yield* later(
          yield* upTo(plan.delayMillis),
          Effect.sync(() => offer(frame)),
        )
        return
      }
      if (met === "reorder" && held === undefined) {
        counts.reordered++
        held = frame
        const release = Effect.sync(() => {
          if (held !== frame) return
          held = undefined
          offer(frame)
        })
        yield* later(plan.delayMillis, release)
        return
      }
      if (met === "double") {
        counts.doubled++
        offer(frame, frame)
      } else offer(frame)
      if (held !== undefined) {
        const earlier = held
        held = undefined
        offer(earlier)
      }
    })
  })

  const subscribe: StreamAdapter["Service"]["subscribe"] = Effect.fnUntraced(function* (room, options) {
    counts.subscribes++
    const refused = Effect.tapError(
      Effect.andThen(
        reach,
        Effect.flatMap(percent, (rolled) =>
          rolled < plan.failSubscribe ? Effect.fail(unavailable("a failure of the fault plan")) : Effect.void,
        ),
      ),
      () => Effect.sync(() => counts.subscribesFailed++),
    )
    yield* refused
    const source: Stream.Stream<Frame | Gap, AdapterUnavailable> = yield* adapter.subscribe(room, options)
    const queue = yield* SubscriberQueue.makeForAdapter<AdapterUnavailable>(options)
    const subscriber: Subscriber = { queue }
    yield* Effect.acquireRelease(
      Effect.sync(() => subscribers.add(subscriber)),
      () => Effect.sync(() => subscribers.delete(subscriber)),
    )
    const carry = yield* transport(queue)
    yield* source.pipe(
      Stream.runForEach((item) =>
        item._tag === "Gap" ? Effect.sync(() => queue.gap(item.reason, item.notice)) : carry(item),
      ),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit)) return
          const error = Exit.findErrorOption(exit)
          if (Option.isSome(error)) queue.fail(error.value)
        }),
      ),
      Effect.ignore,
      Effect.forkScoped({ startImmediately: true }),
    )
    return queue.stream
  })

  const outages = plan.outages.toSorted((left, right) => left.from - right.from)
  let now = 0
  const schedule = Effect.forEach(outages, ({ from, lasts, mode }) => {
    const wait = Math.max(0, from - now)
    now = Math.max(now, from) + lasts
    return Effect.sleep(wait).pipe(Effect.andThen(down(mode)), Effect.andThen(Effect.sleep(lasts)), Effect.andThen(up))
  })
  if (outages.length > 0) yield* Effect.forkScoped(schedule, { startImmediately: true })

  return Context.make(StreamAdapter, { publish, subscribe }).pipe(
    Context.add(AdapterFaults, {
      counts: Effect.sync(() => ({ ...counts, open: subscribers.size })),
      down,
      up,
    }),
  )
})

/** Wraps an adapter; calls and frames meet the faults of the plan. Outages that overlap follow one another. */
export const layer = (plan: AdapterPlan): Layer.Layer<StreamAdapter | AdapterFaults, never, StreamAdapter> =>
  Layer.effectContext(make(plan))
