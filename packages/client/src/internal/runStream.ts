/** A run as an Effect stream: the connections of one {@link Reading}, one after the other. */
import type { RunId } from "@throughline/core/Envelope"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { RunError as Refusal } from "../RunError.ts"
import * as RunClientError from "../RunClientError.ts"
import type { RunItem as PlainItem } from "../RunItem.ts"
import { EventStreamParser } from "./eventStream.ts"
import { isEventStream, Lost, Violation } from "./failure.ts"
import { violationsAllowed } from "./patience.ts"
import { isWhole, nextRequest } from "./place.ts"
import { Reading } from "./reading.ts"
import { lostBy, refusalOf, respond, scheduleOf, type Settings, silence } from "./retrying.ts"

/** The stream fails for good; it goes through the retries as an element. */
class Failed {
  readonly error: RunClientError.RunError

  constructor(error: RunClientError.RunError) {
    this.error = error
  }
}

/** The connection is a good one, though it brought nothing new: an element that starts the schedule over. */
const alive = Symbol("alive")

/** Turns an item as it came into what the caller asked for. */
export type Decode<Item> = (item: PlainItem) => Result.Result<Item, RunClientError.RunError>

type Element<Item> = Item | Failed | typeof alive

export const make = <Item extends object>(
  settings: Settings,
  runId: RunId,
  options: { readonly url: URL; readonly after: string | number | undefined; readonly decode: Decode<Item> },
): Stream.Stream<Item, RunClientError.RunError> =>
  Stream.suspend(() => {
    const { decode, url } = options
    const { idleTimeout } = settings
    const reading = new Reading(options.after, isWhole(url.searchParams))
    /** What the server asked for before the next try, in ms. */
    let asked: number | undefined
    let violations = 0

    const refused = (refusal: Refusal) => new Failed(RunClientError.ofRead(runId, refusal, reading))

    /** Why a frame can't be taken: a reason to try again, or the end of the stream. */
    const broken = (cause: unknown): Lost | Violation | Failed => {
      if (cause instanceof Refusal) return refused(cause)
      if (cause instanceof Lost || cause instanceof Violation) return cause
      // A defect of this package.
      throw cause
    }

    /** The items in the bytes of one connection. What came before a frame that can't be taken is delivered first. */
    const itemsOf = (bytes: Stream.Stream<Uint8Array, Lost>) =>
      Stream.transformPull(bytes, (pull) =>
        Effect.sync(() => {
          const parser = new EventStreamParser(settings.maxEventSize)
          let stopped: Lost | Violation | Failed | undefined

          const take = (chunks: ReadonlyArray<Uint8Array>): Array<Element<Item>> => {
            const taken: Array<Element<Item>> = []
            try {
              for (const chunk of chunks) {
                for (const frame of parser.push(chunk)) {
                  const item = reading.take(frame)
                  if (item === undefined) continue
                  if (item._tag === "Event") violations = 0
                  const decoded = decode(item)
                  if (Result.isSuccess(decoded)) taken.push(decoded.success)
                  else {
                    stopped = new Failed(decoded.failure)
                    return taken
                  }
                }
              }
            } catch (cause) {
              stopped = broken(cause)
            }
            asked = parser.retry ?? asked
            if (taken.length === 0 && reading.isAlive) taken.push(alive)
            reading.isAlive = false
            return taken
          }

          const ended = Effect.suspend(() =>
            Effect.fail(new Lost("the server closed the connection before the end of the run")),
          )
          return Effect.suspend(function next(): Pull.Pull<Arr.NonEmptyReadonlyArray<Element<Item>>, Lost | Violation> {
            if (stopped instanceof Failed) {
              const failed = stopped
              stopped = undefined
              reading.isOver = true
              return Effect.succeed(Arr.of<Element<Item>>(failed))
            }
            if (reading.isOver) return Cause.done()
            if (stopped !== undefined) return Effect.fail(stopped)
            return Effect.flatMap(
              Pull.catchDone(pull, () => ended),
              (chunks) => {
                const taken = take(chunks)
                return Arr.isArrayNonEmpty(taken) ? Effect.succeed(taken) : next()
              },
            )
          })
        }),
      )

    const answered = Effect.fnUntraced(function* (
      response: HttpClientResponse,
    ): Effect.fn.Return<Stream.Stream<Element<Item>, Lost | Violation>, Lost | Violation> {
      const { status } = response
      if (status === 204) {
        return yield* Effect.try({
          try: () => reading.nothingFollows(),
          catch: (cause) => cause as Violation,
        }).pipe(Effect.as(Stream.empty))
      }
      if (status >= 400) {
        const refusal = yield* refusalOf(response, idleTimeout)
        return refusal instanceof Lost ? yield* Effect.fail(refusal) : Stream.succeed(refused(refusal))
      }
      const type = response.headers["content-type"]
      if (status !== 200 || !isEventStream(type)) {
        return yield* Effect.fail(
          new Violation(`the server answered ${status} with ${type ?? "nothing"}, not with an event stream`, status),
        )
      }
      return response.stream.pipe(
        Stream.mapError(lostBy),
        Stream.timeoutOrElse({ duration: idleTimeout, orElse: () => Stream.fail(silence(idleTimeout)) }),
        itemsOf,
      )
    })

    const connection = Effect.gen(function* () {
      const { patience, target } = nextRequest(url, reading)
      const request = HttpClientRequest.get(target, {
        headers: { ...settings.headers, accept: "text/event-stream" },
      })
      return yield* answered(yield* respond(settings, request, Duration.max(idleTimeout, Duration.millis(patience))))
    })

    return Stream.unwrap(connection).pipe(
      Stream.catch((cause): Stream.Stream<Element<Item>, Lost | Violation> => {
        if (cause instanceof Lost) {
          asked = cause.after ?? asked
          return reading.hasEnd ? Stream.empty : Stream.fail(cause)
        }
        return ++violations < violationsAllowed
          ? Stream.fail(cause)
          : Stream.succeed(new Failed(RunClientError.givenUp(runId, cause)))
      }),
      Stream.retry(scheduleOf(settings.retry, () => asked)),
      Stream.mapError((cause) => RunClientError.givenUp(runId, cause)),
      Stream.filter((element) => element !== alive),
      Stream.mapArrayEffect((elements) =>
        elements[0] instanceof Failed
          ? Effect.fail(elements[0].error)
          : // A failure is alone in its array, and the others are gone.
            Effect.succeed(elements as Arr.NonEmptyReadonlyArray<Item>),
      ),
      Stream.concat(
        Stream.suspend(() => Stream.fromIterable(reading.rest())).pipe(
          Stream.mapEffect((item) => Effect.fromResult(decode(item))),
        ),
      ),
    )
  })
