/**
 * `sse-latency`: the median from an append to its frame at a client, events some milliseconds apart, against a bare
 * `node:http` server from the write of the frame; both on a clock that all processes share (and, for the record, with
 * each event as soon as the client has the one before, when nothing else has had the machine's caches in between).
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, median, report } from "./Compare.ts"
import type { BareCommands } from "./sse-bare-server.ts"
import { type Apart, start } from "./sse-process.ts"
import type { ReaderCommands } from "./sse-readers.ts"
import type { ServerCommands } from "./sse-server.ts"

const events = { next: 1000, apart: 200 }
/** Milliseconds from one event to the next. */
const interval = 5

export const sseLatency: Bench = {
  name: "sse-latency",
  run: Effect.gen(function* () {
    const throughline = yield* start<ServerCommands>("./sse-server.ts")
    const bare = yield* start<BareCommands>("./sse-bare-server.ts")
    const reader = yield* start<ReaderCommands>("./sse-readers.ts")
    const port = yield* throughline.ask("listen")
    const barePort = yield* bare.ask("listen")

    const clockPort = yield* throughline.ask("clockPort")
    const bareClockPort = yield* bare.ask("clockPort")

    const latency = Effect.fnUntraced(function* (
      at: { readonly port: number; readonly path: string },
      toldAt: number,
      tick: Effect.Effect<void, string>,
      count: number,
    ) {
      yield* reader.ask("open", { ...at, readers: 1, ready: "event: caught-up" })
      yield* reader.ask("ready")
      yield* reader.ask("clock", toldAt)
      yield* Effect.all([tick, reader.ask("received", count)], { concurrency: 2 })
      const millis = yield* reader.ask("latencies")
      yield* reader.ask("close")
      return median(millis)
    })

    let runs = 0
    const compare = Effect.fnUntraced(function* (count: number, apart: Apart) {
      const medians = yield* alternate({
        rounds: 9,
        ours: Effect.suspend(() => {
          const run = `latency-${++runs}`
          const tick = throughline.ask("tick", run, count, apart)
          return latency({ port, path: `/runs/${run}/events?wait` }, clockPort, tick, count)
        }),
        theirs: latency({ port: barePort, path: "/" }, bareClockPort, bare.ask("tick", count, apart), count),
      })
      return { ...medians, ratio: medians.ours / medians.theirs }
    })

    const next = yield* compare(events.next, "answered")
    const apart = yield* compare(events.apart, interval)
    const line = (name: string, { ours, ratio, theirs }: typeof next) =>
      Console.log(
        `  ${name}: append to client ${ours.toFixed(3)} ms, node:http alone ${theirs.toFixed(3)} ms, ratio ${ratio.toFixed(2)}`,
      )
    yield* line("one after the other", next)
    yield* line(`${interval} ms apart`, apart)
    yield* report("sse-latency", apart.ratio, "at most 1.5")
  }).pipe(Effect.scoped),
}
