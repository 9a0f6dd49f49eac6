/**
 * One transaction for what several fibers want to write at the same moment.
 *
 * A commit costs the same however much is in it, so writes that are waiting go together. Each keeps its own answer: one that
 * fails because of the database undoes the whole transaction, and each is then tried alone.
 */
import { type StoreBroken, StoreUnavailable } from "@throughline/core/EventStoreError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as settings from "./settings.ts"

/** What goes wrong below any write; `StoreUnavailable`: the engine is closed. */
export type Below = SqlError | StoreBroken | StoreUnavailable

/** What everything fails with that is asked of an engine whose scope is closed. */
export const closed = new StoreUnavailable({ detail: "the job engine is closed" })

/**
 * Runs a write in a transaction and returns once that is committed. A write that fails with an error of its own must not
 * have written anything: the others it shares the transaction with are committed all the same.
 *
 * Within a transaction of the calling fiber the write is part of that one.
 */
export type Commit = <A, E>(write: Effect.Effect<A, E>) => Effect.Effect<A, E | SqlError | StoreUnavailable>

/** The same for items of one kind, which are written by one call: an answer for each, in order. */
export type Batch = <Item, A>(
  write: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<A>, SqlError>,
) => (item: Item) => Effect.Effect<A, SqlError | StoreUnavailable>

export interface GroupCommit {
  readonly commit: Commit
  readonly batch: Batch
}

/** Writes in one transaction at most, and items in one batch; more than that holds up other users of the connection. */
const most = 256

interface Waiting {
  /** Nobody waits for it any more. */
  readonly isGone: () => boolean
  readonly write: Effect.Effect<unknown, unknown>
  readonly done: (exit: Exit.Exit<unknown, unknown>) => void
}

interface Entry<out Item, in out A> {
  readonly item: Item
  readonly answer: Deferred.Deferred<A, SqlError | StoreUnavailable>
  isGone: boolean
}

const isBelow = (exit: Exit.Exit<unknown, unknown>): exit is Exit.Failure<never, SqlError> => {
  if (Exit.isSuccess(exit)) return false
  const error = Exit.findErrorOption(exit)
  // A defect may have left something written behind.
  return Option.isNone(error) || (error.value as { readonly _tag?: string })._tag === "SqlError"
}

/** The commits of one client, until the scope closes. */
export const make = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
): Effect.fn.Return<GroupCommit, never, Scope.Scope> {
  const inTransaction = settings.writing(sql)
  const pending: Array<Waiting> = []
  const wake = Latch.makeUnsafe(false)

  const alone = (waiting: Waiting) => Effect.map(Effect.exit(inTransaction(waiting.write)), waiting.done)

  const together = (group: ReadonlyArray<Waiting>) => {
    let hasBegun = false
    return inTransaction(
      Effect.gen(function* () {
        hasBegun = true
        const exits: Array<Exit.Exit<unknown, unknown>> = []
        for (const { write } of group) {
          const exit = yield* Effect.exit(write)
          if (isBelow(exit)) return yield* exit
          exits.push(exit)
        }
        return exits
      }),
    ).pipe(
      Effect.exit,
      Effect.flatMap((ended) => {
        if (Exit.isFailure(ended)) {
          // Where none can begin, each of them would wait as long as all of them have.
          if (!hasBegun) return Effect.sync(() => group.forEach(({ done }) => done(ended)))
          return Effect.forEach(group, (one) => (one.isGone() ? Effect.void : alone(one)), { discard: true })
        }
        group.forEach(({ done }, index) => done(ended.value[index]!))
        return Effect.void
      }),
    )
  }

  let isClosed = false
  // Whoever waits when the scope closes, or asks afterwards, is told.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      for (const { done } of pending.splice(0)) done(Exit.fail(closed))
    }),
  )

  const turn = Effect.gen(function* () {
    yield* wake.await
    while (pending.length > 0) {
      const group = pending.splice(0, most).filter(({ isGone }) => !isGone())
      const first = group[0]
      // Each has an answer, also where the scope closes meanwhile.
      if (first !== undefined) yield* Effect.uninterruptible(group.length === 1 ? alone(first) : together(group))
    }
    wake.closeUnsafe()
  })
  yield* Effect.forkScoped(Effect.forever(turn))

  const add = (waiting: Waiting) => {
    if (isClosed) return waiting.done(Exit.fail(closed))
    pending.push(waiting)
    wake.openUnsafe()
  }

  const outside = <A, E>(inside: Effect.Effect<A, E>, queued: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(Effect.serviceOption(sql.transactionService), (outer) => (Option.isSome(outer) ? inside : queued))

  const commit: Commit = <A, E>(write: Effect.Effect<A, E>) =>
    outside<A, E | SqlError | StoreUnavailable>(
      inTransaction(write),
      Effect.suspend(() => {
        const answer = Deferred.makeUnsafe<A, E | SqlError | StoreUnavailable>()
        let isGone = false
        // What it is done with is the exit of this very write.
        const done = (exit: Exit.Exit<unknown, unknown>) => Deferred.doneUnsafe(answer, exit as Exit.Exit<A, E>)
        add({ write, done, isGone: () => isGone })
        return Effect.onInterrupt(Deferred.await(answer), () =>
          Effect.sync(() => {
            isGone = true
          }),
        )
      }),
    )

  function batch<Item, A>(
    write: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<A>, SqlError>,
  ): (item: Item) => Effect.Effect<A, SqlError | StoreUnavailable> {
    /** Takes items until it is written. */
    let open: Array<Entry<Item, A>> | undefined

    const begin = (first: Entry<Item, A>): void => {
      const entries = [first]
      let written: ReadonlyArray<Entry<Item, A>> = entries
      open = entries
      const close = () => {
        if (open === entries) open = undefined
      }
      add({
        isGone: () => {
          const isGone = entries.every((entry) => entry.isGone)
          if (isGone) close()
          return isGone
        },
        write: Effect.suspend(() => {
          close()
          written = entries.filter(({ isGone }) => !isGone)
          return write(written.map(({ item }) => item))
        }),
        done: (exit) => {
          close()
          // What a batch is done with is the exit of its own write.
          const ended = exit as Exit.Exit<ReadonlyArray<A>, SqlError | StoreUnavailable>
          written.forEach(({ answer }, index) =>
            Deferred.doneUnsafe(
              answer,
              Exit.map(ended, (answers) => answers[index]!),
            ),
          )
        },
      })
    }

    return (item) =>
      outside<A, SqlError | StoreUnavailable>(
        Effect.map(inTransaction(write([item])), (answers) => answers[0]!),
        Effect.suspend(() => {
          const entry: Entry<Item, A> = { item, answer: Deferred.makeUnsafe(), isGone: false }
          if (open === undefined || open.length >= most) begin(entry)
          else open.push(entry)
          return Effect.onInterrupt(Deferred.await(entry.answer), () =>
            Effect.sync(() => {
              entry.isGone = true
            }),
          )
        }),
      )
  }

  return { commit, batch }
})
