/**
 * Redis through ioredis: one connection for commands, and connections of their own for what would hold it up.
 *
 * A command is interruptible, fails with {@link RedisFailed} when it isn't answered in time, and fails at once while there
 * is no connection; nothing queues for a server that may never come back, and nothing is sent twice. The connection
 * itself is made again by a `Schedule` until the scope closes.
 *
 * The layers also provide Effect's own `Redis` service on the same client, for Effect's persisted queues, rate limiters
 * and circuit breakers.
 *
 * **Example** (A client from the environment)
 *
 * ```ts
 * import * as IoRedis from "@throughline/redis/IoRedis"
 * import * as Config from "effect/Config"
 *
 * export const layer = IoRedis.layerConfig({ url: Config.Redacted("REDIS_URL") })
 * ```
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Command, Redis as Client } from "ioredis"
import {
  type ClientOptions,
  clientOptions,
  copied,
  longestTimer,
  type Options,
  timeoutOf,
} from "./internal/clientOptions.ts"
import * as deadlines from "./internal/deadlines.ts"
import {
  Disconnected,
  InvalidOptions,
  reasonOf,
  RedisFailed,
  type RedisReason,
  TimedOut,
  Unexpected,
  Unsendable,
} from "./RedisFailed.ts"
import { defaultPrefix } from "./RedisKeys.ts"
import type { RedisScript } from "./RedisScript.ts"

export type { Options, Sentinel, Tls } from "./internal/clientOptions.ts"

/** What runs commands: the shared connection, or one of its own. */
export interface Commands {
  /** Sends a command; texts of the reply are decoded as UTF-8. */
  readonly send: (command: string, args: ReadonlyArray<string | number>) => Effect.Effect<unknown, RedisFailed>
  /** Runs a script by its hash, sending its text where Redis doesn't know it. */
  readonly run: <P, A>(script: RedisScript<P, A>, params: P) => Effect.Effect<A, RedisFailed>
}

/** A connection that nothing else uses. */
export interface Connection extends Commands {
  readonly client: Client
}

export class IoRedis extends Context.Service<
  IoRedis,
  Connection & {
    /** What every key and channel begins with. */
    readonly keyPrefix: string
    /**
     * A connection to the same server, closed with the scope; it is connected again as the shared one is. For subscribing,
     * and for commands that block.
     */
    readonly connect: Effect.Effect<Connection, RedisFailed, Scope.Scope>
    /** A connection from a pool, given back with the scope: for `WAIT`, which holds up what is behind it. */
    readonly reserve: Effect.Effect<Commands, RedisFailed, Scope.Scope>
  }
>()("@throughline/redis/IoRedis") {}

/** From 50 ms doubling to 2 s, jittered. */
const defaultReconnect = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered,
)

/**
 * For one client: ioredis asks for delays synchronously and counts attempts since the last good connection; the schedule is stepped from
 * its start each time.
 */
const retryStrategy = Effect.fnUntraced(function* (schedule: Schedule.Schedule<unknown>) {
  const context = yield* Effect.context()
  const runSync = Effect.runSyncExitWith(context)
  const start = Effect.map(Schedule.toStep(schedule), (step) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => step(now, undefined)),
  )
  let step = runSync(start)
  return (attempt: number): number | null => {
    if (attempt === 1) step = runSync(start)
    if (Exit.isFailure(step)) return null
    const next = runSync(step.value)
    return Exit.isSuccess(next) ? Math.min(Duration.toMillis(next.value[1]), longestTimer) : null
  }
})

/** Each client steps schedules of its own. */
const retried = Effect.fnUntraced(function* (options: ClientOptions, schedule: Schedule.Schedule<unknown>) {
  return {
    ...options,
    retryStrategy: yield* retryStrategy(schedule),
    // A pass over all Sentinels that finds no master is followed by another; the client is closed by its scope.
    sentinelRetryStrategy: yield* retryStrategy(schedule),
  }
})

/** What ioredis refuses at once; a mistake of the options, which name no secret then. */
const newClient = (options: ClientOptions): Effect.Effect<Client, RedisFailed> =>
  Effect.try({
    try: () => new Client(options),
    catch: () =>
      new RedisFailed({ command: "connect", reason: new InvalidOptions({ detail: "ioredis refuses them" }) }),
  })

/** One client and what its commands need. */
interface Attached {
  readonly client: Client
  /** Milliseconds that an answer may take. */
  readonly timeout: number
  readonly deadlines: deadlines.Deadlines
  /** What was last said about the connection, for errors while it is down. */
  lastProblem: string | undefined
  /** The stream that was silent for too long, and is closing. */
  silent: Client["stream"] | undefined
}

const silence = (timeout: number): string => `it did not answer within ${timeout} ms`

