/**
 * What can go wrong between this process and Redis, as one error with a tagged `reason`.
 *
 * No reason carries a command's arguments, a URL or a password: what is in them is safe to log.
 */
import type { StoreReason } from "@throughline/core/EventStoreError"
import { StoreBroken, StoreFull, StoreUnavailable } from "@throughline/core/EventStoreError"
import * as Schema from "effect/Schema"

const id = <const Name extends string>(name: Name) => `@throughline/redis/RedisFailed/${name}` as const

/** There is no connection, or it was lost before the answer; whether the command was carried out is unknown. */
export class Disconnected extends Schema.TaggedError<Disconnected>(id("Disconnected"))("Disconnected", {
  detail: Schema.String,
}) {
  get isRetryable(): boolean {
    return true
  }
  override get message() {
    return `not connected to Redis: ${this.detail}`
  }
}

/** No answer in time; whether the command was carried out is unknown. */
export class TimedOut extends Schema.TaggedError<TimedOut>(id("TimedOut"))("TimedOut", {
  /** Milliseconds. */
  after: Schema.Finite,
}) {
  get isRetryable(): boolean {
    return true
  }
  override get message() {
    return `Redis did not answer within ${this.after} ms`
  }
}

/** Conditions of a server that pass: it is starting, failing over, busy, short of replicas, or can't save for now. */
const passing = new Set([
  "LOADING",
  "READONLY",
  "MASTERDOWN",
  "BUSY",
  "TRYAGAIN",
  "CLUSTERDOWN",
  "NOREPLICAS",
  "MISCONF",
  "UNBLOCKED",
  "NOTBUSY",
])

/**
 * Redis answered with an error. `code` is its first word, such as `OOM`, `NOPERM`, `WRONGTYPE`; `detail` its text without
 * what it quotes.
 */
export class Refused extends Schema.TaggedError<Refused>(id("Refused"))("Refused", {
  code: Schema.String,
  detail: Schema.String,
}) {
  get isRetryable(): boolean {
    return passing.has(this.code)
  }
  override get message() {
    return `Redis refused: ${this.detail}`
  }
}

/** The answer is none that the command can have: something else than Redis answers, or another version of it. */
export class Unexpected extends Schema.TaggedError<Unexpected>(id("Unexpected"))("Unexpected", {
  problem: Schema.String,
}) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `Redis gave an answer that makes no sense: ${this.problem}`
  }
}

/** The client can't write the command, as it is longer than any text can be (some 512 MB); nothing was sent. */
export class Unsendable extends Schema.TaggedError<Unsendable>(id("Unsendable"))("Unsendable", {
  detail: Schema.String,
}) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return `the command can't be sent: ${this.detail}`
  }
}

/** The options can't be used; nothing was tried. */
export class InvalidOptions extends Schema.TaggedError<InvalidOptions>(id("InvalidOptions"))("InvalidOptions", {
  detail: Schema.String,
}) {
  get isRetryable(): boolean {
    return false
  }
  override get message() {
    return this.detail
  }
}

export const RedisReason = Schema.Union([Disconnected, TimedOut, Refused, Unexpected, Unsendable, InvalidOptions])
export type RedisReason = typeof RedisReason.Type

/** A command failed; the tagged `reason` says why, and whether trying again can help. */
export class RedisFailed extends Schema.TaggedError<RedisFailed>("@throughline/redis/RedisFailed")("RedisFailed", {
  /** The command's name or the script's; `connect` where there was none. */
  command: Schema.String,
  reason: RedisReason,
}) {
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message() {
    return `${this.command}: ${this.reason.message}`
  }
}

/** Redis repeats arguments that it doesn't take, in quotes, which an argument may have too. */
const withoutArguments = (text: string): string =>
  text.replace(/,? with args beginning with:[\s\S]*$/i, "").replace(/(["'`])[\s\S]*\1/, "…")

/** The reason behind an error of ioredis. */
export const reasonOf = (error: unknown, timeout: number): RedisReason => {
  if (!(error instanceof Error)) return new Disconnected({ detail: "the client failed" })
  if (error.name === "ReplyError") {
    const detail = withoutArguments(error.message)
    return new Refused({ code: /^[A-Z]+/.exec(detail)?.[0] ?? "ERR", detail })
  }
  if (error.message === "Command timed out") return new TimedOut({ after: timeout })
  if (error.name === "MaxRetriesPerRequestError") return new Disconnected({ detail: "the connection was lost" })
  if (error.name === "ParserError") return new Disconnected({ detail: "what answers does not speak Redis's protocol" })
  return new Disconnected({ detail: error.message.replace(/^Stream isn't writeable.*$/, "the connection is down") })
}

/** What a failed command means for a store. */
export const toStoreReason = ({ command, reason }: RedisFailed): StoreReason => {
  const detail = `${command}: ${reason.message}`
  if (reason._tag === "Refused" && reason.code === "OOM") return new StoreFull({ detail })
  return reason.isRetryable ? new StoreUnavailable({ detail }) : new StoreBroken({ detail })
}
