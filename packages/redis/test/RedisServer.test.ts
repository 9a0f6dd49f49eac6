import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Redis } from "ioredis"
import * as RedisServer from "./RedisServer.ts"

const client = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis(url)
      // without a listener ioredis prints
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect()),
  )

describe("RedisServer", () => {
  it.live("what a server with appendfsync always has answered is there after SIGKILL and a restart", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const redis = yield* client(server.url)
      yield* Effect.promise(() => redis.set("answered", "yes"))
      yield* server.restart
      expect(yield* Effect.promise(() => redis.get("answered"))).toBe("yes")
    }).pipe(Effect.scoped),
  )
})
