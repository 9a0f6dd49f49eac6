import { describe, expect, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import * as EventFilter from "@throughline/core/EventFilter"
import { type AppendRequest, EventStore } from "@throughline/core/EventStore"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisKeys from "@throughline/redis/RedisKeys"
import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { connect, createServer } from "node:net"
import * as RedisServer from "./RedisServer.ts"

const prefix = RedisKeys.defaultPrefix
const runId = Envelope.RunId.make("run")
const runOf = (n: number) => Envelope.RunId.make(`run-${n}`)
const vocabulary = { name: "test", version: 1 }

const eventOf = (n: number, more: Partial<Envelope.EncodedEvent> = {}): Envelope.EncodedEvent => ({
  eventId: Envelope.EventId.make(`0199c0de-0000-7000-8000-${String(n).padStart(12, "0")}`),
  kind: "Said",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  event: String(n) as Envelope.EventJson,
  ...more,
})

const ending = (n: number) => eventOf(n, { delivery: "terminal", endsRun: "failed" })

/** An event of so many characters. */
const large = (n: number, characters: number) =>
  eventOf(n, { event: JSON.stringify("x".repeat(characters)) as Envelope.EventJson })

const appendOf = (run: Envelope.RunId, events: AppendRequest["events"], number?: number): AppendRequest => ({
  runId: run,
  vocabulary,
  events,
  ...(number === undefined ? undefined : { producer: { id: "writer", epoch: 1, number } }),
})

/** A process on a server. */
const open = Effect.fnUntraced(function* (
  url: string,
  options: RedisThroughline.BackendOptions = {},
  client: Omit<IoRedis.Options, "url"> = {},
) {
  const context = yield* Layer.build(
    SubscriptionHub.layer({ watchdog: "200 millis" }).pipe(
      Layer.provideMerge(RedisThroughline.layerBackend(options)),
      Layer.provideMerge(IoRedis.layer({ url, reconnect: Schedule.spaced("20 millis"), ...client })),
      Layer.provide(Throughline.layerCrypto),
      // A lost connection is a warning, and nothing new here.
      Layer.provide(Layer.succeed(References.MinimumLogLevel, "Error")),
    ),
  )
  const archive = Context.get(context, EventArchive)
  return {
    store: Context.get(context, EventStore),
    adapter: Context.get(context, StreamAdapter),
    hub: Context.get(context, SubscriptionHub.SubscriptionHub),
    redis: Context.get(context, IoRedis.IoRedis),
    replay: Stream.runCollect(archive.replay({ filter: EventFilter.all })),
  }
})

type Opened = Effect.Success<ReturnType<typeof open>>

/** Tries until it succeeds, for 20 seconds. */
const eventually = <A, E>(effect: Effect.Effect<A, E>) =>
  effect.pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("20 seconds"))

const seqsTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

/** All seqs of a run, page by page. */
const seqsOf = Effect.fnUntraced(function* ({ store }: Opened, run: Envelope.RunId) {
  const seqs: Array<number> = []
  for (;;) {
    const { envelopes } = yield* store.read({ runId: run, after: seqs.at(-1) ?? 0, limit: 1000 })
    if (envelopes.length === 0) return seqs
    seqs.push(...envelopes.map(({ seq }) => seq))
  }
})

const keys = ({ redis }: Opened) =>
  Effect.map(redis.send("KEYS", ["*"]), (found) => (found as ReadonlyArray<string>).toSorted())

/** A number of `INFO`. */
const info = ({ redis }: Opened, field: string) =>
  Effect.map(redis.send("INFO", ["everything"]), (text) =>
    Number(new RegExp(`^${field}:(\\d+)`, "m").exec(String(text))?.[1]),
  )

/** A server that answers every command with the same bytes where `state.answer` is set, and like the real one else. */
const impostor = Effect.fnUntraced(function* (target: number) {
  const state = { answer: undefined as Buffer | undefined }
  const server = createServer((client) => {
    const real = connect(target, "127.0.0.1")
    for (const socket of [client, real]) socket.on("error", () => {})
    client.on("data", (bytes) => {
      if (state.answer === undefined) real.write(bytes)
      else for (const _ of bytes.toString("latin1").matchAll(/\*\d+\r\n\$/g)) client.write(state.answer)
    })
    real.on("data", (bytes) => void (state.answer === undefined && client.write(bytes)))
    client.on("close", () => real.destroy())
    real.on("close", () => client.destroy())
  })
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () => Effect.sync(() => server.close()),
  )
  return { url: `redis://127.0.0.1:${port}`, state }
})

