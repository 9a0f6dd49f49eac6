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

/** Texts that grow by small pieces are a rope of them; every so many merges the rope is made one text again. */
const flattenEvery = 32

const bytesOf = (value: unknown): number => {
  if (typeof value === "string") return valueBytes + 2 * value.length
  if (typeof value !== "object" || value === null) return valueBytes
  let total = valueBytes
  for (const inner of Object.values(value)) total += bytesOf(inner)
  return total
}

const flatten = (value: unknown): void => {
  // Asking for a character makes the engine join the rope.
  if (typeof value === "string") value.charCodeAt(0)
  else if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) flatten(inner)
}

/** An event and its coalesce key; without one it can't be merged. */
interface Decoded {
  readonly event: unknown
  readonly key: string | undefined
}

const unmergeable: Decoded = { event: undefined, key: undefined }

/** Decodes and merges for all queues of a vocabulary; an envelope that many queues summarize is decoded once. */
export class Coalescer {
  readonly vocabulary: Vocabulary<unknown>
  readonly #decoded = new WeakMap<EncodedEnvelope, Decoded>()

  constructor(vocabulary: Vocabulary<unknown>) {
    this.vocabulary = vocabulary
  }

  /** Starts a node with a frame; undefined where the vocabulary can't merge it. */
  start(frame: Frame): Pending | undefined {
    const { coalesce } = this.vocabulary
    if (coalesce === undefined) return undefined
    const { event, key } = this.#decode(frame.envelope, coalesce)
    return key === undefined ? undefined : new Pending(this.vocabulary, coalesce, frame, event, key)
  }

  #decode(envelope: EncodedEnvelope, coalesce: Coalesce<unknown>): Decoded {
    const known = this.#decoded.get(envelope)
    if (known !== undefined) return known
    const event = this.vocabulary.decode(envelope.event)
    const decoded = Result.isFailure(event) ? unmergeable : { event: event.success, key: coalesce.key(event.success) }
    this.#decoded.set(envelope, decoded)
    return decoded
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
  readonly #vocabulary: Vocabulary<unknown>
  readonly #coalesce: Coalesce<unknown>
  readonly #key: string
  readonly #first: Place
  #last: Frame
  #frames = 1
  #event: unknown

  constructor(vocabulary: Vocabulary<unknown>, coalesce: Coalesce<unknown>, frame: Frame, event: unknown, key: string) {
    this.#vocabulary = vocabulary
    this.#coalesce = coalesce
    this.#key = key
    this.#first = placeOf(frame)
    this.#last = frame
    this.#event = event
    this.bytes = this.#measure()
  }

  accepts(later: Pending): boolean {
    return this.#key === later.#key && this.#first.runId === later.#first.runId
  }

  /** Takes in the node that follows. */
  join(later: Pending): void {
    this.#event = this.#coalesce.merge(this.#event, later.#event)
    this.#last = later.#last
    const before = this.#frames
    this.#frames += later.#frames
    if (Math.trunc(before / flattenEvery) !== Math.trunc(this.#frames / flattenEvery)) flatten(this.#event)
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
    if (this.#frames === 1) return this.#last
    const vocabulary = this.#vocabulary
    const encoded = vocabulary.encode(this.#event)
    if (Result.isFailure(encoded)) return undefined
    const { envelope } = this.#last
    return {
      ...this.#last,
      envelope: { ...envelope, kind: vocabulary.kind(this.#event), event: encoded.success },
      merged: { firstSeq: this.#first.seq, lastSeq: envelope.seq, frames: this.#frames },
    }
  }
}
