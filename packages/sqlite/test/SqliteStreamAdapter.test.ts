import { assert, it } from "@effect/vitest"
import type { EncodedEvent, EventId, Frame, Gap, Room, RunId, SessionId } from "@throughline/core/Envelope"
import { type AppendResult, EventStore } from "@throughline/core/EventStore"
import { publishAppended, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteStreamAdapter from "@throughline/sqlite/SqliteStreamAdapter"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlError from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const interval = 20
const vocabulary = { name: "lines", version: 1 }
const runId = "run-1" as RunId
const otherRun = "run-2" as RunId
const sessionId = "chat" as SessionId
const room: Room = { _tag: "Run", runId }

let minted = 0
const lines = (count: number) =>
  Array.from({ length: count }, (): EncodedEvent => ({
    eventId: `01890a5d-ac96-774b-bcce-${(++minted).toString(16).padStart(12, "0")}` as EventId,
    agentId: "agent" as NonNullable<EncodedEvent["agentId"]>,
    kind: "Line",
    delivery: "normal",
    emittedAt: "2026-01-01T00:00:00.000Z",
    tags: [],
    correlation: {},
    event: `"line ${minted}"` as EncodedEvent["event"],
  }))

const newFile = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-live-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
).pipe(Effect.map((directory) => join(directory, "runs.db")))

/** How often the file was looked at, and what such a look fails with. */
interface Probe {
  looks: number
  failure: SqlError.SqlError | undefined
  defect?: unknown
}

/** A store and an adapter over a client of their own: what a process is. */
const makeProcess = Effect.fnUntraced(function* (filename: string, options?: SqliteStreamAdapter.Options) {
  const probe: Probe = { looks: 0, failure: undefined }
  const client = Layer.effectContext(
    Effect.gen(function* () {
      const context = yield* Layer.build(SqliteClient.layer({ filename }))
      const sql = Context.get(context, SqliteClient.SqliteClient)
      const real = sql.dataVersion
      const dataVersion = Effect.suspend(() => {
        probe.looks++
        if (probe.defect !== undefined) return Effect.die(probe.defect)
        return probe.failure === undefined ? real : Effect.fail(probe.failure)
      })
      return Context.add(context, SqliteClient.SqliteClient, Object.assign(sql, { dataVersion }))
    }),
  )
  const context = yield* Layer.build(
    Layer.mergeAll(SqliteStreamAdapter.layer(options), SqlEventStore.layer()).pipe(
      Layer.provideMerge(client),
      Layer.provide(Throughline.layerCrypto),
    ),
  )
  const adapter = Context.get(context, StreamAdapter)
  const store = Context.get(context, EventStore)
  return {
    adapter,
    probe,
    sql: Context.get(context, SqlClient.SqlClient),
    append: (run: RunId, count: number): Effect.Effect<AppendResult> =>
      Effect.orDie(store.append({ runId: run, sessionId, vocabulary, events: lines(count) })),
    publish: (appended: AppendResult) => Effect.orDie(publishAppended(adapter, appended, ["Run", "Session"])),
  }
})

/** Two processes on one file, the second of which writes. */
const twoProcesses = Effect.gen(function* () {
  const filename = yield* newFile
  return { here: yield* makeProcess(filename), there: yield* makeProcess(filename) }
})

/** Subscribes, and collects what arrives. */
const listen = Effect.fnUntraced(function* (adapter: StreamAdapter["Service"], to: Room, capacity?: number) {
  const items: Array<Frame | Gap> = []
  const stream = yield* adapter.subscribe(to, { capacity })
  yield* Stream.runForEach(stream, (item) => Effect.sync(() => items.push(item))).pipe(Effect.forkScoped)
  return items
})

const seqsOf = (items: ReadonlyArray<Frame | Gap>) =>
  items.map((item) => (item._tag === "Frame" ? item.envelope.seq : item.reason))

const look = TestClock.adjust(interval)

it.effect("what another process appends arrives at the next look, whole, with its cursor and position", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    yield* there.append(otherRun, 2)
    const items = yield* listen(here.adapter, room)
    const appended = yield* there.append(runId, 3)
    assert.deepStrictEqual(items, [])
    yield* look
    assert.deepStrictEqual(items, [...appended.frames])
    yield* there.append(otherRun, 1)
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items), [1, 2, 3, 4])
  }),
)

