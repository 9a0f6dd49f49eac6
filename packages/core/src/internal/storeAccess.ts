/** How the hub reads the store: each call bounded in time, failures retried by the schedule, equal pages read once. */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import type { RunCursor } from "../Cursor.ts"
import type { RunId } from "../Envelope.ts"
import type { EventStore, Page, ReadError } from "../EventStore.ts"
import { ReadFailed, StoreBroken, StoreUnavailable } from "../EventStoreError.ts"
import type { RunHead } from "../RunHead.ts"

export interface StoreAccess {
  readonly head: (runId: RunId) => Effect.Effect<RunHead, ReadFailed>
  /** A page; readers that ask for the same page while it is being read share the read. */
  readonly page: (runId: RunId, after: RunCursor, limit: number) => Effect.Effect<Page, ReadError>
}

const isRetryable = (error: { readonly _tag: string }): boolean =>
  error._tag === "ReadFailed" && (error as ReadFailed).isRetryable

/** A read on its way; `number` counts the reads as they begin. */
interface InFlight {
  readonly number: number
  readonly answer: Deferred.Deferred<Exit.Exit<Page, ReadError>>
}

/** Whether a page says that there is nothing more of the run yet. */
const reachesHead = ({ envelopes, head }: Page): boolean =>
  (head.status === "running" || head.status === "unknown") &&
  (envelopes[envelopes.length - 1]?.seq ?? head.lastSeq) === head.lastSeq

/** Answers that are about a moment, such as "nothing more yet": a read that began before the caller asked can't give them. */
const isOfTheMoment = (exit: Exit.Exit<Page, ReadError>): boolean =>
  Exit.isSuccess(exit)
    ? reachesHead(exit.value)
    : exit.cause.reasons.some(
        (reason) =>
          reason._tag === "Fail" && (reason.error._tag === "CursorAhead" || reason.error._tag === "CursorStale"),
      )

export const make = (
  store: EventStore["Service"],
  options: { readonly retry: Schedule.Schedule<unknown>; readonly readTimeout: Duration.Input },
): StoreAccess => {
  const inFlight = new Map<string, InFlight>()
  let begun = 0

  const bounded = <A, E extends { readonly _tag: string }>(runId: RunId, effect: Effect.Effect<A, E>) =>
    effect.pipe(
      // A store that dies must not end whoever watches with it.
      Effect.catchDefect((cause) =>
        Effect.fail(new ReadFailed({ runId, reason: new StoreBroken({ detail: "a defect in the store", cause }) })),
      ),
      Effect.timeoutOrElse({
        duration: options.readTimeout,
        orElse: () =>
          Effect.fail(new ReadFailed({ runId, reason: new StoreUnavailable({ detail: "no answer in time" }) })),
      }),
    )

  // Most reads succeed, and a schedule's step is made only for those that don't: it costs more than a read from memory.
  const retried = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    effect.pipe(
      Effect.catch((first) => {
        if (!isRetryable(first)) return Effect.fail(first)
        let attempts = 0
        return Effect.retry(
          Effect.suspend(() => (attempts++ === 0 ? Effect.fail(first) : effect)),
          { schedule: options.retry, while: isRetryable },
        )
      }),
    )

  const own = (key: string, runId: RunId, after: RunCursor, limit: number) =>
    // Between announcing the read and making sure that it answers nothing may interrupt: others wait for it.
    Effect.uninterruptibleMask((restore) => {
      const read: InFlight = { number: ++begun, answer: Deferred.makeUnsafe<Exit.Exit<Page, ReadError>>() }
      inFlight.set(key, read)
      return Effect.onExit(restore(bounded(runId, store.read({ runId, after, limit }))), (exit) =>
        Effect.sync(() => {
          if (inFlight.get(key) === read) inFlight.delete(key)
          Deferred.doneUnsafe(read.answer, Effect.succeed(exit))
        }),
      )
    })

  /** Joins the read that is on its way, or reads; `asked` is the last read that began before the caller asked. */
  const shared = (
    key: string,
    asked: number,
    ...[runId, after, limit]: Parameters<StoreAccess["page"]>
  ): Effect.Effect<Page, ReadError> => {
    const joined = inFlight.get(key)
    if (joined === undefined) return own(key, runId, after, limit)
    return Effect.flatMap(Deferred.await(joined.answer), (exit) =>
      Exit.hasInterrupts(exit) || (joined.number <= asked && isOfTheMoment(exit))
        ? shared(key, asked, runId, after, limit)
        : exit,
    )
  }

  return {
    head: (runId) => retried(bounded(runId, store.head(runId))),
    page: (runId, after, limit) =>
      retried(Effect.suspend(() => shared(`${runId} ${after} ${limit}`, begun, runId, after, limit))),
  }
}
