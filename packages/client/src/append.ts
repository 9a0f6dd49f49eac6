/** Appends to a run so that a repeated try writes nothing twice. */
import { mostOfAppended, refusalOf, textOf } from "./internal/answer.ts"
import { givenUp, Lost, Violation } from "./internal/failure.ts"
import { defaultAttempts, delayOf, sleep, violationsAllowed, within } from "./internal/patience.ts"
import { uuidV7 } from "./internal/uuid.ts"
import type { RequestOptions } from "./RequestOptions.ts"

/** What an append takes: an event of the run's vocabulary and, optionally, its routing fields. */
export interface EventInput<E = unknown> {
  readonly event: E
  /** A UUIDv7; minted before the first try where absent. */
  readonly eventId?: string
  readonly agentId?: string
  readonly provider?: string
  readonly turnId?: string
  readonly tags?: ReadonlyArray<string>
  readonly correlation?: Readonly<Record<string, string>>
  /** ISO 8601, UTC, milliseconds; the clock here, before the first try, where absent. */
  readonly emittedAt?: string
}

/** Who appends: `number` counts appends to the run from 1 within an epoch, and a higher epoch takes over from a lower one. */
export interface Producer {
  readonly id: string
  readonly epoch: number
  readonly number: number
}

export interface AppendOptions extends RequestOptions {
  /** An identity of this one append where absent. */
  readonly producer?: Producer | undefined
  /** The run cursor that must be the head, or `"0"`: the run must be new. */
  readonly expected?: string | undefined
  /** A try that took so many ms is repeated; 30,000 by default. */
  readonly timeout?: number | undefined
}

/** Where each event is, and the head as far as this append knows. */
export interface Appended {
  readonly events: ReadonlyArray<{ readonly seq: number; readonly eventId: string; readonly cursor: string }>
  readonly cursor: string
}

const defaultTimeout = 30_000

const isAppended = (value: unknown, count: number): value is Appended =>
  typeof value === "object" &&
  value !== null &&
  "cursor" in value &&
  "events" in value &&
  Array.isArray(value.events) &&
  value.events.length === count

const post = async (
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: string,
  count: number,
  { fetch = globalThis.fetch, signal, timeout = defaultTimeout }: AppendOptions,
): Promise<Appended> => {
  const request = new AbortController()
  try {
    const response = await within(
      fetch(url, { method: "POST", headers, body, signal: request.signal }),
      timeout,
      signal,
    )
    const { status } = response
    if (status >= 400) throw await refusalOf(response, timeout, signal)
    const text = await textOf(response, mostOfAppended(count), timeout, signal)
    const answer = status === 200 ? jsonIn(text) : undefined
    if (isAppended(answer, count)) return answer
    throw new Violation(`the server answered an append with ${status} and ${text.slice(0, 80)}`, status)
  } finally {
    request.abort()
  }
}

const jsonIn = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * Appends events to the run at `url` (`…/runs/{runId}/events`), all or none, and tries again while whether it was done is
 * unknown: what identifies the append and its events is minted once, so what a lost answer has written is not written again.
 *
 * A query of `url` goes along: `vocabulary`, `sessionId`, `lease`.
 *
 * Throws {@link RunError}, such as `run-ended`, `producer-fenced`, `head-moved`, `invalid-body`; `unreachable` leaves open
 * whether the append was done: with a `producer` of your own, the same append may be made again.
 */
export const append = async <E = unknown>(
  url: string | URL,
  events: EventInput<E> | ReadonlyArray<EventInput<E>>,
  options: AppendOptions = {},
): Promise<Appended> => {
  const target = new URL(url, globalThis.location?.href)
  const inputs = ([] as ReadonlyArray<EventInput<E>>).concat(events)
  const now = new Date().toISOString()
  const body = JSON.stringify(
    inputs.map((input) => ({ ...input, eventId: input.eventId ?? uuidV7(), emittedAt: input.emittedAt ?? now })),
  )
  const { attempts = defaultAttempts, expected, producer = { id: uuidV7(), epoch: 1, number: 1 }, signal } = options
  const headers = {
    ...options.headers,
    "content-type": "application/json",
    "producer-id": producer.id,
    "producer-epoch": String(producer.epoch),
    "producer-seq": String(producer.number),
    ...(expected === undefined ? undefined : { "if-match": `"${expected}"` }),
  }
  let violations = 0
  for (let failures = 1; ; failures++) {
    try {
      signal?.throwIfAborted()
      return await post(target, headers, body, inputs.length, options)
    } catch (cause) {
      const isLost = cause instanceof Lost
      if (!isLost && !(cause instanceof Violation)) throw cause
      if (!isLost && ++violations >= violationsAllowed) throw givenUp("protocol-violation", cause)
      if (failures >= attempts) throw givenUp("unreachable", cause)
      await sleep(delayOf(options, failures, isLost ? cause.after : undefined), signal)
    }
  }
}
