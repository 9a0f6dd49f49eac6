/**
 * An `SqlClient` on `node:sqlite`: one file in WAL mode, one writing connection, reading connections apart.
 *
 * `node:sqlite` is synchronous, so a busy timeout of SQLite's own would stop the event loop for as long as another process
 * writes. Here no connection has one: a locked file fails at once, and a `Schedule` tries again between turns of the
 * event loop. Transactions begin `IMMEDIATE`, because a read transaction that turns into a write can't wait for the
 * lock: it fails at once if anything was committed since its snapshot.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Pool from "effect/Pool"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlConnection from "effect/sql/SqlConnection"
import type * as SqlError from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import * as fs from "node:fs"
import { dirname, resolve } from "node:path"
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite"
import * as openedFile from "./internal/openedFile.ts"
import {
  busy,
  errorCode,
  failure,
  fileError,
  isBusy,
  isDamage,
  sqlError,
  transactionEnded,
} from "./internal/sqliteError.ts"

const TypeId = "~@throughline/sqlite/SqliteClient"

/**
 * An `SqlClient` over one SQLite file.
 *
 * - Statements outside a transaction that start with `SELECT`, `VALUES` or a `WITH` that only reads run on a reading
 *   connection and see all that is committed; every other statement waits its turn for the writing connection. State
 *   that belongs to one connection (`last_insert_rowid()`, temporary tables) can only be read in the transaction that made it.
 * - `withTransaction` holds the writing connection from `BEGIN IMMEDIATE` to the end. With `SqlClient.BeginTransaction` set
 *   to `"BEGIN"` it is a read transaction instead: one snapshot on a reading connection, in nobody's way; a write in it
 *   fails with `AuthorizationError`.
 * - A file locked by another process is tried again by `busyRetry`, then fails with `LockTimeoutError`, which is retryable.
 *   Waiting for the lock can be interrupted.
 * - A full disk fails with an `UnknownError` that says so and isn't retryable. SQLite ends the transaction at that moment, so
 *   every later statement of the same `withTransaction`, and its commit, fails with the same error.
 * - A file that was moved, removed or replaced while it was open (its log too) takes no more: every write, and a second later
 *   every read, fails with an `UnknownError` that says what to do, until the file is back. One that is written over in its place
 *   is met within a second, where statements touch what was overwritten; from the first damage that any connection meets nothing
 *   more is written, and what is left can be read. SQLite doesn't say whose damage it met, so a connection that has attached
 *   another database fails the statement alone.
 * - Where it can't be told whether the file is in its place, the same operations fail: with `AuthorizationError` where the user
 *   may not look, and with `ConnectionError`, which is retryable, for as long as its disk doesn't answer.
 * - Integers are numbers; one beyond 2^53 fails unless `SqlClient.SafeIntegers` is set, which reads them as `bigint`.
 *   Booleans are stored as 0 and 1, `undefined` as `NULL`; dates and other objects are refused.
 */
export interface SqliteClient extends SqlClient.SqlClient {
  readonly [TypeId]: typeof TypeId

  /**
   * A number that differs from the one read before if anything was committed in between, by this process or another. It costs
   * a few µs and never waits for a transaction on a file; of `":memory:"`, it waits for an open one to end.
   *
   * It says nothing by its size, and two clients of one file see different numbers.
   */
  readonly dataVersion: Effect.Effect<number, SqlError.SqlError>

  /** Not supported by the SQLite compiler. */
  readonly updateValues: never
}

/** The service of `SqliteClient`; each layer here provides `SqlClient.SqlClient` too. */
export const SqliteClient: Context.Service<SqliteClient, SqliteClient> = Context.Service<SqliteClient>(
  "@throughline/sqlite/SqliteClient",
)

/** How to open a file. */
export interface Options {
  /** A path (never a URI), made absolute when opening; missing directories are created. Or `":memory:"`. */
  readonly filename: string

  /**
   * What a commit has survived when it is acknowledged: `"normal"` a kill of the process, `"full"` a power cut too. `"normal"`
   * unless given.
   */
  readonly synchronous?: "normal" | "full" | undefined

  /** Reading connections, at least 1 (the default). `":memory:"` has one connection for everything. */
  readonly readers?: number | undefined

