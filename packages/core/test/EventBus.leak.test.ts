import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventBus from "@throughline/core/EventBus"
import * as EventStore from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

const rounds = 10_000

/** Bytes in use once all that is garbage is gone. */
const heapUsed = Effect.promise(async () => {
  setFlagsFromString("--expose-gc")
  const collect: () => void = runInNewContext("gc")
  for (let turn = 0; turn < 3; turn++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return process.memoryUsage().heapUsed
})

describe("EventBus", () => {
  it.live(
    `${rounds.toLocaleString("en")} rounds of subscribing, reading and closing leave heap and fibers where they were`,
    () =>
      Effect.gen(function* () {
        const bus = yield* EventBus.EventBus
        const store = yield* EventStore.EventStore
        const runId = Envelope.RunId.make("run")
        const event = yield* Vocabulary.encode(AgentEvents.vocabulary, {
          event: { _tag: "OutputLine", stream: "stdout", line: "one" },
        })
        const { frames } = yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: [event] })
        let reading = 0
        const counted = (drain: Effect.Effect<void, unknown>) =>
          Effect.suspend(() => {
            reading++
            return Effect.ensuring(
              Effect.exit(drain),
              Effect.sync(() => reading--),
            )
          })
        const round = Effect.fnUntraced(function* (n: number) {
          const live = yield* bus.subscribeRun(Envelope.RunId.make(`run-${n}`))
          const repaired = yield* bus.subscribe({ kinds: [`Kind${n}`], runIds: [runId] }, { repair: true })
          yield* Effect.forkScoped(counted(Stream.runDrain(live)), { startImmediately: true })
          yield* Effect.forkScoped(counted(Stream.runDrain(repaired)), { startImmediately: true })
          yield* bus.publish(frames)
        })
        const rest = (from: number, to: number) =>
          Effect.forEach(
            Array.from({ length: to - from }, (_, index) => from + index),
            (n) => Effect.scoped(round(n)),
            { discard: true },
          )
        yield* rest(0, 1000)
        const before = yield* heapUsed
        yield* rest(1000, rounds)
        const after = yield* heapUsed
        assert.strictEqual(reading, 0)
        assert.deepInclude(yield* bus.status, { subscribers: 0, indexed: 0 })
        // A closure, a queue and a reader that stayed behind would be kilobytes a round.
        assert.isBelow(after - before, rounds * 100, "bytes of heap")
      }).pipe(Effect.provide(Throughline.layerMemory())),
    300_000,
  )
})
