import { assert, describe, it } from "@effect/vitest"
import type { RunId } from "@throughline/core/Envelope"
import { layerMemory, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

describe("StreamAdapter in memory", () => {
  it.effect("ten thousand rooms that were opened and closed leave the heap where it was", () =>
    Effect.gen(function* () {
      const adapter = yield* StreamAdapter
      const rounds = (from: number) =>
        Effect.forEach(
          Array.from({ length: 10_000 }, (_, index) => from + index),
          (run) => Effect.scoped(adapter.subscribe({ _tag: "Run", runId: `run-${run}` as RunId })),
          { discard: true },
        )
      yield* rounds(0)
      collect()
      const before = process.memoryUsage().heapUsed
      yield* rounds(10_000)
      collect()
      // An empty room alone would keep a name, a set and its place in a map: 265 bytes here.
      assert.isBelow((process.memoryUsage().heapUsed - before) / 10_000, 100, "bytes per room")
    }).pipe(Effect.provide(layerMemory)),
  )
})
