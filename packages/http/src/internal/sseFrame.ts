/** The text of frames, and their chunks made once however many clients get them. */
import { type EncodedEnvelope, type Merged, toJson } from "@throughline/core/Envelope"
import type { Event } from "@throughline/core/RunItem"
import * as Chunk from "./chunk.ts"

/** Stored JSON has no line breaks unless its appender put them between tokens. */
const hasLineBreaks = ({ event }: EncodedEnvelope): boolean => event.includes("\n") || event.includes("\r")

/** An envelope's JSON on one line: where it was stored with line breaks, which can only be between tokens, without them. */
export const jsonLine = (envelope: EncodedEnvelope): string => {
  const json = toJson(envelope)
  return hasLineBreaks(envelope) ? json.replaceAll(/[\r\n]+/g, " ") : json
}

/** An envelope as a frame; `cursor` becomes what a browser resumes after. */
export const envelopeFrame = (cursor: string, envelope: EncodedEnvelope, merged?: Merged): string => {
  let json = toJson(envelope)
  if (merged !== undefined) json = `${json.slice(0, -1)},"merged":${JSON.stringify(merged)}}`
  // SSE joins several `data:` lines by line breaks.
  if (hasLineBreaks(envelope)) json = json.replaceAll(/\r\n|\r|\n/g, "\ndata: ")
  return `id: ${cursor}\ndata: ${json}\n\n`
}

/** A control frame: named, and without an `id:`, so that it moves no cursor. */
export const controlFrame = (event: string, data: unknown): string =>
  `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`

/** How long a client waits before it reconnects, in ms. */
export const retryFrame = (milliseconds: number): string => `retry: ${Math.round(milliseconds)}\n\n`

export const keepAlive: Chunk.Chunk = Chunk.of(": keep-alive\n\n")

export type RunEvent = Event<EncodedEnvelope>

/** Characters of frames that go into one write: what a socket that doesn't drain holds at most, beyond one event. */
const pieceLength = 64 * 1024

/** Characters of events that are kept as one chunk for all who follow a run. */
const sliceLength = 256 * 1024

interface Slice {
  readonly last: EncodedEnvelope
  readonly count: number
  readonly chunk: Chunk.Chunk
}

/** Hands out frames in chunks, each made when it is taken: a reader that stops has made no more than one. */
export interface Pieces {
  /** What the next write takes; `undefined` after the last. */
  readonly take: () => Chunk.Chunk | undefined
}

/** Frames of any kind, cut into pieces. */
export const piecesOf = <A>(items: ReadonlyArray<A>, frameOf: (item: A) => string): Pieces => {
  let next = 0
  return {
    take: () => {
      let text = ""
      while (next < items.length && text.length < pieceLength) text += frameOf(items[next++]!)
      return text === "" ? undefined : Chunk.of(text)
    },
  }
}

const frameOf = ({ cursor, envelope, merged }: RunEvent): string => envelopeFrame(cursor, envelope, merged)

/** The pieces of events that this reader alone is at, such as a replay. */
export const replayPieces = (events: ReadonlyArray<RunEvent>): Pieces => piecesOf(events, frameOf)

/**
 * The frames of live events.
 *
 * Readers that follow a run get the same envelopes, mostly in the same slices: the chunk of a slice without a hole is made
 * once, and each envelope's frame once for those that are elsewhere. Both go with the envelopes.
 */
export class LiveFrames {
  readonly #slices = new WeakMap<EncodedEnvelope, Slice>()
  readonly #frames = new WeakMap<EncodedEnvelope, string>()

  readonly #frame = (event: RunEvent): string => {
    if (event.merged !== undefined) return frameOf(event)
    let frame = this.#frames.get(event.envelope)
    if (frame === undefined) {
      frame = frameOf(event)
      this.#frames.set(event.envelope, frame)
    }
    return frame
  }

  /** All frames in one chunk; `undefined` where they are too long for that, or not the same for every reader. */
  chunk(events: ReadonlyArray<RunEvent>): Chunk.Chunk | undefined {
    const first = events[0]!.envelope
    const last = events[events.length - 1]!.envelope
    // Filters may leave readers slices with the same ends and other events between them.
    if (last.seq - first.seq !== events.length - 1) return undefined
    let length = 0
    for (const { envelope, merged } of events) {
      length += envelope.event.length
      if (length > sliceLength || merged !== undefined) return undefined
    }
    const known = this.#slices.get(first)
    if (known !== undefined && known.last === last && known.count === events.length) return known.chunk
    let text = ""
    // One alone, as most live events come, is hardly anybody's in another slice.
    if (events.length === 1) text = frameOf(events[0]!)
    else for (const event of events) text += this.#frame(event)
    const chunk = Chunk.of(text)
    this.#slices.set(first, { last, count: events.length, chunk })
    return chunk
  }

  /** The frames in pieces. */
  pieces(events: ReadonlyArray<RunEvent>): Pieces {
    return piecesOf(events, this.#frame)
  }
}
