/**
 * The short version of the fault suite: real producers and readers over a Redis that is killed, through links that break.
 * `pnpm test:chaos` is the long one.
 */
import { expect, it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Plan from "./chaos/Plan.ts"
import * as Suite from "./chaos/Suite.ts"

it.live(
  "over kills of Redis, producers and readers and over broken links, what was acknowledged is stored once and read to its end",
  () =>
    Effect.gen(function* () {
      const seed = yield* Config.Int("THROUGHLINE_SEED").pipe(Config.withDefault(1))
      const plan = yield* Plan.make(Plan.short, seed)
      const log: Array<string> = []
      const { ends, faults, met, problems } = yield* Suite.run(plan, {
        deadline: 150_000,
        log: (line) => log.push(line),
      }).pipe(Effect.tapCause(() => Effect.logError([`THROUGHLINE_SEED=${seed}`, ...log].join("\n"))))
      const told = JSON.stringify({ seed, ends, faults, met, log }, null, 2)
      expect(problems, told).toEqual([])
      // It has reached what it is for: each kind of fault, and both kinds of ends.
      for (const kind of ["KillRedis", "KillProducer", "KillReader"]) expect(faults[kind], told).toBeGreaterThan(0)
      for (const way of Plan.ways) expect(met[way], told).toBeGreaterThan(0)
      expect(ends.own, told).toBeGreaterThan(0)
      expect(ends.will, told).toBeGreaterThan(0)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  180_000,
)
