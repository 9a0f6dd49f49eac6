import { describe, expect, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import { type AppendRequest, EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventArchive from "@throughline/redis/RedisEventArchive"
import * as RedisEventStore from "@throughline/redis/RedisEventStore"
import * as RedisFrame from "@throughline/redis/RedisFrame"
import * as RedisKeys from "@throughline/redis/RedisKeys"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import * as RedisServer from "./RedisServer.ts"

const prefix = RedisKeys.defaultPrefix
const runId = Envelope.RunId.make("run")
const vocabulary = { name: "test", version: 2 }

const eventOf = (n: number, more: Partial<Envelope.EncodedEvent> = {}): Envelope.EncodedEvent => ({
  eventId: Envelope.EventId.make(`0199c0de-0000-7000-8000-${String(n).padStart(12, "0")}`),
  kind: "Said",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  event: JSON.stringify({ said: `event ${n}` }) as Envelope.EventJson,
  ...more,
})

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => eventOf(from + index))

const ending = (n: number) => eventOf(n, { delivery: "terminal", endsRun: "completed" })

const appendOf = (events: AppendRequest["events"], more: Partial<AppendRequest> = {}): AppendRequest => ({
  runId,
  vocabulary,
  events,
  ...more,
})

const numbered = (number: number, from = number): AppendRequest =>
  appendOf([eventOf(from)], { producer: { id: "writer", epoch: 1, number } })

/** An event of 200,002 bytes. */
const large = (n: number) => eventOf(n, { event: JSON.stringify("x".repeat(200_000)) as Envelope.EventJson })

/** A store and its client on a server. */
const open = (url: string, options?: RedisEventStore.RedisStoreOptions, client?: Omit<IoRedis.Options, "url">) =>
  Effect.map(
    Layer.build(
      RedisEventStore.layer(options).pipe(
        Layer.provideMerge(IoRedis.layer({ url, reconnect: Schedule.spaced("20 millis"), ...client })),
        Layer.provide(Throughline.layerCrypto),
      ),
    ),
    (context) => ({ store: Context.get(context, EventStore), redis: Context.get(context, IoRedis.IoRedis) }),
  )

/** A store on a server of its own. */
const fresh = (options?: RedisEventStore.RedisStoreOptions, server?: RedisServer.Options) =>
  Effect.gen(function* () {
    const started = yield* RedisServer.make(server)
    return { server: started, ...(yield* open(started.url, options)) }
  })

type Opened = Effect.Success<ReturnType<typeof open>>

/** Tries until it succeeds, for 10 seconds. */
const eventually = <A, E>(effect: Effect.Effect<A, E>) =>
  effect.pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("10 seconds"))

const seqs = ({ envelopes }: { readonly envelopes: ReadonlyArray<Envelope.EncodedEnvelope> }) =>
  envelopes.map(({ seq }) => seq)

const keys = ({ redis }: Opened) =>
  Effect.map(redis.send("KEYS", ["*"]), (found) => (found as ReadonlyArray<string>).toSorted())

