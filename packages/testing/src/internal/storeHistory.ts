/**
 * Generated histories of an event store: commands relative to what the store holds, so that "the number before the last"
 * or "a cursor of the generation before" stay meaningful however a history is made smaller.
 */
import type { Delivery, EncodedEvent, Ending, EventId, EventJson } from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as DateTime from "effect/DateTime"
import * as Generator from "../Generator.ts"

/** An event to be, without its identity. */
export interface EventShape {
  readonly text: string
  readonly delivery: Delivery
  readonly tags: ReadonlyArray<string>
  readonly correlation: Readonly<Record<string, string>>
  /** With agent, provider and turn. */
  readonly routed: boolean
}

/** `repeat`: the last append again; `changed…`: its number for other content; `older`: the number before. */
export type Turn =
  | "next"
  | "repeat"
  | "changedText"
  | "changedId"
  | "changedTags"
  | "shorter"
  | "longer"
  | "older"
  | "skip"

type Will = "none" | "given"

/** `ttl` in seconds. */
export interface LeaseShape {
  readonly ttl: number
  readonly will: Will
}

export interface Append {
  readonly _tag: "Append"
  readonly run: number
  readonly events: ReadonlyArray<EventShape>
  readonly ends: Ending | "no"
  readonly producer:
    | { readonly id: number; readonly turn: Turn; readonly epoch: "same" | "raised" | "older" }
    | undefined
  /** `guarded…`: with the run's generation; `stale`: the head's seq with the generation before it. */
  readonly expected: "no" | "head" | "behind" | "ahead" | "guarded" | "guardedBehind" | "stale"
  readonly session: number | undefined
  /** 0 for the usual one; others differ in name or version. */
  readonly vocabulary: number
  readonly lease: LeaseShape | undefined
}

/** An append with one thing wrong in it. */
export interface Spoilt {
  readonly _tag: "Spoilt"
  readonly run: number
  readonly fault:
    | "noEvents"
    | "tooManyEvents"
    | "eventAfterEnd"
    | "oversize"
    | "expectedSeq"
    | "expectedGeneration"
    | "generationAlone"
    | "epoch"
    | "number"
    | "producerId"
    | "ttl"
    | "willThatEndsNothing"
    | "oversizeWill"
}

/** `place` in eighths of the run. */
export interface Read {
  readonly _tag: "Read"
  readonly run: number
  readonly place: number
  readonly cursor: "none" | "seq" | "text" | "guarded" | "ahead" | "guardedAhead" | "stale" | "garbage"
  readonly limit: number
}

export interface Remove {
  readonly _tag: "Remove"
  readonly run: number
}

export interface Renew {
  readonly _tag: "Renew"
  readonly runs: ReadonlyArray<number>
  readonly lease: LeaseShape
}

export interface AppendWill {
  readonly _tag: "AppendWill"
  readonly run: number
  readonly version: "right" | "before"
  readonly seq: "right" | "before"
}

/** Times in seconds. */
export interface EndAbandoned {
  readonly _tag: "EndAbandoned"
  readonly idleFor: number
}

export interface Wait {
  readonly _tag: "Wait"
  readonly seconds: number
}

export interface List {
  readonly _tag: "List"
  readonly session: number | undefined
  readonly status: "running" | Ending | undefined
  readonly limit: number
}

export type Command = Append | Spoilt | Read | Remove | Renew | AppendWill | EndAbandoned | Wait | List

const texts = ["", "a", 'ä€𝄞 "\\\n\u2028', "x".repeat(60), "€".repeat(40)] as const

const tagLists: ReadonlyArray<ReadonlyArray<string>> = [[], ["red"], ["b", "a", "a"]]

const correlations: ReadonlyArray<Readonly<Record<string, string>>> = [
  {},
  { job: "7", "": "empty key" },
  { "a b": "ä" },
]

const evenly = <const A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Generator.weighted(values.map((value) => [1, value] as const))

const eventShape: Arbitrary.Arbitrary<EventShape> = Arbitrary.all({
  text: evenly<string>(texts),
  delivery: evenly<Delivery>(["normal", "progress", "terminal"]),
  tags: evenly(tagLists),
  correlation: evenly(correlations),
  routed: Generator.boolean,
})

const run = Generator.weighted([
  [4, 0],
  [2, 1],
  [1, 2],
])

/** Seconds that never meet a lease's expiry exactly. */
const seconds = evenly([1, 10, 20, 40, 100])

const ending = evenly<Ending>(["completed", "failed", "cancelled"])

const no = Arbitrary.Constant("no" as const)

const nothing = Arbitrary.Constant(undefined)

const lease: Arbitrary.Arbitrary<LeaseShape> = Arbitrary.all({
  ttl: evenly([30.5, 5.5, 90.5]),
  will: evenly<Will>(["given", "none"]),
})

/** How often appends do what, in tenths; everything else is plain. */
export interface AppendWeights {
  readonly producers?: number | undefined
  readonly ends?: number | undefined
  readonly expected?: number | undefined
  readonly sessions?: number | undefined
  readonly vocabularies?: number | undefined
  readonly leases?: number | undefined
  /** Events per append, 4 by default. */
  readonly maxEvents?: number | undefined
}

const turn = Generator.weighted<Turn>([
  [10, "next"],
  [4, "repeat"],
  [1, "changedText"],
  [1, "changedId"],
  [1, "changedTags"],
  [1, "shorter"],
  [1, "longer"],
  [5, "older"],
  [2, "skip"],
])

