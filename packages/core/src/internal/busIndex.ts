/** Who wants a frame: subscribers by the most selective indexed field of their filters. */
import type { Gap, Routing } from "../Envelope.ts"
import type { IndexedField, Matcher } from "../EventFilter.ts"
import type { RingFrame } from "./busRing.ts"

/** A subscription as publishing sees it. Nothing here waits or runs a reader's code. */
export interface Subscriber {
  readonly matcher: Matcher
  /** The place of the first frame it is to get. */
  readonly since: number
  readonly offer: (frame: RingFrame) => void
  readonly gap: (gap: Gap) => void
}

/** A subscriber in one bucket of the index. */
interface Entry {
  readonly subscriber: Subscriber
  /** `undefined`: being in the bucket is all there is to match. */
  readonly matches: Matcher["matches"] | undefined
}

type Buckets = Map<string, Set<Entry>>

const offerAll = (bucket: Set<Entry> | undefined, frame: RingFrame): void => {
  if (bucket === undefined) return
  for (const { matches, subscriber } of bucket) {
    if (frame.place >= subscriber.since && (matches === undefined || matches(frame.envelope))) subscriber.offer(frame)
  }
}

export class BusIndex {
  readonly #buckets: Readonly<Record<IndexedField, Buckets>> = {
    runIds: new Map(),
    sessionIds: new Map(),
    agentIds: new Map(),
    kinds: new Map(),
  }
  /** Those whose filters use no indexed field. */
  readonly #others = new Set<Entry>()
  readonly #all = new Set<Subscriber>()

  get subscribers(): number {
    return this.#all.size
  }

  /** Buckets with somebody in them. */
  get buckets(): number {
    return Object.values(this.#buckets).reduce((total, buckets) => total + buckets.size, 0)
  }

  /** Adds a subscriber; the answer removes it. */
  add(subscriber: Subscriber): () => void {
    const { filter, indexed, matches } = subscriber.matcher
    const field = indexed[0]
    const entry: Entry = {
      subscriber,
      matches: Object.keys(filter).length === (field === undefined ? 0 : 1) ? undefined : matches,
    }
    this.#all.add(subscriber)
    if (field === undefined) this.#others.add(entry)
    else for (const value of filter[field]!) put(this.#buckets[field], value, entry)
    return () => {
      // A detached subscriber is removed before its scope closes.
      if (!this.#all.delete(subscriber)) return
      if (field === undefined) this.#others.delete(entry)
      else for (const value of filter[field]!) take(this.#buckets[field], value, entry)
    }
  }

  /** Whether offering a frame could find somebody; cheap, as mostly there is nobody. */
  wants({ agentId, kind, runId, sessionId }: Routing): boolean {
    if (this.#all.size === 0) return false
    const { agentIds, kinds, runIds, sessionIds } = this.#buckets
    return (
      this.#others.size > 0 ||
      runIds.has(runId) ||
      (sessionId !== undefined && sessionIds.has(sessionId)) ||
      (agentId !== undefined && agentIds.has(agentId)) ||
      kinds.has(kind)
    )
  }

  offer(frame: RingFrame): void {
    const { agentIds, kinds, runIds, sessionIds } = this.#buckets
    const { agentId, kind, runId, sessionId } = frame.envelope
    if (runIds.size > 0) offerAll(runIds.get(runId), frame)
    if (sessionIds.size > 0 && sessionId !== undefined) offerAll(sessionIds.get(sessionId), frame)
    if (agentIds.size > 0 && agentId !== undefined) offerAll(agentIds.get(agentId), frame)
    if (kinds.size > 0) offerAll(kinds.get(kind), frame)
    if (this.#others.size > 0) offerAll(this.#others, frame)
  }

  /** Frames may be missing, and nobody knows whose. */
  gap(gap: Gap): void {
    for (const subscriber of this.#all) subscriber.gap(gap)
  }
}

const put = (buckets: Buckets, value: string, entry: Entry): void => {
  const bucket = buckets.get(value)
  if (bucket === undefined) buckets.set(value, new Set([entry]))
  else bucket.add(entry)
}

const take = (buckets: Buckets, value: string, entry: Entry): void => {
  const bucket = buckets.get(value)!
  bucket.delete(entry)
  if (bucket.size === 0) buckets.delete(value)
}
