/**
 * `sse-fanout`: events per second to 100 SSE readers of one run, appended one at a time, against a bare `node:http`
 * server that writes the same frames from memory; on both sides each event in a turn of the event loop of its own, as
 * events come from a source (and, for the record, as fast as both go).
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import type { BareCommands } from "./sse-bare-server.ts"
import { type Pace, start } from "./sse-process.ts"
import type { ReaderCommands } from "./sse-readers.ts"
import type { ServerCommands } from "./sse-server.ts"

const readers = 100
const events = { turns: 1000, flood: 4000 }

export const sseFanout: Bench = {
  name: "sse-fanout",
  run: Effect.gen(function* () {
    const throughline = yield* start<ServerCommands>("./sse-server.ts")
    const bare = yield* start<BareCommands>("./sse-bare-server.ts")
    const reading = yield* start<ReaderCommands>("./sse-readers.ts")
    const port = yield* throughline.ask("listen")
    const barePort = yield* bare.ask("listen")

    const deliver = (
      at: { readonly port: number; readonly path: string },
      publish: Effect.Effect<void, string>,
      count: number,
    ) =>
      Effect.gen(function* () {
        yield* reading.ask("open", { ...at, readers, ready: "event: caught-up" })
        yield* reading.ask("ready")
        const [millis] = yield* timed(Effect.all([publish, reading.ask("received", count)], { concurrency: 2 }))
        yield* reading.ask("close")
        return (readers * count) / (millis / 1000)
      })

    let runs = 0
    const compare = Effect.fnUntraced(function* (pace: Pace) {
      const count = events[pace]
      const rates = yield* alternate({
        rounds: 7,
        ours: Effect.suspend(() => {
          const run = `fanout-${++runs}`
          const publish = throughline.ask("publish", run, count, pace)
          return deliver({ port, path: `/runs/${run}/events?wait` }, publish, count)
        }),
        theirs: deliver({ port: barePort, path: "/" }, bare.ask("publish", count, pace), count),
      })
      return { ...rates, ratio: rates.ours / rates.theirs }
    })

    const turns = yield* compare("turns")
    const flood = yield* compare("flood")
    yield* Console.log(
      `  an event a turn: throughline ${perSecond(turns.ours)}, node:http ${perSecond(turns.theirs)} deliveries`,
    )
    yield* Console.log(
      `  as fast as it goes: throughline ${perSecond(flood.ours)}, node:http ${perSecond(flood.theirs)}, ratio ${flood.ratio.toFixed(2)}`,
    )
    yield* report("sse-fanout", turns.ratio, "0.5")
  }).pipe(Effect.scoped),
}
