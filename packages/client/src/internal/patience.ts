/** How long to wait for an answer, for bytes, and before the next try. */
import type { RequestOptions } from "../RequestOptions.ts"
import { Lost } from "./failure.ts"

/** A connection on which no byte came for so many ms is lost: three times the heartbeat of a server. */
export const defaultIdleTimeout = 45_000

/** Characters that the lines of one event may have. */
export const defaultMaxEventSize = 16 * 1024 * 1024

/** Tries in a row that may fail. */
export const defaultAttempts = 30

/** Answers in a row that may break the protocol. */
export const violationsAllowed = 3

/** The first wait before another try, the longest, and the longest that a server may ask for, in ms. */
export const firstDelay = 1000
export const longestDelay = 30_000
export const longestAsked = 300_000

/**
 * The time before another try, in ms: doubling, no less than the server asked for, plus a random part of up to a half, so
 * that clients which lost one server don't come back at once together.
 */
export const delayOf = (options: RequestOptions, failures: number, asked: number | undefined): number => {
  if (options.backoff !== undefined) return options.backoff(failures, asked)
  const delay = Math.min(firstDelay * 2 ** (failures - 1), longestDelay)
  return Math.max(delay, Math.min(asked ?? 0, longestAsked)) * (1 + Math.random() / 2)
}

const lost = (cause: unknown): never => {
  throw new Lost(`the connection failed: ${String(cause)}`, { cause })
}

/**
 * Waits for input or output, but no longer than `ms`, nor than the signal allows. Its failure is a lost connection, and so
 * is its silence, unless `late` says what else.
 */
export const within = async <A>(
  promise: Promise<A>,
  ms: number,
  signal: AbortSignal | undefined,
  late = (): A => {
    throw new Lost(`nothing came for ${ms} ms`)
  },
): Promise<A> => {
  const deadline = new AbortController()
  const stop = () => deadline.abort()
  signal?.addEventListener("abort", stop)
  if (signal?.aborted === true) stop()
  try {
    return await Promise.race([promise.catch(lost), sleep(ms, deadline.signal).then(late, late)])
  } finally {
    signal?.removeEventListener("abort", stop)
    stop()
    // Also where the abort has failed what was waited for, or something came in the same moment.
    signal?.throwIfAborted()
  }
}

/** A timer that is set for longer fires at once. */
const longestTimer = 2 ** 31 - 1

/** Waits, as long as the signal allows; some 25 days at most. */
export const sleep = (ms: number, signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(signal!.reason)
    }
    const wake = () => {
      signal?.removeEventListener("abort", abort)
      resolve()
    }
    // @effect-diagnostics-next-line globalTimers:off -- there is no Effect here
    const timer = setTimeout(wake, Math.min(ms, longestTimer))
    if (signal?.aborted === true) abort()
    else signal?.addEventListener("abort", abort)
  })
