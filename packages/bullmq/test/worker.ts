/**
 * Works on jobs until it is killed: `node worker.ts URL PREFIX DIRECTORY`.
 *
 * Each job takes as many ms as its payload says. It says `ready` when it has begun, `start ID`, and `twice ID` where the job runs already.
 */
import { JobEngine } from "@throughline/core/JobEngine"
import * as Effect from "effect/Effect"
import { writeSync } from "node:fs"
import process from "node:process"
import { layerOf, name, succeeded } from "./jobs.ts"
import { alone } from "./overlaps.ts"

const [url, prefix, directory] = process.argv.slice(2) as [string, string, string]
const say = (line: string) => writeSync(1, `${line}\n`)

const work = Effect.gen(function* () {
  const engine = yield* JobEngine
  const working = yield* engine.work(
    { concurrency: 10, maxCrashes: 100 },
    {
      run: ({ job }) => {
        const handler = Effect.gen(function* () {
          say(`start ${job.id}`)
          yield* Effect.sleep(Number(job.payload))
          return succeeded()
        })
        return alone(directory, job.id, handler, (id) => say(`twice ${id}`))
      },
      settled: () => Effect.void,
    },
  )
  yield* working.handle(name("a"), {})
  yield* working.handle(name("b"), { concurrency: 6 })
  say("ready")
  return yield* Effect.never
})

Effect.runFork(Effect.provide(Effect.scoped(work), layerOf(url, { prefix, lockDuration: 1000, stalledInterval: 400 })))
