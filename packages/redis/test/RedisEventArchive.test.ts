import { describe, expect, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import { type ArchiveItem, EventArchive } from "@throughline/core/EventArchive"
import type { EventFilter } from "@throughline/core/EventFilter"
import { type AppendRequest, EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventArchive from "@throughline/redis/RedisEventArchive"
import * as RedisEventStore from "@throughline/redis/RedisEventStore"
import * as RedisKeys from "@throughline/redis/RedisKeys"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import * as RedisServer from "./RedisServer.ts"

const url = RedisServer.forFile()

const [a, b, c] = ["a", "b", "c"].map((id) => Envelope.RunId.make(id)) as [
  Envelope.RunId,
  Envelope.RunId,
  Envelope.RunId,
]
const [chat, ticket] = ["chat", "ticket"].map((id) => Envelope.SessionId.make(id)) as [
  Envelope.SessionId,
  Envelope.SessionId,
]

let minted = 0

const eventOf = (text: string, more: Partial<Envelope.EncodedEvent> = {}): Envelope.EncodedEvent => ({
  eventId: Envelope.EventId.make(`0199c0de-0000-7000-8000-${String(++minted).padStart(12, "0")}`),
  kind: "Said",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  event: JSON.stringify(text) as Envelope.EventJson,
  ...more,
})

const said = (
  runId: Envelope.RunId,
  texts: ReadonlyArray<string>,
  more: Partial<AppendRequest> = {},
): AppendRequest => ({
  runId,
  vocabulary: { name: "test", version: 1 },
  events: texts.map((text) => eventOf(text)),
  ...more,
})

const ended = (runId: Envelope.RunId): AppendRequest => ({
  ...said(runId, []),
  events: [eventOf("bye", { kind: "Bye", delivery: "terminal", endsRun: "completed" })],
})

interface Settings {
  readonly store?: RedisEventStore.RedisStoreOptions
  readonly archive?: RedisEventArchive.RedisArchiveOptions
}

/** A store and its archive on a server, under a prefix of their own. */
const open = (address: string, { archive, store }: Settings = {}, keyPrefix = `throughline-${randomUUID()}:`) =>
  Effect.map(
    Layer.build(
      Layer.mergeAll(RedisEventStore.layer(store), RedisEventArchive.layer(archive ?? store)).pipe(
        Layer.provideMerge(IoRedis.layer({ url: address, keyPrefix, reconnect: Schedule.spaced("20 millis") })),
        Layer.provide(Throughline.layerCrypto),
      ),
    ),
    (context) => ({
      store: Context.get(context, EventStore),
      archive: Context.get(context, EventArchive),
      redis: Context.get(context, IoRedis.IoRedis),
      prefix: keyPrefix,
    }),
  )

/** On the file's server; what is written goes with the scope. */
const fresh = (settings?: Settings) =>
  Effect.gen(function* () {
    const opened = yield* open(yield* url, settings)
    yield* Effect.addFinalizer(() =>
      Effect.promise(async () => {
        const { client } = opened.redis
        for await (const keys of client.scanStream({ match: `${opened.prefix}*`, count: 1000 })) {
          if ((keys as Array<string>).length > 0) await client.unlink(keys as Array<string>)
        }
      }),
    )
    return opened
  })

type Opened = Effect.Success<ReturnType<typeof open>>

const replay = ({ archive }: Pick<Opened, "archive">, filter: EventFilter = {}, after?: string) =>
  Stream.runCollect(archive.replay({ filter, after }))

/** What was replayed before it failed, and the failure. */
const replayed = ({ archive }: Opened, filter: EventFilter = {}) =>
  Effect.gen(function* () {
    const items: Array<ArchiveItem> = []
    const failure = yield* Effect.flip(
      Stream.runForEach(archive.replay({ filter }), (item) => Effect.sync(() => items.push(item))),
    )
    return { texts: textsOf(items), failure }
  })

const textsOf = (items: ReadonlyArray<ArchiveItem>) =>
  items.flatMap((item) => (item._tag === "Event" ? [JSON.parse(item.envelope.event) as string] : []))

const checkpointOf = (items: ReadonlyArray<ArchiveItem>) => {
  const last = items.at(-1)
  if (last?._tag !== "Checkpoint") throw new Error("a replay ends with a checkpoint")
  return last
}

const texts = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => `${from + index}`)

/** How many scripts an effect had Redis run. */
const scriptsOf = <A, E>({ redis }: Opened, effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const calls = Effect.map(redis.send("INFO", ["commandstats"]), (stats) =>
      Number(/cmdstat_evalsha_ro:calls=(\d+)/.exec(String(stats))?.[1] ?? 0),
    )
    const before = yield* calls
    const value = yield* effect
    return { value, scripts: (yield* calls) - before }
  })

