/**
 * The kill suite of jobs at length: `node test/jobs/main.ts [--seed N] [--kills N] [--jobs N]`, 500 kills over 10,000 jobs by default.
 *
 * Says what it does as it goes, and fails with what it found.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import * as Kills from "./Kills.ts"

class Broken extends Data.TaggedError("Broken")<{ readonly message: string }> {}

const { values } = parseArgs({
  options: { seed: { type: "string" }, kills: { type: "string" }, jobs: { type: "string" } },
})
const seed = values.seed === undefined ? Date.now() % 1e9 : Number(values.seed)

const shown = 30

const program = Effect.gen(function* () {
  const started = performance.now()
  const { problems, ...report } = yield* Kills.run({
    kills: Number(values.kills ?? 500),
    jobs: Number(values.jobs ?? 10_000),
    seed,
    deadline: 10 * 60_000,
    log: (line) => console.log(line),
  })
  yield* Console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`, report)
  if (problems.length === 0) return
  return yield* new Broken({ message: [`${problems.length} problems`, ...problems.slice(0, shown)].join("\n") })
}).pipe(
  Effect.scoped,
  Effect.tapCause(() => Console.error(`again with --seed ${seed}`)),
)

NodeRuntime.runMain(program)
