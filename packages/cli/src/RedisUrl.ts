/**
 * A store on Redis, as a URL:
 *
 * ```text
 * redis://[user:password@]host[:port][/database]
 * rediss://…                                        over TLS
 * redis+sentinel://[user:password@]host[:port],…/master[/database]     also rediss+sentinel
 * …?prefix=team-a:                                  what every key and channel begins with; throughline: by default
 * ```
 *
 * User and password are percent-encoded; of a Sentinel URL they are the master's.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

export interface RedisUrl {
  readonly _tag: "Redis"
  /** Where a server or, behind Sentinels, its user, password and database are: as ioredis takes it. */
  readonly address: Redacted.Redacted
  readonly sentinel: { readonly name: string; readonly sentinels: ReadonlyArray<Host> } | undefined
  readonly keyPrefix: string | undefined
  /** The URL without its password. */
  readonly shown: string
}

interface Host {
  readonly host: string
  readonly port: number
}

/** The text with what may be a password left out, whatever is wrong with it otherwise. */
export const hidden = (text: string): string =>
  text.replace(/^([a-z][a-z0-9+.-]*:(?:\/\/)?).*@/is, "$1***@").replace(/([?#]).*$/s, "$1***")

const expectedUrl =
  "redis://[user:password@]host[:port][/database], user and password percent-encoded (rediss:// for TLS)"
const expectedSentinel = "redis+sentinel://[user:password@]host[:port],host[:port]/master[/database]"

const pattern =
  /^(?<scheme>rediss?)(?<suffix>(?:\+sentinel)?):\/\/(?:(?<user>[^/?#]*)@)?(?<hosts>[^/?#@]+)(?<path>(?:\/[^?#]*)?)(?:\?(?<query>[^#]*))?$/s

const hostOf = (text: string): Host | undefined => {
  const url = URL.parse(`redis://${text}`)
  if (url === null || url.hostname === "") return undefined
  return { host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port: url.port === "" ? 26_379 : Number(url.port) }
}

const prefixOf = (query: string | undefined): Result.Result<string | undefined, string> => {
  const given = [...new URLSearchParams(query)]
  if (given.length === 0) return Result.succeed(undefined)
  const [name, value] = given[0]!
  return given.length === 1 && name === "prefix" && value !== ""
    ? Result.succeed(value)
    : Result.fail("nothing but ?prefix=TEXT after the database")
}

/** Reads a URL that begins with `redis`; the failure is what was expected, without what was given. */
export const parse = (text: string): Result.Result<RedisUrl, string> => {
  const match = pattern.exec(text)
  const expected = /^rediss?\+/.test(text) ? expectedSentinel : expectedUrl
  if (match === null) return Result.fail(expected)
  const { hosts = "", path = "", query, scheme, suffix = "", user } = match.groups ?? {}
  const prefix = prefixOf(query)
  if (Result.isFailure(prefix)) return Result.fail(prefix.failure)
  const isSentinel = suffix !== ""
  const parts = path.slice(1).split("/")
  const database = (isSentinel ? parts[1] : parts[0]) ?? ""
  const sentinels = isSentinel ? hosts.split(",").map(hostOf) : []
  const address = `${scheme}://${user === undefined ? "" : `${user}@`}${isSentinel ? "sentinel" : hosts}/${database}`
  const isComplete = isSentinel ? parts[0] !== "" && parts.length < 3 : parts.length < 2 && !hosts.includes(",")
  if (!isComplete || sentinels.includes(undefined) || URL.parse(address) === null) return Result.fail(expected)
  if (!/^[0-9]{0,5}$/.test(database)) return Result.fail("a number for the database")
  return Result.succeed({
    _tag: "Redis",
    address: Redacted.make(address),
    sentinel: isSentinel ? { name: parts[0]!, sentinels: sentinels.filter((one) => one !== undefined) } : undefined,
    keyPrefix: prefix.success,
    shown: `${scheme}${suffix}://${user === undefined ? "" : "***@"}${hosts}${path}${query === undefined ? "" : `?${query}`}`,
  })
}
