/** What the tests of the engine share: jobs to give it, and a worker that does what a test says. */
import type { Claim, Outcome, Settlement } from "@throughline/core/JobEngine"
import { JobEngine } from "@throughline/core/JobEngine"
import {
  type JobFailure,
  JobId,
  type JobJson,
  JobName,
  type JobRecord,
  type JobState,
  type NewJob,
} from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as BullmqJobEngine from "../src/BullmqJobEngine.ts"

export const name = (text: string) => JobName.make(text)
export const json = (value: unknown) => JSON.stringify(value) as JobJson

export const layerOf = (url: string, options: BullmqJobEngine.Options) =>
  BullmqJobEngine.layer({ url, ...options }).pipe(Layer.provideMerge(Throughline.layerCrypto))

/** A job; what isn't given is that of a plain one. */
export const newJob = Effect.fnUntraced(function* (
  given: Partial<NewJob> = {},
): Effect.fn.Return<NewJob, never, SecureRandom.SecureRandom> {
  const random = yield* SecureRandom.SecureRandom
  return {
    id: JobId.make(yield* random.uuidV7()),
    name: name("mail"),
    payload: json({ to: "a@b" }),
    priority: "normal",
    maxAttempts: 4,
    keepResult: 60_000,
    keepDead: 60_000,
    ...given,
  }
})

/** Enqueues one job and gives it. */
export const enqueue = Effect.fnUntraced(function* (given: Partial<NewJob> = {}) {
  const engine = yield* JobEngine
  const job = yield* newJob(given)
  yield* engine.enqueue({ jobs: [job] })
  return job
})

export const succeeded = (value: unknown = null): Outcome => ({ _tag: "Succeeded", result: json(value) })
export const failure = (error: string): JobFailure => ({ _tag: "HandlerFailed", at: 1, error })

class NotYet extends Data.TaggedError("NotYet")<{ readonly what: string }> {}

/** Waits until a condition holds; fails after the time. */
export const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>, millis = 10_000) =>
  condition.pipe(
    Effect.flatMap((holds) => (holds ? Effect.void : Effect.fail(new NotYet({ what })))),
    Effect.retry({
      while: (error) => error instanceof NotYet,
      schedule: Schedule.upTo(Schedule.spaced("10 millis"), { duration: millis }),
    }),
  )

interface Seen {
  readonly started: Array<JobRecord>
  readonly settled: Array<readonly [JobRecord, Settlement]>
}

/** Works on names with a handler until the scope closes, and remembers what was told. */
export const workOn = Effect.fnUntraced(function* (
  names: ReadonlyArray<string>,
  handler: (claim: Claim) => Effect.Effect<Outcome>,
  options: { readonly concurrency?: number; readonly maxCrashes?: number; readonly perName?: number } = {},
) {
  const engine = yield* JobEngine
  const seen: Seen = { started: [], settled: [] }
  const working = yield* engine.work(
    { concurrency: options.concurrency ?? 10, maxCrashes: options.maxCrashes ?? 10 },
    {
      run: (claim) => Effect.suspend(() => (seen.started.push(claim.job), handler(claim))),
      settled: (job, settlement) => Effect.sync(() => void seen.settled.push([job, settlement])),
    },
  )
  const handled = yield* Effect.forEach(names, (each) =>
    working.handle(name(each), options.perName === undefined ? {} : { concurrency: options.perName }),
  )
  return { ...seen, working, handled }
})

export const stateOf = Effect.fnUntraced(function* (job: Pick<JobRecord, "id">) {
  const engine = yield* JobEngine
  return Option.getOrUndefined(yield* engine.get(job.id))?.state
})

/** Waits until a job is in a state; `undefined`: until it isn't kept. */
export const untilState = (job: Pick<JobRecord, "id">, state: JobState | undefined) =>
  until(
    `the job is ${state}`,
    Effect.map(stateOf(job), (is) => is === state),
  )

export const failed = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)
