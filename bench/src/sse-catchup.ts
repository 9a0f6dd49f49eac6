/**
 * `sse-catchup`: 100,000 stored events to one client from SQLite, against the same from `node:http` and `node:sqlite` alone
 * over the same file.
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, median, perSecond, report, timed } from "./Compare.ts"
import { encodedLines, layerStore, temporaryFile } from "./Sqlite.ts"
import type { BareCommands } from "./sse-bare-server.ts"
import { type Process, start } from "./sse-process.ts"
import type { ReaderCommands } from "./sse-readers.ts"
import type { ServerCommands } from "./sse-server.ts"

const events = 100_000
const batch = 500
const runId = Envelope.RunId.make("catchup")

/** A run that has ended. */
const fill = Effect.gen(function* () {
  const store = yield* EventStore
  const lines = yield* encodedLines(events - 1)
  const ending = yield* Vocabulary.encode(AgentEvents.vocabulary, {
    event: { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
  })
  const all = [...lines, ending]
  for (let index = 0; index < events; index += batch) {
    yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: all.slice(index, index + batch) })
  }
})

export const sseCatchup: Bench = {
  name: "sse-catchup",
  run: Effect.gen(function* () {
    const filename = yield* temporaryFile
    yield* Effect.provide(fill, layerStore(filename))
    const throughline = yield* start<ServerCommands>("./sse-server.ts", filename)
    const bare = yield* start<BareCommands>("./sse-bare-server.ts", filename)
    const readers = yield* start<ReaderCommands>("./sse-readers.ts")

    const read = (server: Process<Pick<ServerCommands, "listen" | "cpu">>, cpu: Array<number>) =>
      Effect.map(server.ask("listen"), (port) =>
        Effect.gen(function* () {
          const before = yield* server.ask("cpu")
          const [millis] = yield* timed(
            Effect.andThen(
              readers.ask("open", { port, path: `/runs/${runId}/events`, readers: 1, ready: "" }),
              readers.ask("received", events),
            ),
          )
          cpu.push((yield* server.ask("cpu")) - before)
          yield* readers.ask("close")
          return events / (millis / 1000)
        }),
      )

    const cpu = { ours: [] as Array<number>, theirs: [] as Array<number> }
    const rates = yield* alternate({
      rounds: 7,
      ours: yield* read(throughline, cpu.ours),
      theirs: yield* read(bare, cpu.theirs),
    })
    yield* Console.log(`  throughline ${perSecond(rates.ours)}, node:http and node:sqlite ${perSecond(rates.theirs)}`)
    yield* Console.log(`  CPU of a replay: ${median(cpu.ours).toFixed(0)} ms, ${median(cpu.theirs).toFixed(0)} ms`)
    yield* report("sse-catchup", rates.ours / rates.theirs, "0.5")
  }).pipe(Effect.scoped),
}
