/** What a client can be configured with, and what ioredis is told. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redis from "effect/persistence/Redis"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type { RedisOptions } from "ioredis"
import { InvalidOptions, RedisFailed } from "../RedisFailed.ts"

/** A text that may be a secret. */
type Secret = string | Redacted.Redacted

/** TLS beyond what `rediss://` turns on; PEM texts. */
export interface Tls {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: Secret | undefined
  readonly passphrase?: Secret | undefined
  /** The name the certificate must have; the host by default. */
  readonly servername?: string | undefined
  /** `false` accepts any certificate: for tests alone. */
  readonly rejectUnauthorized?: boolean | undefined
}

/**
 * The master is asked for at Sentinels. Of the URL only user, password, database and TLS (`rediss:`) count then, all of
 * them for the master.
 */
export interface Sentinel {
  /** The master's name. */
  readonly name: string
  /** At least one. */
  readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly username?: string | undefined
  readonly password?: Secret | undefined
  /** TLS to the Sentinels, whether or not the master has it; certificates and keys are those of `tls`. */
  readonly tls?: boolean | undefined
}

export interface Options {
  /** `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. The local server by default. */
  readonly url?: Secret | undefined
  /** Wins over the URL's. */
  readonly username?: string | undefined
  readonly password?: Secret | undefined
  readonly tls?: boolean | Tls | undefined
  readonly sentinel?: Sentinel | undefined
  /** What every key and channel begins with; `throughline:` by default. */
  readonly keyPrefix?: string | undefined
  /** How long a connection may take, handshake not included; 5 seconds by default, at most 24 days. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How long an answer may take; 5 seconds by default, at most 24 days. A connection that is silent for so long is made
   * anew.
   */
  readonly commandTimeout?: Duration.Input | undefined
  /** The delays between attempts to connect again; from 50 ms doubling to 2 s, jittered, by default. Its end is the end. */
  readonly reconnect?: Schedule.Schedule<unknown> | undefined
  /** The pool behind `reserve`: connections for `WAIT` and other commands that block. */
  readonly pool?: Redis.PoolOptions | undefined
}

/** What ioredis is told: replies are mapped as in RESP2, whatever the protocol. */
export type ClientOptions = RedisOptions & { readonly replyMapping?: "legacy" }

const reveal = (secret: Secret | undefined): string | undefined =>
  secret === undefined || typeof secret === "string" ? secret : Redacted.value(secret)

/** The URL is never repeated: it may hold a password. */
const invalid = (detail: string) => new RedisFailed({ command: "connect", reason: new InvalidOptions({ detail }) })

const decoded = (text: string): string | undefined => {
  if (text === "") return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const parseUrl = Effect.fnUntraced(function* (text: string) {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== "redis:" && url.protocol !== "rediss:") || url.hostname === "") {
    return yield* invalid("the Redis URL is none: expected redis://[user:password@]host[:port][/database]")
  }
  const database = url.pathname.replace(/^\//, "")
  if (!/^[0-9]{0,5}$/.test(database)) return yield* invalid("the database in the Redis URL is no number")
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? 6379 : Number(url.port),
    username: decoded(url.username),
    password: decoded(url.password),
    db: Number(database),
    isTls: url.protocol === "rediss:",
  }
})

const tlsOf = (tls: boolean | Tls | undefined, isTls: boolean): RedisOptions["tls"] => {
  if (tls === undefined || typeof tls === "boolean") return (tls ?? isTls) ? {} : undefined
  const { key, passphrase, ...rest } = tls
  const given = { ...rest, key: reveal(key), passphrase: reveal(passphrase) }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

/** The most milliseconds that a timer of Node can take; it makes one of more. */
export const longestTimer = 2 ** 31 - 1

const millis = Effect.fnUntraced(function* (name: string, input: Duration.Input = "5 seconds") {
  const duration = Duration.fromInput(input)
  const given = Option.isNone(duration) ? 0 : Duration.toMillis(duration.value)
  if (!(given > 0)) return yield* invalid(`${name} must be a positive duration`)
  return Math.min(Math.ceil(given), longestTimer)
})

/** The milliseconds of `commandTimeout`. */
export const timeoutOf = ({ commandTimeout }: Pick<Options, "commandTimeout">) =>
  millis("commandTimeout", commandTimeout)

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65_536

const sentinelOptions = Effect.fnUntraced(function* (
  { name, password, sentinels, tls: isTls, username }: Sentinel,
  tls: RedisOptions["tls"],
): Effect.fn.Return<RedisOptions, RedisFailed> {
  if (sentinels.length === 0) return yield* invalid("at least one Sentinel must be named")
  if (sentinels.some(({ host, port }) => host === "" || !isPort(port))) {
    return yield* invalid("a Sentinel has a host, and a port from 1 to 65535")
  }
  const sentinelPassword = reveal(password)
  return {
    name,
    sentinels: sentinels.map(({ host, port }) => ({ host, port })),
    ...(username === undefined ? undefined : { sentinelUsername: username }),
    ...(sentinelPassword === undefined ? undefined : { sentinelPassword }),
    ...(isTls === true ? { sentinelTLS: tls ?? {} } : undefined),
    ...(tls === undefined ? undefined : { enableTLSForSentinelMode: true }),
    // ioredis's own detector ends a client for good when it speaks while that connects. A lost connection, one that is silent and a
    // master that became a replica are noticed without it.
    failoverDetector: false,
  }
})

/** What commands rely on: nothing queues, nothing is sent twice, and replies are what they are in RESP2. */
const ours = {
  replyMapping: "legacy",
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // A failover makes the old master a replica: the new one is asked for.
  reconnectOnError: (error: Error): boolean => error.message.startsWith("READONLY"),
} as const

/** The options of every connection, but for when it is tried again. */
export const clientOptions = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<ClientOptions, RedisFailed> {
  const url = yield* parseUrl(reveal(options.url) ?? "redis://127.0.0.1:6379")
  const connectTimeout = yield* millis("connectTimeout", options.connectTimeout)
  const username = options.username ?? url.username
  const password = reveal(options.password) ?? url.password
  const tls = tlsOf(options.tls, url.isTls)
  const { sentinel } = options
  const where = sentinel === undefined ? { host: url.host, port: url.port } : yield* sentinelOptions(sentinel, tls)
  return {
    ...where,
    db: url.db,
    ...(username === undefined ? undefined : { username }),
    ...(password === undefined ? undefined : { password }),
    ...(tls === undefined ? undefined : { tls }),
    connectTimeout,
    sentinelCommandTimeout: yield* timeoutOf(options),
    ...ours,
  }
})

/** The options of connections to the server of somebody's client: theirs for where and as whom, ours for the rest. */
export const copied = (theirs: RedisOptions, timeout: number): ClientOptions => ({
  ...theirs,
  ...ours,
  // Of theirs, what would come between a command and its answer.
  monitor: false,
  keyPrefix: "",
  stringNumbers: false,
  enableAutoPipelining: false,
  commandTimeout: undefined,
  blockingTimeout: undefined,
  socketTimeout: undefined,
  himportFieldsets: undefined,
  sentinelCommandTimeout: timeout,
  reconnectOnError: theirs.reconnectOnError ?? ours.reconnectOnError,
})
