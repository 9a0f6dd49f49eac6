/** `hub-idle`: heap per idle reader after a collection, 10,000 readers of 100 runs that are open and quiet. */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import type { Bench } from "./Compare.ts"

const readers = 10_000
const runs = 100

const heap = Effect.gen(function* () {
  // Twice, with a pause: finalizers of the first collection free what the second collects.
  global.gc!()
  yield* Effect.sleep("50 millis")
  global.gc!()
  return process.memoryUsage().heapUsed
})

export const hubIdle: Bench = {
  name: "hub-idle",
  run: Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const hub = yield* SubscriptionHub.SubscriptionHub
    const runIds = Array.from({ length: runs }, (_, index) => Envelope.RunId.make(`idle-${index}`))
    for (const runId of runIds) {
      const event = yield* Vocabulary.encode(AgentEvents.vocabulary, { event: { _tag: "RunStarted" } })
      yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: [event] })
    }
    const caughtUp = yield* Latch.make()
    let waiting = readers
    const before = yield* heap
    const fibers = yield* Effect.forEach(Array.from({ length: readers }), (_, index) =>
      Effect.forkChild(
        Stream.runForEach(hub.run(runIds[index % runs]!), (item) =>
          Effect.sync(() => {
            if (item._tag === "CaughtUp" && --waiting === 0) caughtUp.openUnsafe()
          }),
        ),
        { startImmediately: true },
      ),
    )
    yield* caughtUp.await
    const after = yield* heap
    yield* Fiber.interruptAll(fibers)
    const kib = (after - before) / readers / 1024
    yield* Console.log(`  ${readers} readers of ${runs} runs: ${((after - before) / 2 ** 20).toFixed(1)} MiB`)
    yield* Console.log(`bench hub-idle: ${kib.toFixed(2)} KiB (target 12 KiB)`)
  }).pipe(Effect.provide(Throughline.layerMemory())),
}
