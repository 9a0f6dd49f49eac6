/** What the suite's runs consist of: numbered lines, and a mark wherever a producer begins to write a run. */
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Schema from "effect/Schema"

export const Event = Schema.Union([
  /** A producer begins; the how manieth process of its name it is, from 1. */
  Schema.TaggedStruct("Began", { incarnation: Schema.Int }),
  Schema.TaggedStruct("Line", { number: Schema.Int, text: Schema.String }),
  Schema.TaggedStruct("Finished", { lines: Schema.Int }),
  /** The will: the run's producer is gone. */
  Schema.TaggedStruct("Lost", {}),
])
export type Event = typeof Event.Type

export const vocabulary = Vocabulary.make<Event>({
  name: "lines",
  version: 1,
  schema: Event,
  delivery: ({ _tag }) => (_tag === "Line" ? "progress" : "normal"),
  endsRun: ({ _tag }) => (_tag === "Finished" ? "completed" : _tag === "Lost" ? "failed" : undefined),
  abandoned: () => ({ _tag: "Lost" }),
})

/** A line whose length varies with its number, so that frames are cut at all sorts of places. */
export const line = (number: number): Event => ({ _tag: "Line", number, text: "x".repeat((number * 37) % 180) })
