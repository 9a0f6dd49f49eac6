/** The short version of the kill suite of jobs; `pnpm test:jobs` is the long one. */
import { assert, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Kills from "./jobs/Kills.ts"

it.live(
  "over kills of workers every accepted job succeeds, none is lost, none runs twice under one lease, and no kill costs an attempt",
  () =>
    Effect.gen(function* () {
      const seed = yield* Config.Int("THROUGHLINE_SEED").pipe(Config.orElse(() => Config.succeed(Date.now() % 1e9)))
      const log: Array<string> = []
      const { accepted, cut, kills, problems, stalls } = yield* Kills.run({
        kills: 24,
        jobs: 500,
        seed,
        deadline: 60_000,
        log: (line) => log.push(line),
      }).pipe(Effect.tapCause(() => Effect.logError([`THROUGHLINE_SEED=${seed}`, ...log].join("\n"))))
      assert.deepStrictEqual(problems, [], `THROUGHLINE_SEED=${seed}`)
      // It has reached what it is for.
      assert.isAtLeast(kills, 24)
      assert.isAtLeast(stalls, 1)
      assert.isAtLeast(accepted, 500)
      assert.isAtLeast(cut, 10, "too few runs were cut short")
    }).pipe(Effect.scoped),
  120_000,
)
