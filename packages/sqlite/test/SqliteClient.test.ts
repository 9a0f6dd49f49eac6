import { assert, describe, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as SqliteClient from "../src/SqliteClient.ts"

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "throughline-sqlite-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true })),
)

const open = (options: SqliteClient.Options) =>
  Effect.map(Layer.build(SqliteClient.layer(options)), (services) => Context.get(services, SqliteClient.SqliteClient))

/** A client of a new file with a table `event(seq, body)`. */
const openNew = Effect.fnUntraced(function* (options?: Partial<SqliteClient.Options>) {
  const filename = join(yield* temporary, "events.db")
  const sql = yield* open({ filename, ...options })
  yield* sql`CREATE TABLE event (seq INTEGER PRIMARY KEY, body)`
  return { filename, sql }
})

const existing = (directory: string, journal: "delete" | "wal") => {
  const filename = join(directory, "events.db")
  const database = new DatabaseSync(filename)
  database.exec(`PRAGMA journal_mode = ${journal}; CREATE TABLE event (seq INTEGER PRIMARY KEY)`)
  database.close()
  return filename
}

const count = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<{ n: number }>`SELECT count(*) AS n FROM event`, (rows) => rows[0]!.n)

/** Runs a module in a process of its own. */
const run = (source: string, ...parameters: ReadonlyArray<string>): Effect.Effect<ChildProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--input-type=module", "-e", source, ...parameters], {
        stdio: ["pipe", "pipe", "inherit"],
      }),
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL")),
  )

/**
 * A module that runs the body of a generator with a client `sql` of the file that is its first parameter. It waits for the
 * lock however long others need on a busy machine.
 */
const withClient = (body: string) => `
  import * as Effect from "effect/Effect"
  import * as Schedule from "effect/Schedule"
  import * as SqliteClient from ${JSON.stringify(new URL("../src/SqliteClient.ts", import.meta.url).href)}
  const busyRetry = Schedule.jittered(Schedule.spaced("10 millis"))
  await Effect.gen(function*() {
    const sql = yield* SqliteClient.SqliteClient
    ${body}
  }).pipe(Effect.provide(SqliteClient.layer({ filename: process.argv[1], busyRetry })), Effect.runPromise)`

const exitCodes = (children: ReadonlyArray<ChildProcess>) =>
  Effect.all(children.map(exitCode), { concurrency: "unbounded" })

const firstOutput = (child: ChildProcess) => Effect.promise(() => once(child.stdout!, "data"))

const exitCode = (child: ChildProcess) =>
  Effect.promise(async () => child.exitCode ?? ((await once(child, "exit"))[0] as number | null))

/** Another process that holds the write lock until it is told to commit, or killed. It has the lock when this returns. */
const lockedElsewhere = Effect.fnUntraced(function* (filename: string) {
  const child = yield* run(
    `import { DatabaseSync } from "node:sqlite"
     const database = new DatabaseSync(process.argv[1])
     database.exec("BEGIN IMMEDIATE")
     database.exec("INSERT INTO event (body) VALUES ('theirs')")
     process.stdout.write("locked")
     process.stdin.resume().once("end", () => database.exec("COMMIT"))`,
    filename,
  )
  yield* firstOutput(child)
  return child
})

/** Lets the process that holds the lock commit. */
const release = (child: ChildProcess) => Effect.sync(() => child.stdin!.end())

const tag = (error: SqlError.SqlError) => error.reason._tag

const refused = (
  name: string,
  reason: SqlError.SqlErrorReason["_tag"],
  message: RegExp,
  prepare: (directory: string) => string,
) =>
  it.live(`refuses ${name}, naming the path and what to do`, () =>
    Effect.gen(function* () {
      const filename = prepare(yield* temporary)
      const error = yield* Effect.flip(open({ filename }))
      assert.strictEqual(tag(error), reason)
      assert.match(error.message, message)
      assert.include(error.message, filename)
      assert.isFalse(error.isRetryable)
    }),
  )

const handles = () => (fs.existsSync("/proc/self/fd") ? fs.readdirSync("/proc/self/fd").length : 0)

