/**
 * The pending summary: progress frames that can't stay in a full queue, merged as events, printed when they are delivered.
 */
import * as Result from "effect/Result"
import type { EncodedEnvelope, Frame, RunId } from "../Envelope.ts"
import type { Coalesce, Vocabulary } from "../Vocabulary.ts"
import { Loss } from "./loss.ts"

/** What a pending frame costs besides its event: its envelope, its place, and what merging leaves for a while. */
const nodeBytes = 1024
const valueBytes = 16

/**
 * Texts that grow by small pieces are a rope of them, which takes more than the text. It is made one text again after so
 * many merges, or as many as an eighth of the frames, so that each character is copied a few times in all.
 */
const ropeFrames = 32

const bytesOf = (value: unknown): number => {
  if (typeof value === "string") return valueBytes + 2 * value.length
  if (typeof value !== "object" || value === null) return valueBytes
  let total = valueBytes
  // Events come out of a schema, so all that is enumerable is theirs; this runs once per merge.
  for (const key in value) total += bytesOf((value as Readonly<Record<string, unknown>>)[key])
  return total
}

const anywhere = /^/

const flatten = (value: unknown): void => {
  // A search makes the engine join the rope; looking at a character without using it does not.
  if (typeof value === "string") anywhere.test(value)
  else if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) flatten(inner)
}

/** An event and what it counts in the summary. */
interface Sized {
  readonly event: unknown
  readonly bytes: number
}

/** What a vocabulary answers; undefined where it throws, which is nothing the one who offers may be hit by. */
const attempt = <A>(ask: () => A): A | undefined => {
  try {
    return ask()
  } catch {
    return undefined
  }
}

/** An event that can be merged, and its coalesce key. */
export interface Mergeable extends Sized {
  readonly key: string
}

/**
 * Decodes and merges for all queues of a vocabulary.
 *
 * A source offers a frame to all its subscribers in a row, and those that are stuck have the same waiting. So the last
 * answers serve them all: a frame is decoded once, and merged once for as many as hold the same event.
 */
export class Coalescer {
  readonly #vocabulary: Vocabulary<unknown>
  readonly #coalesce: Coalesce<unknown> | undefined
  readonly #known = new WeakMap<EncodedEnvelope, Mergeable | "unmergeable">()
  #lastRead: EncodedEnvelope | undefined = undefined
  #lastMergeable: Mergeable | undefined = undefined
  #lastEarlier: unknown = undefined
  #lastLater: unknown = undefined
  #lastMerged: Sized | undefined = undefined

  constructor(vocabulary: Vocabulary<unknown>) {
    this.#vocabulary = vocabulary
    this.#coalesce = vocabulary.coalesce
  }

  /** The event of an envelope; undefined where the vocabulary can't merge it. */
  read(envelope: EncodedEnvelope): Mergeable | undefined {
    if (envelope === this.#lastRead) return this.#lastMergeable
    let known = this.#known.get(envelope)
    if (known === undefined) {
      known = attempt(() => this.#decode(envelope)) ?? "unmergeable"
      this.#known.set(envelope, known)
    }
    this.#lastRead = envelope
    this.#lastMergeable = known === "unmergeable" ? undefined : known
    return this.#lastMergeable
  }

  #decode(envelope: EncodedEnvelope): Mergeable | undefined {
    if (this.#coalesce === undefined) return undefined
    const decoded = this.#vocabulary.decode(envelope.event)
    if (Result.isFailure(decoded)) return undefined
    const event = decoded.success
    const key = this.#coalesce.key(event)
    return key === undefined ? undefined : { event, bytes: bytesOf(event), key }
  }

  /** The event for `earlier` and then `later`, two of one key; undefined where the vocabulary throws. */
  merge(earlier: unknown, later: unknown): Sized | undefined {
    if (earlier !== this.#lastEarlier || later !== this.#lastLater) {
      this.#lastMerged = attempt(() => {
        const event = this.#coalesce!.merge(earlier, later)
        return { event, bytes: bytesOf(event) }
      })
      this.#lastEarlier = earlier
      this.#lastLater = later
    }
    return this.#lastMerged
  }

