/** Those who wait for jobs to settle: told at once by this process, found by looking at what others committed. */
import type { StoreUnavailable } from "@throughline/core/EventStoreError"
import type { JobId, JobRecord } from "@throughline/core/JobRecord"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { isLive } from "@throughline/core/JobRecord"
import type { Changes } from "./changes.ts"
import { closed } from "./groupCommit.ts"

export interface JobWaiters {
  /** Returns the job once it has settled; `look` loads it, or fails where it isn't known. */
  readonly wait: <E>(id: JobId, look: Effect.Effect<JobRecord, E>) => Effect.Effect<JobRecord, E | StoreUnavailable>
  /** Tells that jobs have settled. */
  readonly settled: (jobs: ReadonlyArray<JobRecord>) => void
}

/** How settled jobs are found. */
export interface Finding<E> {
  readonly changes: Changes
  /** The least time between two looks. */
  readonly pause: Duration.Duration
  readonly settled: (ids: ReadonlyArray<JobId>) => Effect.Effect<ReadonlyArray<JobId>, E>
}

/** Looks, while somebody waits, until the scope closes. */
export const make = Effect.fnUntraced(function* <E>(
  finding: Finding<E>,
): Effect.fn.Return<JobWaiters, never, Scope.Scope> {
  type Waiter = Deferred.Deferred<Option.Option<JobRecord>, StoreUnavailable>
  const waiting = new Map<JobId, Set<Waiter>>()
  const wanted = Latch.makeUnsafe(false)

  const tell = (id: JobId, told: Effect.Effect<Option.Option<JobRecord>, StoreUnavailable>) => {
    const waiters = waiting.get(id)
    if (waiters === undefined) return
    waiting.delete(id)
    for (const waiter of waiters) Deferred.doneUnsafe(waiter, told)
  }

  let isClosed = false
  // Whoever waits when the scope closes, or would afterwards, is told.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      for (const id of Array.from(waiting.keys())) tell(id, Effect.fail(closed))
    }),
  )

  const add = (id: JobId): Waiter => {
    const waiter: Waiter = Deferred.makeUnsafe()
    const waiters = waiting.get(id)
    if (waiters === undefined) waiting.set(id, new Set([waiter]))
    else waiters.add(waiter)
    wanted.openUnsafe()
    return waiter
  }

  const remove = (id: JobId, waiter: Waiter) => {
    const waiters = waiting.get(id)
    waiters?.delete(waiter)
    if (waiters?.size === 0) waiting.delete(id)
  }

  yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        if (waiting.size === 0) {
          wanted.closeUnsafe()
          yield* wanted.await
        }
        const seen = finding.changes.seen()
        // Whom this doesn't find now is looked for again after the next change.
        const found = yield* finding
          .settled([...waiting.keys()])
          .pipe(Effect.catch(() => Effect.succeed<ReadonlyArray<JobId>>([])))
        for (const id of found) tell(id, Effect.succeedNone)
        yield* Effect.ignore(finding.changes.after(seen))
        yield* Effect.sleep(finding.pause)
      }
    }),
  )

  return {
    wait: <F>(id: JobId, look: Effect.Effect<JobRecord, F>) => {
      const next: Effect.Effect<JobRecord, F | StoreUnavailable> = Effect.suspend(() => {
        if (isClosed) return Effect.fail(closed)
        // In place before the look, so that nothing is missed in between.
        const waiter = add(id)
        return look.pipe(
          Effect.flatMap((job) =>
            isLive(job.state)
              ? Effect.flatMap(Deferred.await(waiter), Option.match({ onNone: () => next, onSome: Effect.succeed }))
              : Effect.succeed(job),
          ),
          Effect.ensuring(Effect.sync(() => remove(id, waiter))),
        )
      })
      return next
    },
    settled: (jobs) => {
      for (const job of jobs) tell(job.id, Effect.succeedSome(job))
    },
  }
})
