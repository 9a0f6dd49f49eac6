import { describe, expect, it } from "@effect/vitest"
import type * as Envelope from "@throughline/core/Envelope"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisFrame from "@throughline/redis/RedisFrame"
import * as RedisKeys from "@throughline/redis/RedisKeys"
import * as RedisStreamAdapter from "@throughline/redis/RedisStreamAdapter"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Redis as Client } from "ioredis"
import nodeProcess from "node:process"
import * as World from "./adapterWorld.ts"
import * as RedisServer from "./RedisServer.ts"

const { room, runRoom, sessionId } = World
const session: Envelope.Room = { _tag: "Session", sessionId }
const url = RedisServer.forFile()

let prefixes = 0
/** A process on the server of this file, under a prefix of its own. */
const fresh = (options: World.ProcessOptions = {}) =>
  Effect.flatMap(url, (address) =>
    World.process(address, { ...options, client: { keyPrefix: `adapter-${++prefixes}:`, ...options.client } }),
  )

/** Two processes under one prefix. */
const two = Effect.gen(function* () {
  const here = yield* fresh()
  const there = yield* World.process(yield* url, { client: { keyPrefix: here.redis.keyPrefix } })
  return { here, there }
})

/** The channels of a process's prefix that anybody listens to. */
const channels = (process: World.Process) =>
  Effect.map(World.channels(process), (names) => names.filter((name) => name.startsWith(process.redis.keyPrefix)))

const publish = ({ redis }: World.Process, message: string, to = room) =>
  redis.send("PUBLISH", [RedisKeys.channel(redis.keyPrefix, to), message])