/** What is answered, and whether an append may be tried again then; `StoreFull` is a reason of its own. */
const nonsense: ReadonlyArray<readonly [string, string, "StoreUnavailable" | "StoreBroken" | "StoreFull"]> = [
  ["another protocol", "HTTP/1.1 200 OK\r\n\r\n", "StoreUnavailable"],
  ["bytes", "\0\u0001\u0002\u00ff", "StoreUnavailable"],
  ["one", ":1\r\n", "StoreBroken"],
  ["a number", ":5\r\n", "StoreBroken"],
  ["a text", "+OK\r\n", "StoreBroken"],
  ["nothing", "$-1\r\n", "StoreBroken"],
  ["RESP3's nothing", "_\r\n", "StoreBroken"],
  ["an empty list", "*0\r\n", "StoreBroken"],
  ["a list of lists", "*2\r\n*1\r\n*1\r\n:1\r\n*0\r\n", "StoreBroken"],
  ["a map", "%1\r\n+a\r\n+b\r\n", "StoreBroken"],
  ["a fraction", ",1.5\r\n", "StoreBroken"],
  ["almost an answer to an append", "+s 1 0-1 abc\r\n", "StoreBroken"],
  ["a text longer than it says", "$3\r\nabcdefgh\r\n", "StoreBroken"],
  ["half a text", "$100\r\nabc", "StoreUnavailable"],
  ["half a list", "*3\r\n+a\r\n", "StoreUnavailable"],
  ["the start of a text of 900 megabytes", "$900000000\r\nabc", "StoreUnavailable"],
  ["the start of a text of a hundred terabytes", "$99999999999999\r\nabc", "StoreUnavailable"],
  ["the start of a list of four billion", "*4294967295\r\n", "StoreUnavailable"],
  ["a list longer than any can be", "*99999999999\r\n", "StoreUnavailable"],
  ["lists in lists in lists", "*1\r\n".repeat(20_000), "StoreUnavailable"],
  ["a push", ">1\r\n+invalidate\r\n", "StoreUnavailable"],
  ["LOADING", "-LOADING Redis is loading the dataset in memory\r\n", "StoreUnavailable"],
  ["READONLY", "-READONLY You can't write against a read only replica.\r\n", "StoreUnavailable"],
  ["NOAUTH", "-NOAUTH Authentication required.\r\n", "StoreBroken"],
  ["MOVED", "-MOVED 3999 127.0.0.1:1\r\n", "StoreBroken"],
  ["NOSCRIPT, whatever is sent", "-NOSCRIPT No matching script.\r\n", "StoreBroken"],
  ["OOM", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", "StoreFull"],
  ["an error without a word", "-\r\n", "StoreBroken"],
]

describe("a server that answers nonsense", () => {
  it.live(
    "every operation fails typed and soon, stores nothing, and the store works again afterwards",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const { state, url } = yield* impostor(server.port)
        const opened = yield* open(url, {}, { commandTimeout: "400 millis" })
        const { adapter, redis, replay, store } = opened
        const { frames } = yield* store.append(appendOf(runId, [eventOf(1)]))
        const lease = { ttl: "1 minute", will: ending(9999) } as const
        // Whether these fail is their own affair: an empty list may be the truth.
        const others: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
          ["runs", store.runs({ limit: 10 })],
          ["producer", store.producer(runId, "writer")],
          ["renew", store.renew([runId], lease)],
          ["appendWill", store.appendWill(runId, { leaseVersion: 1, expectedSeq: 1 })],
          ["endAbandoned", store.endAbandoned({ idleFor: "1 hour", event: ending(0) })],
          ["remove", store.remove(runId)],
          ["replay", replay],
          ["publish", adapter.publish([{ _tag: "Run", runId }], frames)],
        ]
        const ready = eventually(redis.send("PING", []))
        const before = process.memoryUsage().arrayBuffers
        for (const [what, answer, reason] of nonsense) {
          const attempt = Effect.gen(function* () {
            state.answer = undefined
            yield* ready
            state.answer = Buffer.from(answer, "latin1")
            return yield* Effect.flip(store.append(appendOf(runId, [eventOf(2)])))
          })
          // A process that stands still for as long as the timeout sees nothing else; once more then.
          const failure = yield* Effect.repeat(attempt, {
            until: (error) => error._tag === "AppendFailed" && error.reason._tag === reason,
            times: 5,
          })
          expect(failure, what).toMatchObject({ _tag: "AppendFailed", reason: { _tag: reason } })
          expect(yield* Effect.flip(store.read({ runId, limit: 10 })), what).toMatchObject({ _tag: "ReadFailed" })
          expect(yield* Effect.flip(store.head(runId)), what).toMatchObject({ _tag: "ReadFailed" })
          for (const [name, operation] of others) {
            const exit = yield* Effect.exit(Effect.timeout(operation, "15 seconds"))
            if (Exit.isSuccess(exit)) continue
            expect(Cause.hasDies(exit.cause), `${name} on ${what}: ${Cause.pretty(exit.cause)}`).toBe(false)
            expect(Cause.pretty(exit.cause), `${name} on ${what}`).not.toContain("TimeoutError")
          }
        }
        state.answer = undefined
        // Nobody believes in a length before its bytes are there.
        expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100 * 1024 * 1024)
        yield* ready
        expect(yield* seqsOf(opened, runId)).toEqual([1])
        yield* store.append(appendOf(runId, [eventOf(3), eventOf(4)]))
        expect(yield* seqsOf(opened, runId)).toEqual([1, 2, 3])
      }).pipe(Effect.scoped),
    120_000,
  )
})

