/** Generated histories of a job engine. */
import * as Arbitrary from "effect/Arbitrary"
import * as Generator from "../Generator.ts"
import type { End } from "../JobModel.ts"

/** A job that is asked for, before it has a number. */
interface Wish {
  readonly name: string
  readonly rank: number
  readonly delay: number
  readonly key: string | undefined
}

export type Command =
  | { readonly _tag: "Enqueue"; readonly wishes: ReadonlyArray<Wish>; readonly maxWaiting: number | undefined }
  | { readonly _tag: "Pass"; readonly ms: number }
  | { readonly _tag: "End"; readonly which: number; readonly end: End }
  | { readonly _tag: "Cancel" | "RetryDead" | "RemoveDead"; readonly which: number }
  | { readonly _tag: "Restart" | "Pause" | "Resume" }

const wish: Arbitrary.Arbitrary<Wish> = Arbitrary.all({
  name: Generator.weighted([
    [6, "a"],
    [3, "b"],
    [1, "unhandled"],
  ]),
  rank: Generator.weighted([
    [4, 3],
    [2, 2],
    [2, 1],
    [2, 4],
  ]),
  delay: Generator.weighted([
    [6, 0],
    [1, 100],
    [1, 1000],
    [1, 60_000],
  ]),
  key: Generator.weighted<string | undefined>([
    [6, undefined],
    [1, "x"],
    [1, "y"],
  ]),
})

const only = <const A>(value: A): Arbitrary.Arbitrary<A> => Generator.weighted([[1, value]])

const which = Generator.int(0, 30)

const end: Arbitrary.Arbitrary<End> = Generator.frequency<End>([
  [5, only({ _tag: "Succeed" })],
  [
    3,
    Arbitrary.map(
      Generator.weighted([
        [2, 500],
        [1, 0],
        [1, 30_000],
      ]),
      (retryAfter) => ({ _tag: "Fail", retryAfter }),
    ),
  ],
  [2, only({ _tag: "GiveUp" })],
  [2, only({ _tag: "Crash" })],
])

const command: Arbitrary.Arbitrary<Command> = Generator.frequency<Command>([
  [
    8,
    Arbitrary.all({
      wishes: Arbitrary.array(wish, { minLength: 1, maxLength: 5 }),
      maxWaiting: Generator.weighted<number | undefined>([
        [6, undefined],
        [1, 6],
        [1, 3],
      ]),
    }).pipe(Arbitrary.map((asked) => ({ _tag: "Enqueue", ...asked }))),
  ],
  [9, Arbitrary.map(Arbitrary.all({ which, end }), (ended) => ({ _tag: "End", ...ended }))],
  [
    4,
    Arbitrary.map(
      Generator.weighted([
        [3, 600],
        [1, 100],
        [1, 60_000],
      ]),
      (ms) => ({ _tag: "Pass", ms }),
    ),
  ],
  [2, Arbitrary.map(which, (at) => ({ _tag: "Cancel", which: at }))],
  [2, Arbitrary.map(which, (at) => ({ _tag: "RetryDead", which: at }))],
  [1, Arbitrary.map(which, (at) => ({ _tag: "RemoveDead", which: at }))],
  [1, only({ _tag: "Restart" })],
  [1, only({ _tag: "Pause" })],
  [2, only({ _tag: "Resume" })],
])

export interface History {
  readonly commands: ReadonlyArray<Command>
  readonly slots: number
  /** The bound of the first name; the second has none of its own. */
  readonly ofA: number
  readonly maxCrashes: number
}

export const history: Arbitrary.Arbitrary<History> = Arbitrary.all({
  commands: Arbitrary.array(command, { minLength: 1, maxLength: 60 }),
  slots: Generator.int(1, 4),
  ofA: Generator.int(1, 3),
  maxCrashes: Generator.int(1, 3),
})
