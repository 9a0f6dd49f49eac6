import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { afterAll } from "vitest"
import { hub, served } from "../packages/http/test/lawServer.ts"
import * as RedisServer from "../packages/redis/test/RedisServer.ts"

const url = RedisServer.forFile()
const keyPrefix = `throughline-http-${randomUUID()}:`

// The server may be somebody's own.
afterAll(async () => {
  const client = new Redis(await Effect.runPromise(url))
  for await (const keys of client.scanStream({ match: `${keyPrefix}*`, count: 1000 })) {
    if ((keys as Array<string>).length > 0) await client.unlink(keys as Array<string>)
  }
  client.disconnect()
})

const backend = Layer.unwrap(
  Effect.map(url, (at) => RedisThroughline.layer({ client: { url: Redacted.make(at), keyPrefix }, hub })),
)

HttpLaws.suite("redis", served(backend), { slow: true })
