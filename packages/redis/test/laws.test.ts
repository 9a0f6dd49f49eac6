import type { EventStore } from "@throughline/core/EventStore"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventStore from "@throughline/redis/RedisEventStore"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
import type { Services } from "@throughline/testing/Law"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Redis as Client } from "ioredis"
import { randomUUID } from "node:crypto"
import { afterAll } from "vitest"
import * as RedisServer from "./RedisServer.ts"

const url = RedisServer.forFile()

/** One client for all cases, as a connection each takes longer than a case; what they wrote goes at the end. */
const prefix = `throughline-laws-${randomUUID()}:`
let cases = 0
let client: Promise<Client> | undefined
const shared = Effect.flatMap(url, (address) =>
  Effect.promise(() => (client ??= Promise.resolve(new Client(address, { autoResendUnfulfilledCommands: false })))),
)

afterAll(async () => {
  const opened = await client
  if (opened === undefined) return
  for await (const keys of opened.scanStream({ match: `${prefix}*`, count: 1000 })) {
    if ((keys as Array<string>).length > 0) await opened.unlink(keys as Array<string>)
  }
  opened.disconnect()
})

const fresh = Layer.unwrap(
  Effect.map(shared, (opened) => IoRedis.layerFrom(opened, { keyPrefix: `${prefix}${++cases}:` })),
)

const store =
  (configured: RedisEventStore.RedisStoreOptions) =>
  (options?: RedisEventStore.RedisStoreOptions): Layer.Layer<EventStore, unknown, Services> =>
    RedisEventStore.layer({ ...options, ...configured, clock: "client" }).pipe(Layer.provide(fresh))

EventStoreLaws.suite("redis", store({ publish: true }), { slow: true })