  /** How a locked file is tried again; `busyRetry` unless given. */
  readonly busyRetry?: Schedule.Schedule<unknown, SqlError.SqlError> | undefined

  /** Added to every span of a statement or transaction. */
  readonly spanAttributes?: Record<string, unknown> | undefined
  readonly transformResultNames?: ((name: string) => string) | undefined
  readonly transformQueryNames?: ((name: string) => string) | undefined
}

/** Tries a locked file again after 1, 2, 4, 8, 16, then every 25 ms, each with 20 % of jitter, for 10 s. */
export const busyRetry: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("1 millis"),
  Schedule.spaced("25 millis"),
]).pipe(Schedule.jittered, Schedule.upTo({ duration: "10 seconds" }))

/**
 * Opens the file, in WAL mode, until the scope closes. The last client of a file to close moves the log into the file.
 *
 * Fails with `SqlError`, whose message names the path and what to do. Its reason is
 * - `AuthorizationError`: the file or its directory can't be read or written by this user;
 * - `LockTimeoutError`: another process kept the file locked for longer than `busyRetry`;
 * - `ConnectionError`: the file can't be opened for now, for example with too many open files;
 * - `UnknownError`: trying again won't help: not a database, a directory, a full disk, a file system without shared
 *   memory, or `readers` below 1.
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<SqliteClient, SqlError.SqlError, Scope.Scope | Reactivity.Reactivity> {
  const { dataVersion, readers, writer } = yield* options.filename === ":memory:"
    ? openMemory(options)
    : openFile(options)
  const spanAttributes: ReadonlyArray<readonly [string, unknown]> = [
    ...Object.entries(options.spanAttributes ?? {}),
    ["db.system.name", "sqlite"],
  ]
  const routed = route(readers, writer)
  const client = yield* SqlClient.make({
    acquirer: Effect.succeed(routed),
    borrower: (use) => use(routed),
    transactionAcquirer: writer.acquirer,
    compiler: Statement.makeCompilerSqlite(options.transformQueryNames),
    driver: "throughline-sqlite",
    spanAttributes,
    transformRows: options.transformResultNames && Statement.defaultTransforms(options.transformResultNames).array,
  })
  return Object.assign(
    client as SqliteClient,
    {
      [TypeId]: TypeId,
      dataVersion,
      withTransaction: makeWithTransaction(client, spanAttributes, readers, writer),
    } as const,
  )
})

/** The client of one file, as `SqliteClient` and as `SqlClient`. */
export const layer = (options: Options): Layer.Layer<SqliteClient | SqlClient.SqlClient, SqlError.SqlError> =>
  Layer.effectContext(Effect.map(make(options), services)).pipe(Layer.provide(Reactivity.layer))

/** The client of one file, with its options read from configuration. */
export const layerConfig = (
  config: Config.Wrap<Options>,
): Layer.Layer<SqliteClient | SqlClient.SqlClient, SqlError.SqlError | Config.ConfigError> =>
  Layer.effectContext(Config.unwrap(config).pipe(Effect.flatMap(make), Effect.map(services))).pipe(
    Layer.provide(Reactivity.layer),
  )

const services = (client: SqliteClient): Context.Context<SqliteClient | SqlClient.SqlClient> =>
  Context.make(SqliteClient, client).pipe(Context.add(SqlClient.SqlClient, client))

// Opening

interface Access {
  readonly acquirer: Effect.Effect<Connection, SqlError.SqlError, Scope.Scope>
  readonly borrower: SqlConnection.Borrower

  /** Ends a transaction that is still open. */
  readonly rollback: (connection: Connection) => Effect.Effect<void, SqlError.SqlError>
}

interface Opened {
  readonly writer: Access
  readonly readers: Access
  readonly dataVersion: Effect.Effect<number, SqlError.SqlError>
}

const openMemory = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<Opened, SqlError.SqlError, Scope.Scope> {
  const database = yield* connect(":memory:", false)
  const connection = makeConnection(database, ":memory:", options.busyRetry ?? busyRetry, undefined)
  const writer = yield* exclusive(connection)
  const changes = connection.number("SELECT total_changes()")
  return {
    writer,
    readers: writer,
    // A connection's data_version ignores its own commits, and in memory there is no other connection. Rows changed by
    // a transaction that is still open don't count, so this takes its turn.
    dataVersion: writer.borrower(() => changes),
  }
})

