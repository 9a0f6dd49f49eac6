/** When a job that failed is tried again: its schedule stepped over all its failures. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"

/** A failure as the schedule takes it: when it happened, and what it was. */
export interface Step<out Input> {
  readonly at: number
  readonly input: Input
}

/**
 * The pause after the last of the failures, in ms; `undefined` where the schedule is done, so that no retry follows.
 *
 * The schedule has no state but this: stepped anew each time, it goes on where it was in another process.
 */
export const delayAfter = <Input>(
  schedule: Schedule.Schedule<unknown, Input>,
  failures: ReadonlyArray<Step<Input>>,
): Effect.Effect<number | undefined> =>
  Effect.gen(function* () {
    const step = yield* Schedule.toStep(schedule)
    let delay: number | undefined
    for (const { at, input } of failures) {
      const next = yield* Pull.catchDone(step(at, input), () => Effect.undefined)
      if (next === undefined) return undefined
      delay = Duration.toMillis(next[1])
    }
    return delay === undefined || !Number.isFinite(delay) ? undefined : Math.max(0, delay)
  }).pipe(
    // A schedule is code of the user's: one that dies ends the retries, not the worker.
    Effect.catchCause((cause) => Effect.as(Effect.logError("a job's retry schedule died", cause), undefined)),
  )
