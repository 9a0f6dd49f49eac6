import { fork } from "node:child_process"
import http from "node:http"
import { rmSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Effect from "effect/Effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Access from "../src/Access.ts"
import * as Server from "../src/Server.ts"
const N = Number(process.argv[2] ?? 100000),
  R = Number(process.argv[3] ?? 3)
const text = "some words of a model's answer, a hundred characters or so, as they come from a provider in a chunk. "
const client = (port: number, path: string) =>
  new Promise<any>((res) => {
    const c = fork(new URL("client.ts", import.meta.url), [String(port), "1", path, "count"])
    c.on("message", (m) => (m === "ready" ? 0 : res(m)))
  })
for (const f of ["/tmp/h6/c.db", "/tmp/h6/c.db-wal", "/tmp/h6/c.db-shm", "/tmp/h6/bare.db"]) rmSync(f, { force: true })
const db = new DatabaseSync("/tmp/h6/bare.db")
db.exec("pragma journal_mode=wal; create table e(seq integer primary key, json text)")
db.exec("begin")
const ins = db.prepare("insert into e values(?,?)")
for (let i = 1; i <= N; i++)
  ins.run(
    i,
    JSON.stringify({
      eventId: "01a1fdbd-d295-723e-933e-4dccc359df56",
      kind: "TextDelta",
      delivery: "progress",
      emittedAt: "2026-11-21T10:53:58.293Z",
      tags: [],
      correlation: {},
      seq: i,
      runId: "r",
      schemaVersion: 1,
      event: { _tag: "TextDelta", messageId: "m", text: text + i },
    }),
  )
db.exec("commit")
const bareServer = http.createServer(async (req, res) => {
  res.writeHead(200, { "content-type": "text/event-stream" })
  const q = db.prepare("select seq, json from e where seq > ? order by seq limit 1000")
  let after = 0
  while (true) {
    const rows = q.all(after) as any[]
    if (rows.length === 0) break
    let s = ""
    for (const r of rows) s += `id: ${r.seq}-abcdefgh\ndata: ${r.json}\n\n`
    after = rows[rows.length - 1].seq
    if (!res.write(s)) await new Promise((r) => res.once("drain", r as any))
  }
  res.end("event: end\ndata: {}\n\n")
})
await new Promise<void>((r) => bareServer.listen(4076, "127.0.0.1", r))
const main = Effect.scoped(
  Effect.gen(function* () {
    const ctx = yield* Layer.build(
      Server.layer({}).pipe(
        Layer.provideMerge(SqliteThroughline.layer({ filename: "/tmp/h6/c.db" })),
        Layer.provide(Access.layerOpen()),
        Layer.provideMerge(Server.layerListen({ port: 4077 })),
      ),
    )
    const store = Context.get(ctx, EventStore)
    const runId = Envelope.RunId.make("r")
    const enc = (e: any) =>
      Effect.provide(Vocabulary.encode(AgentEvents.vocabulary, { event: e }), Throughline.layerCrypto)
    for (let i = 0; i < N; i += 1000) {
      const events = []
      for (let j = 0; j < 1000; j++)
        events.push(yield* enc({ _tag: "TextDelta", messageId: "m", text: text + (i + j) }))
      yield* store.append({ runId, vocabulary: AgentEvents.vocabulary.id, events })
    }
    yield* store.append({
      runId,
      vocabulary: AgentEvents.vocabulary.id,
      events: [yield* enc({ _tag: "RunCompleted", finishReason: "stop", iterations: 1 })],
    })
    for (let i = 0; i < R; i++) {
      let cpu = process.cpuUsage()
      const b = yield* Effect.promise(() => client(4076, "/"))
      let u = process.cpuUsage(cpu)
      b.cpu = (u.user + u.system) / 1000
      cpu = process.cpuUsage()
      const o = yield* Effect.promise(() => client(4077, "/runs/r/events"))
      u = process.cpuUsage(cpu)
      o.cpu = (u.user + u.system) / 1000
      console.log(b, o, "ratio", (b.ms / o.ms).toFixed(2), "cpu", (b.cpu / o.cpu).toFixed(2))
    }
  }),
)
await Effect.runPromise(main)
process.exit(0)
