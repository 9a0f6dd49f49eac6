/** What the Redis benches share: a server of their own, the store on it, and bare ioredis beside it. */
import type * as Envelope from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventStore from "@throughline/redis/RedisEventStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Redis } from "ioredis"
import * as eventRecord from "../../packages/redis/src/internal/eventRecord.ts"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"

/** The store on a server that is gone with the scope, as the composed layer has it: indexed, publishing to the run's room. */
export const layerStore = Layer.unwrap(
  Effect.map(RedisServer.make(), ({ url }) =>
    RedisEventStore.layer({ publish: true }).pipe(
      Layer.provideMerge(IoRedis.layer({ url })),
      Layer.provideMerge(Throughline.layerCrypto),
    ),
  ),
)

/** ioredis as it comes, connected to the store's server. */
export const bareClient = Effect.gen(function* () {
  const { client } = yield* IoRedis.IoRedis
  const { host, port } = client.options
  return yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const bare = new Redis({ host: host!, port: port!, lazyConnect: true })
      await bare.connect()
      return bare
    }),
    (bare) => Effect.sync(() => bare.disconnect()),
  )
})

/** An event as the very record that the store keeps of it. */
export const bytesOf: (event: Envelope.EncodedEvent) => string = eventRecord.encode