describe("a Redis that appends have filled", () => {
  it.live(
    "takes nothing more of any run, loses nothing, and goes on once a run is removed",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ maxmemory: 12_000_000, maxmemoryPolicy: "noeviction" })
        const opened = yield* open(server.url)
        const { redis, replay, store } = opened
        const long = Envelope.RunId.make("long")
        const leased = Envelope.RunId.make("leased")
        // More entries in the index than one script takes away.
        yield* Effect.forEach(seqsTo(1200), (n) => store.append(appendOf(long, [large(n, 1000)])), {
          concurrency: 50,
        })
        yield* store.append({ ...appendOf(leased, [eventOf(1)]), lease: { ttl: "1 milli", will: ending(9999) } })
        let number = 0
        const fill = Effect.suspend(() => store.append(appendOf(runId, [large(number + 1, 100_000)], number + 1))).pipe(
          Effect.tap(() => Effect.sync(() => void number++)),
          Effect.forever,
        )
        const full = { _tag: "AppendFailed", isRetryable: false, reason: { _tag: "StoreFull" } }
        expect(yield* Effect.flip(fill)).toMatchObject(full)
        expect(number).toBeGreaterThan(10)

        const before = yield* keys(opened)
        const willOfLeased = store.appendWill(leased, { leaseVersion: 1, expectedSeq: 1 })
        const refused: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          store.append(appendOf(runId, [large(number + 1, 100_000)], number + 1)),
          store.append(appendOf(runId, [ending(5000)])),
          store.append(appendOf(Envelope.RunId.make("new"), [eventOf(1)])),
          store.renew([runId], { ttl: "1 minute" }),
          // its lease has expired by then
          Effect.retry(willOfLeased, {
            while: ({ _tag }) => _tag === "LeaseConflict",
            schedule: Schedule.spaced("1 milli"),
          }),
        ]
        for (const each of refused) expect(yield* Effect.flip(each)).toMatchObject(full)
        expect(yield* keys(opened)).toEqual(before)
        expect(yield* seqsOf(opened, runId)).toEqual(seqsTo(number))
        expect(yield* seqsOf(opened, long)).toEqual(seqsTo(1200))
        expect((yield* store.head(leased)).status).toBe("running")
        const events = Array.from(yield* replay).filter(({ _tag }) => _tag === "Event")
        expect(events.length).toBe(number + 1201)

        expect(yield* store.remove(long)).toBe(true)
        expect(yield* redis.send("XLEN", [RedisKeys.index(prefix)])).toBe(number + 1)
        expect(yield* store.remove(leased)).toBe(true)
        // Memory is given back in the background; what was refused goes in once, as the next of its producer.
        const { frames } = yield* eventually(store.append(appendOf(runId, [large(number + 1, 100_000)], number + 1)))
        expect(frames[0]!.envelope.seq).toBe(number + 1)
        expect(yield* seqsOf(opened, runId)).toEqual(seqsTo(number + 1))
      }).pipe(Effect.scoped),
    60_000,
  )
})

/** What Redis has left of a run. */
const remainsOf = Effect.fnUntraced(function* ({ redis }: Opened, run: Envelope.RunId) {
  const hash = yield* redis.send("EXISTS", [RedisKeys.run(prefix, run)])
  const stream = yield* redis.send("EXISTS", [RedisKeys.events(prefix, run)])
  const listed = yield* redis.send("ZSCORE", [RedisKeys.runs(prefix), run])
  return { hash: hash === 1, stream: stream === 1, listed: listed !== null }
})