  /** The envelope with another event, where the vocabulary takes it. */
  print(envelope: EncodedEnvelope, event: unknown): EncodedEnvelope | undefined {
    return attempt(() => {
      const encoded = this.#vocabulary.encode(event)
      return Result.isFailure(encoded)
        ? undefined
        : { ...envelope, kind: this.#vocabulary.kind(event), event: encoded.success }
    })
  }
}

const coalescers = new WeakMap<Vocabulary<unknown>, Coalescer>()

/** The coalescer of a vocabulary, one for the process. */
export const coalescerOf = (vocabulary: Vocabulary<unknown>): Coalescer => {
  const known = coalescers.get(vocabulary)
  if (known !== undefined) return known
  const coalescer = new Coalescer(vocabulary)
  coalescers.set(vocabulary, coalescer)
  return coalescer
}

/** A node of the summary: neighbours of one run and one coalesce key, as one event. */
export class Pending {
  readonly _tag = "Pending"
  bytes: number
  readonly #coalescer: Coalescer
  readonly #key: string
  readonly #runId: RunId
  readonly #firstSeq: number
  /** What is lost if the node is. */
  readonly #loss: Loss
  #last: Frame
  #event: unknown
  #frames = 1
  #flattenAt = ropeFrames

  constructor(coalescer: Coalescer, frame: Frame, { bytes, event, key }: Mergeable) {
    this.#coalescer = coalescer
    this.#key = key
    this.#runId = frame.envelope.runId
    this.#firstSeq = frame.envelope.seq
    this.#loss = Loss.of(frame, "summaryFull")
    this.#last = frame
    this.#event = event
    this.bytes = nodeBytes + bytes + 2 * frame.envelope.event.length
  }

  /** Whether a frame that follows may join. */
  accepts(frame: Frame, { key }: Mergeable): boolean {
    return this.#key === key && this.#runId === frame.envelope.runId
  }

  /** Whether the node that follows may join. */
  acceptsNode(later: Pending): boolean {
    return this.#key === later.#key && this.#runId === later.#runId
  }

  /** Takes in the frame that follows; how many bytes more the node counts, undefined where they can't be merged. */
  add(frame: Frame, { event }: Mergeable): number | undefined {
    const added = this.#join(frame, event, 1)
    if (added !== undefined) this.#loss.add(frame, "summaryFull")
    return added
  }

  /** Takes in the node that follows; how many bytes more this one counts, undefined where they can't be merged. */
  addNode(later: Pending): number | undefined {
    const added = this.#join(later.#last, later.#event, later.#frames)
    if (added !== undefined) this.#loss.join(later.#loss)
    return added
  }

  #join(last: Frame, event: unknown, frames: number): number | undefined {
    const merged = this.#coalescer.merge(this.#event, event)
    if (merged === undefined) return undefined
    this.#event = merged.event
    this.#last = last
    this.#frames += frames
    if (this.#frames >= this.#flattenAt) {
      flatten(this.#event)
      this.#flattenAt = this.#frames + Math.max(ropeFrames, this.#frames >> 3)
    }
    const before = this.bytes
    this.bytes = nodeBytes + merged.bytes + 2 * last.envelope.event.length
    return this.bytes - before
  }

  lose(reason: "summaryFull" | "notMergeable"): Loss {
    return this.#loss.because(reason)
  }

  /** The frame to deliver; undefined where the vocabulary refuses what it merged itself. */
  frame(): Frame | undefined {
    const last = this.#last
    if (this.#frames === 1) return last
    const envelope = this.#coalescer.print(last.envelope, this.#event)
    if (envelope === undefined) return undefined
    return {
      ...last,
      envelope,
      merged: { firstSeq: this.#firstSeq, lastSeq: envelope.seq, frames: this.#frames },
    }
  }
}
