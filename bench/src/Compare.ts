/**
 * The method of every bench: both sides in one run on one machine, alternating, medians, one ratio.
 */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Path from "effect/Path"

/** A bench by name. `run` prints its figures and its line; it fails if a side was not whole. */
export interface Bench {
  readonly name: string
  readonly run: Effect.Effect<void, unknown, FileSystem.FileSystem | Path.Path>
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((left, right) => left - right)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Milliseconds an effect takes, on the monotonic clock. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [millis: number, A], E, R> =>
  Effect.gen(function* () {
    const start = yield* Clock.monotonicTimeNanos
    const value = yield* effect
    return [Number((yield* Clock.monotonicTimeNanos) - start) / 1e6, value] as const
  })

/** Sides take turns, and who goes first alternates; one round of each is thrown away as warm-up. */
export const alternate = Effect.fnUntraced(function* <E, R>(options: {
  readonly rounds: number
  readonly ours: Effect.Effect<number, E, R>
  readonly theirs: Effect.Effect<number, E, R>
}) {
  const ours: Array<number> = []
  const theirs: Array<number> = []
  yield* options.theirs
  yield* options.ours
  for (let round = 0; round < options.rounds; round++) {
    if (round % 2 === 0) {
      ours.push(yield* options.ours)
      theirs.push(yield* options.theirs)
    } else {
      theirs.push(yield* options.theirs)
      ours.push(yield* options.ours)
    }
  }
  return { ours: median(ours), theirs: median(theirs) }
})

/** Prints the bench's line. */
export const report = (name: string, ratio: number, target: string) =>
  Console.log(`bench ${name}: ${ratio.toFixed(2)} (target ${target})`)

/** A rate for people: `1,234,567/s`. */
export const perSecond = (rate: number): string => `${Math.round(rate).toLocaleString("en")}/s`
