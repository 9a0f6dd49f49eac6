import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"

/** Mints a run's generation: 8 random characters of `a-z 0-9`. */
export const makeGeneration = (random: SecureRandom.SecureRandom["Service"]): Effect.Effect<string> =>
  Effect.map(random.intBetween(0, 36 ** 8 - 1), (value) => value.toString(36).padStart(8, "0"))
