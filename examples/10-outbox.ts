/**
 * An outbox: an order and the job that confirms it are written in one transaction of the application's own database. Either both
 * are there or neither, also when the process is killed between the two: no order without its mail, no mail without its order.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Job, JobPool, Throughline } from "@throughline/core"
import { SqliteClient, SqliteJobEngine } from "@throughline/sqlite"
import { Console, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { item: Schema.String }) {}

const Confirm = Job.make("confirm-order", { payload: Schema.Struct({ order: Schema.String }) })

/** Takes an order; fails after it has written everything if there is none left. */
const order = Effect.fnUntraced(function* (id: string, item: string) {
  const sql = yield* SqlClient.SqlClient
  const pool = yield* JobPool.JobPool
  yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`INSERT INTO orders (id, item) VALUES (${id}, ${item})`
      const { pending } = yield* pool.enqueue(Confirm, { order: id })
      yield* Console.log(`order ${id}: its job is ${pending ? "part of the transaction" : "stored"}`)
      const left = yield* sql`UPDATE stock SET left = left - 1 WHERE item = ${item} AND left > 0 RETURNING left`
      if (left.length === 0) return yield* new OutOfStock({ item })
    }),
  )
})

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const pool = yield* JobPool.JobPool
  yield* sql`CREATE TABLE orders (id TEXT PRIMARY KEY, item TEXT NOT NULL)`
  yield* sql`CREATE TABLE stock (item TEXT PRIMARY KEY, left INTEGER NOT NULL)`
  yield* sql`INSERT INTO stock (item, left) VALUES ('lamp', 1)`

  yield* order("o-1", "lamp")
  const refused = yield* Effect.flip(order("o-2", "lamp"))
  yield* Console.log(`order o-2: ${refused._tag}`)

  yield* pool.drain()
  const orders = yield* sql<{ readonly id: string }>`SELECT id FROM orders`
  const jobs = yield* pool.list({ limit: 10 })
  yield* Console.log(`orders: ${orders.map(({ id }) => id).join(" ")}`)
  yield* Console.log(`jobs: ${jobs.map(({ payload, state }) => `${payload} ${state}`).join(" ")}`)
})

const file = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-outbox-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true })),
    ),
    (directory) => SqliteClient.layer({ filename: join(directory, "shop.db") }),
  ),
)

const handler = Job.toLayer(Confirm, ({ order: id }) => Console.log(`confirmed order ${id}`))

NodeRuntime.runMain(
  Effect.provide(
    program,
    handler.pipe(
      Layer.provideMerge(JobPool.layer()),
      Layer.provide(SqliteJobEngine.layer()),
      Layer.provideMerge(file),
      Layer.provide(Throughline.layerCrypto),
    ),
  ),
)
