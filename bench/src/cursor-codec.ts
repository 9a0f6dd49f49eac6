/** `cursor-codec`: bus cursors written and read per second, in order and with positions missing. Figures, no target. */
import * as Cursor from "@throughline/core/Cursor"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type Bench, median, perSecond, timed } from "./Compare.ts"

const cursors = 200_000

const placeOf = (place: number, ahead: ReadonlyArray<number>): Cursor.Place => ({
  _tag: "Bus",
  instance: "k3v9x1q0",
  place,
  order: "arrival",
  repair: { position: 1_000_000 + place, ahead },
  run: undefined,
})

const measure = Effect.fnUntraced(function* (holes: number) {
  const encode = Cursor.encoder({ kind: "Session", id: "tenant:7.ticket-2041" })
  const aheadOf = (place: number) =>
    Array.from({ length: 2 * holes }, (_, index) => 1_000_000 + place + (index >> 1) * 20 + (index & 1) * 10 + 5)
  const places = Array.from({ length: cursors }, (_, place) => placeOf(place, holes === 0 ? [] : aheadOf(place)))
  const written: Array<number> = []
  const read: Array<number> = []
  for (let round = 0; round < 5; round++) {
    const [writing, texts] = yield* timed(Effect.sync(() => places.map(encode)))
    const [reading, whole] = yield* timed(
      Effect.sync(() => texts.every((text) => Result.isSuccess(Cursor.decode(text)))),
    )
    if (!whole) return yield* Effect.fail("a cursor was not read")
    written.push(cursors / (writing / 1000))
    read.push(cursors / (reading / 1000))
  }
  return { written: median(written), read: median(read) }
})

export const cursorCodec: Bench = {
  name: "cursor-codec",
  run: Effect.gen(function* () {
    for (const holes of [0, 8]) {
      const { read, written } = yield* measure(holes)
      yield* Console.log(`  ${holes} holes: written ${perSecond(written)}, read ${perSecond(read)}`)
    }
    const { written } = yield* measure(0)
    yield* Console.log(`bench cursor-codec: ${perSecond(written)} written (a figure, no target)`)
  }),
}
