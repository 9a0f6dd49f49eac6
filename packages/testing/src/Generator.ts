/** What `effect/Arbitrary` leaves to its users: integers in a range, weighted values and weighted choices. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** Integers from `minimum` to `maximum`, smaller ones being simpler. */
export const int = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** True or false, false being simpler. */
export const boolean: Arbitrary.Arbitrary<boolean> = Arbitrary.map(int(0, 1), (value) => value === 1)

const pickBy = <A>(choices: ReadonlyArray<readonly [weight: number, value: A]>, ticket: number): A => {
  let left = ticket
  for (const [weight, value] of choices) {
    if (left < weight) return value
    left -= weight
  }
  return choices[0]![1]
}

const totalOf = (choices: ReadonlyArray<readonly [weight: number, value: unknown]>): number =>
  choices.reduce((total, [weight]) => total + weight, 0)

// Integers of the property runner lean to both ends of their range; a stride spreads them over the choices again, and 0
// stays the first.
const spread = (ticket: number, total: number): number => (ticket * 7919) % total

/** One of the values, by weight; the first is the simplest. */
export const weighted = <const A>(
  choices: ReadonlyArray<readonly [weight: number, value: A]>,
): Arbitrary.Arbitrary<A> => {
  const total = totalOf(choices)
  return Arbitrary.map(int(0, total * 1000 - 1), (ticket) => pickBy(choices, spread(ticket, total)))
}

/** A value of one of the generators, by weight; the first is the simplest. */
export const frequency = <A>(
  choices: ReadonlyArray<readonly [weight: number, arbitrary: Arbitrary.Arbitrary<A>]>,
): Arbitrary.Arbitrary<A> => Arbitrary.flatMap(weighted(choices), (arbitrary) => arbitrary)
