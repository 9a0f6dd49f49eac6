/** How the Effect client waits between tries, and what it makes of a response. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { RunError as Refusal } from "../RunError.ts"
import { mostOfProblem } from "./answer.ts"
import { Lost, refusal } from "./failure.ts"
import { defaultAttempts, firstDelay, longestAsked, longestDelay } from "./patience.ts"

/** What a client of the server needs to make its requests. */
export interface Settings {
  readonly client: HttpClient.HttpClient
  readonly headers: Readonly<Record<string, string>>
  /** The address of a path below the server's prefix. */
  readonly urlOf: (path: string) => URL
  readonly retry: Schedule.Schedule<unknown> | undefined
  readonly idleTimeout: Duration.Duration
  readonly callTimeout: Duration.Duration
  readonly maxEventSize: number
}

/**
 * The caller's schedule; by default doubling from 1 s to 30 s, no less than the server `asked` for, plus a random part of up
 * to a half, for 30 tries in a row.
 */
export const scheduleOf = (
  retry: Schedule.Schedule<unknown> | undefined,
  asked: () => number | undefined,
): Schedule.Schedule<unknown> =>
  retry ??
  Schedule.exponential(firstDelay).pipe(
    Schedule.modifyDelay(({ duration }) =>
      Effect.map(Random.next, (random) => {
        const delay = Math.min(Duration.toMillis(duration), longestDelay)
        return Duration.millis(Math.max(delay, Math.min(asked() ?? 0, longestAsked)) * (1 + random / 2))
      }),
    ),
    Schedule.upTo({ times: defaultAttempts - 1 }),
  )

export const lostBy = (cause: HttpClientError.HttpClientError): Lost =>
  new Lost(`the connection failed: ${cause.message}`, { cause })

/** Nothing came for as long as that. */
export const silence = (patience: Duration.Duration): Lost =>
  new Lost(`nothing came for ${Duration.toMillis(patience)} ms`)

/** The response, whatever its status; also of a client that takes some statuses for errors. */
export const respond = (
  { client }: Settings,
  request: HttpClientRequest,
  patience: Duration.Duration,
): Effect.Effect<HttpClientResponse, Lost> =>
  client.execute(request).pipe(
    Effect.catchTag("HttpClientError", (error) =>
      error.reason._tag === "StatusCodeError" ? Effect.succeed(error.reason.response) : Effect.fail(lostBy(error)),
    ),
    Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(silence(patience)) }),
  )

/**
 * The first bytes of a body, at least `most` where it has as many. A body that isn't complete in time is a lost connection,
 * except that of a refusal: the status says enough, and what has come explains it.
 */
export const textOf = (
  response: HttpClientResponse,
  most: number,
  patience: Duration.Duration,
): Effect.Effect<string, Lost> =>
  Effect.suspend(() => {
    const decoder = new TextDecoder()
    let text = ""
    let bytes = 0
    return response.stream.pipe(
      Stream.runForEachWhile((chunk) =>
        Effect.sync(() => {
          bytes += chunk.length
          text += decoder.decode(chunk, { stream: true })
          return bytes < most
        }),
      ),
      Effect.catchTag("HttpClientError", (error) =>
        error.reason._tag === "EmptyBodyError" ? Effect.void : Effect.fail(lostBy(error)),
      ),
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => (response.status >= 400 ? Effect.void : Effect.fail(silence(patience))),
      }),
      Effect.map(() => text),
    )
  })

/** What a refusal says, for good or for now. */
export const refusalOf = (
  response: HttpClientResponse,
  patience: Duration.Duration,
): Effect.Effect<Refusal | Lost, Lost> =>
  Effect.zipWith(textOf(response, mostOfProblem, patience), Clock.currentTimeMillis, (text, now) =>
    refusal(response.status, text, response.headers["retry-after"], now),
  )
