/** Job ids, one at a time and cheaply: several for one millisecond are minted in one go while they are asked for. */
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as eventIds from "./eventIds.ts"

/** Ids minted in one go, at most. */
const mostAhead = 64

/**
 * Mints the ids of as many jobs as are enqueued together, by the given time in ms since 1970; at once where they were
 * minted ahead.
 */
export const make = (
  random: SecureRandom["Service"],
): ((count: number, now: number) => eventIds.NextId | Effect.Effect<eventIds.NextId>) => {
  const mint = eventIds.make(random)
  let next: eventIds.NextId | undefined
  let left = 0
  let at = Number.NaN
  /** Doubles while ids are asked for within one millisecond: minting many of them costs a fraction each. */
  let ahead = 1

  return (count, now) => {
    if (next !== undefined && now === at && left >= count) {
      left -= count
      return next
    }
    ahead = now === at ? Math.min(mostAhead, ahead * 2) : 1
    const minted = Math.max(count, ahead)
    return Effect.map(mint(minted), (nextId) => {
      next = nextId
      left = minted - count
      at = now
      return nextId
    })
  }
}
