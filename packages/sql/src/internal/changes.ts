/**
 * Tells whoever waits for something in the database that it may have come.
 *
 * What this process commits is told at once. What others commit is found by looking at a number that changes with each commit
 * (or, where the database has none, by telling everyone each time); while nobody waits, nobody looks.
 */
import type { StoreUnavailable } from "@throughline/core/EventStoreError"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { closed } from "./groupCommit.ts"

export interface Changes {
  /** How often something may have changed so far. Read it before looking, wait for the next one after. */
  readonly seen: () => number
  /** Returns when something may have changed after the look at `seen`. */
  readonly after: (seen: number) => Effect.Effect<void, StoreUnavailable>
  /** Something was committed by this process. */
  readonly tell: () => void
}

/** How the looks go. */
export interface Looking {
  readonly interval: Duration.Duration
  /** A number that differs from the one before if anything was committed in between. */
  readonly version?: Effect.Effect<number, SqlError> | undefined
}

/** Looks, while somebody waits, until the scope closes. */
export const make = Effect.fnUntraced(function* (looking: Looking): Effect.fn.Return<Changes, never, Scope.Scope> {
  const waiting = new Set<Deferred.Deferred<void, StoreUnavailable>>()
  let isClosed = false
  const wanted = Latch.makeUnsafe(false)
  let epoch = 0

  const tell = () => {
    epoch += 1
    // Whoever is told may wait for the next one before the others are told.
    const told = [...waiting]
    waiting.clear()
    for (const waiter of told) Deferred.doneUnsafe(waiter, Effect.void)
  }

  // Whoever waits when the scope closes, or would afterwards, is told.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      for (const waiter of waiting) Deferred.doneUnsafe(waiter, Effect.fail(closed))
    }),
  )

  let version: number | undefined
  const look =
    looking.version === undefined
      ? Effect.sync(tell)
      : // A look that fails says nothing; whoever waits for a job learns why when it asks.
        Effect.match(looking.version, {
          onFailure: tell,
          onSuccess: (now) => {
            if (now !== version) tell()
            version = now
          },
        })

  yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        // An idle process pays for this loop alone.
        if (waiting.size === 0) {
          wanted.closeUnsafe()
          yield* wanted.await
        }
        yield* look
        yield* Effect.sleep(looking.interval)
      }
    }),
  )

  return {
    seen: () => epoch,
    after: (seen) =>
      Effect.suspend((): Effect.Effect<void, StoreUnavailable> => {
        if (isClosed) return Effect.fail(closed)
        if (seen !== epoch) return Effect.void
        const waiter = Deferred.makeUnsafe<void, StoreUnavailable>()
        waiting.add(waiter)
        wanted.openUnsafe()
        return Effect.onInterrupt(Deferred.await(waiter), () => Effect.sync(() => waiting.delete(waiter)))
      }),
    tell,
  }
})