// Processes take their time to start on a busy machine.
describe("opening", { timeout: 300_000 }, () => {
  it.live("creates the file and its missing directories, and serves both tags with one client", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "a", "b", "events.db")
      const services = yield* Layer.build(SqliteClient.layer({ filename }))
      assert.strictEqual(
        Context.get(services, SqliteClient.SqliteClient),
        Context.get(services, SqlClient.SqlClient) as SqliteClient.SqliteClient,
      )
      assert.isTrue(fs.existsSync(filename))
    }),
  )

  it.live("reads its options from configuration", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "events.db")
      const layer = SqliteClient.layerConfig({ filename: Config.String("FILE"), synchronous: Config.succeed("full") })
      const services = yield* Layer.build(layer).pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({ FILE: filename })),
      )
      const sql = Context.get(services, SqliteClient.SqliteClient)
      assert.deepStrictEqual(yield* sql`PRAGMA synchronous`.values, [[2]])
      assert.deepStrictEqual(yield* sql`PRAGMA journal_mode`.values, [["wal"]])
    }),
  )

  refused("a file that is no database", "UnknownError", /not a SQLite database: name another file/, (directory) => {
    const filename = join(directory, "notes.txt")
    fs.writeFileSync(filename, "These are notes, and no database at all.\n".repeat(100))
    return filename
  })
  refused("a directory", "UnknownError", /is a directory: name a file in it/, (directory) => directory)
  refused("a path through a file", "UnknownError", /a file is in the place of its directory/, (directory) => {
    fs.writeFileSync(join(directory, "file"), "")
    return join(directory, "file", "events.db")
  })
  if (fs.existsSync("/proc/self"))
    refused("a directory nobody can make", "UnknownError", /can't be made there/, () => "/proc/x/y.db")
  it.effect("refuses a number of readers that is none", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "events.db")
      for (const readers of [0, 1.5, Number.NaN]) {
        assert.match((yield* Effect.flip(open({ filename, readers }))).message, /readers must be a whole number/)
      }
    }),
  )

  it.live("leaves a file that is no database as it was", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "notes.txt")
      const text = "These are notes.\n".repeat(1000)
      fs.writeFileSync(filename, text)
      yield* Effect.flip(open({ filename }))
      assert.strictEqual(fs.readFileSync(filename, "utf8"), text)
    }),
  )

  describe("as a user without rights", () => {
    // Root may write everything, so opening happens in a process that gives that up.
    const source = `
      import * as Effect from "effect/Effect"
      import * as SqliteClient from ${JSON.stringify(new URL("../src/SqliteClient.ts", import.meta.url).href)}
      if (process.getuid?.() === 0) process.setuid(65_534)
      const error = await Effect.void.pipe(
        Effect.provide(SqliteClient.layer({ filename: process.argv[1] })),
        Effect.flip,
        Effect.runPromise
      )
      process.stdout.write(JSON.stringify([error.reason._tag, error.isRetryable, error.message]))`

    const denied = (name: string, prepare: (directory: string) => string) =>
      it.live(`refuses ${name}, naming the path and what to do`, () =>
        Effect.gen(function* () {
          const path = yield* temporary
          fs.chmodSync(path, 0o777)
          const filename = prepare(path)
          const [output] = yield* firstOutput(yield* run(source, filename))
          fs.chmodSync(path, 0o777)
          const [reason, isRetryable, message] = JSON.parse(String(output))
          assert.deepStrictEqual([reason, isRetryable], ["AuthorizationError", false])
          assert.include(message, filename)
          assert.match(message, /writ/)
        }),
      )

    denied("a directory that can't be written", (directory) => {
      fs.chmodSync(directory, 0o555)
      return join(directory, "events.db")
    })
    denied("a missing directory that can't be created", (directory) => {
      fs.chmodSync(directory, 0o555)
      return join(directory, "sub", "events.db")
    })
    denied("a read-only file", (directory) => {
      const filename = existing(directory, "delete")
      fs.chmodSync(filename, 0o444)
      return filename
    })
    denied("a read-only file in WAL mode", (directory) => {
      const filename = existing(directory, "wal")
      fs.chmodSync(filename, 0o444)
      return filename
    })
    denied("a file that can't be read", (directory) => {
      const filename = existing(directory, "wal")
      fs.chmodSync(filename, 0o000)
      return filename
    })
    denied("a file in a directory that can't be written", (directory) => {
      const filename = existing(directory, "wal")
      fs.chmodSync(filename, 0o666)
      fs.chmodSync(directory, 0o555)
      return filename
    })
  })
})

