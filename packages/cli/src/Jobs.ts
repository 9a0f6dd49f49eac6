/** `throughline jobs`: the jobs of a store. */
import type { ListRequest } from "@throughline/core/JobEngine"
import { JobPool } from "@throughline/core/JobPool"
import type { JobId } from "@throughline/core/JobRecord"
import { timestamp } from "@throughline/core/Vocabulary"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Exit from "./Exit.ts"
import * as JobRender from "./JobRender.ts"
import { Output, type OutputClosed, tell } from "./Output.ts"
import * as Render from "./Render.ts"

/** `throughline … | head`: whoever has read enough goes, and so do we. */
const untilReaderGoes = <A, E extends { readonly _tag: string }, R>(
  effect: Effect.Effect<A, E | OutputClosed, R>,
): Effect.Effect<A | void, E | OutputClosed, R> =>
  Effect.catchIf(
    effect,
    (error): error is OutputClosed => error._tag === "OutputClosed" && (error as OutputClosed).isReaderGone,
    () => Effect.void,
  )

const print = Effect.fnUntraced(function* (lines: ReadonlyArray<string>) {
  const output = yield* Output
  yield* output.write("stdout", `${lines.join("\n")}\n`)
})

/** A value as a line of JSON; on a terminal without the characters that would act on it. */
const toLine = Effect.map(
  TerminalCapabilities.TerminalCapabilities,
  ({ canAnimate }) =>
    (value: unknown): string =>
      canAnimate ? Render.safeJson(JSON.stringify(value)) : JSON.stringify(value),
)

const paint = Effect.map(TerminalCapabilities.TerminalCapabilities, ({ canColor }) => Render.paint(canColor))

export const unknownJob = (id: JobId) =>
  new Exit.CommandFailed({ code: Exit.unknown, message: `no job ${id} in this store` })

/** Lists a page of jobs: a table, or a line of JSON each. Says on standard error how to get the next page. */
export const list = Effect.fnUntraced(function* (request: ListRequest, json: boolean) {
  const pool = yield* JobPool
  const now = yield* Clock.currentTimeMillis
  const jobs = yield* pool.list(request)
  const last = jobs.at(-1)
  if (last === undefined) return yield* tell("no jobs")
  const line = yield* toLine
  yield* print(
    json ? jobs.map((job) => line(JobRender.jsonOf(job, timestamp))) : JobRender.table(jobs, now, yield* paint),
  )
  if (jobs.length === request.limit) yield* tell(`there may be more: --after ${last.id}`)
}, untilReaderGoes)

/** Prints all that is kept of a job. */
export const show = Effect.fnUntraced(function* (id: JobId, json: boolean) {
  const pool = yield* JobPool
  const found = yield* pool.get(id)
  if (Option.isNone(found)) return yield* unknownJob(id)
  const line = yield* toLine
  yield* print(
    json
      ? [line(JobRender.jsonOf(found.value, timestamp))]
      : JobRender.details(found.value, yield* Clock.currentTimeMillis, timestamp, yield* paint),
  )
}, untilReaderGoes)

/** Prints how many jobs there are, by name and state. */
export const counts = Effect.fnUntraced(function* (json: boolean) {
  const pool = yield* JobPool
  const counted = JobRender.countsOf(yield* pool.counts)
  if (counted.length === 0) return yield* tell("no jobs")
  yield* print(json ? counted.map((count) => JSON.stringify(count)) : JobRender.countsTable(counted, yield* paint))
}, untilReaderGoes)

/** What became of a job, as a line; in words for a person. */
interface Did {
  readonly id: JobId
  readonly did: string
  readonly words: string
}

/** Does something to each of some jobs. One that fails holds up no other; the first failure's code is the command's. */
const each = Effect.fnUntraced(function* <E extends { readonly _tag: string; readonly message: string }>(
  ids: ReadonlyArray<JobId>,
  json: boolean,
  act: (id: JobId) => Effect.Effect<Did, E, JobPool>,
) {
  let failed: Exit.Exited | undefined
  for (const id of ids) {
    const done = yield* Effect.result(act(id))
    if (done._tag === "Success") {
      const { did, words } = done.success
      yield* print([json ? JSON.stringify({ id, did }) : `${id} ${words}`])
    } else {
      failed ??= new Exit.Exited({ code: Exit.codeOf(done.failure) })
      yield* tell(done.failure.message)
    }
  }
  if (failed !== undefined) return yield* failed
}, untilReaderGoes)

/** Makes dead jobs ready again. */
export const retry = (ids: ReadonlyArray<JobId>, json: boolean) =>
  each(ids, json, (id) =>
    Effect.flatMap(JobPool, (pool) => Effect.as(pool.retryDead(id), { id, did: "retried", words: "is ready again" })),
  )

const cancelWords = {
  cancelled: "is cancelled",
  requested: "is running; its worker is told to stop it",
  settled: "has settled before; nothing changed",
} as const

/** Cancels jobs that have not settled. */
export const cancel = (ids: ReadonlyArray<JobId>, json: boolean) =>
  each(ids, json, (id) =>
    Effect.flatMap(JobPool, (pool) => Effect.map(pool.cancel(id), (did) => ({ id, did, words: cancelWords[did] }))),
  )
