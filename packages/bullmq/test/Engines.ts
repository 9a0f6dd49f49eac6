/** Engines for the tests of a file, on one Redis, each under a prefix of its own. */
import { it } from "@effect/vitest"
import type { JobEngine } from "@throughline/core/JobEngine"
import type { QueueOptions } from "bullmq"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import process from "node:process"
import * as RedisServer from "../../redis/test/RedisServer.ts"
import type * as BullmqJobEngine from "../src/BullmqJobEngine.ts"
import { layerOf } from "./jobs.ts"

export const forFile = () => {
  const server = RedisServer.forFile()
  let prefixes = 0
  const prefix = () => `test-${process.pid}-${prefixes}`

  /** An engine under a prefix that no test had. */
  const layer = (options: BullmqJobEngine.Options = {}) =>
    Layer.unwrap(
      Effect.map(server, (url) => {
        prefixes++
        return layerOf(url, { prefix: prefix(), ...options })
      }),
    )

  return {
    layer,
    /** The engine of the test as another process has it. */
    secondProcess: Layer.unwrap(Effect.map(server, (url) => layerOf(url, { prefix: prefix() }))),
    /** What a program without this package needs to see the jobs of the test. */
    optionsOf: Effect.map(server, (url): QueueOptions & { readonly prefix: string; readonly url: string } => ({
      connection: { url },
      prefix: `{${prefix()}}`,
      url,
    })),
    test: <E>(
      title: string,
      body: Effect.Effect<void, E, JobEngine | SecureRandom.SecureRandom | Scope.Scope>,
      options?: BullmqJobEngine.Options,
    ) => it.live(title, () => Effect.scoped(body).pipe(Effect.provide(layer(options)))),
  }
}