describe("statements", () => {
  it.effect.each(["file", "memory"])("store and read back every kind of value (%s)", (kind) =>
    Effect.gen(function* () {
      const sql = kind === "memory" ? yield* open({ filename: ":memory:" }) : (yield* openNew()).sql
      yield* sql`CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY, body)`
      const bodies: Arr.NonEmptyReadonlyArray<unknown> = [
        "text",
        1.5,
        true,
        false,
        null,
        undefined,
        new Uint8Array([1, 2]),
      ]
      yield* sql`INSERT INTO event ${sql.insert(Arr.map(bodies, (body, i) => ({ seq: i + 1, body })))}`
      const rows = yield* sql<{ body: unknown }>`SELECT body FROM event ORDER BY seq`
      assert.deepStrictEqual(
        rows.map((row) => row.body),
        ["text", 1.5, 1, 0, null, null, new Uint8Array([1, 2])],
      )
    }),
  )

  it.effect("refuse what SQLite can't store, even where it would be taken for named parameters", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      for (const body of [{ a: 1 }, DateTime.makeUnsafe(0), Symbol.iterator]) {
        const error = yield* Effect.flip(sql`INSERT INTO event (body) VALUES (${body})`)
        assert.match(error.message, /Parameter 1 is no value SQLite can store/)
      }
      assert.strictEqual(yield* count(sql), 0)
    }),
  )

  it.effect("fail with reasons a caller can act on", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      yield* sql`CREATE TABLE "unique" (a UNIQUE, b NOT NULL)`
      yield* sql`INSERT INTO "unique" VALUES (1, 1)`
      const unique = yield* Effect.flip(sql`INSERT INTO "unique" VALUES (1, 1)`)
      assert.deepInclude(unique.reason, { _tag: "UniqueViolation", constraint: "unique.a" })
      assert.strictEqual(tag(yield* Effect.flip(sql`INSERT INTO "unique" VALUES (2, NULL)`)), "ConstraintError")
      assert.strictEqual(tag(yield* Effect.flip(sql`SELEC 1`)), "SqlSyntaxError")
    }),
  )

  it.effect("read integers beyond 2^53 as bigint when asked, and fail rather than round otherwise", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      const big = sql<{ big: bigint }>`SELECT 9007199254740993 AS big`
      yield* Effect.flip(big)
      const rows = yield* Effect.provideService(big, SqlClient.SafeIntegers, true)
      assert.strictEqual(rows[0]!.big, 9007199254740993n)
    }),
  )

  it.effect("reach the writer whenever they may write", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      yield* sql`WITH new(body) AS (VALUES ('a'), ('b')) INSERT INTO event (body) SELECT body FROM new`
      yield* sql`
        -- a comment first
        INSERT INTO event (body) VALUES ('c')`
      assert.deepStrictEqual(yield* sql`INSERT INTO event (body) VALUES ('d') RETURNING seq`.values, [[4]])
      assert.deepInclude(yield* sql`UPDATE event SET body = 'e'`.raw, { changes: 4 })
      assert.strictEqual(yield* count(sql), 4)
    }),
  )

  it.effect("stream any number of rows in order, and give the connection back when the reader stops early", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      yield* sql`INSERT INTO event (seq)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n`
      const seqs = Stream.map(sql<{ seq: number }>`SELECT seq FROM event ORDER BY seq`.stream, (row) => row.seq)
      const all = yield* Stream.runCollect(seqs)
      assert.deepStrictEqual(
        [...all],
        Array.from({ length: 1000 }, (_, i) => i + 1),
      )
      for (let i = 0; i < 5; i++) {
        assert.deepStrictEqual([...(yield* Stream.runCollect(Stream.take(seqs, 3)))], [1, 2, 3])
      }
      assert.strictEqual(yield* count(sql), 1000)
      const broken = yield* Effect.flip(Stream.runCollect(sql`SELECT seq FROM nowhere`.stream))
      assert.match(broken.message, /no such table/)
    }),
  )
})

