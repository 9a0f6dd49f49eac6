/** Replays compared with what was written. */
import type { EncodedEnvelope, Frame, RunId } from "@throughline/core/Envelope"
import {
  type ArchiveCheckpoint,
  type ArchiveEvent,
  type ArchiveItem,
  type ArchiveTruncated,
  EventArchive,
} from "@throughline/core/EventArchive"
import type { EventFilter } from "@throughline/core/EventFilter"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import { runIds, sessionIds, type World } from "./storePlayer.ts"

/** A run that nobody writes. */
export const strangerId = "stranger" as RunId

const filters: ReadonlyArray<EventFilter> = [
  {},
  { sessionIds: [sessionIds[0]!] },
  { runIds: [runIds[0]!] },
  { runIds: [runIds[0]!, runIds[2]!] },
  { sessionIds },
  { runIds: [runIds[1]!], sessionIds: [sessionIds[0]!] },
  { runIds: [strangerId] },
]

export const filter: Arbitrary.Arbitrary<EventFilter> = Generator.weighted(
  filters.map((value, index) => [index === 0 ? 6 : 1, value] as const),
)

/** The same filter in other words. */
export const rewritten = (one: EventFilter): EventFilter => ({
  runIds: [...(one.runIds ?? []), ...(one.runIds ?? [])].toReversed(),
  sessionIds: [...(one.sessionIds ?? [])].toReversed(),
})

/** The filters of {@link filter} differ in meaning if they differ at all. */
export const isSame = (left: EventFilter, right: EventFilter): boolean => left === right

const matches = ({ runIds: runs, sessionIds: sessions }: EventFilter, envelope: EncodedEnvelope): boolean =>
  (runs === undefined || runs.length === 0 || runs.includes(envelope.runId)) &&
  (sessions === undefined ||
    sessions.length === 0 ||
    (envelope.sessionId !== undefined && sessions.includes(envelope.sessionId)))

const generationOf = (frame: Frame): string => frame.cursor.slice(frame.cursor.indexOf("-") + 1)

/** Frames of runs that were not removed, in the order of writing, what was trimmed included. */
const written = (world: World, one: EventFilter): ReadonlyArray<Frame> =>
  world.frames.filter(
    (frame) => world.runs.get(frame.envelope.runId)?.generation === generationOf(frame) && matches(one, frame.envelope),
  )

const isTrimmed = (world: World, { envelope }: Frame): boolean =>
  envelope.seq < world.runs.get(envelope.runId)!.firstSeq

/** Frames that are still there. */
export const stored = (world: World, one: EventFilter): ReadonlyArray<Frame> =>
  written(world, one).filter((frame) => !isTrimmed(world, frame))

export const items = Effect.fnUntraced(function* (one: EventFilter, after: string | undefined) {
  const archive = yield* EventArchive
  return yield* Stream.runCollect(archive.replay({ filter: one, after }))
})

/** A place to resume from. */
export interface Place {
  readonly cursor: string
  readonly position: number
}

export interface Replayed {
  readonly items: ReadonlyArray<ArchiveItem>
  readonly events: ReadonlyArray<ArchiveEvent>
  readonly truncated: ReadonlyArray<ArchiveTruncated>
  readonly checkpoint: ArchiveCheckpoint
}

/** Whether another event lies between what was trimmed of some run and what is left of it. */
export const isApart = ({ items: replayed }: Replayed): boolean =>
  replayed.some((item, index) => {
    if (item._tag !== "Truncated") return false
    const next = replayed.slice(index).find((other) => other._tag === "Event")
    return next?.envelope.runId !== item.runId
  })

