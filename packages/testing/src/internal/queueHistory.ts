/** Histories of one subscriber's queue: its options, what is offered, and when its reader takes. */
import * as Cursor from "@throughline/core/Cursor"
import { EventId, type Frame, type Gap, type OverflowNotice, RunId } from "@throughline/core/Envelope"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Generator from "../Generator.ts"
import type { ModelOptions } from "../SubscriberQueueModel.ts"

/** Two texts and a total that merge, a tick that doesn't, a note and a terminal. */
const QueueEvent = Schema.Union([
  Schema.TaggedStruct("Text", { of: Schema.String, text: Schema.String }),
  Schema.TaggedStruct("Total", { count: Schema.Int }),
  Schema.TaggedStruct("Tick", {}),
  Schema.TaggedStruct("Note", { note: Schema.String }),
  Schema.TaggedStruct("Done", {}),
  Schema.TaggedStruct("Ended", {}),
])
export type QueueEvent = typeof QueueEvent.Type

const deliveries = { Text: "progress", Total: "progress", Tick: "progress", Note: "normal" } as const

export const vocabulary: Vocabulary.Vocabulary<QueueEvent> = Vocabulary.make<QueueEvent>({
  name: "queue",
  version: 1,
  schema: QueueEvent,
  delivery: (event) => (event._tag === "Done" || event._tag === "Ended" ? "terminal" : deliveries[event._tag]),
  endsRun: (event) => (event._tag === "Ended" ? "completed" : undefined),
  coalesce: {
    // A total joins the text of "b" it stands beside: what merges need not be of one kind.
    key: (event) => (event._tag === "Text" ? event.of : event._tag === "Total" ? "b" : undefined),
    merge: (earlier, later) => {
      if (earlier._tag !== "Text") return later
      return later._tag === "Text" ? { ...later, text: earlier.text + later.text } : earlier
    },
  },
  abandoned: () => ({ _tag: "Ended" }),
})

/** What one offered frame is; its seq follows from the frames before. */
export interface FrameShape {
  readonly what: "a" | "b" | "total" | "tick" | "note" | "done"
  readonly run: 0 | 1
  readonly size: number
  /** Seqs of the run that other subscribers got. */
  readonly skipped: number
}

export type Command =
  | { readonly _tag: "Offer"; readonly frames: ReadonlyArray<FrameShape> }
  /** The source has a gap, of frames that it counts or that it doesn't know. */
  | { readonly _tag: "Gap"; readonly reason: Gap["reason"]; readonly counted: number }
  | { readonly _tag: "Take" }
  /** The reader asks for more than there is, and waits. */
  | { readonly _tag: "Wait" }

export type QueueSetup = Omit<ModelOptions<QueueEvent>, "vocabulary" | "gaps">

export interface History {
  readonly setup: QueueSetup
  /** Whether frames have positions, as on stores with an archive. */
  readonly positioned: boolean
  readonly commands: ReadonlyArray<Command>
  /** What the source does after the commands. */
  readonly ending: "nothing" | "end" | "fail"
}

const evenly = <const A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Generator.weighted(values.map((value) => [1, value] as const))

const pairs = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((capacity) =>
  Array.from({ length: capacity + 1 }, (_, terminalReserve) => ({ capacity, terminalReserve })),
)

/** Every capacity from 1 to 8 with every reserve, every policy that a live source takes. */
export const setup: Arbitrary.Arbitrary<QueueSetup> = Arbitrary.map(
  Arbitrary.all({
    pair: evenly(pairs),
    overflow: Generator.weighted([
      [2, "dropNonTerminal"],
      [2, "dropProgress"],
      [5, "summarize"],
      [3, "failSubscriber"],
    ]),
    summaryBytes: Generator.weighted([
      [3, 256 * 1024],
      [1, 0],
      [1, 1500],
      [1, 3000],
      [1, 6000],
    ]),
  }),
  ({ pair, ...rest }) => ({ ...pair, ...rest }),
)

