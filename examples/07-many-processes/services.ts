/** What each of the processes is built on: the Redis that `REDIS_URL` names, the local one by default. */
import { RedisThroughline } from "@throughline/redis"
import { Config, Redacted } from "effect"

export const layer = RedisThroughline.layerConfig({
  client: { url: Config.Redacted("REDIS_URL").pipe(Config.withDefault(Redacted.make("redis://127.0.0.1:6379"))) },
})