it.effect("what was appended before a subscription doesn't come; what is appended right after it does", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    yield* there.append(runId, 2)
    const first = yield* listen(here.adapter, room)
    yield* there.append(runId, 1)
    // The poller runs already, and has not seen seq 3 yet.
    const second = yield* listen(here.adapter, { _tag: "Session", sessionId })
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(first), [3, 4])
    assert.deepStrictEqual(seqsOf(second).slice(-1), [4])
  }),
)

it.effect("what this process publishes arrives at once, and not again from the file", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    const items = yield* listen(here.adapter, room)
    for (const count of [1, 2]) {
      yield* here.publish(yield* here.append(runId, count))
      yield* Effect.yieldNow
    }
    assert.deepStrictEqual(seqsOf(items), [1, 2, 3])
    yield* there.append(runId, 1)
    yield* here.publish(yield* here.append(runId, 1))
    yield* look
    yield* look
    assert.sameMembers(seqsOf(items), [1, 2, 3, 4, 5])
    assert.lengthOf(items, 5)
  }),
)

it.effect("what the file told before it was published doesn't come twice", () =>
  Effect.gen(function* () {
    const { here } = yield* twoProcesses
    const early = yield* listen(here.adapter, room)
    const appended = yield* here.append(runId, 2)
    yield* look
    const late = yield* listen(here.adapter, room)
    yield* here.publish(appended)
    yield* look
    assert.deepStrictEqual(seqsOf(early), [1, 2])
    // Published after this subscription was in place, so it gets what the file had told before.
    assert.deepStrictEqual(seqsOf(late), [1, 2])
  }),
)

it.effect("frames published room by room reach each room", () =>
  Effect.gen(function* () {
    const { here } = yield* twoProcesses
    const inRun = yield* listen(here.adapter, room)
    const inSession = yield* listen(here.adapter, { _tag: "Session", sessionId })
    const { frames } = yield* here.append(runId, 2)
    yield* here.adapter.publish([room], frames)
    yield* look
    yield* here.adapter.publish([{ _tag: "Session", sessionId }], frames)
    yield* look
    for (const items of [inRun, inSession]) assert.deepStrictEqual([...new Set(seqsOf(items))], [1, 2])
  }),
)

it.effect("rooms that aren't fed get what is published to them, and nothing from the file", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    const agent: Room = { _tag: "Agent", agentId: "agent" as NonNullable<EncodedEvent["agentId"]> }
    const items = yield* listen(here.adapter, agent)
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(items, [])
    const { frames } = yield* here.append(runId, 1)
    yield* look
    yield* here.adapter.publish([agent], frames)
    yield* look
    assert.deepStrictEqual(seqsOf(items), [2])
  }),
)

it.effect("every kind of room can be fed", () =>
  Effect.gen(function* () {
    const filename = yield* newFile
    const here = yield* makeProcess(filename, { rooms: ["Run", "Session", "Agent", "Provider", "All"] })
    const there = yield* makeProcess(filename)
    const rooms: ReadonlyArray<Room> = [
      { _tag: "Agent", agentId: "agent" as NonNullable<EncodedEvent["agentId"]> },
      { _tag: "All" },
      { _tag: "Session", sessionId },
      { _tag: "Provider", provider: "none" },
    ]
    const heard = yield* Effect.forEach(rooms, (to) => listen(here.adapter, to))
    yield* there.append(runId, 2)
    yield* look
    assert.deepStrictEqual(heard.map(seqsOf), [[1, 2], [1, 2], [1, 2], []])
  }),
)

it.effect("more than a page between two looks is a gap, not a page of memory each", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    const items = yield* listen(here.adapter, room, 5000)
    const others = yield* listen(here.adapter, { _tag: "Run", runId: otherRun })
    for (let batch = 0; batch < 3; batch++) yield* there.append(runId, 900)
    yield* look
    assert.deepStrictEqual(seqsOf(items).slice(-2), [1000, "overflow"])
    assert.deepStrictEqual(seqsOf(others), ["overflow"])
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items).slice(-2), ["overflow", 2701])
  }),
)

it.effect("a record that can't be read is a gap here; the store says where it is", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    const items = yield* listen(here.adapter, room)
    yield* there.append(runId, 3)
    yield* there.sql`UPDATE throughline_events SET event_id = 'x' WHERE seq = 2`
    yield* look
    assert.deepStrictEqual(seqsOf(items), ["overflow"])
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items), ["overflow", 4])
  }),
)

