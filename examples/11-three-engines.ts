/**
 * One program on three engines: it knows a `JobPool`, and the layer it is given decides where its jobs are kept.
 *
 * `REDIS_URL` names a Redis for BullMQ; without it that one is left out.
 */
import { NodeRuntime } from "@effect/platform-node"
import { BullmqJobEngine } from "@throughline/bullmq"
import { Job, JobEngine, JobPool, Throughline } from "@throughline/core"
import { SqliteClient, SqliteJobEngine } from "@throughline/sqlite"
import { Config, Console, Effect, Fiber, Layer, Option, Redacted, Schema, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const Resize = Job.make("resize", {
  payload: Schema.Struct({ image: Schema.String, width: Schema.Int }),
  success: Schema.Struct({ bytes: Schema.Int }),
})

const program = Effect.gen(function* () {
  const pool = yield* JobPool.JobPool
  const results = yield* pool.completed({ after: "oldest" }).pipe(
    Stream.take(4),
    Stream.map(({ outcome }) => outcome),
    Stream.runCollect,
    Effect.forkChild,
  )
  // A batch is accepted whole or not at all.
  const accepted = yield* pool.enqueueAll([
    JobPool.request(Resize, { image: "sea.png", width: 640 }, { priority: "low" }),
    JobPool.request(Resize, { image: "hill.png", width: 640 }),
    JobPool.request(Resize, { image: "lake.png", width: 640 }, { priority: "critical" }),
    JobPool.request(Resize, { image: "later.png", width: 640 }, { delay: "1 hour" }),
  ])
  const order: Array<string> = []
  // Handled only now, so that all of them are there to choose from.
  yield* pool.handle(Resize, ({ image, width }) => Effect.sync(() => ({ bytes: width * order.push(image) })), {
    concurrency: 1,
  })
  const { bytes } = yield* pool.awaitResult(Resize, accepted[0]!.id)
  yield* Console.log(`  by priority: ${order.join(" ")}; the last has ${bytes} bytes`)
  yield* Console.log(`  the delayed one is ${yield* pool.cancel(accepted[3]!.id)}`)
  yield* Console.log(`  in the results log: ${(yield* Fiber.join(results)).join(" ")}`)
}).pipe(Effect.scoped)

const file = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-engines-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true })),
    ),
    (directory) => SqliteClient.layer({ filename: join(directory, "app.db") }),
  ),
)

const run = <E>(name: string, engine: Layer.Layer<JobEngine.JobEngine, E, SecureRandom.SecureRandom>) =>
  Effect.andThen(
    Console.log(`on ${name}`),
    Effect.provide(program, JobPool.layer().pipe(Layer.provide(engine), Layer.provide(Throughline.layerCrypto))),
  )

const main = Effect.gen(function* () {
  yield* run("memory", JobEngine.layerMemory())
  yield* run("SQLite", Layer.provide(SqliteJobEngine.layer(), file))
  const url = yield* Config.option(Config.Redacted("REDIS_URL"))
  if (Option.isSome(url)) {
    // Jobs of its own among whatever else is on that server.
    const prefix = `example-${process.pid}`
    yield* run("BullMQ", BullmqJobEngine.layer({ url: Redacted.value(url.value), prefix }))
  }
})

NodeRuntime.runMain(main)
