import { assert, describe, it } from "@effect/vitest"
import type { EncodedEvent, EventId, RunId } from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as SqlClient from "effect/sql/SqlClient"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const newFile = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-store-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
).pipe(Effect.map((directory) => join(directory, "runs.db")))

const open = (filename: string, store?: StoreOptions) =>
  Layer.provide(SqliteThroughline.layerBackend({ filename, store }), Throughline.layerCrypto)

const inMemory = open(":memory:")

/** A page's bytes are fewer than its events, so that every event is more than its share. */
const onTinyPages = open(":memory:", { bounds: { maxPageBytes: 100 } })

const vocabulary = { name: "lines", version: 1 }
const runId = "run-1" as RunId
const otherRun = "run-2" as RunId

let minted = 0
const eventOf = (text: string, fields: Partial<EncodedEvent> = {}): EncodedEvent => ({
  eventId: `01890a5d-ac96-774b-bcce-${(++minted).toString(16).padStart(12, "0")}` as EventId,
  kind: "Line",
  delivery: "normal",
  emittedAt: "2026-01-01T00:00:00.000Z",
  tags: [],
  correlation: {},
  event: JSON.stringify({ text }) as EncodedEvent["event"],
  ...fields,
})

const append = Effect.fnUntraced(function* (run: RunId, ...events: ReadonlyArray<EncodedEvent>) {
  const store = yield* EventStore
  return yield* store.append({ runId: run, vocabulary, events })
})

const lines = (count: number) => Array.from({ length: count }, (_, index) => eventOf(`line ${index + 1}`))

const readSeqs = Effect.fnUntraced(function* (run: RunId, after?: number) {
  const store = yield* EventStore
  const page = yield* store.read({ runId: run, after, limit: 1000 })
  return page.envelopes.map((envelope) => envelope.seq)
})

const replayAll = Effect.flatMap(EventArchive, (archive) => Stream.runCollect(archive.replay({ filter: {} })))

describe("a stored record that was altered", () => {
  for (const [name, damage, problem] of [
    ["an event that is not JSON", "event = '{\"text\":'", /not JSON/],
    ["an event id that is none", "event_id = 'x'", /UUIDv7/],
    ["a moment that is none", "emitted_at = '2026-01-01'", /ISO 8601/],
    ["a delivery that is none", "delivery = 'lost'", /delivery/],
    ["an agent id that is none", "agent_id = ''", /1 to 128/],
    ["tags that are not JSON", "tags = '['", /tags or correlation/],
    ["tags that are no list of texts", "tags = '{}'", /array/i],
    ["tags that are not all texts", "tags = '[\"a\",1]'", /string/i],
    ["a correlation that is not all texts", "correlation = '{\"a\":null}'", /string/i],
    ["a kind that is no text", "kind = x'00'", /string/i],
    ["an event that is no text", "event = x'00'", /JSON|string/i],
  ] as const) {
    for (const [where, layer] of [
      ["", inMemory],
      [", also on a page too small for its events", onTinyPages],
    ] as const) {
      it.effect(`${name} is told with its place, after what is before it${where}`, () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const store = yield* EventStore
          yield* append(runId, ...lines(5))
          yield* sql.unsafe(`UPDATE throughline_events SET ${damage} WHERE seq = 3`)
          assert.deepStrictEqual(yield* readSeqs(runId), [1, 2])
          const error = yield* Effect.flip(store.read({ runId, after: 2, limit: 10 }))
          assert.strictEqual(error._tag, "CorruptRecord")
          assert.include(error, { runId, seq: 3 })
          assert.match(error.message, problem)
          assert.deepStrictEqual(yield* readSeqs(runId, 3), [4, 5])
          const archive = yield* EventArchive
          const seen: Array<number> = []
          const replayError = yield* archive.replay({ filter: {} }).pipe(
            Stream.runForEach((item) => Effect.sync(() => item._tag === "Event" && seen.push(item.envelope.seq))),
            Effect.flip,
          )
          assert.deepStrictEqual(seen, [1, 2])
          assert.include(replayError, { _tag: "CorruptRecord", runId, seq: 3 })
        }).pipe(Effect.provide(layer)),
      )
    }
  }

  it.effect("a record that is gone is told with its place, never skipped", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* EventStore
      yield* append(runId, ...lines(5))
      yield* sql`DELETE FROM throughline_events WHERE seq IN (3, 5)`
      assert.deepStrictEqual(yield* readSeqs(runId), [1, 2])
      for (const seq of [3, 5]) {
        const error = yield* Effect.flip(store.read({ runId, after: seq - 1, limit: 10 }))
        assert.include(error, { _tag: "CorruptRecord", runId, seq })
      }
    }).pipe(Effect.provide(inMemory)),
  )

  it.effect("a run's row or will that can't be read fails for good, and says what to do", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* EventStore
      const will = eventOf("lost", { endsRun: "failed" })
      yield* store.append({ runId, vocabulary, events: lines(1), lease: { ttl: "30 seconds", will } })
      yield* sql`UPDATE throughline_runs SET will = '{}'`
      assert.strictEqual((yield* store.head(runId)).lease?.hasWill, true)
      const failed = yield* Effect.flip(append(runId, ...lines(1)))
      assert.include(failed, { _tag: "AppendFailed" })
      assert.match(failed.message, /the will of run run-1 can't be decoded .* backup/s)
      yield* sql`UPDATE throughline_runs SET will = NULL, generation = 'G'`
      const unread = yield* Effect.flip(store.read({ runId, limit: 1 }))
      assert.strictEqual(unread._tag === "ReadFailed" && unread.isRetryable, false)
      assert.match(unread.message, /run run-1 can't be decoded/)
      const archived = yield* Effect.flip(replayAll)
      assert.include(archived, { _tag: "CorruptRecord", seq: 1 })
      assert.match(archived.message, /the run of the event at position 1 can't be decoded/)
    }).pipe(Effect.provide(inMemory)),
  )
})

