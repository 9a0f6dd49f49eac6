/** What happens to the file under an open store. */
import { assert, describe, it, vi } from "@effect/vitest"
import { type EncodedEvent, EventId, EventJson, RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { SqlClient } from "effect/sql/SqlClient"
import node, * as fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"

const runId = RunId.make("run-1")

const events = (first: number, count: number): ReadonlyArray<EncodedEvent> =>
  Array.from({ length: count }, (_, index) => ({
    eventId: EventId.make(`00000000-0000-7000-8000-${String(first + index).padStart(12, "0")}`),
    kind: "Said",
    delivery: "normal",
    emittedAt: "2026-01-31T09:30:00.000Z",
    tags: [],
    correlation: {},
    event: EventJson.make(JSON.stringify({ text: "x".repeat(2_000) })),
  }))

/** A store with so many events that most of them are in the file itself, or so few that all are still in its log. */
const openedWith = Effect.fnUntraced(function* (most: "in the file" | "in the log") {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "throughline-lost-"))),
    (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true })),
  )
  const filename = join(directory, "runs.db")
  const layer = Layer.provide(SqliteThroughline.layerBackend({ filename }), Throughline.layerCrypto)
  const context = yield* Layer.build(layer)
  const store = Context.get(context, EventStore)
  let next = 1
  const append = (count = 1) =>
    Effect.suspend(() => {
      const given = events(next, count)
      next += count
      return store.append({ runId, vocabulary: { name: "v", version: 1 }, events: given })
    })
  for (let batch = 0; batch < (most === "in the file" ? 40 : 2); batch++) yield* append(100)
  return { append, adapter: Context.get(context, StreamAdapter), filename, sql: Context.get(context, SqlClient), store }
})

const opened = openedWith("in the log")

const subscribed = (adapter: StreamAdapter["Service"]) =>
  Effect.scoped(Effect.asVoid(adapter.subscribe({ _tag: "Run", runId }, { capacity: 1 })))

/** Moves all files of a store, or those with an ending. */
const move = (from: string, to: string, endings: ReadonlyArray<string> = ["", "-wal", "-shm"]) =>
  endings.forEach((ending) => fs.renameSync(from + ending, to + ending))

/** Writes over a file in its place, as a copy onto it does. */
const overwrite = (path: string) => {
  const descriptor = fs.openSync(path, "r+")
  fs.writeSync(descriptor, Buffer.alloc(fs.fstatSync(descriptor).size, 0xa7))
  fs.closeSync(descriptor)
}

/** From now on, and until the scope closes, no file can be looked at. */
const unseen = (code: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const statSync = vi.spyOn(node, "statSync").mockImplementation(() => {
        throw Object.assign(new Error(code), { code })
      })
      syncBuiltinESMExports()
      return statSync
    }),
    (statSync) =>
      Effect.sync(() => {
        statSync.mockRestore()
        syncBuiltinESMExports()
      }),
  )

/** The look at the file comes once in a second. */
const aSecond = TestClock.adjust("1 second")

