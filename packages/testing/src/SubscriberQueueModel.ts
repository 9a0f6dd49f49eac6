/**
 * A subscriber's queue as a pure value: section 5 of the design, line by line, with no thought of speed.
 *
 * `entries` are the frames of the queue in the order they were offered. Each is queued, part of the pending summary (a
 * node holds all the frames that merged into it), or lost; a lost frame keeps its place, so that a notice is what lies
 * between two frames that are delivered.
 */
import type { Frame, Gap, OverflowNotice, OverflowPolicy, RepairPlace } from "@throughline/core/Envelope"
import type { Vocabulary } from "@throughline/core/Vocabulary"
import * as Result from "effect/Result"

export interface ModelOptions<E> {
  readonly capacity: number
  readonly terminalReserve: number
  readonly overflow: Exclude<OverflowPolicy, "backpressure">
  readonly summaryBytes: number
  readonly vocabulary: Vocabulary<E>
  /** The queue of an adapter: a loss is a gap in its place, and nothing detaches. */
  readonly gaps: boolean
}

type Reason = OverflowNotice["reason"]

interface LostFrame {
  readonly frame: Frame
  readonly reason: Reason
}

/** A gap of the source's, and how many frames it says are missing. */
interface ToldGap {
  readonly gap: Gap["reason"]
  readonly notice: OverflowNotice | undefined
}

type Missing = LostFrame | ToldGap

type Entry =
  | { readonly _tag: "Queued"; readonly frame: Frame }
  | { readonly _tag: "Pending"; readonly frames: ReadonlyArray<Frame> }
  | { readonly _tag: "Lost"; readonly lost: ReadonlyArray<Missing> }

export interface Model {
  readonly entries: ReadonlyArray<Entry>
  /** Lost after the last frame delivered and before `entries`. */
  readonly unreported: ReadonlyArray<Missing>
  readonly detached: "SubscriberOverflow" | "TerminalOverflow" | undefined
  /** Offered once it was detached. */
  readonly refused: ReadonlyArray<Frame>
}

/** How a detached stream fails. */
export interface ModelFailure {
  readonly _tag: "SubscriberOverflow" | "TerminalOverflow"
  readonly notice: OverflowNotice | undefined
  readonly repair: RepairPlace
}

export const empty: Model = { entries: [], unreported: [], detached: undefined, refused: [] }

type Test = (frame: Frame) => boolean
const isProgress: Test = ({ envelope }) => envelope.delivery === "progress"
const isNormal: Test = ({ envelope }) => envelope.delivery === "normal"
const isTerminal: Test = ({ envelope }) => envelope.delivery === "terminal"
const isNonTerminal: Test = (frame) => !isTerminal(frame)

const queued = (model: Model, test: Test = () => true) =>
  model.entries.filter((entry) => entry._tag === "Queued" && test(entry.frame)).length

const fits = (model: Model, frame: Frame, options: { readonly capacity: number; readonly terminalReserve: number }) =>
  queued(model) < options.capacity &&
  (isTerminal(frame) || queued(model, isNonTerminal) < options.capacity - options.terminalReserve)

const replace = (model: Model, index: number, entry: Entry): Model => ({
  ...model,
  entries: model.entries.with(index, entry),
})

const append = (model: Model, entry: Entry): Model => ({ ...model, entries: [...model.entries, entry] })

const lost = (reason: Reason, ...frames: ReadonlyArray<Frame>): Entry => ({
  _tag: "Lost",
  lost: frames.map((frame) => ({ frame, reason })),
})

const enqueue = (model: Model, frame: Frame) => append(model, { _tag: "Queued", frame })

const drop = (model: Model, frame: Frame) => append(model, lost("queueFull", frame))

/** Where the oldest queued frame is that passes the test, or -1. */
const oldest = (model: Model, test: Test) =>
  model.entries.findIndex((entry) => entry._tag === "Queued" && test(entry.frame))

const frameAt = (model: Model, index: number) => (model.entries[index] as Entry & { readonly _tag: "Queued" }).frame

const leave = (model: Model, index: number) => replace(model, index, lost("queueFull", frameAt(model, index)))

const decode = <E>(vocabulary: Vocabulary<E>, frame: Frame) =>
  Result.getOrThrow(vocabulary.decode(frame.envelope.event))

const keyOf = <E>(vocabulary: Vocabulary<E>, frame: Frame) => vocabulary.coalesce?.key(decode(vocabulary, frame))

const mergeable = <E>(vocabulary: Vocabulary<E>, left: Entry | undefined, right: Entry | undefined) =>
  left?._tag === "Pending" &&
  right?._tag === "Pending" &&
  left.frames[0]!.envelope.runId === right.frames[0]!.envelope.runId &&
  keyOf(vocabulary, left.frames[0]!) === keyOf(vocabulary, right.frames[0]!)

const eventOf = <E>(vocabulary: Vocabulary<E>, frames: ReadonlyArray<Frame>) =>
  frames
    .map((frame) => decode(vocabulary, frame))
    .reduce((earlier, later) => vocabulary.coalesce!.merge(earlier, later))

