/**
 * Redis servers for tests: real ones, started on a free port of the loopback address in a directory of their own.
 *
 * `forFile` is the server of a test file: the one of `REDIS_URL` where that is set, else one that is started for the
 * file. `make` always starts one, for tests that kill it, fill it or stall it. A machine without Redis gets Debian's
 * package where the tests may install it; otherwise the tests fail and say what to install. They are never skipped.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { afterAll } from "vitest"
import * as debianPackage from "../../../test/debianPackage.ts"

export class ServerFailed extends Data.TaggedError("ServerFailed")<{ readonly message: string }> {}

export interface Options {
  /** The same port after every restart; a free one where absent. */
  readonly port?: number | undefined
  /** `always`: an answer means on disk, and a restart finds it. Nothing is kept over a restart where absent. */
  readonly appendfsync?: "always" | "everysec" | undefined
  /** Bytes, with `maxmemory-policy` `noeviction` unless another is given. */
  readonly maxmemory?: number | undefined
  readonly maxmemoryPolicy?: string | undefined
  readonly requirepass?: string | undefined
  /** Replicates this server of the loopback address. */
  readonly replicaOf?: { readonly port: number } | undefined
  /** A Sentinel instead of a server: the lines of its configuration. */
  readonly sentinel?: ReadonlyArray<string> | undefined
  /** Further arguments as in redis.conf, for example `["--min-replicas-to-write", "1"]`. */
  readonly args?: ReadonlyArray<string> | undefined
}

export interface RedisServer {
  readonly port: number
  readonly url: string
  readonly directory: string
  /** Starts the server again, on the same port and directory; returns once it accepts connections. */
  readonly start: Effect.Effect<void, ServerFailed>
  /** Ends the server; `SIGKILL` unless another signal is given. Returns once the process is gone. */
  readonly kill: (signal?: NodeJS.Signals) => Effect.Effect<void>
  /** Kills it with `SIGKILL` and starts it again. */
  readonly restart: Effect.Effect<void, ServerFailed>
  /** Sends the process a signal and returns, for example `SIGSTOP`. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** Makes sure of `redis-server` on the PATH. */
const installed = Effect.flatMap(
  Effect.promise(() => debianPackage.installed(debianPackage.redisServer)),
  (path) =>
    path === undefined
      ? Effect.fail(
          new ServerFailed({
            message:
              "these tests need Redis 7: install the package redis-server (Debian, Ubuntu) or redis (Homebrew), or name a running server in REDIS_URL",
          }),
        )
      : Effect.void,
)

/** Servers that are running, ended with this process at the latest. */
const running = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

const exited = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) resume(Effect.void)
    else child.once("exit", () => resume(Effect.void))
  })

const launch = (args: ReadonlyArray<string>): Effect.Effect<ChildProcess, ServerFailed> =>
  Effect.callback((resume) => {
    const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "pipe"] })
    running.add(child)
    let log = ""
    const ready = /Ready to accept connections|Sentinel ID is/
    const read = (chunk: Buffer): void => {
      if (log === "ready") return
      log += chunk.toString()
      if (!ready.test(log)) return
      log = "ready"
      resume(Effect.succeed(child))
    }
    child.stdout.on("data", read)
    child.stderr.on("data", read)
    child.once("error", (error) => resume(new ServerFailed({ message: error.message })))
    child.once("exit", () => {
      running.delete(child)
      resume(new ServerFailed({ message: `redis-server ended before it was ready:\n${log}` }))
    })
  })

const sentinelConf = "sentinel.conf"

const argsOf = (options: Options, port: number, directory: string): ReadonlyArray<string> => {
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", directory]
  if (options.sentinel !== undefined) {
    return [join(directory, sentinelConf), "--sentinel", ...args, ...(options.args ?? [])]
  }
  args.push("--save", "", "--loglevel", "notice", "--repl-diskless-sync-delay", "0")
  if (options.appendfsync !== undefined) args.push("--appendonly", "yes", "--appendfsync", options.appendfsync)
  if (options.maxmemory !== undefined) {
    args.push("--maxmemory", String(options.maxmemory))
    args.push("--maxmemory-policy", options.maxmemoryPolicy ?? "noeviction")
  }
  if (options.requirepass !== undefined) args.push("--requirepass", options.requirepass)
  if (options.replicaOf !== undefined) args.push("--replicaof", "127.0.0.1", String(options.replicaOf.port))
  args.push(...(options.args ?? []))
  return args
}

/** Starts a server; it ends, and its directory goes, with the scope. */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<RedisServer, ServerFailed, Scope.Scope> {
  yield* installed
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-redis-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true })),
  )
  if (options.sentinel !== undefined) writeFileSync(join(directory, sentinelConf), `${options.sentinel.join("\n")}\n`)
  let child: ChildProcess | undefined
  const kill = (signal: NodeJS.Signals = "SIGKILL"): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (child === undefined) return Effect.void
      const ending = child
      child = undefined
      // a stopped process takes no signal but SIGKILL
      if (signal !== "SIGKILL") ending.kill("SIGCONT")
      ending.kill(signal)
      return exited(ending)
    })
  const startOn = (port: number): Effect.Effect<void, ServerFailed> =>
    Effect.map(launch(argsOf(options, port, directory)), (started) => {
      child = started
    })
  const startAnywhere = Effect.gen(function* () {
    const port = options.port ?? (yield* freePort)
    yield* startOn(port)
    return port
  })
  // Between finding a free port and taking it somebody else may.
  const port = yield* Effect.retry(startAnywhere, { times: options.port === undefined ? 3 : 0 })
  yield* Effect.addFinalizer(() => kill())
  const start = startOn(port)
  return {
    port,
    url: `redis://${options.requirepass === undefined ? "" : `:${options.requirepass}@`}127.0.0.1:${port}`,
    directory,
    start,
    kill,
    restart: Effect.andThen(kill(), start),
    signal: (signal) => Effect.sync(() => child?.kill(signal)),
  }
})

/**
 * The URL of the server of this test file, started when it is first asked for and ended after the file's last test.
 *
 * It may be somebody's own (`REDIS_URL`): write under a prefix of your own, remove what you wrote, never flush.
 */
export const forFile = (): Effect.Effect<string, ServerFailed> => {
  const given = process.env["REDIS_URL"]
  if (given !== undefined && given !== "") return Effect.succeed(given)
  const scope = Scope.makeUnsafe()
  let server: Promise<RedisServer> | undefined
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return Effect.suspend(() => {
    server ??= Effect.runPromise(Scope.provide(make(), scope))
    const started = server
    return Effect.tryPromise({
      try: () => started,
      catch: (error) => new ServerFailed({ message: error instanceof Error ? error.message : String(error) }),
    })
  }).pipe(Effect.map(({ url }) => url))
}
