/** What is read of a request before anything is done: its path, query, headers and media types, each checked. */
import * as Cursor from "@throughline/core/Cursor"
import { RunId, SessionId } from "@throughline/core/Envelope"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Problem from "../Problem.ts"

type Outcome<A> = Result.Result<A, Problem.Refused>

const fail = (...args: Parameters<typeof Problem.refuse>) => Result.fail(Problem.refuse(...args))

/** A path and the text after its `?`. */
export const splitUrl = (url: string): { readonly path: string; readonly query: string } => {
  const end = url.indexOf("#")
  const target = end === -1 ? url : url.slice(0, end)
  const mark = target.indexOf("?")
  return mark === -1 ? { path: target, query: "" } : { path: target.slice(0, mark), query: target.slice(mark + 1) }
}

/** The segments of a path, decoded; `undefined` for one that can't be. */
export const segmentsOf = (path: string): ReadonlyArray<string> | undefined => {
  try {
    return path.split("/").slice(1).map(decodeURIComponent)
  } catch {
    return undefined
  }
}

const decodeRunId = Schema.decodeUnknownOption(RunId)
const decodeSessionId = Schema.decodeUnknownOption(SessionId)

const idProblem = (what: string) =>
  Problem.refuse("invalid-id", `the ${what}'s id is not valid: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -`)

export const runIdOf = (text: string): Outcome<RunId> => Result.fromOption(decodeRunId(text), () => idProblem("run"))

export const sessionIdOf = (text: string): Outcome<SessionId> =>
  Result.fromOption(decodeSessionId(text), () => idProblem("session"))

/** The names and values of a query, each name known and given once; `token` is the credential of links. */
export class Query {
  readonly #values: ReadonlyMap<string, string>

  private constructor(values: ReadonlyMap<string, string>) {
    this.#values = values
  }

  static parse(text: string, names: ReadonlyArray<string>): Outcome<Query> {
    const values = new Map<string, string>()
    for (const [name, value] of new URLSearchParams(text)) {
      if (name !== "token" && !names.includes(name)) {
        return fail(
          "invalid-query",
          `${JSON.stringify(name.slice(0, 80))} is no query name here: expected ${[...names].join(", ") || "none"}`,
        )
      }
      if (values.has(name)) return fail("invalid-query", `${name} is given twice`)
      values.set(name, value)
    }
    return Result.succeed(new Query(values))
  }

  get(name: string): string | undefined {
    return this.#values.get(name)
  }

  /** An integer in a range. */
  integer(name: string, range: { readonly from: number; readonly to: number }): Outcome<number | undefined> {
    const text = this.#values.get(name)
    if (text === undefined) return Result.succeed(undefined)
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
    return value >= range.from && value <= range.to
      ? Result.succeed(value)
      : fail("invalid-query", `${name} is not valid: expected an integer from ${range.from} to ${range.to}`)
  }

  /** One of some words. */
  literal<const A extends string>(name: string, values: ReadonlyArray<A>): Outcome<A | undefined> {
    const text = this.#values.get(name)
    if (text === undefined) return Result.succeed(undefined)
    const value = values.find((candidate) => candidate === text)
    return value === undefined
      ? fail("invalid-query", `${name} is not valid: expected ${values.join(", ")}`)
      : Result.succeed(value)
  }

  /** Comma-separated values. */
  list(name: string): ReadonlyArray<string> | undefined {
    const text = this.#values.get(name)
    return text === undefined ? undefined : text.split(",").filter((value) => value !== "")
  }
}

/** The `token` of a query, whatever else is in it. */
export const tokenOf = (query: string): Redacted.Redacted | undefined => {
  const token = query === "" ? null : new URLSearchParams(query).get("token")
  return token === null ? undefined : Redacted.make(token)
}

/** The credential of `Authorization: Bearer`. */
export const bearerOf = ({ headers }: HttpServerRequest): Redacted.Redacted | undefined => {
  const match = /^bearer +(.+?) *$/i.exec(headers["authorization"] ?? "")
  return match === null ? undefined : Redacted.make(match[1]!)
}

/** A run cursor as text: checked here, so that a store is never asked about one that is none. */
export const cursorOf = (text: string): Effect.Effect<Cursor.RunPlace & { readonly text: string }, Problem.Refused> =>
  Effect.mapBoth(Cursor.runPlace(text), {
    onSuccess: (place) => ({ ...place, text }),
    onFailure: Problem.ofError,
  })

/** The address at the other end of the connection, where it is known. */
export const addressOf = (request: HttpServerRequest): string | undefined =>
  Option.getOrUndefined(request.remoteAddress)

/**
 * Whom an address counts for: itself, but for IPv6 the network of 64 bits that one client is given, as it can use any
 * address of it.
 */
export const clientAt = (address: string): string => {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped !== null) return mapped[1]!
  if (!address.includes(":")) return address
  const [head = "", tail] = address.toLowerCase().split("%")[0]!.split("::")
  const groups = head === "" ? [] : head.split(":")
  const after = tail === undefined || tail === "" ? [] : tail.split(":")
  while (groups.length + after.length < 8) groups.push("0")
  return `${[...groups, ...after].slice(0, 4).join(":")}::/64`
}
