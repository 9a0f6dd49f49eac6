/** The items of a reader, over as many connections as it takes, as an async iterable. */
import type { ReadOptions } from "../runEvents.ts"
import { refusalOf } from "./answer.ts"
import { EventStreamParser } from "./eventStream.ts"
import { givenUp, isEventStream, Lost, Violation } from "./failure.ts"
import {
  defaultAttempts,
  defaultIdleTimeout,
  defaultMaxEventSize,
  delayOf,
  sleep,
  violationsAllowed,
  within,
} from "./patience.ts"
import { nextRequest, type Progress } from "./place.ts"

/** What every reader takes; where it begins is its own to know. */
type FollowOptions = Omit<ReadOptions, "after">

const ignore = (): void => {}

/** One connection, until the reader has all; throws what else ended it. `asked` is told what the server says of the next. */
async function* connect<Item>(
  url: URL,
  progress: Progress<Item>,
  options: FollowOptions,
  signal: AbortSignal,
  asked: { retry: number | undefined },
): AsyncGenerator<Item, void, undefined> {
  const { fetch = globalThis.fetch, idleTimeout = defaultIdleTimeout } = options
  const request = new AbortController()
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined
  const close = (): void => {
    request.abort()
    // Of a response that doesn't heed the signal of its request.
    reader?.cancel().catch(ignore)
  }
  // At once, and not when the next item is asked for.
  signal.addEventListener("abort", close)
  try {
    const { patience, target } = nextRequest(url, progress)
    const response = await within(
      fetch(target, {
        headers: { ...options.headers, accept: "text/event-stream" },
        cache: "no-store",
        signal: request.signal,
      }),
      Math.max(idleTimeout, patience),
      signal,
    )
    const { body, headers, status } = response
    if (status === 204) return progress.nothingFollows()
    if (status >= 400) throw await refusalOf(response, idleTimeout, signal)
    const type = headers.get("content-type")
    if (status !== 200 || body === null || !isEventStream(type)) {
      throw new Violation(`the server answered ${status} with ${type ?? "nothing"}, not with an event stream`, status)
    }
    options.onConnection?.({ state: "open" })
    const parser = new EventStreamParser(options.maxEventSize ?? defaultMaxEventSize)
    reader = body.getReader()
    while (!progress.isOver) {
      const { done, value } = await within(reader.read(), idleTimeout, signal)
      if (done) throw new Lost("the server closed the connection before the end of the run")
      const frames = parser.push(value)
      asked.retry = parser.retry ?? asked.retry
      for (const frame of frames) {
        const item = progress.take(frame)
        if (item === undefined) continue
        yield item
        signal.throwIfAborted()
      }
    }
  } finally {
    signal.removeEventListener("abort", close)
    close()
  }
}

/** Connections, one after the other, until the reader has all or there is no hope. */
async function* connections<Item>(
  url: URL,
  progress: Progress<Item>,
  options: FollowOptions,
  signal: AbortSignal,
): AsyncGenerator<Item, void, undefined> {
  const { attempts = defaultAttempts, onConnection } = options
  const asked = { retry: undefined }
  let failures = 0
  let violations = 0
  for (;;) {
    const { cursor } = progress
    try {
      signal.throwIfAborted()
      onConnection?.({ state: "connecting" })
      yield* connect(url, progress, options, signal, asked)
      break
    } catch (cause) {
      const isLost = cause instanceof Lost
      if (isLost && progress.hasEnd) break
      if (!isLost && !(cause instanceof Violation)) throw cause
      if (progress.isAlive) failures = 0
      // In a row: an answer that broke nothing ends it, and so does progress.
      if (progress.cursor !== cursor || (isLost && progress.isAlive)) violations = 0
      progress.isAlive = false
      failures++
      if (!isLost && ++violations >= violationsAllowed) throw givenUp("protocol-violation", cause)
      if (failures >= attempts) throw givenUp("unreachable", cause)
      const delay = delayOf(options, failures, (isLost ? cause.after : undefined) ?? asked.retry)
      onConnection?.({ state: "waiting", delay, cause })
      await sleep(delay, signal)
    }
  }
  yield* progress.rest()
}

/** What follows; aborting the signal, `return()` and `throw()` close the connection at once, whatever is waited for. */
export const follow = <Item>(
  url: URL,
  progress: Progress<Item>,
  options: FollowOptions,
): AsyncGenerator<Item, void, undefined> => {
  const { signal } = options
  const stop = new AbortController()
  const left = new Error("the reader has left")
  const abort = (): void => stop.abort(signal?.reason)

  async function* read(): AsyncGenerator<Item, void, undefined> {
    signal?.addEventListener("abort", abort)
    if (signal?.aborted === true) abort()
    try {
      yield* connections(url, progress, options, stop.signal)
    } catch (cause) {
      // To a `next()` that was waiting when the reader left, that is the end.
      if (cause !== left) throw cause
    } finally {
      signal?.removeEventListener("abort", abort)
    }
  }

  const items = read()
  // A generator's own come only after the `next()` that is waiting, which on a quiet run is for ever.
  const end = items.return.bind(items)
  const fail = items.throw.bind(items)
  return Object.assign(items, {
    return: (value: void | PromiseLike<void>) => {
      stop.abort(left)
      return end(value)
    },
    throw: (error: unknown) => {
      stop.abort(left)
      return fail(error)
    },
  })
}
