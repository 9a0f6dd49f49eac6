/**
 * The benches: `bench` runs them all, `bench NAME…` some. Each prints the figures it measured and one line
 * `bench <name>: <ratio> (target <ratio>)`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { bridgeThroughput } from "./src/bridge-throughput.ts"
import { busFanout10 } from "./src/bus-fanout-10.ts"
import { busIndex } from "./src/bus-index.ts"
import { busSaturated } from "./src/bus-saturated.ts"
import type { Bench } from "./src/Compare.ts"
import { cursorCodec } from "./src/cursor-codec.ts"
import { hubFanout } from "./src/hub-fanout.ts"
import { hubIdle } from "./src/hub-idle.ts"
import { jobsBullmq } from "./src/jobs-bullmq.ts"
import { jobsMemory, jobsMemoryHeap } from "./src/jobs-memory.ts"
import { jobsSqlite } from "./src/jobs-sqlite.ts"
import { jobsStart } from "./src/jobs-start.ts"
import { queueOffer } from "./src/queue-offer.ts"
import { redisAppend1, redisVsSeed } from "./src/redis-append-1.ts"
import { redisAppendBatch } from "./src/redis-append-batch.ts"
import { redisBridge } from "./src/redis-bridge.ts"
import { redisLive } from "./src/redis-live.ts"
import { redisSeek } from "./src/redis-seek.ts"
import { redisVsPeer } from "./src/redis-vs-peer.ts"
import { sseCatchup } from "./src/sse-catchup.ts"
import { sseFanout } from "./src/sse-fanout.ts"
import { sseIdle } from "./src/sse-idle.ts"
import { sseLatency } from "./src/sse-latency.ts"
import { sseVsPeer } from "./src/sse-vs-peer.ts"
import { storeSqliteAppend } from "./src/store-sqlite-append.ts"
import { storeSqliteRead } from "./src/store-sqlite-read.ts"
import { storeSqliteSeek } from "./src/store-sqlite-seek.ts"

const benches: ReadonlyArray<Bench> = [
  storeSqliteAppend,
  storeSqliteRead,
  storeSqliteSeek,
  bridgeThroughput,
  busFanout10,
  busIndex,
  busSaturated,
  cursorCodec,
  hubFanout,
  hubIdle,
  jobsBullmq,
  jobsMemory,
  jobsMemoryHeap,
  jobsSqlite,
  jobsStart,
  queueOffer,
  redisAppend1,
  redisAppendBatch,
  redisBridge,
  redisLive,
  redisSeek,
  redisVsPeer,
  redisVsSeed,
  sseCatchup,
  sseFanout,
  sseIdle,
  sseLatency,
  sseVsPeer,
]

const main = Effect.gen(function* () {
  const names = process.argv.slice(2)
  const unknown = names.filter((name) => benches.every((bench) => bench.name !== name))
  if (unknown.length > 0) {
    const known = benches.map((bench) => bench.name).join(", ")
    yield* Console.error(`no bench is called ${unknown.join(", ")}; there are: ${known}`)
    process.exitCode = 2
    return
  }
  for (const bench of benches) if (names.length === 0 || names.includes(bench.name)) yield* bench.run
})

NodeRuntime.runMain(Effect.provide(main, NodeServices.layer))
