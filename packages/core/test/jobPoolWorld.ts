/** What tests of the job pool share: a pool in memory, and jobs to try it with. */
import * as Job from "@throughline/core/Job"
import * as JobEngine from "@throughline/core/JobEngine"
import * as JobPool from "@throughline/core/JobPool"
import { type JobId, JobName } from "@throughline/core/JobRecord"
import * as Throughline from "@throughline/core/Throughline"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

export const pool = (options?: JobPool.JobPoolOptions & JobEngine.EngineOptions) =>
  JobPool.layerMemory(options).pipe(Layer.provide(Throughline.layerCrypto))

/** An engine that outlives the pools over it. */
export const engine = (options?: JobEngine.EngineOptions) =>
  JobEngine.layerMemory(options).pipe(Layer.provideMerge(Throughline.layerCrypto))

export class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

/** A job that gives back what it is told to note. */
export const Note = Job.make("note", { payload: Schema.String, success: Schema.String, error: Refused })

/** A handler that notes its payloads, and when. */
export const noting = () => {
  const notes: Array<string> = []
  const times: Array<number> = []
  const handler = (note: string) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      notes.push(note)
      times.push(now)
      return note
    })
  return { notes, times, handler }
}

/** The record of a job that must be kept. */
export const record = Effect.fnUntraced(function* (id: JobId) {
  const jobs = yield* JobPool.JobPool
  return Option.getOrThrow(yield* jobs.get(id))
})

/** Lets what can happen without time passing happen. */
export const settle = Effect.yieldNow.pipe(Effect.repeat({ times: 50 }))

export const name = (text: string) => JobName.make(text)