/** Tries until it succeeds, for 10 seconds. */
const eventually = <A, E>(effect: Effect.Effect<A, E>) =>
  effect.pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("10 seconds"))

const runOf = (name: string) => Envelope.RunId.make(`run${name}`)

describe("RedisEventArchive", () => {
  it.live("pages of any size give the same replay, each page one read-only script", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const whole = yield* open(server.url, { store: { retention: { eventsPerRun: 40 } } })
      const { store } = whole
      for (let round = 0; round < 12; round++) {
        yield* store.append(said(a, texts(1, 1 + (round % 7)), { sessionId: chat }))
        yield* store.append(said(b, ["x".repeat(round === 5 ? 3000 : 10)], { sessionId: ticket }))
        yield* store.append(said(c, texts(1, 3), { sessionId: chat }))
      }
      const { scripts, value: expected } = yield* scriptsOf(whole, replay(whole))
      expect(scripts).toBe(1)
      expect(expected.filter(({ _tag }) => _tag === "Truncated")).toHaveLength(1)
      const filters: ReadonlyArray<EventFilter> = [
        {},
        { sessionIds: [chat] },
        { sessionIds: [chat, ticket] },
        { runIds: [b] },
        { runIds: [a, c], sessionIds: [chat] },
      ]
      const sizes = [{ maxPageEvents: 1 }, { maxPageEvents: 2 }, { maxPageEvents: 7 }, { maxPageBytes: 700 }]
      for (const bounds of sizes) {
        const small = yield* open(server.url, { archive: { bounds } }, whole.prefix)
        for (const filter of filters) {
          const items = yield* replay(small, filter)
          expect(items).toEqual(yield* replay(whole, filter))
          // From the middle of an append too.
          for (const item of items.filter((_, index) => index % 5 === 0)) {
            if (item._tag === "Truncated") continue
            expect(yield* replay(small, filter, item.cursor)).toEqual(yield* replay(whole, filter, item.cursor))
          }
        }
      }
    }).pipe(Effect.scoped),
  )

  it.live("events have the positions and cursors that their appends were answered with", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const first = yield* opened.store.append(said(a, texts(1, 3)))
      const second = yield* opened.store.append(said(b, texts(4, 5)))
      const events = (yield* replay(opened)).filter((item) => item._tag === "Event")
      expect(events.map(({ envelope, position, runCursor }) => ({ envelope, position, runCursor }))).toEqual(
        [...first.frames, ...second.frames].map(({ cursor, envelope, position }) => ({
          envelope,
          position,
          runCursor: cursor,
        })),
      )
    }).pipe(Effect.scoped),
  )

  it.live("a filter of events is asked of every event, and the checkpoint is past what it left out", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const marked = { ...said(a, []), events: [eventOf("marked", { tags: ["t"] }), eventOf("plain")] }
      yield* opened.store.append(marked)
      yield* opened.store.append(ended(b))
      expect(textsOf(yield* replay(opened, { tags: ["t"] }))).toEqual(["marked"])
      expect(textsOf(yield* replay(opened, { terminalOnly: true }))).toEqual(["bye"])
      const nothing = yield* replay(opened, { kinds: ["Unheard"] })
      expect(nothing).toHaveLength(1)
      expect(checkpointOf(nothing).position).toBe(checkpointOf(yield* replay(opened)).position)
    }).pipe(Effect.scoped),
  )

  it.live("a session may be called anything that an id may be", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const { store } = opened
      const names = ["-", "-a", "a", "_"].map((name) => Envelope.SessionId.make(name))
      yield* store.append(said(runOf(""), ["none"]))
      for (const name of names) yield* store.append(said(runOf(name), [name], { sessionId: name }))
      for (const name of names) {
        expect(textsOf(yield* replay(opened, { sessionIds: [name] }))).toEqual([name])
        expect((yield* store.runs({ sessionId: name, limit: 10 })).map(({ runId }) => runId)).toEqual([runOf(name)])
        expect((yield* store.head(runOf(name))).sessionId).toBe(name)
      }
      const refused = yield* Effect.flip(store.append(said(runOf(""), ["more"], { sessionId: names[0] })))
      expect(refused).toMatchObject({ _tag: "SessionConflict" })
      for (const name of ["", ...names]) expect(yield* store.remove(runOf(name))).toBe(true)
      const keys = yield* opened.redis.send("KEYS", [`${opened.prefix.replace(/[[\]*?]/g, "\\$&")}*`])
      expect(keys).toEqual([RedisKeys.index(opened.prefix)])
    }).pipe(Effect.scoped),
  )

  it.live("one run of a large store is found without looking through the others", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const opened = yield* open(server.url)
      const { store } = opened
      yield* Effect.forEach(texts(1, 3000), (text) => store.append(said(b, [text])), { concurrency: 64, discard: true })
      yield* store.append(said(a, ["here"]))
      yield* Effect.forEach(texts(1, 3000), (text) => store.append(said(b, [text])), { concurrency: 64, discard: true })
      const one = yield* scriptsOf(opened, replay(opened, { runIds: [a] }))
      expect(textsOf(one.value)).toEqual(["here"])
      expect(one.scripts).toBe(1)
      const none = yield* scriptsOf(opened, replay(opened, { runIds: [c] }))
      expect(none.value).toHaveLength(1)
      expect(none.scripts).toBe(1)
      expect(checkpointOf(none.value).position).toBe(checkpointOf(one.value).position)
      for (const filter of [{}, { runIds: [a, b] }]) {
        const all = (yield* replay(opened, filter)).filter((item) => item._tag === "Event")
        expect(all.filter(({ envelope }) => envelope.runId === b).map(({ envelope }) => envelope.seq)).toEqual(
          Array.from({ length: 6000 }, (_, index) => index + 1),
        )
        expect(all.findIndex(({ envelope }) => envelope.runId === a)).toBe(3000)
      }
    }).pipe(Effect.scoped),
  )

  it.live("what a removed run left in the index is passed over, also once the run is written anew", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const { redis, store } = opened
      yield* store.append(said(b, ["before"]))
      yield* store.append(said(a, ["gone"], { sessionId: chat }))
      // What a removal that was cut short leaves: the index names a run that isn't there.
      yield* redis.send("DEL", [RedisKeys.run(opened.prefix, a), RedisKeys.events(opened.prefix, a)])
      yield* redis.send("ZREM", [RedisKeys.runs(opened.prefix), a])
      yield* store.append(said(b, ["after"]))
      expect(textsOf(yield* replay(opened))).toEqual(["before", "after"])
      expect(textsOf(yield* replay(opened, { sessionIds: [chat] }))).toEqual([])
      yield* store.append(said(a, ["new", "newer"]))
      expect(textsOf(yield* replay(opened))).toEqual(["before", "after", "new", "newer"])
      yield* store.remove(a)
      expect(textsOf(yield* replay(opened))).toEqual(["before", "after"])
    }).pipe(Effect.scoped),
  )

  it.live("an expired run is left out, whether or not a store has swept it up", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ store: { retention: { ageAfterEnd: "1 hour" } } })
      const { redis, store } = opened
      yield* store.append(said(a, ["1", "2"], { sessionId: chat }))
      yield* store.append(ended(a))
      yield* store.append(said(b, ["here"]))
      // As if the hour were over: Redis expires both keys in the same instant, what lists the run stays for a sweep.
      const remains = `${RedisKeys.shared(opened.prefix)}remains`
      const left = String(yield* redis.send("HGET", [remains, a]))
      yield* redis.send("HSET", [remains, a, left.replace(/^\d+/, "1000")])
      yield* redis.send("DEL", [RedisKeys.run(opened.prefix, a), RedisKeys.events(opened.prefix, a)])
      expect(textsOf(yield* replay(opened))).toEqual(["here"])
      expect(textsOf(yield* replay(opened, { runIds: [a] }))).toEqual([])
      expect(textsOf(yield* replay(opened, { sessionIds: [chat] }))).toEqual([])
    }).pipe(Effect.scoped),
  )

  it.live("retention by age takes a run out of the archive", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ store: { retention: { ageAfterEnd: "30 millis" } } })
      const { redis, store } = opened
      yield* store.append(said(a, ["1", "2"]))
      yield* store.append(ended(a))
      const last = yield* store.append(said(b, ["here"]))
      yield* eventually(
        Effect.gen(function* () {
          const items = yield* replay(opened)
          const entries = yield* redis.send("XLEN", [RedisKeys.index(opened.prefix)])
          if (textsOf(items).length !== 1 || entries !== 1) return yield* Effect.fail("not yet")
          expect(checkpointOf(items).position).toBeGreaterThanOrEqual(last.frames[0]!.position!)
        }),
      )
    }).pipe(Effect.scoped),
  )

  it.live("an evicted run stops a replay that wants it, after all before it, until the run is removed", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const { redis, store } = opened
      yield* store.append(said(b, ["before"], { sessionId: ticket }))
      yield* store.append(said(a, ["1", "2"], { sessionId: chat }))
      yield* store.append(said(b, ["after"]))
      yield* redis.send("DEL", [RedisKeys.run(opened.prefix, a)])
      for (const filter of [{}, { runIds: [a, b] }, { sessionIds: [chat, ticket] }]) {
        const { failure, texts: before } = yield* replayed(opened, filter)
        expect(before).toEqual(["before"])
        expect(failure).toMatchObject({ _tag: "ReadFailed", isRetryable: false, reason: { _tag: "StoreBroken" } })
        expect(failure.message).toContain("run a")
      }
      for (const filter of [{ runIds: [b] }, { sessionIds: [ticket] }]) {
        expect(textsOf(yield* replay(opened, filter))).toEqual(["before", "after"])
      }
      yield* store.remove(a)
      expect(textsOf(yield* replay(opened))).toEqual(["before", "after"])
    }).pipe(Effect.scoped),
  )

  it.live("an event that was altered or is gone is CorruptRecord with its place, after all before it", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const { redis, store } = opened
      yield* store.append(said(a, ["1", "2", "3"]))
      const key = RedisKeys.events(opened.prefix, a)
      const entries = (yield* redis.send("XRANGE", [key, "-", "+"])) as ReadonlyArray<[string, ReadonlyArray<string>]>
      const [, [, record, , entry]] = entries[1]! as [string, [string, string, string, string]]
      const write = (fields: ReadonlyArray<string> | undefined) =>
        Effect.gen(function* () {
          yield* redis.send("DEL", [key])
          for (const [id, own] of entries) {
            const written = id === "2-0" ? fields : own
            if (written !== undefined) yield* redis.send("XADD", [key, id, ...written])
          }
        })
      const changes = [["r", record.replace("2", "X"), "p", entry], ["other", "fields"], undefined]
      for (const change of changes) {
        yield* write(change)
        const { failure, texts: before } = yield* replayed(opened)
        expect(before).toEqual(["1"])
        expect(failure).toMatchObject({ _tag: "CorruptRecord", runId: a, seq: 2 })
      }
      yield* redis.send("DEL", [key])
      expect((yield* replayed(opened)).failure).toMatchObject({ _tag: "CorruptRecord", runId: a, seq: 1 })
    }).pipe(Effect.scoped),
  )

  it.live(
    "what isn't ours among the index and the heads is StoreBroken; an entry that no event names is passed over",
    () =>
      Effect.gen(function* () {
        const opened = yield* fresh()
        const { redis, store } = opened
        const index = RedisKeys.index(opened.prefix)
        yield* store.append(said(a, ["1"]))
        yield* redis.send("XADD", [index, "0-*", "a", "a 2 1 0-1"])
        yield* store.append(said(a, ["2"]))
        expect(textsOf(yield* replay(opened))).toEqual(["1", "2"])
        yield* redis.send("HSET", [RedisKeys.run(opened.prefix, a), "z", "2"])
        expect((yield* replayed(opened)).failure).toMatchObject({ reason: { _tag: "StoreBroken" } })
        yield* redis.send("HSET", [RedisKeys.run(opened.prefix, a), "z", "1"])
        yield* redis.send("XADD", [index, "0-*", "foreign", "entry"])
        const { failure, texts: before } = yield* replayed(opened)
        expect(before).toEqual(["1", "2"])
        expect(failure).toMatchObject({ _tag: "ReadFailed", reason: { _tag: "StoreBroken" } })
        expect(failure.message).toContain("0-4")
      }).pipe(Effect.scoped),
  )

  it.live("without an index there is no archive, and it says so: configured so, written so, or evicted", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const without = yield* open(server.url, { store: { index: false } })
      const failure = yield* Effect.flip(replay(without))
      expect(failure).toMatchObject({ _tag: "ReadFailed", isRetryable: false, reason: { _tag: "StoreBroken" } })
      expect(failure.message).toContain("index: false")
      yield* without.store.append(said(a, ["1"]))
      const other = yield* open(server.url, {}, without.prefix)
      expect((yield* Effect.flip(replay(other))).message).toContain("index: false")
      expect((yield* Effect.flip(replay(other, { runIds: [a] }))).message).toContain("index: false")
      const opened = yield* open(server.url)
      yield* opened.store.append(said(a, ["1"]))
      const { cursor } = checkpointOf(yield* replay(opened))
      yield* opened.redis.send("DEL", [RedisKeys.index(opened.prefix)])
      expect((yield* Effect.flip(replay(opened))).message).toContain("evicted")
      yield* opened.store.remove(a)
      // Nothing is stored any more; who had come further is told so.
      expect(yield* Effect.flip(replay(opened, {}, cursor))).toMatchObject({ _tag: "CursorBeyondEnd" })
    }).pipe(Effect.scoped),
  )

  it.live("it reads while a full server takes no writes", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ maxmemory: 4_000_000 })
      const opened = yield* open(server.url)
      const { redis, store } = opened
      yield* store.append(said(a, ["here"]))
      yield* redis.send("CONFIG", ["SET", "maxmemory", "1"])
      expect(yield* Effect.flip(store.append(said(a, ["more"])))).toMatchObject({ reason: { _tag: "StoreFull" } })
      expect(textsOf(yield* replay(opened))).toEqual(["here"])
    }).pipe(Effect.scoped),
  )

  it.live("a server that goes away fails a replay as something to try again", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const opened = yield* open(server.url, { archive: { bounds: { maxPageEvents: 1 } } })
      yield* opened.store.append(said(a, texts(1, 5)))
      const items: Array<ArchiveItem> = []
      const failure = yield* Effect.flip(
        Stream.runForEach(opened.archive.replay({ filter: {} }).pipe(Stream.rechunk(1)), (item) =>
          Effect.suspend(() => (items.push(item) === 2 ? server.kill() : Effect.void)),
        ),
      )
      expect(failure).toMatchObject({ _tag: "ReadFailed", isRetryable: true, reason: { _tag: "StoreUnavailable" } })
      const last = items.at(-1)
      yield* server.start
      const rest = yield* eventually(replay(opened, {}, last?._tag === "Event" ? last.cursor : undefined))
      expect([...textsOf(items), ...textsOf(rest)]).toEqual(texts(1, 5))
    }).pipe(Effect.scoped),
  )
})