/** ioredis puts the command on an error that answers one. */
const isOfSelect = (error: unknown): boolean =>
  Predicate.hasProperty(error, "command") &&
  Predicate.hasProperty(error.command, "name") &&
  error.command.name === "select"

/** What speaks no TLS waits for more of what it takes for a command, or refuses it in words. */
const withoutTls = new Set<unknown>(["ETIMEDOUT", "ERR_SSL_WRONG_VERSION_NUMBER", "ERR_SSL_PACKET_LENGTH_TOO_LONG"])

const isWithoutTls = (client: Client, error: unknown): boolean =>
  client.options.tls !== undefined && Predicate.hasProperty(error, "code") && withoutTls.has(error.code)

/** Listens to a client: without a listener ioredis prints its errors. */
const attach = Effect.fnUntraced(function* (client: Client, role: string, timeout: number) {
  const context = yield* Effect.context()
  const run = Effect.runForkWith(context)
  const attached: Attached = {
    client,
    timeout,
    deadlines: deadlines.make(timeout),
    lastProblem: undefined,
    silent: undefined,
  }
  let wasReady = client.status === "ready"
  let isHungUp = false
  const onError = (error: unknown): void => {
    if (isHungUp) return
    const reason = reasonOf(error, 0)
    const problem = "detail" in reason ? reason.detail : reason.message
    attached.lastProblem = isWithoutTls(client, error) ? `${problem} (by TLS, which it may not speak)` : problem
    // ioredis would go on in database 0, which is somebody else's.
    isHungUp = client.status === "connect" && isOfSelect(error)
    if (isHungUp) client.disconnect(true)
  }
  // What accepts connections and then says nothing is no server.
  const onConnect = (): void => {
    isHungUp = false
    const { stream } = client
    const onLate = (): void => {
      if (client.stream !== stream || client.status !== "connect") return
      attached.lastProblem = silence(timeout)
      client.disconnect(true)
      // Nothing is under way that could still be answered.
      stream.destroy()
    }
    attached.deadlines.add({ isAnswered: false, onLate })
  }
  const onReady = (): void => {
    wasReady = true
    attached.lastProblem = undefined
  }
  // One line for each time it is lost, not one for each attempt.
  const onClose = (): void => {
    if (!wasReady) return
    wasReady = false
    run(Effect.logWarning(`The ${role} connection to Redis is lost`, attached.lastProblem ?? "closed"))
  }
  client.on("error", onError).on("connect", onConnect).on("ready", onReady).on("close", onClose)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      // A closing client may still fail.
      client.off("connect", onConnect).off("ready", onReady).off("close", onClose)
    }),
  )
  return attached
})

const failed = (command: string, reason: RedisReason): Effect.Effect<never, RedisFailed> =>
  Effect.fail(new RedisFailed({ command, reason }))

/** Sends a command and hands its answer over, or why there is none. */
type Ask = (
  name: string,
  args: ReadonlyArray<string | number>,
  onReply: (reply: unknown) => void,
  onFailed: (reason: RedisReason) => void,
) => void

const askOf =
  (attached: Attached): Ask =>
  (name, args, onReply, onFailed) => {
    const { client, deadlines: late, timeout } = attached
    const { stream } = client
    if (client.status !== "ready" || !stream.writable) {
      onFailed(new Disconnected({ detail: attached.lastProblem ?? client.status }))
      return
    }
    // Not `client.call`: it adds the client's own key prefix, which scripts and channels know nothing of.
    const command = new Command(name, args as Array<string | number>, { replyEncoding: "utf8" })
    const asked: deadlines.Asked = {
      isAnswered: false,
      onLate: () => {
        // Answers come in order, so nothing else is answered either; on a new connection it may be. Before anybody is
        // told, as what they send next would go the same way.
        if (client.stream === stream && client.status === "ready" && attached.silent !== stream) {
          attached.silent = stream
          attached.lastProblem = silence(timeout)
          client.disconnect(true)
        }
        onFailed(new TimedOut({ after: timeout }))
      },
    }
    const answered = (tell: () => void): void => {
      asked.isAnswered = true
      tell()
    }
    command.promise.then(
      (reply: unknown) => answered(() => onReply(reply)),
      (error: unknown) => answered(() => onFailed(reasonOf(error, timeout))),
    )
    try {
      client.sendCommand(command)
    } catch (error) {
      onFailed(new Unsendable({ detail: error instanceof RangeError ? error.message : "the client refuses it" }))
      return
    }
    late.add(asked)
  }

const decodeReply = <P, A>(script: RedisScript<P, A>, reply: unknown): Effect.Effect<A, RedisFailed> => {
  const decoded = script.decode(reply)
  return Result.isSuccess(decoded)
    ? Effect.succeed(decoded.success)
    : failed(script.name, new Unexpected({ problem: decoded.failure.message.slice(0, 500) }))
}

