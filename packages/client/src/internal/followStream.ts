/** The items of a reader, over as many connections as it takes, as an Effect stream. */
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
import { EventStreamParser } from "./eventStream.ts"
import { isEventStream, Lost, Violation } from "./failure.ts"
import { violationsAllowed } from "./patience.ts"
import { nextRequest, type Progress } from "./place.ts"
import { lostBy, refusalOf, respond, scheduleOf, type Settings, silence } from "./retrying.ts"

/** The stream fails for good; it goes through the retries as an element. */
class Failed<E> {
  readonly error: E

  constructor(error: E) {
    this.error = error
  }
}

/** The connection is a good one, though it brought nothing new: an element that starts the schedule over. */
const alive = Symbol("alive")

type Element<Item, E> = Item | Failed<E> | typeof alive

export interface FollowOptions<Taken, Item, E> {
  readonly url: URL
  /** Who reads, anew each time the stream is run. */
  readonly start: () => Progress<Taken>
  /** Turns an item as it came into what the caller asked for, or into what ends the stream. */
  readonly decode: (item: Taken) => Result.Result<Item, E>
  /** What the stream fails with where the server refuses for good. */
  readonly refused: (refusal: Refusal, progress: Progress<Taken>) => E
  /** What the stream fails with after the last try. */
  readonly givenUp: (cause: Lost | Violation) => E
}

export const make = <Taken, Item extends object, E>(
  settings: Settings,
  { decode, givenUp, start, url, ...options }: FollowOptions<Taken, Item, E>,
): Stream.Stream<Item, E> =>
  Stream.suspend(() => {
    const { idleTimeout } = settings
    const progress = start()
    /** What the server asked for before the next try, in ms. */
    let asked: number | undefined
    let violations = 0
    /** The connection has brought something. */
    let wasAlive = false
    let isOver = false

    const refused = (refusal: Refusal) => new Failed(options.refused(refusal, progress))

    /** Why a frame can't be taken: a reason to try again, or the end of the stream. */
    const broken = (cause: unknown): Lost | Violation | Failed<E> => {
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
          let stopped: Lost | Violation | Failed<E> | undefined

          const take = (chunks: ReadonlyArray<Uint8Array>): Array<Element<Item, E>> => {
            const taken: Array<Element<Item, E>> = []
            const { cursor } = progress
            try {
              for (const chunk of chunks) {
                for (const frame of parser.push(chunk)) {
                  const item = progress.take(frame)
                  if (item === undefined) continue
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
            if (progress.cursor !== cursor) violations = 0
            if (taken.length === 0 && progress.isAlive) taken.push(alive)
            wasAlive ||= progress.isAlive
            progress.isAlive = false
            return taken
          }

          const ended = Effect.suspend(() =>
            Effect.fail(new Lost("the server closed the connection before the end of the run")),
          )
          return Effect.suspend(function next(): Pull.Pull<
            Arr.NonEmptyReadonlyArray<Element<Item, E>>,
            Lost | Violation
          > {
            if (stopped instanceof Failed) {
              const failed = stopped
              stopped = undefined
              isOver = true
              return Effect.succeed(Arr.of<Element<Item, E>>(failed))
            }
            if (isOver || progress.isOver) return Cause.done()
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
    ): Effect.fn.Return<Stream.Stream<Element<Item, E>, Lost | Violation>, Lost | Violation> {
      const { status } = response
      if (status === 204) {
        return yield* Effect.try({
          try: () => progress.nothingFollows(),
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
      wasAlive = false
      const { patience, target } = nextRequest(url, progress)
      const request = HttpClientRequest.get(target, {
        headers: { ...settings.headers, accept: "text/event-stream" },
      })
      return yield* answered(yield* respond(settings, request, Duration.max(idleTimeout, Duration.millis(patience))))
    })

    return Stream.unwrap(connection).pipe(
      Stream.catch((cause): Stream.Stream<Element<Item, E>, Lost | Violation> => {
        if (cause instanceof Lost) {
          asked = cause.after ?? asked
          // In a row: an answer that broke nothing ends it, and so does progress.
          if (wasAlive) violations = 0
          return progress.hasEnd ? Stream.empty : Stream.fail(cause)
        }
        return ++violations < violationsAllowed ? Stream.fail(cause) : Stream.succeed(new Failed(givenUp(cause)))
      }),
      Stream.retry(scheduleOf(settings.retry, () => asked)),
      Stream.mapError(givenUp),
      Stream.filter((element) => element !== alive),
      Stream.mapArrayEffect((elements) =>
        elements[0] instanceof Failed
          ? Effect.fail(elements[0].error)
          : // A failure is alone in its array, and the others are gone.
            Effect.succeed(elements as Arr.NonEmptyReadonlyArray<Item>),
      ),
      Stream.concat(
        Stream.suspend(() => Stream.fromIterable(progress.rest())).pipe(
          Stream.mapEffect((item) => Effect.fromResult(decode(item))),
        ),
      ),
    )
  })
