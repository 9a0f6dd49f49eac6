/**
 * Works on jobs until it is killed or told to stop: `node worker.ts FILE DIRECTORY ENQUEUED`.
 *
 * It enqueues some jobs of its own first. It says, each before it does the next thing: `accepted ID FAILS` once a job of its own is
 * stored, `ready` when it works, `start ID`, `end ID`, and `twice ID PROCESS` where that living process is running the job.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as JobPool from "@throughline/core/JobPool"
import * as Effect from "effect/Effect"
import { readFileSync, rmSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { layer, Work } from "./Work.ts"

const [filename, directory, enqueued] = process.argv.slice(2) as [string, string, string]

const say = (line: string) => Effect.sync(() => void writeSync(1, `${line}\n`))

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** The process that runs a job, as it noted; it may have been killed since. */
const holderOf = (path: string): number | undefined => {
  try {
    return Number(readFileSync(path, "utf8"))
  } catch {
    return undefined
  }
}

/** Notes that this process runs a job for as long as it does. */
const noted = <A, E>(id: string, run: Effect.Effect<A, E>) => {
  const path = join(directory, id)
  return Effect.acquireUseRelease(
    Effect.suspend(() => {
      const holder = holderOf(path)
      writeFileSync(path, String(process.pid))
      return holder !== undefined && isAlive(holder) ? say(`twice ${id} ${holder}`) : Effect.void
    }),
    () => run,
    () => Effect.sync(() => rmSync(path, { force: true })),
  )
}

const program = Effect.gen(function* () {
  const pool = yield* JobPool.JobPool
  for (let index = 0; index < Number(enqueued); index++) {
    const fails = index % 3
    const { id } = yield* pool.enqueue(Work, { ms: index % 10, fails })
    yield* say(`accepted ${id} ${fails}`)
  }
  yield* pool.handle(Work, ({ fails, ms }, { attempt, id }) =>
    noted(
      id,
      Effect.gen(function* () {
        yield* say(`start ${id}`)
        yield* Effect.sleep(ms)
        yield* say(`end ${id}`)
        if (attempt <= fails) return yield* Effect.fail(`attempt ${attempt} was to fail`)
        return attempt
      }),
    ),
  )
  yield* say("ready")
  return yield* Effect.never
}).pipe(Effect.scoped, Effect.provide(layer(filename)))

NodeRuntime.runMain(program)