describe("a file that isn't in its place any more", () => {
  for (const [what, lose] of [
    ["was removed", (path: string) => ["", "-wal", "-shm"].forEach((ending) => fs.rmSync(path + ending))],
    ["was moved", (path: string) => move(path, `${path}.old`)],
    ["lost its log", (path: string) => fs.rmSync(`${path}-wal`)],
    [
      "was replaced by a link to itself",
      (path: string) => {
        fs.renameSync(path, `${path}.old`)
        fs.symlinkSync(path, path)
      },
    ],
    [
      "was replaced by another",
      (path: string) => {
        fs.copyFileSync(path, `${path}.new`)
        fs.renameSync(`${path}.new`, path)
      },
    ],
  ] as const) {
    it.effect(`takes no append that would be lost with it, and says what to do: it ${what}`, () =>
      Effect.gen(function* () {
        const { adapter, append, filename, store } = yield* opened
        lose(filename)
        const refused = yield* Effect.flip(append())
        assert(refused._tag === "AppendFailed")
        assert.strictEqual(refused.reason._tag, "StoreBroken")
        assert.include(refused.message, filename)
        assert.match(refused.message, /put it back.*or open the store anew/)
        yield* aSecond
        const failed = yield* Effect.flip(store.head(runId))
        assert.strictEqual(failed.reason._tag, "StoreBroken")
        assert.include(yield* Effect.flip(subscribed(adapter)), { _tag: "AdapterUnavailable", isRetryable: false })
      }),
    )
  }

  it.effect("is taken again where it came back", () =>
    Effect.gen(function* () {
      const { adapter, append, filename, store } = yield* opened
      move(filename, `${filename}.old`)
      yield* Effect.flip(append())
      move(`${filename}.old`, filename)
      yield* append()
      yield* aSecond
      assert.strictEqual((yield* store.head(runId)).lastSeq, 201)
      yield* subscribed(adapter)
    }),
  )
})

describe("a file that can't be looked at", () => {
  for (const [code, reason] of [
    ["EACCES", "StoreBroken"],
    ["EIO", "StoreUnavailable"],
    ["ESTALE", "StoreUnavailable"],
    ["ENOTCONN", "StoreUnavailable"],
  ] as const) {
    it.effect(`takes no append, says why, and is taken again where it can be looked at (${code})`, () =>
      Effect.gen(function* () {
        const { adapter, append, filename, store } = yield* opened
        yield* Effect.gen(function* () {
          yield* unseen(code)
          const refused = yield* Effect.flip(append())
          assert(refused._tag === "AppendFailed")
          assert.strictEqual(refused.reason._tag, reason)
          assert.include(refused.message, filename)
          assert.include(refused.message, code)
          yield* aSecond
          const failed = yield* Effect.flip(store.head(runId))
          assert.strictEqual(failed.reason._tag, reason)
          assert.include(yield* Effect.flip(subscribed(adapter)), {
            _tag: "AdapterUnavailable",
            isRetryable: reason === "StoreUnavailable",
          })
        }).pipe(Effect.scoped)
        yield* append()
        assert.strictEqual((yield* store.head(runId)).lastSeq, 201)
        yield* subscribed(adapter)
      }),
    )
  }
})

describe("a damaged file that was attached", () => {
  it.effect("fails its statements, and nothing of the store", () =>
    Effect.gen(function* () {
      const { append, filename, sql, store } = yield* opened
      fs.writeFileSync(`${filename}.other`, "no database".repeat(100))
      const error = yield* Effect.flip(sql.unsafe(`ATTACH '${filename}.other' AS other`))
      assert.match(error.message, /database/)
      yield* append()
      assert.strictEqual((yield* store.head(runId)).lastSeq, 201)
    }),
  )
})

describe("a file that was written over", () => {
  for (const [ending, most] of [
    ["", "in the file"],
    ["-wal", "in the log"],
  ] as const) {
    it.effect(`takes no append more than a second later (runs.db${ending})`, () =>
      Effect.gen(function* () {
        const { adapter, append, filename } = yield* openedWith(most)
        overwrite(filename + ending)
        yield* aSecond
        const refused = yield* Effect.flip(append())
        assert(refused._tag === "AppendFailed")
        assert.strictEqual(refused.reason._tag, "StoreBroken")
        assert.match(refused.message, /damaged: restore it from a backup/)
        yield* Effect.flip(subscribed(adapter))
      }),
    )
  }

  it.effect("takes no append once a reader met the damage", () =>
    Effect.gen(function* () {
      const { append, filename, store } = yield* openedWith("in the file")
      overwrite(filename)
      yield* Effect.flip(store.read({ runId, limit: 100 }))
      const refused = yield* Effect.flip(append())
      assert(refused._tag === "AppendFailed")
      assert.match(refused.message, /damaged: restore it from a backup/)
    }),
  )
})
