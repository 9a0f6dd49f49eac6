/**
 * What every job engine promises, and a pool over it: an accepted job runs to its end, in order, whatever fails, stops or
 * crashes, and no result is lost.
 *
 * The layer provides an engine. Laws about the bounds of the results log need a layer that takes `EngineOptions`. The
 * engine's clock is Effect's `Clock`: time is virtual. The layer of an engine behind a socket provides `Patience` too.
 *
 * ```ts
 * import * as JobEngine from "@throughline/core/JobEngine"
 * import * as JobPoolLaws from "@throughline/testing/JobPoolLaws"
 *
 * JobPoolLaws.suite("memory", (options) => JobEngine.layerMemory(options))
 * ```
 */
import type { EngineOptions, JobEngine } from "@throughline/core/JobEngine"
import { enqueuesOnce, results, settles, told } from "./internal/jobLawsRecords.ts"
import { retries, shutdown, ticks } from "./internal/jobLawsTime.ts"
import { whole } from "./internal/jobLawsWhole.ts"
import { Patience } from "./internal/jobWorld.ts"
import * as Law from "./Law.ts"

export type JobLaw = Law.Law<JobEngine, EngineOptions>

export { Patience }

export { enqueuesOnce, results, retries, settles, shutdown, ticks, told, whole }

export const laws: ReadonlyArray<JobLaw> = [whole, enqueuesOnce, settles, told, results, retries, shutdown, ticks]

/** Registers every law as a vitest test of the engine named `name`. */
export const suite = (name: string, subject: Law.Subject<JobEngine, EngineOptions>, options?: Law.SuiteOptions): void =>
  Law.suite("JobPool", name, laws, subject, options)
