/** Event ids in bulk: drawing them one effect at a time costs ten times what appending the event does. */
import * as Hex from "effect/encoding/Hex"
import * as Clock from "effect/Clock"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import type { EventId } from "../Envelope.ts"

/** A UUIDv7 has 74 random bits: 18 hex digits and two bits of another. An even number, as a byte has two. */
const digitsPerId = 20
/** Ids drawn for at once, at least; what is left over serves the next calls. */
const leastDraw = 64

/** Hands out the ids of one draw; calling it more often than was drawn for is a mistake. */
export type NextId = () => EventId

/**
 * Mints UUIDv7s (RFC 9562, section 5.7) for a number of events at once, by the time of the call.
 *
 * Ids of one millisecond are in no order.
 */
export const make = (random: SecureRandom.SecureRandom["Service"]): ((count: number) => Effect.Effect<NextId>) => {
  let drawn = ""
  let used = 0

  const reserve = (count: number, now: number): NextId => {
    const digits = drawn
    let at = used
    used += count * digitsPerId
    const time = Math.max(0, now).toString(16).padStart(12, "0")
    const prefix = `${time.slice(0, 8)}-${time.slice(8, 12)}-7`
    return () => {
      const start = at
      at += digitsPerId
      const last = digits.charCodeAt(start + 18)
      // The character code of a letter is one short of its digit's value, modulo 4.
      const variant = "89ab"[(last > 57 ? last + 1 : last) & 3]!
      return `${prefix}${digits.slice(start, start + 3)}-${variant}${digits.slice(start + 3, start + 6)}-${digits.slice(start + 6, start + 18)}` as EventId
    }
  }

  return (count) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      drawn.length - used >= count * digitsPerId
        ? Effect.succeed(reserve(count, now))
        : Effect.map(random.randomBytes((Math.max(count, leastDraw) * digitsPerId) / 2), (bytes) => {
            drawn = Hex.encode(bytes)
            used = 0
            return reserve(count, now)
          }),
    )
}