it.effect("without a listener the file is not looked at; with thousands it is looked at once", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    yield* TestClock.adjust("1 second")
    assert.strictEqual(here.probe.looks, 0)
    const scope = yield* Scope.make()
    for (let n = 0; n < 2000; n++) {
      yield* Effect.asVoid(Scope.provide(here.adapter.subscribe({ _tag: "Run", runId: `run-${n}` as RunId }), scope))
    }
    const before = here.probe.looks
    yield* TestClock.adjust("1 second")
    assert.strictEqual(here.probe.looks - before, 1000 / interval)
    // More rooms than a statement names: what isn't listened to is sorted out here.
    const items = yield* Scope.provide(listen(here.adapter, room), scope)
    yield* there.append(runId, 1)
    yield* there.append("run-9999" as RunId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items), [1])
    yield* Scope.close(scope, Exit.void)
    const closed = here.probe.looks
    yield* TestClock.adjust("1 second")
    assert.strictEqual(here.probe.looks, closed)
    const again = yield* listen(here.adapter, room)
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(again), [2])
  }),
)

it.effect("a file that can't be read for a while: what came meanwhile arrives, then a gap", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    const items = yield* listen(here.adapter, room)
    here.probe.failure = new SqlError.SqlError({
      reason: new SqlError.LockTimeoutError({ message: "locked", cause: undefined }),
    })
    yield* there.append(runId, 1)
    yield* TestClock.adjust("10 seconds")
    // Fewer looks the longer it lasts.
    assert.isBelow(here.probe.looks, 20)
    assert.deepStrictEqual(items, [])
    here.probe.failure = undefined
    yield* TestClock.adjust("2 seconds")
    assert.deepStrictEqual(seqsOf(items), [1, "reconnected"])
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items), [1, "reconnected", 2])
  }),
)

it.effect("a file that can't be read any more fails its subscribers; subscribing again looks again", () =>
  Effect.gen(function* () {
    const { here, there } = yield* twoProcesses
    const scope = yield* Scope.make()
    const stream = yield* Scope.provide(here.adapter.subscribe(room), scope)
    here.probe.failure = new SqlError.SqlError({
      reason: new SqlError.UnknownError({ message: "damaged", cause: undefined }),
    })
    yield* look
    const error = yield* Effect.flip(Stream.runDrain(stream))
    assert.include(error, { _tag: "AdapterUnavailable", isRetryable: false })
    assert.match(error.message, /damaged/)
    const refused = yield* Effect.flip(Effect.scoped(here.adapter.subscribe(room)))
    assert.strictEqual(refused._tag, "AdapterUnavailable")
    here.probe.failure = undefined
    const items = yield* listen(here.adapter, room)
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items), [1])
    // The end of the failed one touches nobody.
    yield* Scope.close(scope, Exit.void)
    yield* there.append(runId, 1)
    yield* look
    assert.deepStrictEqual(seqsOf(items), [1, 2])
  }),
)

for (const retrying of [false, true]) {
  it.effect(
    `a look that dies ${retrying ? "while the file is away " : ""}fails its subscribers, and the next has a poller of its own`,
    () =>
      Effect.gen(function* () {
        const { here, there } = yield* twoProcesses
        const scope = yield* Scope.make()
        const stream = yield* Scope.provide(here.adapter.subscribe(room), scope)
        if (retrying) {
          here.probe.failure = new SqlError.SqlError({
            reason: new SqlError.LockTimeoutError({ message: "locked", cause: undefined }),
          })
          yield* look
        }
        here.probe.defect = "boom"
        yield* TestClock.adjust("1 second")
        const ended = yield* Effect.forkChild(Effect.flip(Stream.runDrain(stream)))
        yield* TestClock.adjust("1 second")
        const exit = ended.pollUnsafe()
        assert.isDefined(exit, "the subscriber waits for a poller that died")
        assert.include(yield* exit, { _tag: "AdapterUnavailable", isRetryable: false })
        here.probe.defect = undefined
        here.probe.failure = undefined
        // The failed one is still held.
        const items = yield* listen(here.adapter, room)
        yield* there.append(runId, 1)
        yield* look
        assert.deepStrictEqual(seqsOf(items), [1])
        yield* Scope.close(scope, Exit.void)
      }),
  )
}