describe("transactions", () => {
  it.effect("are undone whole when they fail", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      const failed = yield* sql`INSERT INTO event (body) VALUES ('a')`.pipe(
        Effect.andThen(Effect.fail("no")),
        sql.withTransaction,
        Effect.exit,
      )
      assert.deepStrictEqual(failed, Exit.fail("no"))
      assert.strictEqual(yield* count(sql), 0)
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('b')`)
      assert.strictEqual(yield* count(sql), 1)
    }),
  )

  it.effect("are undone whole when they are interrupted", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      const written = yield* Deferred.make<void>()
      const fiber = yield* sql`INSERT INTO event (body) VALUES ('a')`.pipe(
        Effect.andThen(Deferred.succeed(written, undefined)),
        Effect.andThen(Effect.never),
        sql.withTransaction,
        Effect.forkChild,
      )
      yield* Deferred.await(written)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* count(sql), 0)
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('b')`)
      assert.strictEqual(yield* count(sql), 1)
    }),
  )

  it.effect("nested, undo only their own part", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`INSERT INTO event (body) VALUES ('kept')`
          yield* sql`INSERT INTO event (body) VALUES ('undone')`.pipe(
            Effect.andThen(Effect.fail("no")),
            sql.withTransaction,
            Effect.ignore,
          )
          yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('kept too')`)
        }),
      )
      assert.deepStrictEqual(yield* sql`SELECT body FROM event ORDER BY seq`.values, [["kept"], ["kept too"]])
    }),
  )

  it.effect("that fail to commit are undone, and the connection goes on", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      yield* sql`CREATE TABLE child (event REFERENCES event (seq) DEFERRABLE INITIALLY DEFERRED)`
      const error = yield* Effect.flip(sql.withTransaction(sql`INSERT INTO child VALUES (99)`))
      assert.strictEqual(tag(error), "ConstraintError")
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('a')`)
      assert.strictEqual(yield* count(sql), 1)
    }),
  )

  it.effect("ended by hand fail, rather than commit what follows statement by statement", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      const error = yield* sql`COMMIT`.pipe(
        Effect.andThen(sql`INSERT INTO event (body) VALUES ('a')`),
        sql.withTransaction,
        Effect.flip,
      )
      assert.match(error.message, /has already ended/)
      assert.strictEqual(yield* count(sql), 0)
    }),
  )

  it.effect("hold up no reader, who sees only what is committed", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      const reading = yield* Deferred.make<void>()
      const read = yield* Effect.forkChild(Effect.andThen(Deferred.await(reading), count(sql)))
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`INSERT INTO event (body) VALUES ('a')`
          yield* Deferred.succeed(reading, undefined)
          assert.strictEqual(yield* Fiber.join(read), 0)
          assert.strictEqual(yield* count(sql), 1)
        }),
      )
      assert.strictEqual(yield* count(sql), 1)
    }),
  )

  it.effect("begun with a plain BEGIN read one snapshot, hold up no writer and can't write", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      const writer = yield* open({ filename })
      const error = yield* Effect.gen(function* () {
        assert.strictEqual(yield* count(sql), 0)
        yield* writer`INSERT INTO event (body) VALUES ('a')`
        assert.strictEqual(yield* count(sql), 0)
        return yield* Effect.flip(sql`INSERT INTO event (body) VALUES ('b')`)
      }).pipe(sql.withTransaction, Effect.provideService(SqlClient.BeginTransaction, "BEGIN"))
      assert.strictEqual(tag(error), "AuthorizationError")
      assert.strictEqual(yield* count(sql), 1)
    }),
  )
})

