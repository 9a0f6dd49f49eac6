import { assert, describe, it } from "@effect/vitest"
import { RunId, toJson } from "@throughline/core/Envelope"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { completed, delta, problemOf, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"

describe("a run of many pages in SQLite", () => {
  it.live("comes whole and exactly as it is stored: as a stream, as lines, from the middle, and filtered", () =>
    Effect.gen(function* () {
      const backend = Layer.orDie(SqliteThroughline.layer({ filename: ":memory:" }))
      const server = yield* serve({ backend })
      const lines: Array<string> = []
      const append = Effect.fnUntraced(function* (events: Parameters<typeof server.append>[1]) {
        const { frames } = yield* server.append(runId, events)
        for (const { cursor } of frames) cursors.push(cursor)
      })
      const cursors: Array<string> = []
      yield* append([started])
      for (let page = 0; page < 4; page++) {
        yield* append(Array.from({ length: 900 }, (_, index) => delta(`text ${page} ${index} "ä€😀\u2028"`)))
      }
      yield* append([completed])
      for (let after = 0; after < cursors.length; after += 1000) {
        const { envelopes } = yield* server.store.read({ runId, after, limit: 1000 })
        lines.push(...envelopes.map(toJson))
      }
      assert.strictEqual(lines.length, 3602)
      const frames = lines.map((line, index) => `id: ${cursors[index]}\ndata: ${line}\n\n`)
      const end = `event: end\ndata: {"status":"completed","cursor":"${cursors.at(-1)}"}\n\n`
      const caughtUp = `event: caught-up\ndata: {"head":3602,"cursor":"${cursors.at(-1)}"}\n\n`
      const whole = yield* server.follow(path)
      yield* whole.closed
      assert.strictEqual(whole.text, `retry: 2000\n\n${frames.join("")}${caughtUp}${end}`)
      const rest = yield* server.follow(path, { "last-event-id": cursors[1799]! })
      yield* rest.closed
      assert.strictEqual(rest.text, `retry: 2000\n\n${frames.slice(1800).join("")}${caughtUp}${end}`)
      const filtered = yield* server.follow(`${path}?kinds=RunStarted`)
      yield* filtered.closed
      assert.deepStrictEqual(filtered.seqs, [1, 3602])
      const page = yield* server.ask(`${path}?limit=1000&after=1000`, { headers: { accept: "application/x-ndjson" } })
      assert.strictEqual(page.body, `${lines.slice(1000, 2000).join("\n")}\n`)
    }),
  )
})

describe("a server whose file is removed under it", () => {
  it.live("takes no append that would be lost, and isn't healthy", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "throughline-http-"))),
        (made) => Effect.sync(() => fs.rmSync(made, { recursive: true, force: true })),
      )
      const filename = join(directory, "runs.db")
      const server = yield* serve({ backend: Layer.orDie(SqliteThroughline.layer({ filename })) })
      assert.strictEqual((yield* server.post(path, { event: started })).status, 200)
      assert.strictEqual((yield* server.ask("/health")).status, 200)
      for (const ending of ["", "-wal", "-shm"]) fs.rmSync(filename + ending)
      const refused = yield* server.post(path, { event: completed })
      assert.deepStrictEqual([refused.status, problemOf(refused)], [500, "store-broken"])
      // The file is looked at once in a second.
      const unwell = yield* Effect.repeat(server.ask("/health"), {
        schedule: Schedule.spaced("50 millis"),
        until: ({ body }) => !body.includes('"ok"'),
      })
      assert.strictEqual(unwell.status, 503)
      assert.deepStrictEqual(JSON.parse(unwell.body), { status: "failing", store: "failing", live: "failing" })
    }),
  )
})