/** What of a run lies between a place and its first event that is left. */
const checkTruncated = Effect.fnUntraced(function* (
  world: World,
  one: EventFilter,
  place: Place | undefined,
  replayed: ReadonlyArray<ArchiveItem>,
) {
  const from = place?.position ?? 0
  for (const runId of runIds) {
    const gone = written(world, one).filter((frame) => frame.envelope.runId === runId && isTrimmed(world, frame))
    const lost = gone.filter((frame) => frame.position! > from)
    const told = replayed.flatMap((item, index) =>
      item._tag === "Truncated" && item.runId === runId ? [{ item, index }] : [],
    )
    if (lost.length === 0) {
      yield* Law.same(`what is told as trimmed of run ${runId} after ${from}`, told, [])
      continue
    }
    yield* Law.same(`how often run ${runId} is told as trimmed after ${from}`, told.length, 1)
    const { index, item } = told[0]!
    yield* Law.holds(
      item.from >= 1 && item.from <= lost[0]!.envelope.seq && item.to === lost[lost.length - 1]!.envelope.seq,
      () => `seqs ${item.from} to ${item.to} of run ${runId} are told as trimmed after ${from}`,
    )
    const next = replayed.findIndex((other) => other._tag === "Event" && other.envelope.runId === runId)
    yield* Law.holds(index < next, () => `run ${runId} is told as trimmed after its next event`)
    // Who resumes after an event that came before the notice must be told again.
    const before = replayed.slice(0, index).findLast((other) => other._tag === "Event")
    const end = lost[lost.length - 1]!.position!
    yield* Law.holds(
      before?._tag !== "Event" || before.position < end,
      () =>
        `who resumes after position ${before?._tag === "Event" ? before.position : 0} is not told that run ${runId} was trimmed up to position ${end}`,
    )
  }
})

/** Replays after a place and checks every item against what was written. */
export const check = Effect.fnUntraced(function* (world: World, one: EventFilter, place: Place | undefined) {
  const all = yield* items(one, place?.cursor)
  const from = place?.position ?? 0
  const events = all.filter((item) => item._tag === "Event")
  const checkpoint = all[all.length - 1]
  if (checkpoint?._tag !== "Checkpoint") return yield* Law.broken("a replay doesn't end with a checkpoint")
  const expected = stored(world, one).filter((frame) => frame.position! > from)
  yield* Law.same(
    `what is replayed after ${from}`,
    events.map(({ envelope, position, runCursor }) => ({ envelope, position, runCursor })),
    expected.map(({ cursor, envelope, position }) => ({ envelope, position: position!, runCursor: cursor })),
  )
  yield* Law.same("the number of checkpoints", all.filter((item) => item._tag === "Checkpoint").length, 1)
  const last = stored(world, {}).at(-1)
  yield* Law.holds(
    checkpoint.position >= Math.max(from, last?.position ?? 0),
    () => `the checkpoint is at ${checkpoint.position}, before ${Math.max(from, last?.position ?? 0)}`,
  )
  yield* checkTruncated(world, one, place, all)
  const replayed: Replayed = {
    items: all,
    events,
    truncated: all.filter((item) => item._tag === "Truncated"),
    checkpoint,
  }
  return replayed
})

/** How a cursor's text is changed: at a place in hundredths. */
export interface Alteration {
  readonly kind: "replaced" | "left out" | "put in" | "cut short" | "doubled" | "other case" | "padded" | "swapped"
  readonly at: number
  readonly letter: string
}

const letters = Array.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ")

export const alteration: Arbitrary.Arbitrary<Alteration> = Arbitrary.all({
  kind: Generator.weighted<Alteration["kind"]>([
    [6, "replaced"],
    [2, "left out"],
    [2, "put in"],
    [1, "cut short"],
    [1, "doubled"],
    [1, "other case"],
    [1, "padded"],
    [2, "swapped"],
  ]),
  at: Generator.int(0, 99),
  letter: Generator.weighted(letters.map((letter) => [1, letter] as const)),
})

/** The text altered; it may come out as it was. */
export const alter = (text: string, { at, kind, letter }: Alteration): string => {
  const index = Math.floor((text.length * at) / 100)
  const before = text.slice(0, index)
  const here = text[index] ?? ""
  const after = text.slice(index + 1)
  switch (kind) {
    case "replaced":
      return before + letter + after
    case "left out":
      return before + after
    case "put in":
      return before + letter + here + after
    case "cut short":
      return before
    case "doubled":
      return text + text
    case "other case":
      return before + (here === here.toLowerCase() ? here.toUpperCase() : here.toLowerCase()) + after
    case "padded":
      return `${text}=`
    case "swapped":
      return before + after.slice(0, 1) + here + after.slice(1)
  }
}
