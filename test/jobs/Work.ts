/** The job of the kill suite, and the pool that every process of it has on the one file. */
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

export const Payload = Schema.Struct({
  /** How long a run takes. */
  ms: Schema.Int,
  /** How many attempts fail before one succeeds; as many as there are attempts: the job dies. */
  fails: Schema.Int,
})
export type Payload = typeof Payload.Type

export const maxAttempts = 4

export const Work = Job.make("work", {
  payload: Payload,
  success: Schema.Int,
  error: Schema.String,
  retry: Schedule.spaced("40 millis"),
  maxAttempts,
})

/** How long a killed worker keeps its jobs. */
export const lease = "1 second"

/** Jobs may be cut short by more kills than a machine would see in years. */
const maxCrashes = 1000

export const layer = (filename: string) =>
  JobPool.layer({ concurrency: 10, maxCrashes, grace: "30 millis" }).pipe(
    Layer.provide(SqliteJobEngine.layer({ lease })),
    Layer.provide(SqliteClient.layer({ filename })),
    Layer.provide(Throughline.layerCrypto),
  )