/** Holds a run against what Redis has left of it: whole, told to be evicted, or gone without a trace. */
const classify = Effect.fnUntraced(function* (opened: Opened, run: Envelope.RunId, lastSeq: number) {
  const { hub, store } = opened
  const left = yield* remainsOf(opened, run)
  const read = yield* Effect.result(store.read({ runId: run, limit: 1000 }))
  if (left.hash && left.stream) {
    expect(yield* seqsOf(opened, run)).toEqual(seqsTo(lastSeq))
    return "whole"
  }
  if (!left.hash && !left.stream && !left.listed) {
    expect(read, run).toMatchObject({ _tag: "Success", success: { envelopes: [], head: { status: "unknown" } } })
    return "no trace"
  }
  if (left.hash) expect(read, run).toMatchObject({ failure: { _tag: "CorruptRecord", seq: 1 } })
  else expect(read, run).toMatchObject({ failure: { _tag: "ReadFailed", reason: { _tag: "StoreBroken" } } })
  // Nobody waits for what will never come.
  const reader = yield* Effect.exit(Effect.timeout(Stream.runDrain(hub.run(run)), "20 seconds"))
  expect(Exit.isFailure(reader) && Cause.pretty(reader.cause), run).toMatch(/CorruptRecord|ReadFailed/)
  const append = yield* Effect.flip(store.append(appendOf(run, [eventOf(777)])))
  if (append._tag !== "RunEnded") expect(append, run).toMatchObject({ reason: { _tag: "StoreBroken" } })
  return "told"
})

describe("a Redis that evicts", () => {
  it.live(
    "(allkeys-lru) what is left of a run is whole, or is told to be evicted; a run that never was is unknown",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ maxmemory: 8_000_000, maxmemoryPolicy: "allkeys-lru" })
        const opened = yield* open(server.url)
        const { redis, store } = opened
        const stored = new Map<Envelope.RunId, number>()
        for (let n = 1; (yield* info(opened, "evicted_keys")) < 40 && n < 400; n++) {
          const run = runOf(n)
          for (let seq = 1; seq <= 3; seq++) {
            const appended = yield* Effect.exit(store.append(appendOf(run, [large(seq, 60_000)])))
            if (Exit.isSuccess(appended)) stored.set(run, seq)
          }
        }
        // From here on nothing more goes.
        yield* redis.send("CONFIG", ["SET", "maxmemory", "0"])
        const found = { whole: 0, told: 0, "no trace": 0 }
        for (const [run, lastSeq] of stored) {
          const state = yield* classify(opened, run, lastSeq)
          found[state]++
          if (state !== "told") continue
          expect(yield* store.remove(run)).toBe(true)
          expect((yield* store.append(appendOf(run, [eventOf(1)]))).frames[0]!.envelope.seq).toBe(1)
        }
        expect(found.whole).toBeGreaterThan(0)
        expect(found.told).toBeGreaterThan(0)
        expect((yield* store.head(Envelope.RunId.make("never"))).status).toBe("unknown")
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live(
    "(volatile-lru) takes ended runs that age would take later, and says so; open runs stay whole",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make({ maxmemory: 8_000_000, maxmemoryPolicy: "volatile-lru" })
        const opened = yield* open(server.url, { store: { retention: { ageAfterEnd: "1 day" } } })
        const { redis, store } = opened
        const opens = [1, 2, 3, 4].map(runOf)
        for (const run of opens) yield* store.append(appendOf(run, [large(1, 60_000), eventOf(2)]))
        const ended: Array<Envelope.RunId> = []
        for (let n = 5; (yield* info(opened, "evicted_keys")) < 40 && n < 400; n++) {
          yield* store.append(appendOf(runOf(n), [large(1, 180_000), ending(2)]))
          ended.push(runOf(n))
        }
        yield* redis.send("CONFIG", ["SET", "maxmemory", "0"])
        for (const run of opens) expect(yield* classify(opened, run, 2)).toBe("whole")
        const found = { whole: 0, told: 0, "no trace": 0 }
        for (const run of ended) found[yield* classify(opened, run, 2)]++
        expect(found.told).toBeGreaterThan(0)
        expect(found["no trace"]).toBe(0)
      }).pipe(Effect.scoped),
    60_000,
  )
})

