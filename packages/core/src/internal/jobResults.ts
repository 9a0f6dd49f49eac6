/** The way out: results by job, typed, and all of them in order. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { Job } from "../Job.ts"
import type { JobEngine } from "../JobEngine.ts"
import * as JobError from "../JobError.ts"
import type { AwaitError, Completed, JobPool } from "../JobPool.ts"
import type { JobRecord } from "../JobRecord.ts"
import * as JobRules from "../JobRules.ts"

/** Results read in one go. */
const pageSize = 500

const resultOf = <Name extends string, P, S, E>(
  job: Job<Name, P, S, E>,
  record: JobRecord,
): Effect.Effect<S, E | AwaitError> => {
  const { failures, id, name, result, state } = record
  const unreadable = (problem: string) => Effect.fail(new JobError.ResultUnreadable({ id, name, problem }))
  if (name !== job.name) return unreadable(`it was asked for as a job ${job.name}`)
  if (state === "cancelled") return Effect.fail(new JobError.JobWasCancelled({ id, name }))
  if (result !== undefined) {
    const decoded = job.success.decode(result)
    return Result.isSuccess(decoded) ? Effect.succeed(decoded.success) : unreadable(decoded.failure)
  }
  const failure = failures.at(-1)
  if (failure === undefined) return unreadable("it has none")
  if (failure._tag !== "HandlerFailed") return Effect.fail(new JobError.JobDied({ id, name, failure }))
  const error = job.error.decode(JSON.stringify(failure.error))
  return Result.isSuccess(error) ? Effect.fail(error.success) : unreadable(error.failure)
}

export const make = (engine: JobEngine["Service"]): Pick<JobPool["Service"], "awaitResult" | "completed"> => {
  /** The page after a cursor, once there is one. */
  const pageAfter = (after: string): ReturnType<JobEngine["Service"]["results"]> =>
    Effect.flatMap(engine.results({ after, limit: pageSize }), (page) =>
      page.results.length > 0
        ? Effect.succeed(page)
        : Effect.andThen(engine.awaitResults(page.cursor), pageAfter(page.cursor)),
    )

  const from = (after: string | undefined) =>
    after === undefined
      ? engine.resultsEnd
      : after === "oldest"
        ? // A page without a cursor begins with the oldest result, wherever that is.
          Effect.map(engine.results({ limit: 1 }), ({ cursor, results }) =>
            results[0] === undefined ? cursor : JobRules.cursorAt(cursor, results[0].position - 1),
          )
        : Effect.succeed(after)

  return {
    awaitResult: (job, id) => Effect.flatMap(engine.awaitSettled(id), (record) => resultOf(job, record)),
    completed: (options) =>
      Stream.unwrap(
        Effect.map(from(options?.after), (start) =>
          Stream.paginate(start, (after) =>
            Effect.map(pageAfter(after), ({ cursor, results }) => {
              const completed = results.map((result): Completed => ({
                ...result,
                cursor: JobRules.cursorAt(cursor, result.position),
              }))
              return [completed, Option.some(cursor)] as const
            }),
          ),
        ),
      ),
  }
}
