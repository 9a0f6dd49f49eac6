import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import { hub, served } from "../packages/http/test/lawServer.ts"
import * as RedisServer from "../packages/redis/test/RedisServer.ts"

const url = RedisServer.forFile()

const backend = Layer.unwrap(
  Effect.map(url, (at) =>
    RedisThroughline.layer({ client: { url: Redacted.make(at), keyPrefix: `throughline-http-${randomUUID()}:` }, hub }),
  ),
)

HttpLaws.suite("redis", served(backend), { slow: true })