describe("a Redis that forgets its scripts or pauses", () => {
  it.live(
    "SCRIPT FLUSH in the middle of everything is noticed by nobody",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const opened = yield* open(server.url)
        const other = yield* open(server.url)
        const { replay, store } = opened
        const writers = [0, 1, 2, 3].map((writer) =>
          Effect.forEach(seqsTo(100), (n) => store.append(appendOf(runOf(writer), [eventOf(n)], n)), { discard: true }),
        )
        const readers = [0, 1, 2, 3].map((writer) =>
          Effect.forEach(
            seqsTo(50),
            () =>
              Effect.all([
                other.store.read({ runId: runOf(writer), limit: 10 }),
                other.store.renew([runOf(writer)], { ttl: "1 minute" }),
                other.store.runs({ limit: 10 }),
              ]),
            { discard: true },
          ),
        )
        let flushes = 0
        const flushing = other.redis.send("SCRIPT", ["FLUSH"]).pipe(
          Effect.tap(() => Effect.sync(() => void flushes++)),
          Effect.forever,
        )
        yield* Effect.raceFirst(Effect.all([...writers, ...readers], { concurrency: "unbounded" }), flushing)
        expect(flushes).toBeGreaterThan(20)
        for (const writer of [0, 1, 2, 3]) expect(yield* seqsOf(opened, runOf(writer))).toEqual(seqsTo(100))
        expect(Array.from(yield* replay).filter(({ _tag }) => _tag === "Event").length).toBe(400)
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live(
    "CLIENT PAUSE WRITE holds up appends alone; what was held up is stored once",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const writer = yield* open(server.url, {}, { commandTimeout: "1 minute" })
        const reader = yield* open(server.url)
        yield* writer.store.append(appendOf(runId, [eventOf(1)], 1))
        yield* reader.redis.send("CLIENT", ["PAUSE", "60000", "WRITE"])
        const held = yield* Effect.forkChild(writer.store.append(appendOf(runId, [eventOf(2)], 2)), {
          startImmediately: true,
        })
        expect(yield* seqsOf(reader, runId)).toEqual([1])
        expect((yield* reader.store.head(runId)).lastSeq).toBe(1)
        expect((yield* reader.store.runs({ limit: 10 })).length).toBe(1)
        expect(Array.from(yield* reader.replay).filter(({ _tag }) => _tag === "Event").length).toBe(1)
        expect(held.pollUnsafe()).toBe(undefined)
        yield* reader.redis.send("CLIENT", ["UNPAUSE"])
        expect((yield* Fiber.join(held)).frames[0]!.envelope.seq).toBe(2)
        expect(yield* seqsOf(reader, runId)).toEqual([1, 2])
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live(
    "CLIENT PAUSE ALL in the middle of appends, reads and subscribing: short of the timeout nobody fails, past it all recover",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const pauser = yield* open(server.url)
        for (const commandTimeout of ["1 minute", "100 millis"] as const) {
          const run = Envelope.RunId.make(commandTimeout.replace(" ", "-"))
          const writer = yield* open(server.url, {}, { commandTimeout })
          const reader = yield* open(server.url, {}, { commandTimeout })
          const seen: Array<number> = []
          const following = yield* Effect.forkChild(
            Stream.runForEach(reader.hub.run(run), (item) =>
              Effect.sync(() => void (item._tag === "Event" && seen.push(item.envelope.seq))),
            ),
          )
          let failures = 0
          const asked = <A, E>(effect: Effect.Effect<A, E>) =>
            eventually(Effect.tapError(effect, () => Effect.sync(() => void failures++)))
          for (let number = 1; number <= 4; number++) {
            yield* pauser.redis.send("CLIENT", ["PAUSE", "400", "ALL"])
            yield* Effect.all(
              [
                asked(writer.store.append(appendOf(run, [eventOf(number)], number))),
                asked(reader.store.read({ runId: run, limit: 10 })),
                asked(Effect.scoped(Effect.asVoid(reader.adapter.subscribe({ _tag: "Run", runId: runOf(number) })))),
              ],
              { concurrency: "unbounded", discard: true },
            )
          }
          yield* asked(writer.store.append(appendOf(run, [ending(5)], 5)))
          yield* Effect.timeout(Fiber.join(following), "20 seconds")
          expect(seen).toEqual(seqsTo(5))
          expect(yield* seqsOf(pauser, run)).toEqual(seqsTo(5))
          if (commandTimeout === "1 minute") expect(failures).toBe(0)
          else expect(failures).toBeGreaterThan(0)
        }
      }).pipe(Effect.scoped),
    60_000,
  )
})