/** `other` in so many of ten. */
const sometimes = <A, B>(weight: number | undefined, usual: Arbitrary.Arbitrary<A>, other: Arbitrary.Arbitrary<B>) =>
  Generator.frequency<A | B>([
    [10 - (weight ?? 0), usual],
    [weight ?? 0, other],
  ])

export const append = (weights: AppendWeights = {}): Arbitrary.Arbitrary<Append> => {
  return Arbitrary.all({
    _tag: Arbitrary.Constant("Append" as const),
    run,
    events: Arbitrary.array(eventShape, { minLength: 1, maxLength: weights.maxEvents ?? 4 }),
    ends: sometimes(weights.ends, no, ending),
    producer: sometimes(
      weights.producers,
      nothing,
      Arbitrary.all({
        id: Generator.weighted([
          [3, 0],
          [1, 1],
        ]),
        turn,
        epoch: Generator.weighted<"same" | "raised" | "older">([
          [5, "same"],
          [1, "raised"],
          [1, "older"],
        ]),
      }),
    ),
    expected: sometimes(
      weights.expected,
      no,
      Generator.weighted<Exclude<Append["expected"], "no">>([
        [2, "head"],
        [1, "behind"],
        [1, "ahead"],
        [2, "guarded"],
        [1, "guardedBehind"],
        [2, "stale"],
      ]),
    ),
    session: sometimes(weights.sessions, nothing, Generator.int(0, 1)),
    vocabulary: sometimes(weights.vocabularies, Arbitrary.Constant(0), Generator.int(1, 2)),
    lease: sometimes(weights.leases, nothing, lease),
  })
}

export const spoilt: Arbitrary.Arbitrary<Spoilt> = Arbitrary.all({
  _tag: Arbitrary.Constant("Spoilt" as const),
  run,
  fault: evenly<Spoilt["fault"]>([
    "noEvents",
    "tooManyEvents",
    "eventAfterEnd",
    "oversize",
    "expectedSeq",
    "expectedGeneration",
    "generationAlone",
    "epoch",
    "number",
    "producerId",
    "ttl",
    "willThatEndsNothing",
    "oversizeWill",
  ]),
})

export const read: Arbitrary.Arbitrary<Read> = Arbitrary.all({
  _tag: Arbitrary.Constant("Read" as const),
  run,
  place: Generator.int(0, 8),
  cursor: Generator.weighted<Read["cursor"]>([
    [2, "none"],
    [3, "seq"],
    [1, "text"],
    [4, "guarded"],
    [1, "ahead"],
    [1, "guardedAhead"],
    [2, "stale"],
    [1, "garbage"],
  ]),
  limit: evenly([1000, 1, 2, 3, 5, 8]),
})

export const remove: Arbitrary.Arbitrary<Remove> = Arbitrary.all({ _tag: Arbitrary.Constant("Remove" as const), run })

export const removeOf = (index: number): Remove => ({ _tag: "Remove", run: index })

export const renew: Arbitrary.Arbitrary<Renew> = Arbitrary.all({
  _tag: Arbitrary.Constant("Renew" as const),
  runs: evenly<ReadonlyArray<number>>([[0], [1], [0, 1], [2, 0, 1], []]),
  lease,
})

export const appendWill: Arbitrary.Arbitrary<AppendWill> = Arbitrary.all({
  _tag: Arbitrary.Constant("AppendWill" as const),
  run,
  version: Generator.weighted<"right" | "before">([
    [4, "right"],
    [1, "before"],
  ]),
  seq: Generator.weighted<"right" | "before">([
    [4, "right"],
    [1, "before"],
  ]),
})

export const endAbandoned: Arbitrary.Arbitrary<EndAbandoned> = Arbitrary.all({
  _tag: Arbitrary.Constant("EndAbandoned" as const),
  idleFor: evenly([15.5, 0.5, 45.5]),
})

export const wait: Arbitrary.Arbitrary<Wait> = Arbitrary.all({ _tag: Arbitrary.Constant("Wait" as const), seconds })

export const list: Arbitrary.Arbitrary<List> = Arbitrary.all({
  _tag: Arbitrary.Constant("List" as const),
  session: evenly([undefined, 0, 1]),
  status: evenly<List["status"]>([undefined, undefined, "running", "completed", "failed", "cancelled"]),
  limit: evenly([1000, 1, 2]),
})

/** Histories of commands, by weight. */
export const of = (
  choices: ReadonlyArray<readonly [weight: number, command: Arbitrary.Arbitrary<Command>]>,
): Arbitrary.Arbitrary<ReadonlyArray<Command>> =>
  Arbitrary.array(Generator.frequency(choices), { minLength: 1, maxLength: 60 })

/** The n-th event id of a history. */
const eventIdOf = (n: number): EventId => `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}` as EventId

/** The n-th event of a history. */
export const event = (n: number, shape: EventShape, endsRun?: Ending): EncodedEvent => ({
  eventId: eventIdOf(n),
  ...(shape.routed
    ? { agentId: "agent-1" as NonNullable<EncodedEvent["agentId"]>, provider: "pro vider", turnId: "t:1" }
    : undefined),
  kind: endsRun === undefined ? "Said" : "Ended",
  delivery: endsRun === undefined ? shape.delivery : "terminal",
  ...(endsRun === undefined ? undefined : { endsRun }),
  emittedAt: DateTime.formatIso(DateTime.makeUnsafe(1_700_000_000_000 + n)),
  tags: shape.tags,
  correlation: shape.correlation,
  event: JSON.stringify({ n, text: shape.text }) as EventJson,
})

/** An event with nothing special about it. */
export const plain: EventShape = { text: "", delivery: "normal", tags: [], correlation: {}, routed: false }