const openFile = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<Opened, SqlError.SqlError, Scope.Scope> {
  const path = yield* pathOf(options.filename)
  const retry = options.busyRetry ?? busyRetry

  const database = yield* connect(path, false)
  yield* configure(database, path, options.synchronous ?? "normal").pipe(
    Effect.retry({ while: (error) => isBusy(error, database), schedule: retry }),
  )
  const file = yield* Effect.try({ try: () => openedFile.make(path), catch: (cause) => fileError(cause, path) })
  const writer = yield* exclusive(makeConnection(database, path, retry, file))

  // Readers open after the writer, so that they close before it: only a connection that can write moves the log into the file.
  const reader = Effect.map(connect(path, true), (opened) => makeConnection(opened, path, retry, file))
  const size = options.readers ?? 1
  if (!Number.isInteger(size) || size < 1) {
    return yield* failure(
      "UnknownError",
      `readers must be a whole number of at least 1, not ${size}`,
      undefined,
      "open",
    )
  }
  const connections = yield* Effect.all(Array.from({ length: size }, () => reader))
  const watcher = yield* reader
  const version = watcher.number("PRAGMA data_version")
  const idle = yield* Pool.make({ acquire: Effect.sync(() => connections.pop()!), size })
  return {
    writer,
    readers: {
      acquirer: Effect.tap(Pool.get(idle), ({ look }) => look),
      borrower: (use) => Pool.use(idle, (connection) => Effect.andThen(connection.look, use(connection))),
      rollback: (connection) => connection.rollback,
    },
    dataVersion: Effect.andThen(
      watcher.look,
      Effect.suspend(() => {
        const damage = file.damage()
        return damage === undefined ? version : Effect.fail(damage)
      }),
    ),
  }
})

/** Lends one connection to one user at a time. */
const exclusive = Effect.fnUntraced(function* (connection: Connection): Effect.fn.Return<Access> {
  const acquirers = SqlClient.makeSqliteAcquirers({
    connection: Effect.succeed(connection),
    semaphore: yield* Semaphore.make(1),
    isTransaction: (lent) => lent.isTransaction(),
  })
  return {
    acquirer: Effect.tap(acquirers.acquirer, ({ look }) => look),
    borrower: (use) =>
      acquirers.borrower(() => Effect.andThen(connection.look, Effect.andThen(connection.mayWrite, use(connection)))),
    // Rolls back like a connection does, and where that fails keeps the connection from further use.
    rollback: acquirers.onCommitFailure,
  }
})

const connect = (path: string, readOnly: boolean): Effect.Effect<DatabaseSync, SqlError.SqlError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => new DatabaseSync(path, { readOnly, timeout: 0 }),
      catch: (cause) => sqlError(cause, path, "open"),
    }),
    (database) => Effect.sync(() => database.close()),
  )

/** The path of a file in a directory that exists. It isn't opened here: closing a second descriptor would drop SQLite's locks. */
const pathOf = (filename: string): Effect.Effect<string, SqlError.SqlError> => {
  const path = resolve(filename)
  return Effect.suspend(() => {
    try {
      makeDirectory(dirname(path))
      return fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
        ? Effect.fail(failure("UnknownError", `${path} is a directory: name a file in it`, undefined, "open"))
        : Effect.succeed(path)
    } catch (cause) {
      return Effect.fail(fileError(cause, path))
    }
  })
}

/**
 * Makes a directory and its missing parents, one at a time: Node's `recursive` tries for ever where a directory can't be
 * made in one that exists (`ENOENT`), as under `/proc`.
 */
const makeDirectory = (path: string): void => {
  const found = fs.statSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory() === true) return
  if (found === undefined && dirname(path) !== path) makeDirectory(dirname(path))
  try {
    fs.mkdirSync(path)
  } catch (cause) {
    // Another process may have made it meanwhile.
    if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) throw cause
  }
}

const configure = (
  database: DatabaseSync,
  path: string,
  synchronous: "normal" | "full",
): Effect.Effect<void, SqlError.SqlError> =>
  Effect.suspend(() => {
    try {
      const mode = database.prepare("PRAGMA journal_mode = WAL").get()?.["journal_mode"]
      if (mode !== "wal") {
        const message = `${path} can't be shared on this file system (journal mode ${String(mode)}): put it on a local disk`
        return Effect.fail(failure("UnknownError", message, undefined, "open"))
      }
      database.exec(`PRAGMA synchronous = ${synchronous}`)
      probeWrite(database)
      return Effect.void
    } catch (cause) {
      return Effect.fail(sqlError(cause, path, "open"))
    }
  })

