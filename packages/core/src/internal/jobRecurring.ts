/** Recurring jobs: each process sleeps to the next time of the schedule and asks the engine to let its job in. */
import * as Clock from "effect/Clock"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { JobPool, RecurringOptions } from "../JobPool.ts"
import type { JobId, NewJob } from "../JobRecord.ts"
import * as eventIds from "./eventIds.ts"
import * as jobEnqueue from "./jobEnqueue.ts"

/** How an engine that is away is asked again: from 100 ms, doubling to 10 s, jittered. */
const again = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("10 seconds")]).pipe(Schedule.jittered)

/** A clock that is set anew is noticed within this time, in ms. */
const longestSleep = 60_000

const sleepUntil = (at: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    now >= at ? Effect.void : Effect.andThen(Effect.sleep(Math.min(longestSleep, at - now)), sleepUntil(at)),
  )

export const make = (
  config: Pick<jobEnqueue.Config, "engine" | "random"> & { readonly enqueued: (job: NewJob) => Effect.Effect<void> },
): JobPool["Service"]["recurring"] => {
  const { engine, enqueued, random } = config
  const mint = eventIds.make(random)

  return Effect.fnUntraced(function* <P, S, E>(
    key: string,
    { catchUp = false, cron, job, options = {}, payload }: RecurringOptions<P, S, E>,
  ): Effect.fn.Return<void, never, Scope.Scope> {
    const fire = Effect.fnUntraced(function* (at: number) {
      const nextId = yield* mint(1)
      const given =
        // A payload that is a function itself has no JSON.
        typeof payload === "function" ? (payload as (at: DateTime.Utc) => P)(DateTime.makeUnsafe(at)) : payload
      const made = yield* Effect.fromResult(
        jobEnqueue.newJob({ job, payload: given, options }, nextId() as unknown as JobId, at, undefined),
      )
      const answer = yield* Effect.retry(engine.tick({ schedule: key, at, job: made }), {
        schedule: again,
        while: (error) => error._tag === "EngineFailed" && error.isRetryable,
      })
      if (Option.isSome(answer) && answer.value.created) yield* enqueued(made)
    })
    // A time that can't be fired for (a payload that its schema refuses) leaves the ones after it alone.
    const fired = (at: number) =>
      Effect.catchCause(fire(at), (cause) => Effect.logError(`the schedule ${key} did not fire for ${at}`, cause))

    // No error channel: who starts a program's schedules can't mend them, and its jobs must run all the same.
    if (key.length === 0 || key.length > 256 || !key.isWellFormed()) {
      const shown = JSON.stringify(key.slice(0, 40))
      return yield* Effect.logError(
        `the schedule ${shown} never fires: its key has other than 1 to 256 characters of Unicode`,
      )
    }
    const began = yield* Clock.currentTimeMillis
    const missed = Effect.gen(function* () {
      const last = yield* Effect.retry(engine.lastTick(key), { schedule: again, while: (error) => error.isRetryable })
      const newest = Cron.prev(cron, began).getTime()
      if (Option.isSome(last) && last.value < newest) yield* fire(newest)
    }).pipe(Effect.catchCause((cause) => Effect.logError(`the schedule ${key} could not catch up`, cause)))

    const loop = (after: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        const at = Cron.next(cron, after).getTime()
        return Effect.andThen(
          sleepUntil(at),
          Effect.andThen(
            fired(at),
            // What went by while the engine was away is left out, but for the time that was being tried.
            Effect.flatMap(Clock.currentTimeMillis, (now) => loop(Math.max(at, now))),
          ),
        )
      })

    // `Cron.next` throws where it finds no time: 30 February never comes.
    const firing = Effect.catchDefect(loop(began), (defect) =>
      Effect.logError(`the schedule ${key} fires no more: its Cron has no next time`, defect),
    )
    yield* Effect.forkScoped(catchUp ? Effect.andThen(missed, firing) : firing)
  })
}