export const frameShape: Arbitrary.Arbitrary<FrameShape> = Arbitrary.all({
  what: Generator.weighted([
    [6, "a"],
    [3, "b"],
    [1, "total"],
    [1, "tick"],
    [3, "note"],
    [2, "done"],
  ]),
  run: Generator.weighted<0 | 1>([
    [4, 0],
    [1, 1],
  ]),
  size: Generator.weighted([
    [4, 1],
    [1, 0],
    [1, 200],
    [1, 1000],
  ]),
  skipped: Generator.weighted([
    [4, 0],
    [1, 2],
  ]),
})

const offer = (minLength: number, maxLength: number): Arbitrary.Arbitrary<Command> =>
  Arbitrary.map(Arbitrary.array(frameShape, { minLength, maxLength }), (frames): Command => ({ _tag: "Offer", frames }))

/** Pieces of one text, as a model says it: what a summary is for. */
const burst: Arbitrary.Arbitrary<Command> = Arbitrary.map(
  Arbitrary.array(frameShape, { minLength: 2, maxLength: 20 }),
  (frames): Command => ({ _tag: "Offer", frames: frames.map((frame) => ({ ...frame, what: "a", run: 0 })) }),
)

const gap: Arbitrary.Arbitrary<Command> = Arbitrary.map(
  Arbitrary.all({ reason: evenly(["overflow", "reconnected"]), counted: evenly([0, 0, 3]) }),
  (fields): Command => ({ _tag: "Gap", ...fields }),
)

/** What a source says of so many frames that it lost itself. */
export const countedNotice = (counted: number): OverflowNotice | undefined =>
  counted === 0
    ? undefined
    : {
        policy: "dropProgress",
        reason: "queueFull",
        frames: counted,
        kinds: { Text: counted - 1, Elsewhere: 1 },
        first: "7-00000000",
        last: "9-00000000",
        repair: { runId: RunId.make("r0"), after: "6-00000000", position: 4 },
        terminalsSurvived: true,
      }

const command: Arbitrary.Arbitrary<Command> = Generator.frequency<Command>([
  [4, offer(1, 1)],
  [3, offer(2, 20)],
  [1, burst],
  [1, gap],
  [2, Arbitrary.Constant<Command>({ _tag: "Take" })],
  [1, Arbitrary.Constant<Command>({ _tag: "Wait" })],
])

export const history: Arbitrary.Arbitrary<History> = Arbitrary.all({
  setup,
  positioned: Generator.boolean,
  commands: Arbitrary.array(command),
  ending: evenly(["nothing", "end", "fail"]),
})

const eventOf = ({ size, what }: FrameShape, number: number): QueueEvent => {
  switch (what) {
    case "a":
    case "b":
      return { _tag: "Text", of: what, text: `${number}${".".repeat(size)}` }
    case "total":
      return { _tag: "Total", count: number }
    case "tick":
      return { _tag: "Tick" }
    case "note":
      return { _tag: "Note", note: `${number}` }
    case "done":
      return { _tag: "Done" }
  }
}

const eventId = EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")

/** Makes frames of shapes, one after the other, with the seqs of their runs. */
export const frameMaker = (positioned: boolean): ((shape: FrameShape) => Frame) => {
  const seqs = [0, 0]
  let number = 0
  return (shape) => {
    const seq = (seqs[shape.run]! += 1 + shape.skipped)
    number++
    // Positions rise within a run; of two runs, one arrives behind the other.
    const position = 2 * number + (shape.run === 0 ? 10 : 3)
    const encoded = Result.getOrThrow(
      Vocabulary.encodeWith(vocabulary, { event: eventOf(shape, number) }, eventId, "2026-01-31T09:30:00.000Z"),
    )
    const frame: Frame = {
      _tag: "Frame",
      envelope: { ...encoded, seq, runId: RunId.make(`r${shape.run}`), schemaVersion: 1 },
      cursor: Cursor.run(seq, `0000000${shape.run}`),
    }
    return positioned ? { ...frame, position } : frame
  }
}
