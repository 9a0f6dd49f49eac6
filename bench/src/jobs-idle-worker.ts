/** A process that has a pool with nothing to do: `node jobs-idle-worker.ts FILE MILLIS`. Prints the share of a core that it took. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const [filename, millis] = process.argv.slice(2) as [string, string]

const Idle = Job.make("idle", { payload: Schema.Null })

const handlers = Job.toLayer(Idle, () => Effect.void).pipe(
  Layer.provide(JobPool.layer()),
  Layer.provide(SqliteJobEngine.layer()),
  Layer.provide(SqliteClient.layer({ filename })),
  Layer.provide(Throughline.layerCrypto),
)

const program = Effect.gen(function* () {
  // What starting costs is not meant.
  yield* Effect.sleep(2000)
  const [cpu, from] = [process.cpuUsage(), performance.now()]
  yield* Effect.sleep(Number(millis))
  const { system, user } = process.cpuUsage(cpu)
  yield* Console.log((system + user) / 1000 / (performance.now() - from))
})

NodeRuntime.runMain(Effect.provide(program, handlers))
