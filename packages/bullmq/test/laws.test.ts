import type { EngineOptions } from "@throughline/core/JobEngine"
import * as JobPoolLaws from "@throughline/testing/JobPoolLaws"
import * as Law from "@throughline/testing/Law"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import process from "node:process"
import * as RedisServer from "../../redis/test/RedisServer.ts"
import * as BullmqJobEngine from "../src/BullmqJobEngine.ts"

const server = RedisServer.forFile()
let prefixes = 0

/** An engine under a prefix that no case had. */
const layer = (options?: EngineOptions) =>
  Layer.unwrap(
    Effect.map(server, (url) =>
      BullmqJobEngine.layer({
        ...options,
        url,
        prefix: `laws-${process.pid}-${++prefixes}`,
        reconnect: Schedule.spaced("20 millis"),
      }).pipe(Layer.merge(Layer.succeed(JobPoolLaws.Patience, 20_000))),
    ),
  )

// Exact times of retries, shutdowns and schedules are on a clock of their own here; JobPool.test.ts has them on a real one.
const { enqueuesOnce, results, settles, told, whole } = JobPoolLaws
Law.suite("JobPool", "bullmq", [whole, enqueuesOnce, settles, told, results], layer, { timeout: 300_000, slow: true })