describe("what is stored", () => {
  it.effect("is any JSON, however deep, and any Unicode text", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const deep = `${"[".repeat(5000)}${"]".repeat(5000)}` as EncodedEvent["event"]
      const texts = {
        provider: "a\u0000b",
        turnId: "😀 ' \" \\ \u2028",
        kind: "",
        tags: ["\ud800"],
        correlation: { "": "\udfff" },
      }
      const events = [
        eventOf("", { event: deep }),
        eventOf("", texts),
        eventOf("", { correlation: { ["__proto__"]: "x" } }),
      ]
      yield* append(runId, ...events)
      const { envelopes } = yield* store.read({ runId, limit: 10 })
      for (const [index, event] of events.entries()) {
        assert.deepStrictEqual(envelopes[index], { ...event, runId, seq: index + 1, schemaVersion: 1 })
      }
    }).pipe(Effect.provide(inMemory)),
  )

  it.effect("is never a text that a database would alter: a lone surrogate is refused", () =>
    Effect.gen(function* () {
      for (const fields of [{ kind: "\ud800" }, { provider: "\ud800" }, { turnId: "x\udfff" }]) {
        const error = yield* Effect.flip(append(runId, eventOf("x", fields)))
        assert.include(error._tag === "AppendFailed" ? error.reason : error, { _tag: "InvalidRequest" })
        assert.match(error.message, /lone surrogate/)
      }
      assert.deepStrictEqual(yield* readSeqs(runId), [])
    }).pipe(Effect.provide(inMemory)),
  )

  it.effect("is read in pages that hold no more bytes than allowed, and always one event", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      yield* append(
        runId,
        eventOf("x".repeat(400)),
        eventOf("y".repeat(10)),
        eventOf("ü".repeat(34)),
        eventOf("z".repeat(60)),
      )
      const pages: Array<ReadonlyArray<number>> = []
      for (let after = 0; after < 4;) {
        const seqs = (yield* store.read({ runId, after, limit: 10 })).envelopes.map((envelope) => envelope.seq)
        pages.push(seqs)
        after = seqs[seqs.length - 1]!
      }
      assert.deepStrictEqual(pages, [[1], [2, 3], [4]])
    }).pipe(Effect.provide(open(":memory:", { bounds: { maxPageBytes: 100 } }))),
  )

  it.effect.prop(
    "is read as it was appended in pages that are as full as their bytes allow, whatever the sizes of its events",
    { sizes: Schema.NonEmptyArray(Schema.Literals([0, 88, 89, 90, 189, 489, 490, 989, 2000])) },
    ({ sizes }) =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const events = sizes.map((size) => eventOf("é".repeat(size >> 1) + "e".repeat(size & 1), { tags: ["t"] }))
        yield* append(runId, ...events)
        const fullPage = (after: number) => {
          let [end, bytes] = [after, 0]
          while (end < events.length && end - after < 10) {
            bytes += Buffer.byteLength(events[end]!.event)
            if (bytes > 1000 && end > after) break
            end++
          }
          return events.slice(after, end)
        }
        for (let after = 0; after < events.length;) {
          const { envelopes } = yield* store.read({ runId, after, limit: 20 })
          assert.deepStrictEqual(
            envelopes,
            fullPage(after).map((event, index) => ({ ...event, seq: after + index + 1, runId, schemaVersion: 1 })),
          )
          after += envelopes.length
        }
        const replayed = (yield* replayAll).flatMap((item) => (item._tag === "Event" ? [item.envelope.event] : []))
        assert.deepStrictEqual(
          replayed,
          events.map(({ event }) => event),
        )
      }).pipe(Effect.provide(open(":memory:", { bounds: { maxPageEvents: 10, maxPageBytes: 1000 } }))),
    { arbitrary: { runs: 100 } },
  )

  it.effect("of one run is trimmed within its bounds when retention was shortened, a bounded number at a time", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* Effect.forEach([1000, 1000, 500], (count) => append(runId, ...lines(count))).pipe(
        Effect.provide(open(filename)),
      )
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const rows = Effect.map(sql`SELECT count(*) FROM throughline_events`.values, ([row]) => row![0])
        for (const kept of [1500, 500, 10]) {
          yield* append(runId, eventOf("one more"))
          assert.strictEqual(yield* rows, kept)
          const head = yield* Effect.flatMap(EventStore, (store) => store.head(runId))
          assert.strictEqual(head.firstSeq, head.lastSeq - 9)
          assert.lengthOf(yield* readSeqs(runId, head.firstSeq - 1), 10)
          const items = yield* replayAll
          assert.deepStrictEqual(items[0], { _tag: "Truncated", runId, from: 1, to: head.firstSeq - 1 })
          assert.lengthOf(items, 12)
        }
      }).pipe(Effect.provide(open(filename, { retention: { eventsPerRun: 10 } })))
    }),
  )
})

