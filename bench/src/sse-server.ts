/** The process of this project's server: in memory, or on a file of SQLite. */
import * as AgentEvents from "@throughline/core/AgentEvents"
import { type EncodedEvent, RunId } from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Access from "@throughline/http/Access"
import * as Server from "@throughline/http/Server"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as NetAddress from "effect/net/NetAddress"
import { setImmediate } from "node:timers/promises"
import {
  answer,
  type Apart,
  collectedBytes,
  cpuMillis,
  makeClockwork,
  now,
  type Pace,
  residentBytes,
  textAt,
} from "./sse-process.ts"

const [filename] = process.argv.slice(2)

const runtime = ManagedRuntime.make(
  Server.layer({ bounds: { streamsPerClient: 10_000, rate: { limit: 1_000_000, window: "1 second" } } }).pipe(
    Layer.provide(Access.layerOpen()),
    Layer.provideMerge(Server.layerListen({ port: 0 })),
    Layer.provideMerge(filename === undefined ? Throughline.layerMemory() : SqliteThroughline.layer({ filename })),
  ),
)

const { vocabulary } = AgentEvents

const encode = (text: string) => Vocabulary.encode(vocabulary, { event: { _tag: "TextDelta", messageId: "m1", text } })

/** What appends and publishes an event to a run. */
const appender = Effect.fnUntraced(function* (run: string) {
  const store = yield* EventStore.EventStore
  const adapter = yield* StreamAdapter.StreamAdapter
  const runId = RunId.make(run)
  return (event: EncodedEvent) =>
    Effect.flatMap(store.append({ runId, vocabulary: vocabulary.id, events: [event] }), (appended) =>
      StreamAdapter.publishAppended(adapter, appended, ["Run"]),
    )
})

const clockwork = makeClockwork()

const commands = {
  listen: () =>
    runtime.runPromise(
      Effect.map(HttpServer.HttpServer, ({ address }) => (NetAddress.isInetAddress(address) ? address.port : 0)),
    ),
  /** Appends and publishes events one at a time. */
  publish: (run: string, count: number, pace: Pace) =>
    runtime.runPromise(
      Effect.gen(function* () {
        const events = yield* Effect.forEach(Array.from({ length: count }), (_, index) => encode(`token ${index} `))
        const append = yield* appender(run)
        for (const event of events) {
          yield* append(event)
          if (pace === "turns") yield* Effect.promise(() => setImmediate())
        }
      }),
    ),
  clockPort: async () => (await clockwork).port,
  /** Appends and publishes events, each with the time of its append in its text. */
  tick: (run: string, count: number, apart: Apart) =>
    runtime.runPromise(
      Effect.gen(function* () {
        const events = yield* Effect.forEach(Array.from({ length: count }), () => encode(""))
        const append = yield* appender(run)
        const { next } = yield* Effect.promise(() => clockwork)
        let turn = next(apart)
        for (const event of events) {
          yield* Effect.promise(() => turn)
          // What gives the pace is no part of an append: it is there before, as the source of events is.
          turn = next(apart)
          yield* append({ ...event, event: textAt(now()) })
        }
      }),
    ),
  cpu: async () => cpuMillis(),
  resident: residentBytes,
  collected: collectedBytes,
}

export type ServerCommands = typeof commands

answer(commands)