/** What Redis carried out for an effect: `COMMAND key`, with those of scripts marked. */
const monitored = <A, E>({ redis }: Opened, effect: Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(
    Effect.promise(() => redis.client.monitor()),
    (monitor) =>
      Effect.gen(function* () {
        const commands: Array<string> = []
        const marker = `end-${Math.random()}`
        const seen = new Promise<void>((resolve) => {
          monitor.on("monitor", (_time: string, args: ReadonlyArray<string>, source: string) => {
            if (args[1] === marker) resolve()
            else if (source !== "lua") commands.push(args[0]!.toUpperCase())
            else commands.push(`  ${args[0]!.toUpperCase()} ${args[1] ?? ""}`.trimEnd())
          })
        })
        yield* effect
        yield* redis.send("ECHO", [marker])
        yield* Effect.promise(() => seen)
        return commands
      }),
    (monitor) => Effect.sync(() => monitor.disconnect()),
  )

/** Writes the run's stream again, its entries changed. */
const rewrite = ({ redis }: Opened, change: (seq: number, record: string) => ReadonlyArray<string> | undefined) =>
  Effect.gen(function* () {
    const key = RedisKeys.events(prefix, runId)
    const entries = (yield* redis.send("XRANGE", [key, "-", "+"])) as ReadonlyArray<
      readonly [string, ReadonlyArray<string>]
    >
    yield* redis.send("DEL", [key])
    for (const [id, fields] of entries) {
      const changed = change(Number(id.split("-")[0]), fields[1]!)
      if (changed !== undefined) yield* redis.send("XADD", [key, id, ...changed])
    }
  })

describe("RedisEventStore", () => {
  it.live("goes on after SCRIPT FLUSH, and after SIGKILL finds all that was acknowledged (appendfsync always)", () =>
    Effect.gen(function* () {
      const { redis, server, store } = yield* fresh({}, { appendfsync: "always" })
      yield* store.append(numbered(1))
      yield* redis.send("SCRIPT", ["FLUSH"])
      yield* store.append(numbered(2))
      yield* server.restart
      const again = yield* eventually(store.append(numbered(3)))
      expect(again.frames.map(({ envelope }) => envelope.seq)).toEqual([3])
      expect(seqs(yield* store.read({ runId, limit: 10 }))).toEqual([1, 2, 3])
      const repeated = yield* store.append(numbered(3))
      expect(repeated.frames).toEqual(again.frames)
    }).pipe(Effect.scoped),
  )

  it.live("an append that a paused server didn't answer is stored once when it is sent again", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const { store } = yield* open(server.url, {}, { commandTimeout: "80 millis" })
      const other = yield* open(server.url)
      yield* store.append(numbered(1))
      yield* other.redis.send("CLIENT", ["PAUSE", "400", "WRITE"])
      const failure = yield* Effect.flip(store.append(numbered(2)))
      expect(failure).toMatchObject({ _tag: "AppendFailed", isRetryable: true, reason: { _tag: "StoreUnavailable" } })
      // Reading goes on: the read script is told to be one.
      expect(seqs(yield* eventually(store.read({ runId, limit: 10 })))).toEqual([1])
      yield* eventually(store.append(numbered(2)))
      expect(seqs(yield* store.read({ runId, limit: 10 }))).toEqual([1, 2])
    }).pipe(Effect.scoped),
  )

  it.live("a full Redis refuses an append whole, and reading goes on", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({}, { args: ["--maxmemory-policy", "noeviction"] })
      const { redis, store } = opened
      yield* store.append(numbered(1))
      const before = yield* keys(opened)
      yield* redis.send("CONFIG", ["SET", "maxmemory", "1mb"])
      for (const request of [numbered(2), { ...numbered(1), runId: Envelope.RunId.make("other") }]) {
        const failure = yield* Effect.flip(store.append(request))
        expect(failure).toMatchObject({ _tag: "AppendFailed", isRetryable: false, reason: { _tag: "StoreFull" } })
      }
      expect((yield* store.read({ runId, limit: 10 })).head.lastSeq).toBe(1)
      expect(yield* keys(opened)).toEqual(before)
      yield* redis.send("CONFIG", ["SET", "maxmemory", "0"])
      yield* store.append(numbered(2))
      expect(seqs(yield* store.read({ runId, limit: 10 }))).toEqual([1, 2])
    }).pipe(Effect.scoped),
  )

  it.live(
    "a record that was cut, altered, written by others or lost is CorruptRecord at its seq, after what is whole",
    () =>
      Effect.gen(function* () {
        const opened = yield* fresh()
        const { store } = opened
        const faults: ReadonlyArray<readonly [string, (record: string) => ReadonlyArray<string> | undefined]> = [
          ["characters of", (record) => ["r", record.slice(0, -3)]],
          ["altered", (record) => ["r", record.replace("event 3", "event 4")]],
          ["not JSON", (record) => ["r", record.slice(5)]],
          ["no record of this store", () => ["r", "{}"]],
          ["no record of this store", () => ["payload", "1"]],
          ["format is 9", (record) => ["r", record.replace('"v":1', '"v":9')]],
          ["eventId", (record) => ["r", record.replace("0199c0de", "zzzzzzzz")]],
          ["missing", () => undefined],
        ]
        for (const [problem, fault] of faults) {
          yield* store.remove(runId)
          yield* store.append(appendOf(range(1, 5)))
          yield* rewrite(opened, (seq, record) => (seq === 3 ? fault(record) : ["r", record]))
          expect(seqs(yield* store.read({ runId, limit: 10 }))).toEqual([1, 2])
          const failure = yield* Effect.flip(store.read({ runId, after: 2, limit: 10 }))
          expect(failure).toMatchObject({ _tag: "CorruptRecord", runId, seq: 3 })
          expect(failure.message).toContain(problem)
        }
      }).pipe(Effect.scoped),
  )

  it.live("a run of which keys are gone is told from one that never was, until it is removed", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      const { redis, store } = opened
      const stream = RedisKeys.events(prefix, runId)
      const hash = RedisKeys.run(prefix, runId)
      for (const evicted of [[hash], [stream], [hash, stream]]) {
        yield* store.append(numbered(1))
        yield* redis.send("UNLINK", evicted)
        const read = yield* Effect.flip(store.read({ runId, limit: 10 }))
        if (evicted.includes(hash)) expect(read).toMatchObject({ reason: { _tag: "StoreBroken" } })
        else expect(read).toMatchObject({ _tag: "CorruptRecord", seq: 1 })
        const number = evicted.includes(hash) ? 1 : 2
        const append = yield* Effect.flip(store.append(numbered(number)))
        expect(append).toMatchObject({ _tag: "AppendFailed", reason: { _tag: "StoreBroken" } })
        expect(append.message).toContain("evicted")
        expect(yield* store.remove(runId)).toBe(true)
        expect((yield* store.head(runId)).status).toBe("unknown")
      }
      yield* store.append(numbered(1))
      expect(seqs(yield* store.read({ runId, limit: 10 }))).toEqual([1])
    }).pipe(Effect.scoped),
  )

  it.live("what removal leaves is the index's last id, nothing of the run", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ retention: { eventsPerRun: 3 } })
      const { redis, store } = opened
      const sessionId = Envelope.SessionId.make("chat")
      for (let number = 1; number <= 1200; number++) {
        yield* store.append({ ...numbered(number), sessionId, lease: { ttl: "30 seconds", will: ending(9999) } })
      }
      const index = RedisKeys.index(prefix)
      // trimmed with the events, but the entry of the last trimmed one
      expect(yield* redis.send("XLEN", [index])).toBe(4)
      yield* store.append(appendOf([ending(5000)]))
      expect(yield* store.remove(runId)).toBe(true)
      expect(yield* store.remove(runId)).toBe(false)
      expect(yield* keys(opened)).toEqual([index])
      expect(yield* redis.send("XLEN", [index])).toBe(0)
      const { frames } = yield* store.append(numbered(1))
      expect(frames[0]!.position).toBe(1202 * 4096)
    }).pipe(Effect.scoped),
  )

  it.live("removing an ended run whose keys were evicted takes it out of every list and index", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ retention: { ageAfterEnd: "1 day" } })
      const { redis, store } = opened
      yield* store.append({ ...numbered(1), sessionId: Envelope.SessionId.make("chat") })
      yield* store.append(numbered(2))
      yield* store.append(appendOf([ending(3)]))
      yield* redis.send("UNLINK", [RedisKeys.run(prefix, runId), RedisKeys.events(prefix, runId)])
      expect(yield* Effect.flip(store.head(runId))).toMatchObject({ reason: { _tag: "StoreBroken" } })
      expect(yield* store.remove(runId)).toBe(true)
      expect(yield* store.remove(runId)).toBe(false)
      expect(yield* keys(opened)).toEqual([RedisKeys.index(prefix)])
      expect(yield* redis.send("XLEN", [RedisKeys.index(prefix)])).toBe(0)
    }).pipe(Effect.scoped),
  )

  it.live("the index of a long removed run is taken away whole, a bounded number of entries at a time", () =>
    Effect.gen(function* () {
      const opened = yield* fresh()
      for (let number = 1; number <= 1700; number++) yield* opened.store.append(numbered(number))
      yield* opened.store.append({ ...numbered(1), runId: Envelope.RunId.make("other") })
      yield* opened.store.remove(runId)
      expect(yield* opened.redis.send("XLEN", [RedisKeys.index(prefix)])).toBe(1)
      expect(yield* keys(opened)).not.toContain(RedisKeys.removed(prefix))
    }).pipe(Effect.scoped),
  )

  it.live("an ended run past its age is gone, by Redis's own clock, with its place in every list", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ retention: { ageAfterEnd: "150 millis" } })
      const { redis, store } = opened
      yield* store.append({ ...numbered(1), sessionId: Envelope.SessionId.make("chat") })
      yield* store.append(appendOf([ending(2)]))
      expect(Number(yield* redis.send("PTTL", [RedisKeys.events(prefix, runId)]))).toBeGreaterThan(0)
      yield* eventually(
        Effect.flatMap(keys(opened), (left) =>
          left.length === 1 && left[0] === RedisKeys.index(prefix) ? Effect.void : Effect.fail(left.join()),
        ),
      )
      expect((yield* store.head(runId)).status).toBe("unknown")
      expect(yield* store.runs({ limit: 10 })).toEqual([])
      yield* store.append(numbered(1))
    }).pipe(Effect.scoped),
  )

  it.live("an append and a read are the commands that the documentation lists", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ publish: true })
      const { store } = opened
      yield* store.append(numbered(1))
      const run = RedisKeys.run(prefix, runId)
      const events = RedisKeys.events(prefix, runId)
      expect(yield* monitored(opened, store.append(numbered(2)))).toEqual([
        "EVALSHA",
        "  TIME",
        `  HMGET ${run}`,
        `  XADD ${RedisKeys.index(prefix)}`,
        `  XADD ${events}`,
        `  HSET ${run}`,
        "  PUBSUB NUMSUB",
      ])
      yield* store.read({ runId, limit: 100 })
      expect(yield* monitored(opened, store.read({ runId, limit: 100 }))).toEqual([
        "EVALSHA_RO",
        `  HMGET ${run}`,
        `  XRANGE ${events}`,
      ])
      expect(yield* monitored(opened, store.head(runId))).toEqual(["EVALSHA_RO", `  HMGET ${run}`])
      // what a lease adds
      const lease = { ttl: "30 seconds", will: ending(9) } as const
      expect(yield* monitored(opened, store.append({ ...numbered(3), lease }))).toEqual([
        "EVALSHA",
        "  TIME",
        `  HMGET ${run}`,
        `  HMGET ${run}`,
        `  XADD ${RedisKeys.index(prefix)}`,
        `  XADD ${events}`,
        `  HSET ${run}`,
        "  PUBSUB NUMSUB",
      ])
      expect(yield* monitored(opened, store.read({ runId, limit: 100 }))).toEqual([
        "EVALSHA_RO",
        `  HMGET ${run}`,
        `  HEXISTS ${run}`,
        `  XRANGE ${events}`,
      ])
      expect(yield* monitored(opened, store.head(runId))).toEqual(["EVALSHA_RO", `  HMGET ${run}`, `  HEXISTS ${run}`])
    }).pipe(Effect.scoped),
  )

  it.live("without an index an append has no position and writes no entry", () =>
    Effect.gen(function* () {
      const opened = yield* fresh({ index: false })
      const { frames } = yield* opened.store.append(appendOf(range(1, 3)))
      expect(frames.map(({ position }) => position)).toEqual([undefined, undefined, undefined])
      expect(yield* keys(opened)).not.toContain(RedisKeys.index(prefix))
      yield* opened.store.append(appendOf([ending(4)]))
      yield* opened.store.remove(runId)
      expect(yield* keys(opened)).toEqual([])
    }).pipe(Effect.scoped),
  )

  it.live("what the append script publishes to the run's room is the frames of its answer", () =>
    Effect.gen(function* () {
      const { redis, store } = yield* fresh({ publish: true })
      const { client } = yield* redis.connect
      const messages: Array<string> = []
      client.on("message", (_channel: string, message: string) => messages.push(message))
      yield* Effect.promise(() => client.subscribe(RedisKeys.channel(prefix, { _tag: "Run", runId })))
      const odd = eventOf(3, { event: JSON.stringify({ said: "ünï\n😀" }) as Envelope.EventJson, tags: ["a b"] })
      const sessionId = Envelope.SessionId.make("chat")
      const will = eventOf(9, { endsRun: "failed", delivery: "terminal" })
      const answers = [
        yield* store.append(appendOf([eventOf(1)], { sessionId })),
        yield* store.append(appendOf([eventOf(2), odd, eventOf(4)], { lease: { ttl: "1 milli", will } })),
        yield* eventually(store.appendWill(runId, { leaseVersion: 1, expectedSeq: 4 })),
      ]
      for (const { published } of answers) expect(published).toEqual([{ _tag: "Run", runId }])
      yield* eventually(Effect.suspend(() => (messages.length === 3 ? Effect.void : Effect.fail("waiting"))))
      expect(messages.map((message) => Result.getOrThrow(RedisFrame.decode(message)))).toEqual(
        answers.map(({ frames }) => frames),
      )
    }).pipe(Effect.scoped),
  )

  it.live("the largest append and the largest events go in, and their pages are bounded", () =>
    Effect.gen(function* () {
      const { store } = yield* fresh({ bounds: { maxAppendEvents: 100_000 } })
      const { frames } = yield* store.append(appendOf(range(1, 4096)))
      expect(frames[4095]!.envelope.seq).toBe(4096)
      const tooMany = yield* Effect.flip(store.append(appendOf(range(1, 4097))))
      expect(tooMany).toMatchObject({ reason: { _tag: "InvalidRequest" } })
      yield* store.append(appendOf(Array.from({ length: 40 }, (_, index) => large(index + 5000))))
      const { envelopes } = yield* store.read({ runId, after: 4096, limit: 1000 })
      expect(envelopes.length).toBe(20)
      expect(envelopes[0]!.seq).toBe(4097)
      const small = yield* store.read({ runId, limit: 1000 })
      expect(small.envelopes.length).toBe(1000)
    }).pipe(Effect.scoped),
  )

  it.live("an append of more than 128 MiB is InvalidRequest, and nothing of it is stored or sent", () =>
    Effect.gen(function* () {
      const { store } = yield* fresh({ bounds: { maxEventBytes: 2 ** 40 } })
      const mebibyte = JSON.stringify("x".repeat(1024 * 1024 - 2)) as Envelope.EventJson
      const ofMebibytes = (n: number) => range(1, n).map((event) => ({ ...event, event: mebibyte }))
      const will = eventOf(900, { endsRun: "failed", delivery: "terminal", event: mebibyte })
      for (const request of [
        appendOf(ofMebibytes(128)),
        appendOf(ofMebibytes(127), { lease: { ttl: "30 seconds", will } }),
      ]) {
        const failure = yield* Effect.flip(store.append(request))
        expect(failure).toMatchObject({ _tag: "AppendFailed", isRetryable: false, reason: { _tag: "InvalidRequest" } })
        expect(failure.message).toContain("134217728")
      }
      expect((yield* store.head(runId)).status).toBe("unknown")
    }).pipe(Effect.scoped),
  )

  it.live("a key of another type, or a user without permission, is StoreBroken", () =>
    Effect.gen(function* () {
      const { redis, server, store } = yield* fresh()
      yield* redis.send("SET", [RedisKeys.run(prefix, runId), "text"])
      const wrong = yield* Effect.flip(store.append(numbered(1)))
      expect(wrong).toMatchObject({ isRetryable: false, reason: { _tag: "StoreBroken" } })
      yield* redis.send("ACL", ["SETUSER", "reader", "on", ">reads", "+@read", "+@connection", "+info", "~*"])
      const reader = yield* open(server.url.replace("redis://", "redis://reader:reads@"))
      const refused = yield* Effect.flip(reader.store.append({ ...numbered(1), runId: Envelope.RunId.make("other") }))
      expect(refused).toMatchObject({ isRetryable: false, reason: { _tag: "StoreBroken" } })
      expect(refused.message).toContain("NOPERM")
    }).pipe(Effect.scoped),
  )

  it.live("a user that lacks one command of an append has it refused whole, whichever it is", () =>
    Effect.gen(function* () {
      const { redis, server, store } = yield* fresh()
      const sessionId = Envelope.SessionId.make("chat")
      const retention = { ageAfterEnd: "1 hour", eventsPerRun: 2 } as const
      for (const command of ["pexpire", "zrem", "hdel", "hset", "xadd", "zadd", "xtrim", "xdel", "xrange", "unlink"]) {
        const user = `no-${command}`
        yield* redis.send("ACL", ["SETUSER", user, "on", ">pw", "~*", "&*", "+@all", `-${command}`])
        const limited = yield* open(server.url.replace("redis://", `redis://${user}:pw@`), { retention })
        for (const before of [[], [eventOf(1)]]) {
          const here = Envelope.RunId.make(`${user}-${before.length}`)
          const append = (by: EventStore["Service"], events: AppendRequest["events"]) =>
            by.append(appendOf(events, { runId: here, sessionId }))
          if (before.length > 0) yield* append(store, before)
          const result = yield* Effect.result(append(limited.store, [eventOf(2), eventOf(3), ending(4)]))
          const { lastSeq, status } = yield* store.head(here)
          if (Result.isSuccess(result)) {
            expect(command).toBe("unlink")
            expect({ lastSeq, status }).toEqual({ lastSeq: before.length + 3, status: "completed" })
          } else {
            expect(result.failure).toMatchObject({ isRetryable: false, reason: { _tag: "StoreBroken" } })
            expect(result.failure.message).toContain("NOPERM")
            expect({ lastSeq, status }).toEqual({
              lastSeq: before.length,
              status: lastSeq === 0 ? "unknown" : "running",
            })
            yield* append(store, [ending(5)])
          }
        }
      }
    }).pipe(Effect.scoped),
  )

  it.live("a user with the rights that the documentation lists can do all that the store and the archive do", () =>
    Effect.gen(function* () {
      const { redis, server } = yield* fresh()
      const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8")
      const rights = /```acl\n([\s\S]*?)```/.exec(readme)![1]!.trim().split(/\s+/)
      yield* redis.send("ACL", ["SETUSER", "app", "on", ">pw", ...rights])
      const opened = yield* open(server.url.replace("redis://", "redis://app:pw@"), {
        retention: { ageAfterEnd: "50 millis", eventsPerRun: 2 },
        publish: true,
      })
      const { store } = opened
      const archive = yield* RedisEventArchive.make().pipe(
        Effect.provide(Layer.merge(Layer.succeed(IoRedis.IoRedis, opened.redis), Throughline.layerCrypto)),
      )
      const sessionId = Envelope.SessionId.make("chat")
      const will = ending(900)
      for (let number = 1; number <= 5; number++) {
        yield* store.append({ ...numbered(number), sessionId, lease: { ttl: "30 seconds", will } })
      }
      yield* store.append(numbered(5))
      yield* store.renew([runId], { ttl: "30 seconds", will })
      expect(seqs(yield* store.read({ runId, after: 3, limit: 10 }))).toEqual([4, 5])
      expect((yield* store.runs({ limit: 1 })).length).toBe(1)
      const [first] = yield* store.runs({ sessionId, limit: 1 })
      yield* store.runs({ limit: 1, before: { runId, startedAt: first!.startedAt! } })
      yield* store.producer(runId, "writer")
      for (const filter of [{}, { runIds: [runId] }, { sessionIds: [sessionId] }]) {
        yield* Stream.runDrain(archive.replay({ filter }))
      }
      yield* store.append(appendOf([ending(901)]))
      yield* eventually(
        Effect.flatMap(redis.send("EXISTS", [`${prefix}{@}:ended`]), (left) =>
          left === 0 ? Effect.void : Effect.fail("still listed"),
        ),
      )
      const again = Envelope.RunId.make("again")
      yield* store.append(appendOf([eventOf(1)], { runId: again }))
      yield* store.endAbandoned({ event: ending(2), idleFor: 0 })
      yield* store.append(appendOf([eventOf(1)], { runId }))
      expect(yield* store.remove(runId)).toBe(true)
      // What was refused would be told as a failure of the sweep, and here.
      const log = (yield* redis.send("ACL", ["LOG"])) as ReadonlyArray<ReadonlyArray<unknown>>
      const refused = log.map((entry) => entry[entry.indexOf("object") + 1])
      // where Redis knows it, the client names itself with it, and does without
      expect(refused.filter((command) => command !== "client|setinfo")).toEqual([])
    }).pipe(Effect.scoped),
  )

  describe("with durability { replicas: 1 }", () => {
    const durability = { replicas: 1, timeout: "250 millis" } as const

    it.live(
      "an append fails DurabilityUnconfirmed while the replica hangs, and is confirmed once when sent again",
      () =>
        Effect.gen(function* () {
          const master = yield* RedisServer.make()
          const replica = yield* RedisServer.make({ replicaOf: master })
          const { redis, store } = yield* open(master.url, { durability, publish: true })
          const linked = Effect.flatMap(redis.send("INFO", ["replication"]), (info) =>
            String(info).includes("state=online") ? Effect.void : Effect.fail("not linked"),
          )
          yield* eventually(linked)
          // a replica that is online may still be loading; an append that is sent again is published by its sender
          const answered = yield* eventually(store.append(numbered(1)))
          expect(answered.published).toEqual([])
          yield* replica.signal("SIGSTOP")
          const failure = yield* Effect.flip(store.append(numbered(2)))
          expect(failure).toMatchObject({ _tag: "DurabilityUnconfirmed", isRetryable: true, runId })
          expect(yield* Effect.flip(store.append(numbered(2)))).toMatchObject({ _tag: "DurabilityUnconfirmed" })
          yield* replica.signal("SIGCONT")
          const { frames } = yield* eventually(store.append(numbered(2)))
          expect(frames.map(({ envelope }) => envelope.seq)).toEqual([2])
          expect(seqs(yield* store.read({ runId, limit: 10 }))).toEqual([1, 2])
          const copy = yield* open(replica.url)
          expect(seqs(yield* copy.store.read({ runId, limit: 10 }))).toEqual([1, 2])
        }).pipe(Effect.scoped),
    )

    it.live("appends without confirmation hold up no other command", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const { store } = yield* open(server.url, { durability: { replicas: 1, timeout: "2 seconds" } })
        yield* Effect.forkChild(Effect.exit(store.append(numbered(1))), { startImmediately: true })
        yield* eventually(
          Effect.flatMap(store.head(runId), ({ lastSeq }) => (lastSeq === 1 ? Effect.void : Effect.fail("waiting"))),
        ).pipe(Effect.timeout("1 second"))
      }).pipe(Effect.scoped),
    )
  })
})