describe("a removed run", () => {
  it.effect("leaves nothing behind, and its positions are not given out again", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* EventStore
      for (let batch = 0; batch < 3; batch++) {
        yield* store.append({
          runId,
          vocabulary,
          events: lines(900),
          producer: { id: "p", epoch: 1, number: batch + 1 },
        })
      }
      assert.isTrue(yield* store.remove(runId))
      assert.isFalse(yield* store.remove(runId))
      for (const table of ["events", "producers", "runs", "removed"]) {
        assert.deepStrictEqual(yield* sql.unsafe(`SELECT * FROM throughline_${table}`), [], table)
      }
      const [frame] = (yield* append(runId, eventOf("again"))).frames
      assert.strictEqual(frame!.position, 2701)
      assert.strictEqual(frame!.envelope.seq, 1)
    }).pipe(Effect.provide(inMemory)),
  )

  it.live("that was left half removed by a killed process is finished when the file is opened next", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* append(runId, ...lines(1000))
        yield* append(otherRun, ...lines(3))
        const [row] = yield* sql`DELETE FROM throughline_runs WHERE run_id = ${runId} RETURNING run_key`.values
        yield* sql`INSERT INTO throughline_removed (run_key) VALUES (${row![0]})`
        assert.lengthOf(yield* replayAll, 4)
      }).pipe(Effect.provide(open(filename)))
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const left = Effect.map(sql`SELECT count(*) FROM throughline_events`.values, ([row]) => Number(row![0]))
        yield* Effect.repeat(left, { until: (rows) => rows === 3 }).pipe(Effect.timeout("10 seconds"))
        assert.deepStrictEqual(yield* readSeqs(otherRun), [1, 2, 3])
      }).pipe(Effect.provide(open(filename)))
    }),
  )

  it.effect("goes by age after its end, and no sooner; an open run stays", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      yield* append(runId, eventOf("end", { endsRun: "completed" }))
      yield* append(otherRun, eventOf("open"))
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual((yield* store.head(runId)).status, "completed")
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual((yield* store.head(runId)).status, "unknown")
      assert.strictEqual((yield* store.head(otherRun)).status, "running")
    }).pipe(Effect.provide(open(":memory:", { retention: { ageAfterEnd: "1 hour" } }))),
  )
})

