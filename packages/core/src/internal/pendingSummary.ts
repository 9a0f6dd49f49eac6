/**
 * The pending summary: progress frames that can't stay in a full queue, merged as events, printed when they are delivered.
 */
import * as Result from "effect/Result"
import type { EncodedEnvelope, Frame } from "../Envelope.ts"
import type { Coalesce, Vocabulary } from "../Vocabulary.ts"
import { Loss, type Place, placeOf } from "./loss.ts"

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

/** An event that can be merged, and its coalesce key. */
export interface Mergeable {
  readonly event: unknown
  readonly key: string
}

/** Decodes and merges for all queues of a vocabulary; an envelope that many queues summarize is decoded once. */
export class Coalescer {
  readonly #vocabulary: Vocabulary<unknown>
  readonly #coalesce: Coalesce<unknown> | undefined
  readonly #known = new WeakMap<EncodedEnvelope, Mergeable | "unmergeable">()

  constructor(vocabulary: Vocabulary<unknown>) {
    this.#vocabulary = vocabulary
    this.#coalesce = vocabulary.coalesce
  }

  /** The event of an envelope; undefined where the vocabulary can't merge it. */
  read(envelope: EncodedEnvelope): Mergeable | undefined {
    let known = this.#known.get(envelope)
    if (known === undefined) {
      known = this.#decode(envelope) ?? "unmergeable"
      this.#known.set(envelope, known)
    }
    return known === "unmergeable" ? undefined : known
  }

  #decode(envelope: EncodedEnvelope): Mergeable | undefined {
    if (this.#coalesce === undefined) return undefined
    const event = this.#vocabulary.decode(envelope.event)
    if (Result.isFailure(event)) return undefined
    const key = this.#coalesce.key(event.success)
    return key === undefined ? undefined : { event: event.success, key }
  }

  /** The event for `earlier` and then `later`, two of one key. */
  merge(earlier: unknown, later: unknown): unknown {
    return this.#coalesce!.merge(earlier, later)
  }

  /** The envelope with another event, where the vocabulary takes it. */
  print(envelope: EncodedEnvelope, event: unknown): EncodedEnvelope | undefined {
    const encoded = this.#vocabulary.encode(event)
    if (Result.isFailure(encoded)) return undefined
    return { ...envelope, kind: this.#vocabulary.kind(event), event: encoded.success }
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
  readonly #first: Place
  #last: Frame
  #event: unknown
  #frames = 1
  #flattenAt = ropeFrames

  constructor(coalescer: Coalescer, frame: Frame, { event, key }: Mergeable) {
    this.#coalescer = coalescer
    this.#key = key
    this.#first = placeOf(frame)
    this.#last = frame
    this.#event = event
    this.bytes = this.#measure()
  }

  /** Whether a frame that follows may join. */
  accepts(frame: Frame, { key }: Mergeable): boolean {
    return this.#key === key && this.#first.runId === frame.envelope.runId
  }

  /** Whether the node that follows may join. */
  acceptsNode(later: Pending): boolean {
    return this.#key === later.#key && this.#first.runId === later.#first.runId
  }

  add(frame: Frame, { event }: Mergeable): void {
    this.#join(frame, event, 1)
  }

  addNode(later: Pending): void {
    this.#join(later.#last, later.#event, later.#frames)
  }

  #join(last: Frame, event: unknown, frames: number): void {
    this.#event = this.#coalescer.merge(this.#event, event)
    this.#last = last
    this.#frames += frames
    if (this.#frames >= this.#flattenAt) {
      flatten(this.#event)
      this.#flattenAt = this.#frames + Math.max(ropeFrames, this.#frames >> 3)
    }
    this.bytes = this.#measure()
  }

  #measure(): number {
    return nodeBytes + bytesOf(this.#event) + 2 * this.#last.envelope.event.length
  }

  lose(reason: "summaryFull" | "notMergeable"): Loss {
    return new Loss(this.#first, reason, this.#last.envelope, this.#last.cursor, this.#frames)
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
      merged: { firstSeq: this.#first.seq, lastSeq: envelope.seq, frames: this.#frames },
    }
  }
}