/** The command that runs a script by its hash, and the one that sends its text. */
const callsOf = <P, A>(script: RedisScript<P, A>, params: P) => {
  const keys = script.keys(params)
  const suffix = script.readOnly ? "_RO" : ""
  const args = [script.sha, String(keys.length), ...keys, ...script.args(params)]
  return {
    byHash: [`EVALSHA${suffix}`, args] as const,
    byText: () => [`EVAL${suffix}`, [script.lua, ...args.slice(1)]] as const,
  }
}

const isUnknownScript = (reason: RedisReason): boolean => reason._tag === "Refused" && reason.code === "NOSCRIPT"

// One step each, as most of the time of a command is spent waiting and the rest is cold code.
const commandsOf = (ask: Ask): Commands => ({
  send: (name, args) =>
    Effect.callback((resume) =>
      ask(
        name,
        args,
        (reply) => resume(Effect.succeed(reply)),
        (reason) => resume(failed(name, reason)),
      ),
    ),
  run: <P, A>(script: RedisScript<P, A>, params: P) =>
    Effect.callback<A, RedisFailed>((resume) => {
      const { byHash, byText } = callsOf(script, params)
      let isInterrupted = false
      const onReply = (reply: unknown): void => resume(decodeReply(script, reply))
      const onFailed = (reason: RedisReason): void => resume(failed(script.name, reason))
      ask(...byHash, onReply, (reason) =>
        isUnknownScript(reason) && !isInterrupted ? ask(...byText(), onReply, onFailed) : onFailed(reason),
      )
      return Effect.sync(() => {
        isInterrupted = true
      })
    }),
})

/** The commands of a connection that somebody else sends them on. */
const commandsOver = (send: Commands["send"]): Commands => ({
  send,
  run: (script, params) => {
    const { byHash, byText } = callsOf(script, params)
    return send(...byHash).pipe(
      Effect.catchIf(
        ({ reason }) => isUnknownScript(reason),
        () => send(...byText()),
      ),
      Effect.catch(({ reason }) => failed(script.name, reason)),
      Effect.flatMap((reply) => decodeReply(script, reply)),
    )
  },
})

const connected = (attached: Attached): Effect.Effect<void, RedisFailed> =>
  Effect.callback((resume) => {
    const { client } = attached
    const settle = (effect: Effect.Effect<void, RedisFailed>): void => {
      client.off("ready", onReady).off("close", onClosed).off("end", onClosed)
      resume(effect)
    }
    const onReady = (): void => settle(Effect.void)
    const onClosed = (): void => {
      const detail = attached.lastProblem ?? "the connection was closed"
      settle(Effect.fail(new RedisFailed({ command: "connect", reason: new Disconnected({ detail }) })))
    }
    if (client.status === "ready") {
      resume(Effect.void)
      return
    }
    client.once("ready", onReady).once("close", onClosed).once("end", onClosed)
    // Its outcome is what the events say.
    if (client.status === "wait" || client.status === "end") client.connect().catch(() => {})
    return Effect.sync(() => client.off("ready", onReady).off("close", onClosed).off("end", onClosed))
  })

/** The options of one more client. */
type ClientMade = Effect.Effect<ClientOptions>

/** A client of ours: connected, and closed with the scope. */
const open = Effect.fnUntraced(function* (made: ClientMade, role: string, timeout: number) {
  const client = yield* Effect.acquireRelease(Effect.flatMap(made, newClient), (opened) =>
    Effect.sync(() => opened.disconnect()),
  )
  const attached = yield* attach(client, role, timeout)
  yield* connected(attached)
  return attached
})

/** The connection was lost before the answer; the next one is asked. */
const isLost = ({ _tag }: RedisReason): boolean => _tag === "Disconnected" || _tag === "TimedOut"

const toRedisError = (cause: RedisFailed) => new Redis.RedisError({ cause })

