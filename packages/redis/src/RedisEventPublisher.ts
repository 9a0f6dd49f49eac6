/**
 * The event publisher on a Redis Stream: each envelope is an entry, for consumers that are not this library's.
 *
 * **Example** (Handing what a program stores to a stream, with retries)
 *
 * ```ts
 * import * as EventPublisher from "@throughline/core/EventPublisher"
 * import * as IoRedis from "@throughline/redis/IoRedis"
 * import * as RedisEventPublisher from "@throughline/redis/RedisEventPublisher"
 * import * as Layer from "effect/Layer"
 *
 * export const layer = EventPublisher.layerJob().pipe(
 *   Layer.provide(RedisEventPublisher.layer({ stream: "outbox" })),
 *   Layer.provide(IoRedis.layer({ url: "redis://127.0.0.1:6379" })),
 * )
 * ```
 */
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import { toJson } from "@throughline/core/Envelope"
import { EventPublisher, PublishFailed } from "@throughline/core/EventPublisher"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IoRedis } from "./IoRedis.ts"
import type { RedisFailed } from "./RedisFailed.ts"

export interface Options {
  /**
   * The stream's key after the client's `keyPrefix`, or one for each envelope. `published` by default, which is no key of
   * the store's.
   */
  readonly stream?: string | ((envelope: EncodedEnvelope) => string) | undefined
  /** About how many entries a stream keeps, from 1; the oldest go. 100,000 by default; `Infinity` keeps all. */
  readonly maxLength?: number | undefined
}

const failed = (error: RedisFailed): PublishFailed =>
  new PublishFailed({
    detail: error.message,
    // A full Redis may have room another time, though no append may be tried again for that.
    isRetryable: error.isRetryable || (error.reason._tag === "Refused" && error.reason.code === "OOM"),
    cause: error,
  })

/**
 * Makes the publisher.
 *
 * An entry has the fields `eventId`, `runId`, `seq` and `envelope`, the envelope's JSON as it goes over every wire. An envelope
 * whose outcome is unknown is published again, so an entry may come twice: `eventId` tells.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<EventPublisher["Service"], never, IoRedis> {
  const redis = yield* IoRedis
  const { stream = "published" } = options
  const maxLength = options.maxLength ?? 100_000
  const trim = Number.isFinite(maxLength) ? ["MAXLEN", "~", Math.max(1, Math.floor(maxLength))] : []
  return EventPublisher.of({
    publish: (envelope) =>
      Effect.suspend(() => {
        const key = redis.keyPrefix + (typeof stream === "function" ? stream(envelope) : stream)
        const { eventId, runId, seq } = envelope
        const fields = ["eventId", eventId, "runId", runId, "seq", seq, "envelope", toJson(envelope)]
        return redis.send("XADD", [key, ...trim, "*", ...fields])
      }).pipe(Effect.mapError(failed), Effect.asVoid),
  })
})

/** The publisher on the server of the `IoRedis`. */
export const layer = (options?: Options): Layer.Layer<EventPublisher, never, IoRedis> =>
  Layer.effect(EventPublisher, make(options))