describe("a locked file", { timeout: 300_000 }, () => {
  it.live("makes a writer wait until it is free, without ever blocking the event loop", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      assert.deepStrictEqual(yield* sql.withTransaction(sql`PRAGMA busy_timeout`.values), [[0]])
      const child = yield* lockedElsewhere(filename)
      const writing = yield* Effect.forkChild(sql.withTransaction(sql`INSERT INTO event (body) VALUES ('ours')`), {
        startImmediately: true,
      })
      // A loop that is blocked at every try doesn't come round so often before the writer gives up, after 10 s.
      yield* Effect.repeat(Effect.sleep("5 millis"), { times: 60 })
      assert.isUndefined(writing.pollUnsafe())
      yield* release(child)
      yield* Fiber.join(writing)
      assert.strictEqual(yield* exitCode(child), 0)
      assert.deepStrictEqual(yield* sql`SELECT body FROM event ORDER BY seq`.values, [["theirs"], ["ours"]])
    }),
  )

  it.live("makes a lone statement wait too, and no reader", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      const child = yield* lockedElsewhere(filename)
      const writing = yield* Effect.forkChild(sql`INSERT INTO event (body) VALUES ('ours')`, { startImmediately: true })
      assert.strictEqual(yield* count(sql), 0)
      assert.isUndefined(writing.pollUnsafe())
      yield* release(child)
      yield* Fiber.join(writing)
      assert.strictEqual(yield* count(sql), 2)
    }),
  )

  it.live("fails with a retryable error when the schedule ends", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew({
        busyRetry: Schedule.spaced("1 millis").pipe(Schedule.upTo({ times: 3 })),
      })
      const child = yield* lockedElsewhere(filename)
      const error = yield* Effect.flip(sql.withTransaction(Effect.void))
      assert.strictEqual(tag(error), "LockTimeoutError")
      assert.isTrue(error.isRetryable)
      assert.include(error.message, filename)
      child.kill("SIGKILL")
      yield* exitCode(child)
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('ours')`)
      assert.deepStrictEqual(yield* sql`SELECT body FROM event`.values, [["ours"]])
    }),
  )

  it.live("can be waited for interruptibly, leaving the connection free", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      const child = yield* lockedElsewhere(filename)
      const waiting = yield* Effect.forkChild(sql.withTransaction(sql`INSERT INTO event (body) VALUES ('ours')`), {
        startImmediately: true,
      })
      yield* Effect.timeout(Fiber.interrupt(waiting), "30 seconds")
      child.kill("SIGKILL")
      yield* exitCode(child)
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('later')`)
      assert.deepStrictEqual(yield* sql`SELECT body FROM event`.values, [["later"]])
    }),
  )

  it.live("lets eight processes append in turn: no seq is lost, doubled or skipped", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      const [processes, appends] = [8, 50]
      const source = withClient(`
        yield* Effect.gen(function*() {
          const [{ head }] = yield* sql\`SELECT coalesce(max(seq), 0) AS head FROM event\`
          yield* sql\`INSERT INTO event \${sql.insert({ seq: head + 1, body: process.argv[2] })}\`
        }).pipe(sql.withTransaction, Effect.repeat({ times: ${appends - 1} }))`)
      const children = yield* Effect.forEach(Array.from({ length: processes }), (_, i) =>
        run(source, filename, String(i)),
      )
      const codes = yield* exitCodes(children)
      assert.deepStrictEqual(
        codes,
        Array.from({ length: processes }, () => 0),
      )
      const stored = yield* sql`SELECT min(seq), max(seq), count(*), count(DISTINCT body) FROM event`.values
      assert.deepStrictEqual(stored, [[1, processes * appends, processes * appends, processes]])
    }),
  )

  it.live("can be opened by eight processes at once before it exists", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "events.db")
      const source = withClient(`
        yield* sql\`CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY, body)\`
        yield* sql\`INSERT INTO event (body) VALUES ('a')\``)
      const children = yield* Effect.forEach(Array.from({ length: 8 }), () => run(source, filename))
      const codes = yield* exitCodes(children)
      assert.deepStrictEqual(
        codes,
        Array.from({ length: 8 }, () => 0),
      )
      assert.strictEqual(yield* count(yield* open({ filename })), 8)
    }),
  )
})