const services = Effect.fnUntraced(function* (
  shared: Attached,
  settings: {
    readonly keyPrefix: string
    readonly connection: ClientMade
    readonly pool: Redis.PoolOptions | undefined
  },
) {
  const { connection, keyPrefix } = settings
  const { timeout } = shared
  const commands = commandsOf(askOf(shared))
  const connect = Effect.map(open(connection, "separate", timeout), (attached): Connection => ({
    client: attached.client,
    ...commandsOf(askOf(attached)),
  }))
  const untyped =
    ({ send }: Commands): Redis.Redis["Service"]["send"] =>
    <A>(command: string, ...args: ReadonlyArray<string>) =>
      Effect.mapError(send(command, args), toRedisError) as Effect.Effect<A, Redis.RedisError>

  const redis = yield* Redis.make({
    send: untyped(commands),
    connect: Effect.gen(function* () {
      // Reserved connections don't come back: a lost one fails its command and leaves the pool.
      const never = { retryStrategy: () => null, sentinelRetryStrategy: () => null }
      const client = yield* newClient({ ...(yield* connection), ...never })
      const attached = yield* attach(client, "reserved", timeout).pipe(
        // The pool doesn't interrupt this by itself, and waits for it when it closes.
        Effect.tap((opened) => Effect.interruptible(connected(opened))),
        Effect.scoped,
        Effect.onError(() => Effect.sync(() => client.disconnect())),
      )
      // What blocks takes as long as it was told to: whoever waits has a timeout of their own.
      const patient: Attached = { ...attached, timeout: 0, deadlines: { add: () => {} } }
      return { send: untyped(commandsOf(askOf(patient))), close: Effect.sync(() => client.disconnect()) }
    }).pipe(Effect.mapError(toRedisError)),
    subscribe: Effect.fnUntraced(function* (channel, onMessage) {
      const { client, send } = yield* Effect.mapError(connect, toRedisError)
      const ended = yield* Deferred.make<void, Redis.RedisError>()
      const end = (reason: RedisReason) =>
        Deferred.fail(ended, toRedisError(new RedisFailed({ command: "subscribe", reason })))
      const run = Effect.runForkWith(yield* Effect.context())
      const subscribe = send("subscribe", [channel])
      client.on("message", (from: string, message: string) => {
        if (from === channel) onMessage({ channel, message })
      })
      client.once("end", () => run(end(new Disconnected({ detail: "the connection ended" }))))
      yield* Effect.mapError(subscribe, toRedisError)
      // Not by ioredis itself: nobody hears of it when that fails, but the process, which ends.
      client.options.autoResubscribe = false
      const again = subscribe.pipe(Effect.catch(({ reason }) => (isLost(reason) ? Effect.void : end(reason))))
      client.on("ready", () => run(again))
      return Deferred.await(ended)
    }),
    pool: settings.pool,
  })

  const failedOf = (error: Redis.RedisError): RedisFailed =>
    error.cause instanceof RedisFailed
      ? error.cause
      : new RedisFailed({ command: "connect", reason: reasonOf(error.cause, timeout) })
  const reserve = Effect.map(Effect.mapError(redis.reserve, failedOf), (reserved) =>
    commandsOver((command, args) => Effect.mapError(reserved.send(command, ...args.map(String)), failedOf)),
  )
  const ioRedis: IoRedis["Service"] = { client: shared.client, keyPrefix, ...commands, connect, reserve }
  return Context.make(IoRedis, ioRedis).pipe(Context.add(Redis.Redis, redis))
})

/**
 * Connects, and keeps the connection until the scope closes.
 *
 * Fails where the first connection can't be made (in `connectTimeout`) or Redis refuses it: wrong password, wrong
 * database. Later losses fail the commands that meet them.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<Context.Context<IoRedis | Redis.Redis>, RedisFailed, Scope.Scope> {
  const connection = retried(yield* clientOptions(options), options.reconnect ?? defaultReconnect)
  const shared = yield* open(connection, "shared", yield* timeoutOf(options))
  return yield* services(shared, {
    keyPrefix: options.keyPrefix ?? defaultPrefix,
    connection,
    pool: options.pool,
  })
})

/** A client of its own. See {@link make}. */
export const layer = (options?: Options): Layer.Layer<IoRedis | Redis.Redis, RedisFailed> =>
  Layer.effectContext(make(options))

/** A client of its own, from configuration. See {@link make}. */
export const layerConfig = (
  options: Config.Wrap<Options>,
): Layer.Layer<IoRedis | Redis.Redis, RedisFailed | Config.ConfigError> =>
  Layer.effectContext(Effect.flatMap(Config.unwrap(options), make))

/** What `layerFrom` can't take from the client. */
export interface FromOptions extends Pick<Options, "keyPrefix" | "commandTimeout" | "pool"> {}

/**
 * Connections like those of a client that the caller has: to the same server, as the same user, made again as it makes
 * its own. It isn't used itself, so its subscriptions, blocking commands and queues don't matter, and it may be closed.
 *
 * Its key prefix, timeouts of commands, offline queue, resending and mapping of replies are not taken over.
 */
export const layerFrom = (client: Client, options: FromOptions = {}): Layer.Layer<IoRedis | Redis.Redis, RedisFailed> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const timeout = yield* timeoutOf(options)
      const connection = Effect.succeed(copied(client.options, timeout))
      const shared = yield* open(connection, "shared", timeout)
      return yield* services(shared, {
        keyPrefix: options.keyPrefix ?? defaultPrefix,
        connection,
        pool: options.pool,
      })
    }),
  )
