/** How many requests an address may make, by Effect's `RateLimiter`. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import type { Bounds } from "../Bounds.ts"
import * as Problem from "../Problem.ts"

export type Limit = (client: string) => Effect.Effect<void, Problem.Refused>

/** Clients that the limiter of this process remembers; past them it starts anew, as it forgets none by itself. */
const rememberedClients = 50_000

const fresh = Effect.map(
  Effect.scoped(Layer.build(Layer.provide(RateLimiter.layer, Layer.fresh(RateLimiter.layerStoreMemory)))),
  (context) => Context.get(context, RateLimiter.RateLimiter),
)

/** A limiter that the context has is used as it is, so that servers can share one. */
export const make = Effect.fnUntraced(function* ({ limit, window }: Bounds["rate"]) {
  const given = yield* Effect.serviceOption(RateLimiter.RateLimiter)
  let own = yield* fresh
  const clients = new Set<string>()

  const limiterOf = (client: string) => {
    if (Option.isSome(given)) return Effect.succeed(given.value)
    if (clients.size < rememberedClients || clients.has(client)) {
      clients.add(client)
      return Effect.succeed(own)
    }
    return Effect.map(fresh, (limiter) => {
      clients.clear()
      clients.add(client)
      own = limiter
      return limiter
    })
  }

  return ((client) =>
    Effect.flatMap(limiterOf(client), (limiter) =>
      limiter.consume({ algorithm: "token-bucket", key: `throughline:http:${client}`, limit, window }),
    ).pipe(
      Effect.asVoid,
      Effect.catch(({ reason }) =>
        reason._tag === "RateLimitExceeded"
          ? Effect.fail(
              Problem.later(
                "too-many-requests",
                `more than ${limit} requests in ${Duration.format(Duration.fromInputUnsafe(window))}`,
                Duration.toSeconds(reason.retryAfter),
              ),
            )
          : // A shared limiter that is down must not take the server with it.
            Effect.logWarning("requests are not counted", reason),
      ),
    )) satisfies Limit
})
