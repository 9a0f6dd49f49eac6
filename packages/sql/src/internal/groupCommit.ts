/**
 * One transaction for what several fibers want to write at the same moment.
 *
 * A commit costs the same however much is in it, so writes that are waiting go together. Each keeps its own answer: one that
 * fails because of the database undoes the whole transaction, and each is then tried alone.
 */
import type { StoreBroken } from "@throughline/core/EventStoreError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as settings from "./settings.ts"

/** What goes wrong below any write. */
export type Below = SqlError | StoreBroken

/**
 * Runs a write in a transaction and returns once that is committed. A write that fails with an error of its own must not
 * have written anything: the others it shares the transaction with are committed all the same.
 *
 * Within a transaction of the calling fiber the write is part of that one.
 */
export type Commit = <A, E>(write: Effect.Effect<A, E>) => Effect.Effect<A, E | SqlError>

/** Writes in one transaction at most; more than that holds up other users of the connection. */
const most = 256

interface Waiting {
  readonly write: Effect.Effect<unknown, unknown>
  readonly answer: Deferred.Deferred<unknown, unknown>
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
): Effect.fn.Return<Commit, never, Scope.Scope> {
  const inTransaction = settings.writing(sql)
  const pending: Array<Waiting> = []
  const wake = Latch.makeUnsafe(false)

  const alone = (waiting: Waiting) =>
    Effect.flatMap(Effect.exit(inTransaction(waiting.write)), (exit) => Deferred.done(waiting.answer, exit))

  const together = (group: ReadonlyArray<Waiting>) =>
    inTransaction(
      Effect.gen(function* () {
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
      Effect.flatMap((ended) =>
        Exit.isSuccess(ended)
          ? Effect.forEach(group, ({ answer }, index) => Deferred.done(answer, ended.value[index]!), { discard: true })
          : Effect.forEach(group, alone, { discard: true }),
      ),
    )

  const turn = Effect.gen(function* () {
    yield* wake.await
    while (pending.length > 0) {
      const group = pending.splice(0, most).filter(({ isGone }) => !isGone)
      const first = group[0]
      if (first !== undefined) yield* group.length === 1 ? alone(first) : together(group)
    }
    wake.closeUnsafe()
  })
  yield* Effect.forkScoped(Effect.forever(turn))

  return <A, E>(write: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> =>
    Effect.flatMap(Effect.serviceOption(sql.transactionService), (outer) => {
      if (Option.isSome(outer)) return inTransaction(write)
      const answer = Deferred.makeUnsafe<A, E | SqlError>()
      // The answer is completed with the exit of this very write.
      const waiting: Waiting = { write, answer: answer as Deferred.Deferred<unknown, unknown>, isGone: false }
      pending.push(waiting)
      wake.openUnsafe()
      return Effect.onInterrupt(Deferred.await(answer), () =>
        Effect.sync(() => {
          waiting.isGone = true
        }),
      )
    })
})