/** SQLite opens a file it can't write without a word; a write that is undone makes it say so. */
const probeWrite = (database: DatabaseSync): void => {
  try {
    database.exec("BEGIN IMMEDIATE")
    database.exec("PRAGMA user_version = 0")
  } catch (cause) {
    // Who is kept out by another writer may write: SQLite doesn't ask for the lock of a file it can't.
    if (errorCode(cause) !== busy) throw cause
  } finally {
    if (database.isTransaction) database.exec("ROLLBACK")
  }
}

// Connections

interface Connection extends SqlConnection.Connection {
  readonly isTransaction: () => boolean

  /** Opens a transaction that stays this connection's until `release`. */
  readonly begin: (statement: string) => Effect.Effect<void, SqlError.SqlError>
  readonly commit: Effect.Effect<void, SqlError.SqlError>
  readonly rollback: Effect.Effect<void, SqlError.SqlError>
  readonly release: Effect.Effect<void>

  /**
   * Before it is used: that the file is still in its place, asked once in a second; what follows is read from the disk, so that
   * a file that was written over is met and not the memory of it.
   */
  readonly look: Effect.Effect<void, SqlError.SqlError>

  /** Fails where what is committed now could be lost. */
  readonly mayWrite: Effect.Effect<void, SqlError.SqlError>

  /** The first column of a statement's one row: a shorter way than the others, for what is asked again and again. */
  readonly number: (sql: string) => Effect.Effect<number, SqlError.SqlError>
}

/** Milliseconds from one look at the file to the next. */
const lookEvery = 1000

const preparedStatements = 200
const streamedRows = 128

const attachment = /^\s*attach\b/i

