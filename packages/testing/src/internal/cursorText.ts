/** Cursors to be written, and texts that are nearly cursors. */
import * as Cursor from "@throughline/core/Cursor"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Generator from "../Generator.ts"

const evenly = <const A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Generator.weighted(values.map((value) => [1, value] as const))

const anyScope: Arbitrary.Arbitrary<Cursor.Scope> = evenly<Cursor.Scope>([
  { kind: "All", id: "" },
  { kind: "Run", id: "a" },
  { kind: "Run", id: "tenant:7.build_2041-x" },
  { kind: "Session", id: ":.".repeat(64) },
  { kind: "Agent", id: "0.1.a" },
  { kind: "Filter", id: "5e".repeat(32) },
])

const count = Generator.frequency([
  [3, Generator.int(0, 2000)],
  [1, evenly([0, 35, 36, 2 ** 31, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER])],
])

/** Holes that a cursor's text has room for, however wide they and what is between them are. */
const roomForHoles = 40

const hole = Arbitrary.all({ missing: Generator.int(1, 40), there: Generator.int(1, 40) })

const ahead = Generator.frequency([
  [3, Arbitrary.array(hole, { maxLength: 12 })],
  [1, Arbitrary.array(hole, { minLength: roomForHoles, maxLength: 100 })],
])

/** What a text says where it has no room for all holes: it leaves out the newest of what is there. */
export const isReadOf = (read: Cursor.Place | undefined, written: Cursor.Place): boolean => {
  if (read?._tag !== "Bus" || written._tag !== "Bus" || !read.repair || !written.repair) return false
  const { ahead: all, position } = written.repair
  const { ahead: kept } = read.repair
  return (
    read.repair.position === position &&
    kept.length >= Math.min(all.length, 2 * roomForHoles) &&
    kept.every((end, index) => end === all[index])
  )
}

/** A cursor and what it means. */
export const cursor: Arbitrary.Arbitrary<{ readonly scope: Cursor.Scope; readonly place: Cursor.Place }> =
  Arbitrary.all({
    scope: anyScope,
    place: Generator.frequency<Cursor.Place>([
      [1, Arbitrary.map(count, (position): Cursor.Place => ({ _tag: "Archive", position }))],
      [
        3,
        Arbitrary.map(
          Arbitrary.all({
            instance: evenly(["00000000", "k3v9x1q0", "zzzzzzzz"]),
            place: count,
            order: evenly<Cursor.BusPlace["order"]>(["arrival", "position"]),
            position: Generator.frequency([
              [1, Arbitrary.Constant(undefined)],
              [4, Generator.int(0, 2 ** 40)],
            ]),
            holes: ahead,
            run: evenly([undefined, "1-00000000", "9007199254740991-zzzzzzzz"]),
          }),
          ({ holes, instance, order, place, position, run }): Cursor.BusPlace => {
            const ranges: Array<number> = []
            let last = position ?? 0
            for (const { missing, there } of holes) {
              ranges.push(last + missing + 1, last + missing + there)
              last += missing + there
            }
            return {
              _tag: "Bus",
              instance,
              place,
              order,
              repair: position === undefined ? undefined : { position, ahead: ranges },
              run,
            }
          },
        ),
      ],
    ]),
  })

export const sameScope = (one: Cursor.Scope, other: Cursor.Scope): boolean =>
  one.kind === other.kind && one.id === other.id

/** The cursor as another bus would have cut it. */
export const elsewhere = (text: string): Effect.Effect<string, Cursor.InvalidCursor> =>
  Effect.map(Effect.fromResult(Cursor.decode(text)), ({ place, scope }) =>
    Cursor.encoder(scope)(place._tag === "Bus" ? { ...place, instance: "elsewher" } : place),
  )

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
const strange = ["\u0000", " ", "ä", "𝄞", "%2E", "=", "/", "\n"]

/** A text that is not the cursor it is made of: altered, cut short, joined with another one, or random. */
export const mutate = (text: string, other: string, nextInt: () => number): string => {
  const below = (bound: number) => (nextInt() >>> 0) % bound
  const at = below(text.length)
  const character = below(20) === 0 ? strange[below(strange.length)]! : alphabet[below(alphabet.length)]!
  switch (below(9)) {
    case 0:
      return text.slice(0, at)
    case 1:
      return text.slice(0, at) + character + text.slice(at + 1)
    case 2:
      return text.slice(0, at) + character + text.slice(at)
    case 3:
      return text.slice(0, at) + text.slice(at + 1)
    case 4: {
      const [first, last] = [at, below(text.length)].toSorted((left, right) => left - right) as [number, number]
      if (first === last) return text
      return text.slice(0, first) + text[last]! + text.slice(first + 1, last) + text[first]! + text.slice(last + 1)
    }
    case 5:
      return text.slice(0, at) + other.slice(below(other.length))
    case 6: {
      const turned = text.charAt(at).toUpperCase()
      return text.slice(0, at) + (turned === text[at] ? turned.toLowerCase() : turned) + text.slice(at + 1)
    }
    case 7:
      return text + character
    default:
      return Array.from({ length: below(600) }, () => alphabet[below(alphabet.length)]!).join("")
  }
}
