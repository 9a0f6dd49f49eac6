/**
 * The fault suite at length: `node test/chaos/main.ts [--seed N] [--short]`.
 *
 * Says what it does as it goes, and fails with what it found and the seed that repeats the plan.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import * as Plan from "./Plan.ts"
import * as Suite from "./Suite.ts"

class Broken extends Data.TaggedError("Broken")<{ readonly message: string }> {}

const { values } = parseArgs({ options: { seed: { type: "string" }, short: { type: "boolean", default: false } } })
const seed = values.seed === undefined ? Date.now() % 1e9 : Number(values.seed)

const shown = 30

const program = Effect.gen(function* () {
  const started = performance.now()
  const plan = yield* Plan.make(values.short ? Plan.short : Plan.long, seed)
  yield* Console.log(`seed ${seed}, ${plan.faults.length} faults`)
  const { problems, ...report } = yield* Suite.run(plan, { deadline: 30 * 60_000, log: (line) => console.log(line) })
  yield* Console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`, report)
  if (problems.length === 0) return
  const lines = problems.slice(0, shown).map(({ problem, where }) => `${problem}: ${where}`)
  return yield* new Broken({ message: [`${problems.length} problems`, ...lines].join("\n") })
}).pipe(
  Effect.scoped,
  Effect.tapCause(() => Console.error(`again with --seed ${seed}`)),
  Effect.provide(NodeServices.layer),
)

NodeRuntime.runMain(program)