const makeConnection = (
  database: DatabaseSync,
  path: string,
  retry: Schedule.Schedule<unknown, SqlError.SqlError>,
  /** Absent in memory. */
  file: openedFile.OpenedFile | undefined,
): Connection => {
  const prepared = new Map<string, StatementSync>()
  let inTransaction = false
  let lost: SqlError.SqlError | undefined
  /** Whether damage that is met here may be another file's. */
  let attaches = false

  const prepareAnew = (sql: string): StatementSync => {
    if (attachment.test(sql)) attaches = true
    return database.prepare(sql)
  }

  const prepare = (sql: string): StatementSync => {
    const statement = prepared.get(sql) ?? prepareAnew(sql)
    // The map's order is the order of use, so its first entry is the one to drop.
    prepared.delete(sql)
    prepared.set(sql, statement)
    if (prepared.size > preparedStatements) {
      for (const oldest of prepared.keys()) {
        prepared.delete(oldest)
        break
      }
    }
    return statement
  }

  const locked = (error: SqlError.SqlError): boolean => isBusy(error, database)

  /**
   * After an error that made SQLite roll back by itself, the statements that follow would commit one by one; they fail
   * instead, with what ended the transaction.
   */
  const transactionLost = (): boolean => inTransaction && !database.isTransaction

  const runOnce = <A>(use: (safeIntegers: boolean) => A, operation: string): Effect.Effect<A, SqlError.SqlError> =>
    Effect.withFiber((fiber) => {
      if (transactionLost() && operation !== "rollback") return Effect.fail(lost ?? transactionEnded(path))
      try {
        return Effect.succeed(use(Context.get(fiber.context, SqlClient.SafeIntegers)))
      } catch (cause) {
        const error = sqlError(cause, path, operation)
        if (isDamage(cause) && !attaches) file?.meetDamage(error)
        if (transactionLost()) lost = error
        return Effect.fail(error)
      }
    })

  const run = <A>(use: (safeIntegers: boolean) => A, operation: string): Effect.Effect<A, SqlError.SqlError> => {
    const attempt = runOnce(use, operation)
    return Effect.catchIf(attempt, locked, () => Effect.retry(attempt, { while: locked, schedule: retry }))
  }

  let lookedAt = Number.NEGATIVE_INFINITY
  const lookAt = (now: number): Effect.Effect<void, SqlError.SqlError> => {
    if (file === undefined || (now >= lookedAt && now - lookedAt < lookEvery)) return Effect.void
    const problem = file.placeProblem()
    if (problem !== undefined) return Effect.fail(problem)
    lookedAt = now
    return run(() => void prepare("PRAGMA shrink_memory").run(), "execute")
  }

  const mayWrite = Effect.suspend(() => {
    const problem = file?.writeProblem()
    return problem === undefined ? Effect.void : Effect.fail(problem)
  })

  return {
    isTransaction: () => database.isTransaction,
    look: file === undefined ? Effect.void : Effect.flatMap(Clock.currentTimeMillis, lookAt),
    mayWrite,
    commit: Effect.andThen(
      mayWrite,
      run(() => void prepare("COMMIT").run(), "execute"),
    ),
    begin: (statement) =>
      run(() => {
        prepare(statement).run()
        inTransaction = true
        lost = undefined
      }, "begin"),
    rollback: run(() => {
      if (database.isTransaction) prepare("ROLLBACK").run()
    }, "rollback"),
    release: Effect.sync(() => {
      inTransaction = false
    }),
    number: (sql) => {
      let statement: StatementSync | undefined
      return run(() => {
        if (statement === undefined) {
          statement = database.prepare(sql)
          statement.setReturnArrays(true)
        }
        // Rows are arrays since `setReturnArrays`, which the types don't know.
        return (statement.get() as unknown as readonly [number])[0]
      }, "execute")
    },
    execute: (sql, parameters, transformRows) => {
      const all = run((safeIntegers) => rows(prepare(sql), parameters, safeIntegers), "execute")
      return transformRows === undefined ? all : Effect.map(all, transformRows)
    },
    executeRaw: (sql, parameters) =>
      run((safeIntegers) => {
        const statement = prepare(sql)
        if (statement.columns().length > 0) return rows(statement, parameters, safeIntegers)
        statement.setReadBigInts(safeIntegers)
        return statement.run(...bind(parameters))
      }, "execute"),
    executeValues: (sql, parameters) =>
      run((safeIntegers) => values(prepare(sql), parameters, safeIntegers), "execute"),
    executeValuesUnprepared: (sql, parameters) =>
      run((safeIntegers) => values(prepareAnew(sql), parameters, safeIntegers), "execute"),
    executeUnprepared: (sql, parameters, transformRows) => {
      const all = run((safeIntegers) => rows(prepareAnew(sql), parameters, safeIntegers), "execute")
      return transformRows === undefined ? all : Effect.map(all, transformRows)
    },
    executeStream: (sql, parameters, transformRows) => {
      const open = run((safeIntegers) => {
        const statement = prepareAnew(sql)
        statement.setReadBigInts(safeIntegers)
        const iterator = statement.iterate(...bind(parameters))
        return { iterator, next: iterator.next() }
      }, "stream")
      return Stream.unwrap(
        Effect.map(Effect.acquireRelease(open, closeCursor), (cursor) => {
          // Its snapshot is taken by now, so no lock is in its way; trying again could lose rows.
          const page = runOnce(() => {
            const found: Array<object> = []
            while (cursor.next.done !== true && found.length < streamedRows) {
              found.push(cursor.next.value)
              cursor.next = cursor.iterator.next()
            }
            return found
          }, "stream")
          return Stream.fromPull(
            Effect.succeed(
              Effect.flatMap(page, (found) => {
                const [first, ...rest] = transformRows === undefined ? found : transformRows(found)
                return first === undefined ? Cause.done() : Effect.succeed([first, ...rest] as const)
              }),
            ),
          )
        }),
      )
    },
  }
}

const rows = (statement: StatementSync, parameters: ReadonlyArray<unknown>, safeIntegers: boolean) => {
  statement.setReadBigInts(safeIntegers)
  return statement.all(...bind(parameters))
}

const values = (statement: StatementSync, parameters: ReadonlyArray<unknown>, safeIntegers: boolean) => {
  statement.setReturnArrays(true)
  try {
    // Rows are arrays since `setReturnArrays`, which the types don't know.
    return rows(statement, parameters, safeIntegers) as unknown as ReadonlyArray<ReadonlyArray<unknown>>
  } finally {
    statement.setReturnArrays(false)
  }
}

