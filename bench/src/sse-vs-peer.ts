/**
 * `sse-vs-peer`: live events per second to 100 SSE readers of one stream, posted one a request and one after the other,
 * against `@durable-streams/server` with events of the same bytes; both in memory (and, for the record, with eight requests
 * on their way, and with a hundred events a request).
 */
import * as Envelope from "@throughline/core/Envelope"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { alternate, type Bench, perSecond, report, timed } from "./Compare.ts"
import { makeFrames } from "./Frames.ts"
import type { PeerCommands } from "./sse-peer-server.ts"
import { start } from "./sse-process.ts"
import type { ProducerCommands } from "./sse-producer.ts"
import type { ReaderCommands } from "./sse-readers.ts"
import type { ServerCommands } from "./sse-server.ts"

const readers = 100

/** A round: how many events, how many of them are in a request, and how many requests are on their way at once. */
interface Pace {
  readonly events: number
  readonly batch: number
  readonly inFlight: number
}

const chunksOf = (texts: ReadonlyArray<string>, size: number): ReadonlyArray<string> =>
  Array.from({ length: texts.length / size }, (_, index) => {
    const chunk = texts.slice(index * size, (index + 1) * size)
    return size === 1 ? chunk[0]! : `[${chunk.join(",")}]`
  })

const bodies = ({ batch, events }: Pace) => {
  const envelopes = makeFrames(events, () => "progress").map(({ envelope }) => envelope)
  return {
    ours: chunksOf(
      envelopes.map(({ event }) => `{"event":${event}}`),
      batch,
    ),
    // What our readers get, so that theirs get as many bytes of each event.
    theirs: chunksOf(envelopes.map(Envelope.toJson), batch),
  }
}

export const sseVsPeer: Bench = {
  name: "sse-vs-peer",
  run: Effect.gen(function* () {
    const throughline = yield* start<ServerCommands>("./sse-server.ts")
    const peer = yield* start<PeerCommands>("./sse-peer-server.ts")
    const producer = yield* start<ProducerCommands>("./sse-producer.ts")
    const reading = yield* start<ReaderCommands>("./sse-readers.ts")
    const port = yield* throughline.ask("listen")
    const peerPort = yield* peer.ask("listen")

    const deliver = Effect.fnUntraced(function* (
      from: { readonly port: number; readonly path: string; readonly ready: string },
      to: string,
      posts: ReadonlyArray<string>,
      { events, inFlight }: Pace,
    ) {
      yield* reading.ask("open", { ...from, readers })
      yield* reading.ask("ready")
      const post = producer.ask("send", { port: from.port, method: "POST", path: to, bodies: posts, inFlight })
      const [millis] = yield* timed(Effect.all([post, reading.ask("received", events)], { concurrency: 2 }))
      yield* reading.ask("close")
      return (readers * events) / (millis / 1000)
    })

    let runs = 0
    const compare = Effect.fnUntraced(function* (pace: Pace) {
      const { ours, theirs } = bodies(pace)
      const rates = yield* alternate({
        rounds: 7,
        ours: Effect.suspend(() => {
          const path = `/runs/peer-${++runs}/events`
          return deliver({ port, path: `${path}?wait`, ready: "event: caught-up" }, path, ours, pace)
        }),
        theirs: Effect.suspend(() => {
          const path = `/peer-${++runs}`
          return Effect.andThen(
            producer.ask("send", { port: peerPort, method: "PUT", path, bodies: [""], inFlight: 1 }),
            deliver({ port: peerPort, path: `${path}?offset=-1&live=sse`, ready: '"upToDate"' }, path, theirs, pace),
          )
        }),
      })
      return { ...rates, ratio: rates.ours / rates.theirs }
    })

    const one = yield* compare({ events: 500, batch: 1, inFlight: 1 })
    const eight = yield* compare({ events: 500, batch: 1, inFlight: 8 })
    const hundreds = yield* compare({ events: 2000, batch: 100, inFlight: 8 })
    const line = (name: string, { ours, ratio, theirs }: typeof one) =>
      Console.log(
        `  ${name}: throughline ${perSecond(ours)}, @durable-streams/server ${perSecond(theirs)} deliveries, ratio ${ratio.toFixed(1)}`,
      )
    yield* line("one request on its way", one)
    yield* line("eight requests on their way", eight)
    yield* line("a hundred events a request", hundreds)
    yield* report("sse-vs-peer", one.ratio, "2.0")
  }).pipe(Effect.scoped),
}
