/** Event ids in bulk: drawing them one effect at a time costs more than all the rest of an event's way. */
import * as Clock from "effect/Clock"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import type { EventId } from "../Envelope.ts"

const textLength = 36
/** What one id takes: 74 random bits. */
const drawLength = 10
/** Ids drawn for at once, at least; what is left over serves the next calls. */
const leastDraw = 64

const encoder = new TextEncoder()
const decoder = new TextDecoder()
const hex = encoder.encode("0123456789abcdef")
const variants = encoder.encode("89ab")

/** Hands out ids; calling it more often than ids were asked for is a mistake. */
export type NextId = () => EventId

/**
 * The texts of `count` UUIDv7s (RFC 9562, section 5.7), one after the other.
 *
 * One text for all: an id put together from its parts takes several times its length in memory, for as long as it is
 * kept.
 */
const texts = (count: number, now: number, random: Uint8Array): string => {
  // A clock may tell fractions of a millisecond.
  const time = Math.trunc(Math.max(0, now)).toString(16).padStart(12, "0")
  const template = encoder.encode(`${time.slice(0, 8)}-${time.slice(8, 12)}-7000-8000-000000000000`)
  const bytes = new Uint8Array(count * textLength)
  for (let id = 0, at = 0, from = 0; id < count; id++, at += textLength, from += drawLength) {
    bytes.set(template, at)
    const first = random[from]!
    bytes[at + 15] = hex[first >> 4]!
    bytes[at + 16] = hex[first & 15]!
    const second = random[from + 1]!
    bytes[at + 17] = hex[second >> 4]!
    bytes[at + 19] = variants[second & 3]!
    const third = random[from + 2]!
    bytes[at + 20] = hex[third >> 4]!
    bytes[at + 21] = hex[third & 15]!
    const fourth = random[from + 3]!
    bytes[at + 22] = hex[fourth & 15]!
    for (let node = 0; node < 6; node++) {
      const byte = random[from + 4 + node]!
      bytes[at + 24 + node * 2] = hex[byte >> 4]!
      bytes[at + 25 + node * 2] = hex[byte & 15]!
    }
  }
  return decoder.decode(bytes)
}

/** Mints event ids by the time of the call. Ids of one millisecond are in no order. */
export const make = (random: SecureRandom.SecureRandom["Service"]): ((count: number) => Effect.Effect<NextId>) => {
  let drawn: Uint8Array = new Uint8Array(0)
  let used = 0

  const mint = (count: number, now: number): NextId => {
    const text = texts(count, now, drawn.subarray(used))
    used += count * drawLength
    let at = 0
    return () => {
      at += textLength
      return text.slice(at - textLength, at) as EventId
    }
  }

  return (count) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      drawn.length - used >= count * drawLength
        ? Effect.succeed(mint(count, now))
        : Effect.map(random.randomBytes(Math.max(count, leastDraw) * drawLength), (bytes) => {
            drawn = bytes
            used = 0
            return mint(count, now)
          }),
    )
}