const closeCursor = (cursor: { readonly iterator: Iterator<unknown> }) => Effect.sync(() => cursor.iterator.return?.())

/** Values as `node:sqlite` binds them on every version; an object in first place would be taken for named parameters. */
const bind = (parameters: ReadonlyArray<unknown>): ReadonlyArray<SQLInputValue> => {
  let bound: Array<unknown> | undefined
  for (let i = 0; i < parameters.length; i++) {
    const value = parameters[i]
    const type = typeof value
    if (type === "string" || type === "number" || type === "bigint" || value === null || ArrayBuffer.isView(value))
      continue
    bound ??= parameters.slice()
    if (value === undefined) bound[i] = null
    else if (type === "boolean") bound[i] = value === true ? 1 : 0
    else throw new TypeError(`Parameter ${i + 1} is no value SQLite can store: encode it as text, a number or bytes`)
  }
  return (bound ?? parameters) as ReadonlyArray<SQLInputValue>
}

// Routes and transactions

const reads = /^\s*(?:select|values|with(?![^]*\b(?:insert|update|delete|replace)\b))\b/i

/** Sends each statement to the connection it needs. What isn't known to read goes to the writer, which can do both. */
const route = (readers: Access, writer: Access): SqlConnection.Connection => {
  const access = (sql: string) => (reads.test(sql) ? readers : writer)
  return {
    execute: (sql, parameters, transformRows) =>
      access(sql).borrower((connection) => connection.execute(sql, parameters, transformRows)),
    executeRaw: (sql, parameters) => access(sql).borrower((connection) => connection.executeRaw(sql, parameters)),
    executeValues: (sql, parameters) => access(sql).borrower((connection) => connection.executeValues(sql, parameters)),
    executeValuesUnprepared: (sql, parameters) =>
      access(sql).borrower((connection) => connection.executeValuesUnprepared(sql, parameters)),
    executeUnprepared: (sql, parameters, transformRows) =>
      access(sql).borrower((connection) => connection.executeUnprepared(sql, parameters, transformRows)),
    executeStream: (sql, parameters, transformRows) =>
      Stream.unwrap(
        Effect.map(access(sql).acquirer, (connection) => connection.executeStream(sql, parameters, transformRows)),
      ),
  }
}

const deferred = /^\s*begin(?:\s+deferred)?(?:\s+transaction)?\s*;?\s*$/i

/**
 * `SqlClient.make` begins a transaction where it can't be interrupted. Here waiting for another process's lock can take seconds,
 * so the transaction begins while it is acquired, interruptibly, and whatever ends it early is undone with the lease.
 */
const makeWithTransaction = (
  client: SqlClient.SqlClient,
  spanAttributes: ReadonlyArray<readonly [string, unknown]>,
  readers: Access,
  writer: Access,
): SqlClient.SqlClient["withTransaction"] => {
  const run = (sql: string) => (connection: Connection) => Effect.asVoid(connection.execute(sql, [], undefined))
  const runIfOpen = (sql: string) => (connection: Connection) =>
    Effect.suspend(() => (connection.isTransaction() ? run(sql)(connection) : Effect.void))
  return SqlClient.makeWithTransaction({
    // Its connections are those acquired here.
    transactionService: client.transactionService as unknown as Context.Service<
      SqlClient.TransactionConnection,
      readonly [connection: Connection, depth: number]
    >,
    spanAttributes,
    acquireConnection: Effect.fnUntraced(function* (restore) {
      const statement = yield* SqlClient.BeginTransaction
      const access = statement !== undefined && deferred.test(statement) ? readers : writer
      const connection = yield* restore(access.acquirer)
      yield* Effect.addFinalizer(() => Effect.andThen(Effect.ignore(access.rollback(connection)), connection.release))
      yield* restore(connection.begin(statement ?? "BEGIN IMMEDIATE"))
      return connection
    }),
    begin: () => Effect.void,
    commit: (connection) => connection.commit,
    rollback: (connection) => connection.rollback,
    savepoint: (connection, id) => run(`SAVEPOINT level_${id}`)(connection),
    releaseSavepoint: (connection, id) => runIfOpen(`RELEASE SAVEPOINT level_${id}`)(connection),
    rollbackSavepoint: (connection, id) => runIfOpen(`ROLLBACK TO SAVEPOINT level_${id}`)(connection),
  })
}
