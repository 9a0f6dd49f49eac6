import { assert, describe, it } from "@effect/vitest"
import type { RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import type { OpenFailed } from "@throughline/sql/SqlMigrations"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-open-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
)

const open = (filename: string) => Layer.provide(SqliteThroughline.layerBackend({ filename }), Throughline.layerCrypto)

const runs = Effect.flatMap(EventStore, (store) => store.runs({ limit: 10 }))

/** Runs SQL on a file without this package. */
const execute = (filename: string, ...statements: ReadonlyArray<string>) => {
  const database = new DatabaseSync(filename)
  for (const statement of statements) database.exec(statement)
  database.close()
}

/** Opens a file that must be refused and left as it was. */
const refused = Effect.fnUntraced(function* (filename: string): Effect.fn.Return<OpenFailed, unknown> {
  const before = readFileSync(filename)
  const error = yield* Effect.flip(Effect.scoped(Layer.build(open(filename))))
  assert.isTrue(before.equals(readFileSync(filename)), "the file was touched")
  assert.strictEqual(error._tag, "OpenFailed")
  assert.isFalse(error.isRetryable)
  return error
})

describe("opening", () => {
  it.live("creates the file with its directories and marks it; opened again, it is the same store", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "a", "b", "runs.db")
      yield* Effect.provide(runs, open(filename))
      const made = readFileSync(filename)
      assert.deepStrictEqual(yield* Effect.provide(runs, open(filename)), [])
      assert.isTrue(made.equals(readFileSync(filename)), "opening wrote to the file")
      const database = new DatabaseSync(filename)
      assert.deepStrictEqual({ ...database.prepare("PRAGMA application_id").get() }, { application_id: 0x5468726c })
      database.close()
    }),
  )

  it.live("by many at once, before the file exists, gives each the same store", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "runs.db")
      const opened = Array.from({ length: 8 }, () => Effect.provide(runs, open(filename)))
      assert.deepStrictEqual(
        yield* Effect.all(opened, { concurrency: "unbounded" }),
        Array.from({ length: 8 }, () => []),
      )
    }),
  )

  it.live("refuses a file of a newer version and leaves it as it is", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "runs.db")
      yield* Effect.provide(runs, open(filename))
      execute(filename, "INSERT INTO throughline_migrations (migration_id, name) VALUES (9999, 'future')")
      const error = yield* refused(filename)
      assert.include(error.reason, { _tag: "NewerFormat", found: 9999 })
      assert.match(error.message, /newer version.*Upgrade/)
    }),
  )

  for (const [name, statements] of [
    ["has tables of its own", ["CREATE TABLE ticket (id TEXT)"]],
    ["has an application id of its own", ["PRAGMA application_id = 1234"]],
    ["is in WAL mode", ["PRAGMA journal_mode = WAL", "CREATE TABLE ticket (id TEXT)"]],
  ] as const) {
    it.live(`refuses another application's file that ${name}, and leaves it as it is`, () =>
      Effect.gen(function* () {
        const filename = join(yield* temporary, "app.db")
        execute(filename, ...statements)
        const error = yield* refused(filename)
        assert.strictEqual(error.reason._tag, "ForeignDatabase")
        assert.include(error.message, filename)
        assert.match(error.message, /another application.*name another file/)
      }),
    )
  }

  it.live("takes a file that this package's store made through a client of the application", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "runs.db")
      yield* Effect.provide(runs, open(filename))
      execute(filename, "PRAGMA application_id = 0")
      assert.deepStrictEqual(yield* Effect.provide(runs, open(filename)), [])
    }),
  )

  it.live("refuses a file that is no database, naming it, and leaves it as it is", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "notes.txt")
      writeFileSync(filename, "Dear diary, ".repeat(1000))
      const error = yield* refused(filename)
      assert.strictEqual(error.reason._tag, "StoreBroken")
      assert.include(error.message, filename)
      assert.match(error.message, /not a SQLite database: name another file/)
    }),
  )

  it.live("refuses a directory, and a path below a file, naming them", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      mkdirSync(join(directory, "runs.db"))
      writeFileSync(join(directory, "file"), "")
      for (const filename of [join(directory, "runs.db"), join(directory, "file", "runs.db")]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(open(filename))))
        assert.strictEqual(error.reason._tag, "StoreBroken")
        assert.include(error.message, filename)
      }
    }),
  )

  it.live("of memory leaves no file", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Effect.provide(runs, open(":memory:")), [])
      assert.isFalse(existsSync(":memory:"))
    }),
  )
})

it.live("closing leaves the file alone: no log beside it, and every event in it", () =>
  Effect.gen(function* () {
    const filename = join(yield* temporary, "runs.db")
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE throughline_positions SET last = 41`
    }).pipe(Effect.provide(open(filename)))
    assert.isFalse(existsSync(`${filename}-wal`))
    const database = new DatabaseSync(filename, { readOnly: true })
    assert.deepStrictEqual({ ...database.prepare("SELECT last FROM throughline_positions").get() }, { last: 41 })
    database.close()
  }),
)

it.live("a run recorded through the bridge is read through the hub, in one line of layers", () =>
  Effect.gen(function* () {
    const filename = join(yield* temporary, "runs.db")
    const runId = "hello" as RunId
    const { AgentEvents, EventBridge, SubscriptionHub } = yield* Effect.promise(() => import("@throughline/core"))
    const Stream = yield* Effect.promise(() => import("effect/Stream"))
    const items = yield* Effect.gen(function* () {
      const bridge = yield* EventBridge.EventBridge
      const hub = yield* SubscriptionHub.SubscriptionHub
      yield* bridge.record(AgentEvents.vocabulary, { runId }, Stream.empty)
      return yield* Stream.runCollect(hub.run(runId))
    }).pipe(Effect.provide(SqliteThroughline.layer({ filename })))
    assert.deepStrictEqual(
      items.map((item) => item._tag),
      ["Event", "CaughtUp"],
    )
  }),
)