describe("a full disk", () => {
  it.effect("fails the write for good and says so; what was stored stays readable", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      yield* sql`INSERT INTO event (body) VALUES ('before')`
      yield* sql`PRAGMA max_page_count = 10`
      const append = sql`INSERT INTO event (body) VALUES (${"x".repeat(100_000)})`
      for (const write of [append, sql.withTransaction(append)]) {
        const error = yield* Effect.flip(write)
        assert.strictEqual(tag(error), "UnknownError")
        assert.isFalse(error.isRetryable)
        assert.match(error.message, /The disk of .* is full: free some space/)
        assert.include(error.message, filename)
      }
      assert.deepStrictEqual(yield* sql`SELECT body FROM event`.values, [["before"]])
      yield* sql`PRAGMA max_page_count = 1000`
      yield* sql.withTransaction(append)
      assert.strictEqual(yield* count(sql), 2)
    }),
  )

  it.effect("stores no part of a transaction, not even of one that goes on after the error", () =>
    Effect.gen(function* () {
      const { sql } = yield* openNew()
      yield* sql`PRAGMA max_page_count = 10`
      const error = yield* Effect.gen(function* () {
        yield* sql`INSERT INTO event (body) VALUES ('first')`
        yield* Effect.ignore(sql`INSERT INTO event (body) VALUES (${"x".repeat(100_000)})`)
        yield* Effect.ignore(sql`INSERT INTO event (body) VALUES ('third')`)
      }).pipe(sql.withTransaction, Effect.flip)
      assert.match(error.message, /is full/)
      assert.strictEqual(yield* count(sql), 0)
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('later')`)
      assert.strictEqual(yield* count(sql), 1)
    }),
  )
})

describe("dataVersion", { timeout: 300_000 }, () => {
  it.live("changes with every commit, of this process or another, and only then", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* openNew()
      const seen = [yield* sql.dataVersion]
      const changed = Effect.fnUntraced(function* () {
        const version = yield* sql.dataVersion
        const last = seen.at(-1)
        seen.push(version)
        return version !== last
      })
      assert.isFalse(yield* changed())
      yield* sql`INSERT INTO event (body) VALUES ('a')`
      assert.isTrue(yield* changed())
      assert.isFalse(yield* changed())
      yield* sql`INSERT INTO event (body) VALUES ('b')`.pipe(
        Effect.andThen(Effect.map(changed(), (early) => assert.isFalse(early))),
        sql.withTransaction,
      )
      assert.isTrue(yield* changed())
      const child = yield* lockedElsewhere(filename)
      yield* release(child)
      yield* exitCode(child)
      assert.isTrue(yield* changed())
      yield* count(sql)
      assert.isFalse(yield* changed())
    }),
  )

  it.effect("changes with every commit in memory", () =>
    Effect.gen(function* () {
      const sql = yield* open({ filename: ":memory:" })
      yield* sql`CREATE TABLE event (seq INTEGER PRIMARY KEY, body)`
      const before = yield* sql.dataVersion
      assert.strictEqual(yield* sql.dataVersion, before)
      yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('a')`)
      assert.notStrictEqual(yield* sql.dataVersion, before)
    }),
  )
})

describe("closing", () => {
  it.effect("leaves no handle and no log behind, however often", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "events.db")
      const round = Effect.scoped(
        Effect.gen(function* () {
          const sql = yield* open({ filename, readers: 3 })
          yield* sql`CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY, body)`
          yield* sql.withTransaction(sql`INSERT INTO event (body) VALUES ('a')`)
          yield* Effect.all([count(sql), count(sql), count(sql), count(sql)], { concurrency: "unbounded" })
          yield* sql.dataVersion
        }),
      )
      yield* round
      const before = handles()
      yield* Effect.repeat(round, { times: 49 })
      assert.strictEqual(handles(), before)
      assert.deepStrictEqual(fs.readdirSync(join(filename, "..")), ["events.db"])
    }),
  )

  it.effect("leaves no handle behind when opening fails", () =>
    Effect.gen(function* () {
      const filename = join(yield* temporary, "notes.txt")
      fs.writeFileSync(filename, "These are notes.\n".repeat(1000))
      const before = handles()
      yield* Effect.repeat(Effect.exit(Effect.scoped(open({ filename }))), { times: 9 })
      assert.strictEqual(handles(), before)
    }),
  )
})
