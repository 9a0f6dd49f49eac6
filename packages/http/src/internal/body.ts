/** A request's body as JSON values: bounded in bytes, time, number and depth before anything looks at it. */
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Bounds } from "../Bounds.ts"
import * as Problem from "../Problem.ts"

export type BodyType = "application/json" | "application/x-ndjson"

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The media type of a body that is read here. */
export const typeOf = Effect.fnUntraced(function* (request: HttpServerRequest, allowed: ReadonlyArray<BodyType>) {
  const [type = "", ...parameters] = (request.headers["content-type"] ?? "").toLowerCase().split(";")
  const known = allowed.find((candidate) => candidate === type.trim())
  const charset = parameters.map((text) => text.trim()).find((text) => text.startsWith("charset="))
  const encoding = request.headers["content-encoding"]
  if (known === undefined || (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset))) {
    return yield* Problem.refuse("unsupported-media-type", `expected Content-Type ${allowed.join(" or ")}, in UTF-8`)
  }
  if (encoding !== undefined && encoding !== "identity") {
    return yield* Problem.refuse("unsupported-media-type", "expected a body without Content-Encoding")
  }
  return known
})

const tooLarge = (limit: number) =>
  Problem.refuse("too-large", `the body has more than the ${limit} bytes allowed`, { limit })

/** The text of the body. */
export const textOf = Effect.fnUntraced(function* (request: HttpServerRequest, bounds: Bounds) {
  const { bodyBytes } = bounds
  if (Number(request.headers["content-length"] ?? 0) > bodyBytes) return yield* tooLarge(bodyBytes)
  const chunks: Array<Uint8Array> = []
  let size = 0
  yield* request.stream.pipe(
    Stream.mapError(() => Problem.refuse("invalid-body", "the body broke off")),
    Stream.runForEach((chunk) => {
      size += chunk.length
      if (size > bodyBytes) return Effect.fail(tooLarge(bodyBytes))
      chunks.push(chunk)
      return Effect.void
    }),
    Effect.timeoutOrElse({
      duration: bounds.bodyTimeout,
      orElse: () => Effect.fail(Problem.refuse("request-timeout", "the body did not come in time")),
    }),
  )
  return yield* Effect.try({
    try: () => utf8.decode(Buffer.concat(chunks)),
    catch: () => Problem.refuse("invalid-body", "the body is no UTF-8"),
  })
})

/**
 * Whether a number is stored as itself: an integer, however it is written, exactly; any other about so. Stored is the shortest text
 * that reads as the same double, `1e23` as `1e+23`.
 */
const isKept = (text: string): boolean => {
  const value = Number(text)
  if (Number.isNaN(value)) return true
  if (value === Infinity || value === -Infinity) return false
  if (value === 0) return !/^-?[0.]*[1-9]/.test(text)
  const integer = integerIn(text)
  return integer === undefined || integer === integerIn(String(value))
}

/** The one text of an integer, without its sign: its digits up to the last that isn't 0, and how many are after it. */
const integerIn = (text: string): string | undefined => {
  const [decimal = "", exponent = "0"] = text.replace(/^-/, "").split(/e/i)
  const [whole = "", fraction = ""] = decimal.split(".")
  const digits = whole + fraction
  let start = 0
  while (digits[start] === "0") start++
  let end = digits.length
  while (digits[end - 1] === "0") end--
  const zeros = Number(exponent) - fraction.length + (digits.length - end)
  return zeros < 0 ? undefined : `${digits.slice(start, end)}e${zeros}`
}

/** Digits of a number that a double always keeps, where it has no exponent. */
const safeLength = 15

const endOfNumber = (text: string, start: number): number => {
  let end = start + 1
  while (end < text.length && "0123456789.eE+-".includes(text[end]!)) end++
  return end
}

/**
 * What of a JSON text would be lost on whoever reads it later: depth, as what walks it is recursive, and numbers that
 * would be stored as others. Text that is no JSON is left to its parser.
 */
const problemIn = (text: string, maxDepth: number): string | undefined => {
  let depth = 0
  let inString = false
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (inString) {
      if (code === 92) index++
      else if (code === 34) inString = false
    } else if (code === 34) inString = true
    else if (code === 91 || code === 123) {
      if (++depth > maxDepth) return `nests deeper than the ${maxDepth} levels allowed`
    } else if (code === 93 || code === 125) depth--
    else if (code === 45 || (code >= 48 && code <= 57)) {
      const number = text.slice(index, endOfNumber(text, index))
      index += number.length - 1
      if ((number.length > safeLength || /e/i.test(number)) && !isKept(number)) {
        return `has a number that would be stored as another, ${number.slice(0, 40)}: send it as a string`
      }
    }
  }
  return undefined
}

/** One JSON value. */
export const parse = (
  text: string,
  { jsonDepth }: Bounds,
  what = "the body",
): Effect.Effect<unknown, Problem.Refused> => {
  const problem = problemIn(text, jsonDepth)
  return problem === undefined
    ? Effect.try({
        // Parsed as it comes; a schema reads it next.
        try: (): unknown => JSON.parse(text),
        catch: () => Problem.refuse("invalid-body", `${what} is no JSON`),
      })
    : Effect.fail(Problem.refuse("invalid-body", `${what} ${problem}`))
}

/** The values of a body: one or an array of them, or one a line. */
export const valuesOf = Effect.fnUntraced(function* (request: HttpServerRequest, bounds: Bounds) {
  const type = yield* typeOf(request, ["application/json", "application/x-ndjson"])
  const text = yield* textOf(request, bounds)
  if (type === "application/json") {
    const value = yield* parse(text, bounds)
    return Array.isArray(value) ? (value as ReadonlyArray<unknown>) : [value]
  }
  const lines = text.split("\n").filter((line) => line.trim() !== "")
  // Counted before it is parsed: a body of short lines has many.
  if (lines.length > bounds.batchEvents) return lines
  return yield* Effect.forEach(lines, (line, index) => parse(line, bounds, `line ${index + 1}`))
})