describe("RedisStreamAdapter", () => {
  it.live("what another process appends arrives in each of its rooms once, with its cursor and position", () =>
    Effect.gen(function* () {
      const { here, there } = yield* two
      const inRun = yield* World.listen(here.adapter)
      const inSession = yield* World.listen(here.adapter, session)
      const first = yield* there.append(World.events(3))
      const second = yield* there.append([World.ending()])
      const expected = [...first.frames, ...second.frames]
      yield* World.until(() => inRun.items.length >= 4 && inSession.items.length >= 4)
      // What is published last on the connection has everything before it.
      const marker = yield* World.listen(here.adapter, runRoom(1))
      yield* there.append(World.events(1), World.runIdOf(1))
      yield* World.until(() => marker.items.length > 0)
      expect(inRun.items).toEqual(expected)
      expect(inSession.items.slice(0, 4)).toEqual(expected)
      expect(expected.every(({ position }) => position !== undefined)).toBe(true)
      expect(first.published).toEqual([room])
    }).pipe(Effect.scoped),
  )

  it.live("a subscription is in place when subscribe returns", () =>
    Effect.gen(function* () {
      const { here, there } = yield* two
      for (let n = 0; n < 50; n++) {
        const { items } = yield* World.listen(here.adapter, runRoom(n))
        const { frames } = yield* there.append(World.events(1), World.runIdOf(n))
        yield* World.until(() => items.length > 0)
        expect(items).toEqual(frames)
      }
    }).pipe(Effect.scoped),
  )

  it.live("all rooms share a connection, are freed with their last listener, and an idle connection is closed", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const process = yield* World.process(server.url, { live: { idle: "100 millis" } })
      expect(yield* World.subscribers(process)).toBe(0)
      const kept = yield* Scope.make()
      yield* Scope.provide(World.listen(process.adapter, runRoom(0)), kept)
      yield* Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, index) => runRoom(index % 100)),
          (to) => process.adapter.subscribe(to),
          { concurrency: "unbounded" },
        )
        expect(yield* World.channels(process)).toHaveLength(100)
        expect(yield* World.subscribers(process)).toBe(1)
      }).pipe(Effect.scoped)
      yield* World.until(() => Effect.map(World.channels(process), (names) => names.length === 1))
      yield* Scope.close(kept, Exit.void)
      yield* World.until(() => Effect.map(World.channels(process), (names) => names.length === 0))
      const connections = Effect.map(
        process.redis.send("CLIENT", ["LIST"]),
        (list) => String(list).trim().split("\n").length,
      )
      yield* World.until(() => Effect.map(connections, (count) => count === 1))
      const { items } = yield* World.listen(process.adapter)
      yield* process.append(World.events(1))
      yield* World.until(() => items.length === 1)
    }).pipe(Effect.scoped),
  )

  it.live(
    "ten thousand subscriptions that came and went leave one connection, no channel and no timer",
    () =>
      Effect.gen(function* () {
        const process = yield* fresh()
        const accepted = Effect.map(process.redis.send("INFO", ["stats"]), (info) =>
          Number(/total_connections_received:(\d+)/.exec(String(info))![1]),
        )
        yield* Effect.scoped(Effect.asVoid(process.adapter.subscribe(room)))
        const before = { accepted: yield* accepted, resources: nodeProcess.getActiveResourcesInfo().length }
        for (let round = 0; round < 10_000; round++) {
          yield* Effect.scoped(Effect.asVoid(process.adapter.subscribe(runRoom(round % 3))))
        }
        yield* World.until(() => Effect.map(channels(process), (names) => names.length === 0))
        expect(yield* accepted).toBe(before.accepted)
        expect(nodeProcess.getActiveResourcesInfo().length).toBeLessThanOrEqual(before.resources + 2)
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live("the key prefix is the channels' too: prefixes don't hear each other", () =>
    Effect.gen(function* () {
      const here = yield* fresh()
      const elsewhere = yield* fresh()
      const { items } = yield* World.listen(here.adapter)
      expect(yield* channels(here)).toEqual([`${here.redis.keyPrefix}run:run`])
      yield* elsewhere.append(World.events(1))
      const { frames } = yield* here.append(World.events(2))
      yield* World.until(() => items.length >= 2)
      expect(items).toEqual(frames)
    }).pipe(Effect.scoped),
  )

  it.live("a message that is no frame, or one of another room, is a gap; what follows arrives", () =>
    Effect.gen(function* () {
      const process = yield* fresh()
      const { items } = yield* World.listen(process.adapter)
      const other = yield* process.append(World.events(1), World.otherRun)
      const foreign = RedisFrame.encode(other.frames)[0]!
      for (const message of ["", "nonsense", "{}", "\u0000\uffff", foreign, foreign.replace("1 ", "2 ")]) {
        items.length = 0
        yield* publish(process, message)
        yield* World.until(() => items.length > 0)
        expect(World.told(items)).toEqual(["overflow"])
      }
      items.length = 0
      const { frames } = yield* process.append(World.events(1))
      yield* World.until(() => items.length > 0)
      expect(items).toEqual(frames)
    }).pipe(Effect.scoped),
  )

  it.live("a message that was cut or altered anywhere is a gap, or the frames as they were", () =>
    Effect.gen(function* () {
      const process = yield* fresh()
      const { frames } = yield* process.append(World.events(2))
      const message = RedisFrame.encode(frames)[0]!
      const { items } = yield* World.listen(process.adapter, room, 100_000)
      const altered: Array<string> = []
      for (let at = 0; at < message.length; at++) {
        altered.push(message.slice(0, at), message.slice(at), `${message.slice(0, at)}\n${message.slice(at)}`)
        altered.push(`${message.slice(0, at)}9${message.slice(at + 1)}`)
      }
      yield* Effect.forEach(altered, (text) => publish(process, text), { concurrency: "unbounded", discard: true })
      yield* publish(process, message)
      const isLast = (item: Envelope.Frame | Envelope.Gap | undefined) =>
        item?._tag === "Frame" && item.cursor === frames[1]!.cursor && item.envelope.event === frames[1]!.envelope.event
      yield* World.until(() => isLast(items.at(-1)))
      const texts = new Set(frames.map(({ envelope }) => envelope.event))
      for (const item of items) if (item._tag === "Frame") expect(texts.has(item.envelope.event)).toBe(true)
      expect(items.some(({ _tag }) => _tag === "Gap")).toBe(true)
    }).pipe(Effect.scoped),
  )

  it.live("a batch of megabytes goes in several messages; an event too large for one is a gap", () =>
    Effect.gen(function* () {
      const process = yield* fresh({
        store: { publish: false, bounds: { maxEventBytes: 4_000_000 } },
      })
      const longest = { value: 0 }
      const listener = yield* World.listen(process.adapter, session, 5000)
      const watch = yield* process.redis.connect
      watch.client.on("messageBuffer", (_: Buffer, message: Buffer) => {
        longest.value = Math.max(longest.value, message.length)
      })
      yield* watch.send("SUBSCRIBE", [RedisKeys.channel(process.redis.keyPrefix, session)])
      const { frames } = yield* process.append(Array.from({ length: 40 }, () => World.sized(200_000)))
      yield* World.until(() => listener.items.length >= 40)
      expect(listener.items).toEqual(frames)
      listener.items.length = 0
      yield* process.append([World.sized(10), World.sized(2_000_000), World.sized(10)])
      yield* World.until(() => listener.items.length >= 3)
      expect(World.told(listener.items)).toEqual([41, "overflow", 43])
      expect(longest.value).toBeLessThan(2 * 1024 * 1024)
    }).pipe(Effect.scoped),
  )

  it.live(
    "the store's own messages are bounded too: a batch of megabytes is a gap, of which readers read the store",
    () =>
      Effect.gen(function* () {
        const process = yield* fresh()
        const { items } = yield* World.listen(process.adapter, room, 5000)
        const following = yield* World.follow(process.store, process.adapter)
        yield* process.append(World.events(1))
        yield* process.append(Array.from({ length: 40 }, () => World.sized(200_000)))
        yield* process.append(Array.from({ length: 4 }, () => World.sized(200_000)))
        yield* process.append([World.ending()])
        yield* following.done
        expect(following.seen).toEqual(Array.from({ length: 46 }, (_, index) => index + 1))
        yield* World.until(() => items.length >= 7)
        expect(World.told(items)).toEqual([1, "overflow", 42, 43, 44, 45, 46])
      }).pipe(Effect.scoped),
  )

  it.live("a queue that is full tells by a gap, and holds up neither the connection nor other rooms", () =>
    Effect.gen(function* () {
      const process = yield* fresh()
      const stuck = yield* process.adapter.subscribe(room, { capacity: 2 })
      const { items } = yield* World.listen(process.adapter, runRoom(1))
      for (let n = 0; n < 20; n++) yield* process.append(World.events(5))
      yield* process.append(World.events(1), World.runIdOf(1))
      yield* World.until(() => items.length === 1)
      const late = yield* World.listen({ ...process.adapter, subscribe: () => Effect.succeed(stuck) })
      yield* World.until(() => late.items.length > 0)
      expect(World.told(late.items).at(-1)).toBe("overflow")
      expect(late.items.length).toBeLessThanOrEqual(3)
    }).pipe(Effect.scoped),
  )

  it.live("a user who may not use the channels is told so, and that trying again won't help", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const admin = yield* World.process(server.url)
      const user = ["SETUSER", "reader", "on", ">secret", "~*", "+@all", "resetchannels"]
      yield* admin.redis.send("ACL", user)
      const credentials = { username: "reader", password: "secret" }
      const reader = yield* World.process(server.url, { client: credentials, store: { publish: false } })
      const refused = yield* Effect.flip(Effect.scoped(reader.adapter.subscribe(room)))
      expect(refused).toMatchObject({ _tag: "AdapterUnavailable", isRetryable: false })
      expect(refused.message).toContain("NOPERM")
      const request = { vocabulary: { name: "test", version: 1 }, events: World.events(1) }
      const { frames } = yield* admin.append(World.events(1))
      const unpublished = yield* Effect.flip(reader.adapter.publish([room], frames))
      expect(unpublished).toMatchObject({ _tag: "AdapterUnavailable", isRetryable: false })
      // Publishing is part of the append's script; what is stored must not look as if it weren't.
      const writer = yield* World.process(server.url, { client: credentials })
      expect((yield* writer.store.append({ ...request, runId: World.otherRun })).frames).toHaveLength(1)
      // One room that is refused is none of the others' business.
      yield* admin.redis.send("ACL", ["SETUSER", "reader", `&${admin.redis.keyPrefix}run:*`])
      const { items } = yield* World.listen(reader.adapter)
      yield* Effect.flip(Effect.scoped(reader.adapter.subscribe(session)))
      yield* admin.append(World.events(1))
      yield* World.until(() => items.length > 0)
      expect(World.told(items)).toEqual([2])
    }).pipe(Effect.scoped),
  )

  it.live("who loses the right to a room is told by a failure", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const admin = yield* World.process(server.url)
      yield* admin.redis.send("ACL", ["SETUSER", "reader", "on", ">secret", "~*", "+@all", "&*"])
      const reader = yield* World.process(server.url, { client: { username: "reader", password: "secret" } })
      const listener = yield* World.listen(reader.adapter)
      yield* admin.redis.send("ACL", ["SETUSER", "reader", "resetchannels"])
      const ended = yield* listener.ended
      expect(Exit.isFailure(ended) && String(ended.cause)).toContain("NOPERM")
    }).pipe(Effect.scoped),
  )

  it.live("subscribing while Redis is down fails at once, and works again when it is back", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const known = yield* World.process(server.url)
      const unused = yield* World.process(server.url)
      const { frames } = yield* known.append(World.events(1))
      const { items } = yield* World.listen(known.adapter)
      yield* server.kill()
      yield* World.until(() => known.redis.client.status !== "ready")
      for (const { adapter } of [known, unused]) {
        for (const to of [room, session]) {
          const failure = yield* Effect.flip(Effect.scoped(adapter.subscribe(to))).pipe(Effect.timeout("2 seconds"))
          expect(failure).toMatchObject({ _tag: "AdapterUnavailable", isRetryable: true })
        }
        const unpublished = yield* Effect.flip(adapter.publish([room], frames))
        expect(unpublished).toMatchObject({ _tag: "AdapterUnavailable", isRetryable: true })
      }
      yield* server.start
      yield* World.until(() => World.told(items).includes("reconnected"))
      const again = yield* World.eventually(World.listen(unused.adapter))
      yield* World.eventually(known.append(World.events(1)))
      yield* World.until(() => again.items.length > 0 && World.told(items).includes(2))
      expect(World.told(items)).toEqual(["reconnected", 2])
    }).pipe(Effect.scoped),
  )

  it.live("subscribing to a server that says nothing fails within the command timeout; interrupting doesn't wait", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const process = yield* World.process(server.url, { client: { commandTimeout: "300 millis" } })
      yield* World.listen(process.adapter)
      yield* server.signal("SIGSTOP")
      const waiting = yield* Effect.forkChild(Effect.scoped(process.adapter.subscribe(session)), {
        startImmediately: true,
      })
      yield* Fiber.interrupt(waiting).pipe(Effect.timeout("200 millis"))
      const failure = yield* Effect.flip(Effect.scoped(process.adapter.subscribe(runRoom(1)))).pipe(
        Effect.timeout("5 seconds"),
      )
      expect(failure).toMatchObject({ _tag: "AdapterUnavailable", isRetryable: true })
      yield* server.signal("SIGCONT")
      const { items } = yield* World.eventually(World.listen(process.adapter, session))
      yield* World.eventually(process.append(World.events(1)))
      yield* World.until(() => World.told(items).includes(1))
      expect(yield* World.channels(process)).toHaveLength(2)
    }).pipe(Effect.scoped),
  )

  it.live("a subscribe that is interrupted leaves nothing, wherever it was", () =>
    Effect.gen(function* () {
      const process = yield* fresh()
      yield* Effect.scoped(Effect.asVoid(process.adapter.subscribe(room)))
      for (let turns = 0; turns < 200; turns++) {
        const fiber = yield* Effect.forkChild(Effect.scoped(process.adapter.subscribe(runRoom(turns % 2))))
        for (let turn = 0; turn < turns % 12; turn++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
      }
      yield* World.until(() => Effect.map(channels(process), (names) => names.length === 0))
      const { items } = yield* World.listen(process.adapter, runRoom(1))
      yield* process.append(World.events(1), World.runIdOf(1))
      yield* World.until(() => items.length === 1)
    }).pipe(Effect.scoped),
  )

  it.live("closing the layer closes its connection and fails nobody else", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const watcher = yield* World.process(server.url)
      yield* Effect.gen(function* () {
        yield* World.listen((yield* World.process(server.url)).adapter)
        expect(yield* World.subscribers(watcher)).toBe(1)
      }).pipe(Effect.scoped)
      yield* World.until(() => Effect.map(World.subscribers(watcher), (count) => count === 0))
    }).pipe(Effect.scoped),
  )

  for (const protocol of [2, 3] as const) {
    it.live(`over RESP${protocol}, and a client that the caller has: its own connection is apart, and left open`, () =>
      Effect.gen(function* () {
        const writer = yield* fresh()
        const { keyPrefix } = writer.redis
        const own = new Client(yield* url, { autoResendUnfulfilledCommands: false, protocol })
        yield* Effect.addFinalizer(() => Effect.sync(() => own.disconnect()))
        yield* Effect.gen(function* () {
          const layer = RedisStreamAdapter.layer({ heartbeat: "20 millis" }).pipe(
            Layer.provide(IoRedis.layerFrom(own, { keyPrefix })),
          )
          const adapter = Context.get(yield* Layer.build(layer), StreamAdapter)
          yield* Effect.scoped(World.listen(adapter, session))
          const { items } = yield* World.listen(adapter)
          const first = yield* writer.append(World.events(2))
          yield* Effect.sleep("100 millis")
          const second = yield* writer.append(World.events(2))
          yield* World.until(() => items.length >= 4)
          expect(items).toEqual([...first.frames, ...second.frames])
          expect(yield* channels(writer)).toHaveLength(1)
        }).pipe(Effect.scoped)
        expect(own.status).toBe("ready")
        yield* World.until(() => Effect.map(channels(writer), (names) => names.length === 0))
      }).pipe(Effect.scoped),
    )
  }
})
