import { describe, expect, it } from "@effect/vitest"
import type { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as RedisKeys from "@throughline/redis/RedisKeys"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as World from "./adapterWorld.ts"
import * as RedisServer from "./RedisServer.ts"

const { room } = World

/** A reading process behind a proxy, and a writing one that isn't. */
const world = Effect.fnUntraced(function* (options: World.ProcessOptions = {}, server?: RedisServer.Options) {
  const started = yield* RedisServer.make(server)
  const proxy = yield* World.proxy(started.port)
  return {
    server: started,
    proxy,
    reader: yield* World.process(proxy.url, options),
    writer: yield* World.process(started.url),
  }
})

/** The same adapter, but for what it says about losses. */
const withoutGaps = (adapter: StreamAdapter["Service"]): StreamAdapter["Service"] => ({
  ...adapter,
  subscribe: (to, queue) =>
    Effect.map(
      adapter.subscribe(to, queue),
      Stream.filter((item) => item._tag === "Frame"),
    ),
})

/**
 * The window of plain Pub/Sub: a reader has caught up, its connection is lost, the run ends, and only then is the
 * reader subscribed again. Says what the reader got, and whether it was told of the end.
 */
const endInTheWindow = Effect.fnUntraced(function* (
  change: (adapter: StreamAdapter["Service"]) => StreamAdapter["Service"],
) {
  const { proxy, reader, writer } = yield* world()
  yield* writer.append(World.events(2))
  const following = yield* World.follow(writer.store, change(reader.adapter))
  yield* writer.append(World.events(1))
  yield* World.until(() => following.seen.length === 3)
  proxy.state.isRefusing = true
  yield* proxy.cut
  yield* World.until(() => Effect.map(World.subscribers(writer), (count) => count === 0))
  yield* writer.append([...World.events(1), World.ending()])
  proxy.state.isRefusing = false
  yield* World.until(() => Effect.map(World.subscribers(writer), (count) => count === 1))
  // What comes on the connection from here on comes after all that it was told of the window.
  const later = yield* World.eventually(World.listen(reader.adapter, { _tag: "All" }))
  const marker = yield* writer.append(World.events(1), World.otherRun)
  yield* writer.adapter.publish([{ _tag: "All" }], marker.frames)
  yield* World.until(() => later.items.length > 0)
  return following
})

describe("RedisStreamAdapter, when the connection is lost", () => {
  it.live("the end of a run, lost while resubscribing, arrives without the watchdog", () =>
    Effect.gen(function* () {
      const { done, seen } = yield* endInTheWindow((adapter) => adapter)
      yield* done
      expect(seen).toEqual([1, 2, 3, 4, 5])
    }).pipe(Effect.scoped),
  )

  it.live("… and never arrives where readers are not told of the gap: plain Pub/Sub loses it", () =>
    Effect.gen(function* () {
      const { fiber, seen } = yield* endInTheWindow(withoutGaps)
      expect(fiber.pollUnsafe()).toBeUndefined()
      expect(seen).toEqual([1, 2, 3])
    }).pipe(Effect.scoped),
  )

  it.live(
    "CLIENT KILL TYPE pubsub under live readers: each sees every event once, in order, to the end",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const writer = yield* World.process(server.url)
        const processes = yield* Effect.forEach([1, 2, 3], () => World.process(server.url))
        const readers = yield* Effect.forEach(processes, ({ adapter, store }) => World.follow(store, adapter))
        const cut = { readers: 0 }
        const killing = yield* Effect.forkChild(
          Effect.forever(
            Effect.andThen(
              Effect.tap(World.kill(writer), (killed) => Effect.sync(() => (cut.readers += Number(killed)))),
              Effect.sleep("15 millis"),
            ),
          ),
        )
        let written = 0
        // Until the readers were cut often, whatever else runs on the machine.
        while (written < 300 || cut.readers < 15) {
          yield* writer.append(World.events(1))
          written++
          yield* Effect.sleep("1 millis")
        }
        yield* writer.append([World.ending()])
        for (const { done } of readers) yield* done
        yield* Fiber.interrupt(killing)
        const all = Array.from({ length: written + 1 }, (_, index) => index + 1)
        for (const { seen } of readers) expect(seen).toEqual(all)
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live("a server that is killed and started again: readers go on, to the end", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const writer = yield* World.process(server.url)
      const reader = yield* World.process(server.url)
      const { done, seen } = yield* World.follow(reader.store, reader.adapter)
      yield* writer.append(World.events(2))
      yield* World.until(() => seen.length === 2)
      yield* server.restart
      yield* World.eventually(writer.append(World.events(1)))
      yield* World.eventually(writer.append([World.ending()]))
      yield* done
      expect(seen).toEqual([1, 2, 3, 4])
    }).pipe(Effect.scoped),
  )

  it.live("Redis cuts a subscriber whose output buffer is over its limit: a gap, and readers repair", () =>
    Effect.gen(function* () {
      const { reader, writer } = yield* world()
      const following = yield* World.follow(reader.store, reader.adapter)
      const { items } = yield* World.listen(reader.adapter)
      yield* writer.redis.send("CONFIG", ["SET", "client-output-buffer-limit", "pubsub 20kb 0 0"])
      yield* writer.append(World.events(1))
      yield* World.until(() => items.length === 1)
      for (let n = 0; n < 3; n++) {
        yield* writer.append([World.sized(200_000)])
        yield* World.until(() => following.seen.length === 2 + n)
      }
      yield* World.until(() => Effect.map(World.subscribers(writer), (count) => count === 1))
      expect(World.told(items)).toContain("reconnected")
      yield* writer.redis.send("CONFIG", ["SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60"])
      yield* World.eventually(writer.append([World.ending()]))
      yield* following.done
      expect(following.seen).toEqual([1, 2, 3, 4, 5])
    }).pipe(Effect.scoped),
  )

  it.live(
    "a subscriber that reads nothing for a while is cut, and repairs once it reads again",
    () =>
      Effect.gen(function* () {
        const { proxy, reader, writer } = yield* world()
        const following = yield* World.follow(writer.store, reader.adapter)
        yield* writer.redis.send("CONFIG", ["SET", "client-output-buffer-limit", "pubsub 64kb 0 0"])
        yield* proxy.pause
        let written = 0
        // More than the sockets between take in.
        while ((yield* World.subscribers(writer)) > 0) {
          yield* writer.append(Array.from({ length: 5 }, () => World.sized(10_000)))
          written += 5
        }
        yield* proxy.resume
        yield* World.until(() => Effect.map(World.subscribers(writer), (count) => count === 1))
        yield* World.eventually(writer.append([World.ending()]))
        yield* following.done
        expect(following.seen).toEqual(Array.from({ length: written + 1 }, (_, index) => index + 1))
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live("a connection that went silent is noticed by the heartbeat, and made anew", () =>
    Effect.gen(function* () {
      const { proxy, reader, writer } = yield* world({
        client: { commandTimeout: "300 millis" },
        live: { heartbeat: "50 millis" },
      })
      const following = yield* World.follow(writer.store, reader.adapter)
      yield* writer.append(World.events(1))
      yield* World.until(() => following.seen.length === 1)
      yield* proxy.silence
      yield* writer.append([World.ending()])
      yield* following.done
      expect(following.seen).toEqual([1, 2])
    }).pipe(Effect.scoped),
  )

  for (const [what, answer] of [
    ["isn't Redis's protocol", "HTTP/1.1 200 OK\r\n\r\n"],
    ["is no answer to what was asked", "+OK\r\n+OK\r\n"],
    ["is an error", "-ERR no such thing\r\n"],
    ["is a push of something else", ">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$-1\r\n"],
    ["is a message without a text", ">3\r\n$7\r\nmessage\r\n$19\r\nthroughline:run:run\r\n$-1\r\n"],
    ["ends in the middle", ">3\r\n$7\r\nmess"],
  ] as const) {
    it.live(`a subscriber connection on which what comes ${what}: readers see the whole run`, () =>
      Effect.gen(function* () {
        const { proxy, reader, writer } = yield* world({
          client: { commandTimeout: "300 millis" },
          live: { heartbeat: "50 millis" },
        })
        const following = yield* World.follow(writer.store, reader.adapter)
        const other = yield* World.listen(reader.adapter, { _tag: "All" })
        let said = 0
        proxy.state.alter = () => {
          said++
          return answer
        }
        yield* writer.append(World.events(2))
        yield* World.until(() => said > 0)
        // Whoever subscribes on such a connection is told something, and soon.
        yield* Effect.scoped(Effect.asVoid(reader.adapter.subscribe({ _tag: "Run", runId: World.otherRun }))).pipe(
          Effect.ignore,
          Effect.timeout("10 seconds"),
        )
        proxy.state.alter = undefined
        yield* World.until(() => following.seen.length === 2)
        yield* World.eventually(writer.append([World.ending()]))
        yield* following.done
        expect(following.seen).toEqual([1, 2, 3])
        expect(other.items.every(({ _tag }) => _tag === "Gap")).toBe(true)
      }).pipe(Effect.scoped),
    )
  }

  it.live("connections that are lost while the rooms are subscribed again: a gap once they are", () =>
    Effect.gen(function* () {
      const { proxy, reader, writer } = yield* world()
      const listeners = yield* Effect.forEach([0, 1, 2], (n) => World.listen(reader.adapter, World.runRoom(n)))
      proxy.state.cuts = 4
      yield* proxy.cut
      yield* World.until(() => listeners.every(({ items }) => items.length > 0))
      expect(proxy.state.cuts).toBe(0)
      for (const [n, { items }] of listeners.entries()) {
        yield* writer.append(World.events(1), World.runIdOf(n))
        yield* World.until(() => items.length > 1)
        expect(World.told(items)).toEqual(["reconnected", 1])
      }
    }).pipe(Effect.scoped),
  )

  it.live("many rooms come back, each with its gap, none twice", () =>
    Effect.gen(function* () {
      const { proxy, reader, writer } = yield* world()
      const rooms = Array.from({ length: 2000 }, (_, n) => World.runRoom(n))
      const listeners = yield* Effect.forEach(rooms, (to) => World.listen(reader.adapter, to), {
        concurrency: "unbounded",
      })
      yield* proxy.cut
      yield* World.until(() => listeners.every(({ items }) => items.length > 0))
      expect(yield* World.channels(writer)).toHaveLength(2000)
      for (const { items } of listeners) expect(World.told(items)).toEqual(["reconnected"])
      const { items } = listeners[1999]!
      yield* writer.append(World.events(1), World.runIdOf(1999))
      yield* World.until(() => items.length > 1)
      expect(World.told(items)).toEqual(["reconnected", 1])
    }).pipe(Effect.scoped),
  )

  it.live(
    "rooms that come and go while connections are cut end as they should",
    () =>
      Effect.gen(function* () {
        const { reader, writer } = yield* world()
        const kept = yield* World.listen(reader.adapter)
        const killing = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(World.kill(writer), Effect.sleep("7 millis"))),
        )
        yield* Effect.forEach(
          Array.from({ length: 8 }, (_, n) => n),
          (n) =>
            Effect.repeat(
              Effect.scoped(Effect.andThen(World.listen(reader.adapter, World.runRoom(n % 3)), Effect.sleep(n))).pipe(
                Effect.ignore,
              ),
              { times: 60 },
            ),
          { concurrency: "unbounded" },
        )
        yield* Fiber.interrupt(killing)
        const channel = RedisKeys.channel(writer.redis.keyPrefix, room)
        yield* World.until(() =>
          Effect.map(World.channels(writer), (names) => names.length === 1 && names[0] === channel),
        )
        const before = kept.items.length
        yield* writer.append(World.events(1))
        yield* World.until(() => kept.items.length > before && World.told(kept.items).includes(1))
      }).pipe(Effect.scoped),
    60_000,
  )
})