describe("a full disk", () => {
  it.effect("is told as such, loses nothing that was stored, and takes appends again when there is room", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* append(runId, ...lines(10))
        yield* sql`PRAGMA max_page_count = 1`
        const error = yield* Effect.flip(append(runId, ...Array.from({ length: 100 }, () => eventOf("x".repeat(4000)))))
        assert.include(error._tag === "AppendFailed" ? error.reason : error, { _tag: "StoreFull", isRetryable: false })
        assert.include(error.message, filename)
        assert.match(error.message, /free some space/)
        assert.lengthOf(yield* readSeqs(runId), 10)
        yield* sql`PRAGMA max_page_count = 1000000`
        const { frames } = yield* append(runId, eventOf("room again"))
        assert.strictEqual(frames[0]!.envelope.seq, 11)
      }).pipe(Effect.provide(open(filename)))
    }),
  )
})

describe("beside an application's own tables", () => {
  it.effect("the store keeps to tables of its own, and joins the application's transaction", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE ticket (id TEXT)`
      yield* Effect.gen(function* () {
        yield* sql
          .withTransaction(
            Effect.gen(function* () {
              yield* sql`INSERT INTO ticket (id) VALUES ('undone')`
              yield* append(runId, eventOf("undone"))
              return yield* Effect.fail("no")
            }),
          )
          .pipe(Effect.flip)
        assert.deepStrictEqual(yield* sql`SELECT * FROM ticket`, [])
        assert.deepStrictEqual(yield* readSeqs(runId), [])
        yield* sql.withTransaction(
          Effect.andThen(sql`INSERT INTO ticket (id) VALUES ('kept')`, append(runId, eventOf("kept"))),
        )
        assert.deepStrictEqual(yield* readSeqs(runId), [1])
      }).pipe(Effect.provide(SqlEventStore.layer()))
      const tables = yield* sql<{ name: string }>`SELECT name FROM sqlite_schema WHERE type = 'table'
AND name NOT LIKE 'throughline\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'`
      assert.deepStrictEqual(
        tables.map(({ name }) => name),
        ["ticket"],
      )
    }).pipe(Effect.provide(Layer.mergeAll(SqliteClient.layer({ filename: ":memory:" }), Throughline.layerCrypto))),
  )

  it.effect("what the application sets for its own statements doesn't reach the store's", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const archive = yield* EventArchive
      const producer = { id: "p", epoch: 1, number: 1 }
      yield* store.append({ runId, vocabulary, events: lines(3), producer })
      assert.deepStrictEqual(yield* readSeqs(runId), [1, 2, 3])
      assert.strictEqual((yield* store.head(runId)).lastSeq, 3)
      assert.lengthOf(yield* store.runs({ limit: 10 }), 1)
      assert.isTrue(Option.isSome(yield* store.producer(runId, "p")))
      assert.lengthOf(yield* Stream.runCollect(archive.replay({ filter: {} })), 4)
      assert.isTrue(yield* store.remove(runId))
    }).pipe(
      Effect.provideService(SqlClient.SafeIntegers, true),
      Effect.provideService(SqlClient.BeginTransaction, "BEGIN"),
      Effect.provide(Layer.unwrap(Effect.map(newFile, (filename) => open(filename)))),
    ),
  )

  it.effect("a client that renames columns for the application doesn't disturb it", () =>
    Effect.gen(function* () {
      yield* append(runId, ...lines(3))
      const store = yield* EventStore
      assert.strictEqual((yield* store.head(runId)).lastSeq, 3)
      assert.deepStrictEqual(yield* readSeqs(runId), [1, 2, 3])
      assert.lengthOf(yield* store.runs({ limit: 10 }), 1)
    }).pipe(
      Effect.provide(
        SqlEventStore.layer().pipe(
          Layer.provide(
            SqliteClient.layer({
              filename: ":memory:",
              transformResultNames: (name) => name.toUpperCase(),
              transformQueryNames: (name) => name.toUpperCase(),
            }),
          ),
          Layer.provide(Throughline.layerCrypto),
        ),
      ),
    ),
  )
})
