/** Requests that are answered once, and tried until they are. */
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import type { RunError as Refusal } from "../RunError.ts"
import { Lost, Violation } from "./failure.ts"
import { violationsAllowed } from "./patience.ts"
import { refusalOf, respond, scheduleOf, type Settings, textOf } from "./retrying.ts"

export interface CallOptions<A> {
  /** What is asked for, as it is told where the answer breaks the protocol. */
  readonly what: string
  /** Bytes that the answer may have. */
  readonly most: number
  /** What the answer says; `undefined`: it breaks the protocol. */
  readonly read: (text: string, response: HttpClientResponse) => A | undefined
}

/**
 * The answer to a request that may be made again whether or not it was done. Fails with what the server refuses, and with
 * what the last try failed with.
 */
export const call = <A>(
  settings: Settings,
  request: HttpClientRequest,
  { most, read, what }: CallOptions<A>,
): Effect.Effect<A, Refusal | Lost | Violation> => {
  const { callTimeout } = settings

  const once = Effect.gen(function* () {
    const response = yield* respond(settings, request, callTimeout)
    if (response.status >= 400) return yield* Effect.fail(yield* refusalOf(response, callTimeout))
    const text = yield* textOf(response, most, callTimeout)
    const answer = read(text, response)
    if (answer !== undefined) return answer
    const { status } = response
    return yield* Effect.fail(new Violation(`${what} was answered with ${status} and ${text.slice(0, 80)}`, status))
  })

  return Effect.suspend(() => {
    let asked: number | undefined
    let violations = 0
    return once.pipe(
      Effect.tapError((error) =>
        Effect.sync(() => {
          if (error instanceof Lost) asked = error.after
          if (error instanceof Violation) violations++
        }),
      ),
      Effect.retry({
        schedule: scheduleOf(settings.retry, () => asked),
        while: (error) => error instanceof Lost || (error instanceof Violation && violations < violationsAllowed),
      }),
    )
  })
}
