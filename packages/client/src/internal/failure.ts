/** Which failures are worth another try, and what a refusal says. */
import { type Problem, RunError } from "../RunError.ts"

/** The connection is gone, and what is missing can be had from another one. */
export class Lost extends Error {
  /** The server asked not to be tried before this many ms have passed. */
  readonly after: number | undefined

  constructor(message: string, options: { readonly cause?: unknown; readonly after?: number | undefined } = {}) {
    super(message, { cause: options.cause })
    this.after = options.after
  }
}

/** The answer is not what the protocol says. What caused it may be gone with the next answer, so a few are looked at. */
export class Violation extends Error {
  readonly status: number | undefined

  constructor(message: string, status?: number) {
    super(message)
    this.status = status
  }
}

const typePrefix = "urn:throughline:problem:"

/** The problem in a text, if it is one. */
export const problemIn = (text: string): Problem | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string"
      ? (value as Problem)
      : undefined
  } catch {
    return undefined
  }
}

// What stays as it is however often it is asked for.
const lasting = new Set(["corrupt-record", "store-broken", "no-archive", "store-full"])

const isPassing = (status: number, code: string): boolean =>
  (status >= 500 || status === 408 || status === 425 || status === 429) && status !== 501 && !lasting.has(code)

/** The ms in a `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, which is after `now` or has passed. */
const millisIn = (retryAfter: string, now: number): number | undefined => {
  if (/^\d+$/.test(retryAfter)) return Number(retryAfter) * 1000
  // Much else is a date to `Date.parse`.
  const time = retryAfter.endsWith(" GMT") ? Date.parse(retryAfter) : Number.NaN
  return Number.isNaN(time) ? undefined : Math.max(time - now, 0)
}

/** A refusal: final, or a connection that is to be tried again. `retryAfter` is the header, `now` the time, in ms. */
export const refusal = (status: number, text: string, retryAfter?: string | null, now = 0): RunError | Lost => {
  const problem = problemIn(text)
  const code = problem?.type.startsWith(typePrefix) === true ? problem.type.slice(typePrefix.length) : "refused"
  const message = `${status}: ${problem?.detail ?? problem?.title ?? "the request was refused"}`
  const error = new RunError(code, message, { status, problem })
  if (!isPassing(status, code)) return error
  return new Lost(message, { cause: error, after: millisIn(retryAfter ?? "", now) })
}

/** What a reader or an appender fails with after the last try. */
export const givenUp = (code: "unreachable" | "protocol-violation", cause: Lost | Violation): RunError => {
  if (cause instanceof Violation) return new RunError(code, cause.message, { cause, status: cause.status })
  const refused = cause.cause instanceof RunError ? cause.cause : undefined
  return new RunError(code, cause.message, { cause, status: refused?.status, problem: refused?.problem })
}

/** Whether a media type is that of an event stream. */
export const isEventStream = (type: string | null | undefined): boolean =>
  /^text\/event-stream\s*(;|$)/i.test(type ?? "")
