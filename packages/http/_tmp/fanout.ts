import { fork } from "node:child_process"
import http from "node:http"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import { StreamAdapter, publishAppended } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Effect from "effect/Effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Access from "../src/Access.ts"
import * as Server from "../src/Server.ts"
import * as SseFrame from "../src/internal/sseFrame.ts"
const N = Number(process.argv[2] ?? 20000),
  B = Number(process.argv[3] ?? 10),
  C = 100,
  R = Number(process.argv[4] ?? 3)
const text = "some words of a model's answer, a hundred characters or so, as they come from a provider in a chunk. "
const client = (port: number, path: string) =>
  new Promise<{ ready: Promise<void>; done: Promise<any> }>((res) => {
    const c = fork(new URL("client.ts", import.meta.url), [String(port), String(C), path])
    let ok!: () => void, fin!: (x: any) => void
    const ready = new Promise<void>((r) => {
        ok = r
      }),
      done = new Promise<any>((r) => {
        fin = r
      })
    c.on("message", (m) => (m === "ready" ? ok() : fin(m)))
    res({ ready, done })
  })
const ours = Effect.scoped(
  Effect.gen(function* () {
    const ctx = yield* Layer.build(
      Server.layer({ bounds: {} }).pipe(
        Layer.provideMerge(Throughline.layerMemory()),
        Layer.provide(Access.layerOpen()),
        Layer.provideMerge(Server.layerListen({ port: 4077 })),
      ),
    )
    const store = Context.get(ctx, EventStore),
      adapter = Context.get(ctx, StreamAdapter)
    const runId = Envelope.RunId.make("r")
    const enc = (e: any) =>
      Effect.provide(Vocabulary.encode(AgentEvents.vocabulary, { event: e }), Throughline.layerCrypto)
    const first = yield* enc({ _tag: "RunStarted", name: "x" })
    yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: [first] })
    const c = yield* Effect.promise(() => client(4077, "/runs/r/events"))
    yield* Effect.promise(() => c.ready)
    const events: Array<any> = []
    for (let i = 0; i < N; i++) events.push(yield* enc({ _tag: "TextDelta", messageId: "m", text: text + i }))
    const end = yield* enc({ _tag: "RunCompleted", finishReason: "stop", iterations: 1 })
    const t = performance.now(),
      cpu = process.cpuUsage()
    for (let i = 0; i < N; i += B) {
      const r = yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: events.slice(i, i + B) })
      yield* publishAppended(adapter, r, ["Run", "Session"])
      yield* Effect.promise(() => new Promise<void>((r) => setImmediate(r)))
    }
    const r = yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events: [end] })
    yield* publishAppended(adapter, r, ["Run"])
    const d = yield* Effect.promise(() => c.done)
    const u = process.cpuUsage(cpu)
    return { ms: performance.now() - t, cpu: (u.user + u.system) / 1000, bytes: d.bytes }
  }),
)
const bare = async () => {
  const clients = new Set<http.ServerResponse>()
  const server = http.createServer((req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" })
    res.write("retry: 2000\n\n")
    clients.add(res)
  })
  await new Promise<void>((r) => server.listen(4078, "127.0.0.1", r))
  const c = await client(4078, "/")
  await c.ready
  const frames: string[] = []
  for (let i = 0; i < N; i++)
    frames.push(
      `id: ${i}-abcdefgh\ndata: ${JSON.stringify({ eventId: "01a1fdbd-d295-723e-933e-4dccc359df56", kind: "TextDelta", delivery: "progress", emittedAt: "2026-11-21T10:53:58.293Z", tags: [], correlation: {}, seq: i, runId: "r", schemaVersion: 1, event: { _tag: "TextDelta", messageId: "m", text: text + i } })}\n\n`,
    )
  const t = performance.now(),
    cpu = process.cpuUsage()
  for (let i = 0; i < N; i += B) {
    for (let j = i; j < Math.min(N, i + B); j++) for (const res of clients) res.write(frames[j]!)
    // waits for slow ones
    for (const res of clients) if (res.writableNeedDrain) await new Promise((r) => res.once("drain", r as any))
    await new Promise<void>((r) => setImmediate(r))
  }
  for (const res of clients) res.end("event: end\n\n")
  const d = await c.done
  const u = process.cpuUsage(cpu)
  const out = { ms: performance.now() - t, cpu: (u.user + u.system) / 1000, bytes: d.bytes }
  server.close()
  return out
}
for (let i = 0; i < R; i++) {
  const b = await bare()
  const o = await Effect.runPromise(ours)
  console.log("bare", b, "ours", o, "ratio wall", (b.ms / o.ms).toFixed(2), "cpu", (b.cpu / o.cpu).toFixed(2))
}
process.exit(0)
