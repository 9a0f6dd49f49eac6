/** The body of the event bus: takes frames in, keeps the recent ones, deals them out, and opens subscriptions. */
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Cursor from "../Cursor.ts"
import type { Frame, Gap } from "../Envelope.ts"
import { EventArchive } from "../EventArchive.ts"
import type { EventBus, RepairOptions, SubscribeOptions } from "../EventBus.ts"
import * as EventFilter from "../EventFilter.ts"
import { BusIndex } from "./busIndex.ts"
import * as busLive from "./busLive.ts"
import * as busRepaired from "./busRepaired.ts"
import { BusRing } from "./busRing.ts"

/** The options of a bus, all of them. */
export interface Config {
  /** 8 characters of `a-z 0-9` that no other bus has. */
  readonly instance: string
  /** Where the store's positions had got to, if that is known. */
  readonly position: number | undefined
  readonly digest: Digest.Digest["Service"]
  readonly ringFrames: number
  readonly ringSize: number
}

/** What the subscriptions of a bus share with it. */
export interface Shared {
  readonly instance: string
  readonly ring: BusRing
  readonly index: BusIndex
}

/** What somebody subscribes to. */
export interface Target {
  readonly matcher: EventFilter.Matcher
  readonly scope: Cursor.Scope
}

const targetOf = (kind: Exclude<Cursor.Scope["kind"], "Filter">, id: string): Target => ({
  matcher: EventFilter.forScope(kind, id),
  scope: { kind, id },
})

export const make = (config: Config): EventBus["Service"] => {
  const ring = new BusRing(config.ringFrames, config.ringSize, config.position)
  const index = new BusIndex()
  const shared: Shared = { instance: config.instance, ring, index }

  const open = (target: Target, options: SubscribeOptions | RepairOptions = {}) =>
    Effect.gen(function* () {
      const { cursor } = options
      const place = cursor === undefined ? undefined : yield* Effect.fromResult(Cursor.resume(cursor, target.scope))
      const from = place === undefined || cursor === undefined ? undefined : { place, text: cursor }
      return options.repair === true
        ? yield* busRepaired.open(shared, target, from, yield* EventArchive)
        : yield* busLive.open(shared, target, from, options.queue)
    })

  /** Imperative: it runs per frame, and nothing in it may be seen half done. */
  const publishNow = (frames: ReadonlyArray<Frame | Gap>): void => {
    for (const frame of frames) {
      if (frame._tag === "Gap") {
        index.gap(frame)
        continue
      }
      const place = ring.add(frame)
      if (place === 0) continue
      if (index.wants(frame.envelope)) index.offer(ring.at(place))
      ring.trim()
    }
  }

  const service = {
    publish: (frames: ReadonlyArray<Frame | Gap>) => Effect.sync(() => publishNow(frames)),
    subscribeAll: (options?: SubscribeOptions | RepairOptions) => open(targetOf("All", ""), options),
    subscribeRun: (runId: string, options?: SubscribeOptions | RepairOptions) => open(targetOf("Run", runId), options),
    subscribeSession: (sessionId: string, options?: SubscribeOptions | RepairOptions) =>
      open(targetOf("Session", sessionId), options),
    subscribeAgent: (agentId: string, options?: SubscribeOptions | RepairOptions) =>
      open(targetOf("Agent", agentId), options),
    subscribe: (filter: EventFilter.EventFilter, options?: SubscribeOptions | RepairOptions) =>
      EventFilter.compile(filter).pipe(
        Effect.provideService(Digest.Digest, config.digest),
        Effect.flatMap((compiled) => open({ matcher: compiled, scope: compiled.scope }, options)),
      ),
    status: Effect.sync(() => ({
      subscribers: index.subscribers,
      indexed: index.buckets,
      ringFrames: ring.length,
      ringSize: ring.size,
    })),
  }
  // The overloads say by type what the one body does by option: only `repair: true` asks for the archive.
  return service as unknown as EventBus["Service"]
}