/** 16 bytes for every value in the event, and two for each character of its texts. */
const bytesOf = (value: unknown): number =>
  typeof value === "string"
    ? 16 + 2 * value.length
    : typeof value === "object" && value !== null
      ? Object.values(value).reduce((total: number, inner) => total + bytesOf(inner), 16)
      : 16

/** 1 KiB, the event, and the JSON of its last frame. */
const nodeBytes = <E>(vocabulary: Vocabulary<E>, frames: ReadonlyArray<Frame>) =>
  1024 + bytesOf(eventOf(vocabulary, frames)) + 2 * frames.at(-1)!.envelope.event.length

const shrink = <E>(model: Model, options: ModelOptions<E>): Model => {
  let total = 0
  for (const entry of model.entries) {
    if (entry._tag === "Pending") total += nodeBytes(options.vocabulary, entry.frames)
  }
  if (total <= options.summaryBytes) return model
  const index = model.entries.findIndex(({ _tag }) => _tag === "Pending")
  const { frames } = model.entries[index] as Entry & { readonly _tag: "Pending" }
  return shrink(replace(model, index, lost("summaryFull", ...frames)), options)
}

/** The progress frame at a place, queued or just offered, joins the pending summary there. */
const summarize = <E>(model: Model, index: number, options: ModelOptions<E>): Model => {
  const { vocabulary } = options
  const frame = frameAt(model, index)
  if (keyOf(vocabulary, frame) === undefined) return replace(model, index, lost("notMergeable", frame))
  const node: Entry = { _tag: "Pending", frames: [frame] }
  const before = model.entries[index - 1]
  const after = model.entries[index + 1]
  const joined: Array<Entry> = [node]
  if (mergeable(vocabulary, before, node)) joined.unshift(before!)
  if (mergeable(vocabulary, node, after)) joined.push(after!)
  const frames = joined.flatMap((entry) => (entry._tag === "Pending" ? entry.frames : []))
  const entries = model.entries.toSpliced(joined[0] === before ? index - 1 : index, joined.length, {
    _tag: "Pending",
    frames,
  })
  return shrink({ ...model, entries }, options)
}

/** Makes room for a frame as the policy says; undefined where nothing can leave. */
const makeRoom = <E>(model: Model, frame: Frame, options: ModelOptions<E>): Model | undefined => {
  const progress = oldest(model, isProgress)
  const normal = oldest(model, isNormal)
  const nonTerminal = oldest(model, isNonTerminal)
  switch (options.overflow) {
    case "dropNonTerminal":
    case "failSubscriber":
      return isTerminal(frame) && nonTerminal >= 0 ? leave(model, nonTerminal) : undefined
    case "dropProgress":
    case "summarize":
      if (isProgress(frame)) return undefined
      if (progress >= 0) {
        return options.overflow === "summarize" ? summarize(model, progress, options) : leave(model, progress)
      }
      return isTerminal(frame) && normal >= 0 ? leave(model, normal) : undefined
  }
}

export const offer = <E>(model: Model, frame: Frame, options: ModelOptions<E>): Model => {
  if (model.detached !== undefined) return { ...model, refused: [...model.refused, frame] }
  if (fits(model, frame, options)) return enqueue(model, frame)
  const roomy = makeRoom(model, frame, options)
  const detached = options.overflow === "failSubscriber" ? ("SubscriberOverflow" as const) : undefined
  if (roomy !== undefined) return { ...enqueue(roomy, frame), detached }
  if (isTerminal(frame)) return { ...drop(model, frame), detached: options.gaps ? undefined : "TerminalOverflow" }
  if (options.overflow === "summarize" && isProgress(frame)) {
    return summarize(enqueue(model, frame), model.entries.length, options)
  }
  return { ...drop(model, frame), detached }
}

/** Reads the run on after a frame or, `back` 1, from it on; and the archive so that all of `missing` are read. */
const placeAt = (frame: Frame, back: 0 | 1, missing: ReadonlyArray<Frame>): RepairPlace => {
  const [seq, generation] = frame.cursor.split("-")
  const after = `${Number(seq) - back}-${generation}`
  const { runId } = frame.envelope
  const positions = missing.flatMap(({ position }) => (position === undefined ? [] : [position]))
  return positions.length === 0 ? { runId, after } : { runId, after, position: Math.min(...positions) - 1 }
}

/** Each part of what is missing as a notice of its own. */
const partOf = (missing: Missing, policy: OverflowPolicy): OverflowNotice | undefined => {
  if (!("frame" in missing)) return missing.notice
  const { frame, reason } = missing
  return {
    policy,
    reason,
    frames: 1,
    kinds: { [frame.envelope.kind]: 1 },
    first: frame.cursor,
    last: frame.cursor,
    repair: placeAt(frame, 1, [frame]),
    terminalsSurvived: !isTerminal(frame),
  }
}

const noticeOf = (missing: ReadonlyArray<Missing>, policy: OverflowPolicy): OverflowNotice | undefined => {
  const parts = missing.flatMap((each) => partOf(each, policy) ?? [])
  const first = parts[0]
  if (first === undefined) return undefined
  const kinds: Record<string, number> = {}
  for (const part of parts) {
    for (const [kind, frames] of Object.entries(part.kinds)) kinds[kind] = (kinds[kind] ?? 0) + frames
  }
  const { position: _, ...place } = first.repair
  const positions = parts.map(({ repair }) => repair.position)
  const everyOne = positions.filter((position) => position !== undefined)
  return {
    ...first,
    frames: parts.reduce((total, { frames }) => total + frames, 0),
    kinds,
    last: parts.at(-1)!.last,
    // A position covers all only where every part has one.
    repair: everyOne.length < positions.length ? place : { ...place, position: Math.min(...everyOne) },
    terminalsSurvived: parts.every(({ terminalsSurvived }) => terminalsSurvived),
  }
}

const gapReason = (missing: ReadonlyArray<Missing>): Gap["reason"] | undefined => {
  const gap = missing.find((each): each is ToldGap => "gap" in each)
  return gap?.gap
}

const toGap = (reason: Gap["reason"], notice: OverflowNotice | undefined): Gap =>
  notice === undefined ? { _tag: "Gap", reason } : { _tag: "Gap", reason, notice }

/** A gap of the source's. */
export const gap = (model: Model, reason: Gap["reason"], notice: OverflowNotice | undefined): Model =>
  model.detached === undefined ? append(model, { _tag: "Lost", lost: [{ gap: reason, notice }] }) : model

const delivered = <E>(entry: Exclude<Entry, { _tag: "Lost" }>, vocabulary: Vocabulary<E>): Frame => {
  if (entry._tag === "Queued") return entry.frame
  const first = entry.frames[0]!
  const last = entry.frames.at(-1)!
  if (entry.frames.length === 1) return first
  const event = eventOf(vocabulary, entry.frames)
  return {
    ...last,
    envelope: { ...last.envelope, kind: vocabulary.kind(event), event: Result.getOrThrow(vocabulary.encode(event)) },
    merged: { firstSeq: first.envelope.seq, lastSeq: last.envelope.seq, frames: entry.frames.length },
  }
}

/** All that is waiting, with the notices and gaps that go with it. */
export const take = <E>(
  model: Model,
  options: ModelOptions<E>,
): { readonly model: Model; readonly items: ReadonlyArray<Frame | Gap> } => {
  const items: Array<Frame | Gap> = []
  let untold = model.unreported
  const told = () => gapReason(untold) ?? (options.gaps && untold.length > 0 ? "overflow" : undefined)
  for (const entry of model.entries) {
    if (entry._tag === "Lost") {
      untold = [...untold, ...entry.lost]
      continue
    }
    const frame = delivered(entry, options.vocabulary)
    const reason = told()
    const notice = noticeOf(untold, options.overflow)
    if (reason !== undefined) items.push(toGap(reason, notice), frame)
    else items.push(notice === undefined ? frame : { ...frame, notice })
    untold = []
  }
  const reason = told()
  if (reason !== undefined && model.detached === undefined) {
    items.push(toGap(reason, noticeOf(untold, options.overflow)))
    untold = []
  } else if (reason !== undefined) {
    // The failure tells what was lost.
    items.push(toGap(reason, undefined))
    untold = untold.filter((each) => partOf(each, options.overflow) !== undefined)
  }
  return { model: { ...model, entries: [], unreported: untold }, items }
}

/** Whether a reader has something to take. */
export const isWaiting = <E>(model: Model, options: ModelOptions<E>): boolean =>
  model.entries.some((entry) => entry._tag !== "Lost" || options.gaps || gapReason(entry.lost) !== undefined)

const missing = (model: Model): ReadonlyArray<Missing> => [
  ...model.unreported,
  ...model.entries.flatMap((entry) => (entry._tag === "Lost" ? entry.lost : [])),
]

/** What a drained stream reports as it ends: what was lost since the last frame. */
export const rest = <E>(model: Model, options: ModelOptions<E>): OverflowNotice | undefined =>
  noticeOf(missing(model), options.overflow)

/** How a detached and drained stream fails; `last` is the last frame that the subscriber received. */
export const failure = <E>(
  model: Model,
  options: ModelOptions<E>,
  last: Frame | undefined,
): ModelFailure | undefined => {
  if (model.detached === undefined) return undefined
  const notice = rest(model, options)
  const { refused } = model
  if (notice === undefined) return { _tag: model.detached, notice, repair: placeAt(last!, 0, refused) }
  const { position, ...place } = notice.repair
  const read = refused.map((frame) => (frame.position ?? Infinity) - 1)
  const repair = position === undefined ? place : { ...place, position: Math.min(position, ...read) }
  return { _tag: model.detached, notice, repair }
}
