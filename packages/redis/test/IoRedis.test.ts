import { describe, expect, it } from "@effect/vitest"
import * as IoRedis from "@throughline/redis/IoRedis"
import type { RedisFailed } from "@throughline/redis/RedisFailed"
import * as RedisScript from "@throughline/redis/RedisScript"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Redis as Client } from "ioredis"
import { connect, createServer, type Socket } from "node:net"
import * as World from "./adapterWorld.ts"
import * as RedisServer from "./RedisServer.ts"

const fast = Schedule.spaced("20 millis")

const clientOf = (options: IoRedis.Options) =>
  Effect.map(Layer.build(IoRedis.layer(options)), (context) => Context.get(context, IoRedis.IoRedis))

const failureOf = <A>(effect: Effect.Effect<A, RedisFailed>) => Effect.flip(effect)

const withPassword = (password: string, port: number | string) =>
  Redacted.make(`redis://:${password}@127.0.0.1:${port}`)

/** Asks until Redis answers; fails after 5 seconds. */
const answers = (redis: IoRedis.IoRedis["Service"]) =>
  redis.send("PING", []).pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("5 seconds"))

const add = RedisScript.make({
  name: "add",
  lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
  keys: ({ key }: { readonly key: string; readonly by: number }) => [key],
  args: ({ by }) => [String(by)],
  reply: Schema.Int,
})

/** A listener on a free port of the loopback address, until the scope closes. */
const listening = (onSocket: (socket: Socket) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const server = createServer(onSocket)
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({ port, close: () => server.close() }))
      })
    }),
    ({ close }) => Effect.sync(close),
  ).pipe(Effect.map(({ port }) => port))

/** A server that accepts connections and says what it is given to every request. */
const impostor = (answer: string) =>
  listening((socket) => {
    socket.on("error", () => {})
    socket.on("data", () => socket.write(answer))
  })

/** A way to a server that leads nowhere for new connections while `state.isHole`; `holed` counts those. */
const blackHole = Effect.fnUntraced(function* (to: number) {
  const state = { isHole: false, holed: 0 }
  const sockets = new Set<Socket>()
  const port = yield* listening((socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    if (state.isHole) {
      state.holed++
      socket.resume()
      return
    }
    const upstream = connect(to, "127.0.0.1").on("error", () => {})
    socket.pipe(upstream).pipe(socket)
    socket.on("close", () => upstream.destroy())
    upstream.on("close", () => socket.destroy())
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
  return { state, url: `redis://127.0.0.1:${port}` }
})

describe("IoRedis", () => {
  it.live("a command fails at once and typed while there is no connection, and works again after a restart", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const redis = yield* clientOf({ url: server.url, reconnect: fast })
      expect(yield* redis.send("SET", ["key", "value"])).toBe("OK")
      yield* server.kill()
      yield* Effect.sleep("20 millis")
      const failure = yield* failureOf(redis.send("GET", ["key"])).pipe(Effect.timeout("100 millis"))
      expect(failure.reason._tag).toBe("Disconnected")
      expect(failure.isRetryable).toBe(true)
      yield* server.start
      yield* answers(redis)
      expect(yield* redis.send("GET", ["key"])).toBe("value")
    }).pipe(Effect.scoped),
  )

  it.live("a command that a paused server doesn't answer fails TimedOut, and an interrupted one ends at once", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = yield* clientOf({ url: server.url, commandTimeout: "60 millis" })
      const other = yield* clientOf({ url: server.url })
      yield* other.send("CLIENT", ["PAUSE", "300", "ALL"])
      const failure = yield* failureOf(redis.send("PING", []))
      expect(failure.reason).toMatchObject({ _tag: "TimedOut", after: 60 })
      const waiting = yield* Effect.forkChild(other.send("PING", []), { startImmediately: true })
      yield* Fiber.interrupt(waiting).pipe(Effect.timeout("50 millis"))
      yield* answers(redis)
    }).pipe(Effect.scoped),
  )

  it.live("a command in flight when the server dies fails, and is not sent again", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const redis = yield* clientOf({ url: server.url, reconnect: fast })
      yield* server.signal("SIGSTOP")
      const lost = yield* Effect.forkChild(failureOf(redis.send("INCR", ["count"])), { startImmediately: true })
      yield* server.kill()
      expect((yield* Fiber.join(lost)).reason._tag).toBe("Disconnected")
      yield* server.start
      yield* answers(redis)
      expect(yield* redis.send("GET", ["count"])).toBe(null)
    }).pipe(Effect.scoped),
  )

  it.live("reconnects by the schedule, and gives up where it ends", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = yield* clientOf({
        url: server.url,
        reconnect: Schedule.max([Schedule.spaced("1 millis"), Schedule.recurs(2)]),
      })
      yield* server.kill()
      yield* Effect.callback<void>((resume) => {
        if (redis.client.status === "end") resume(Effect.void)
        else redis.client.once("end", () => resume(Effect.void))
      }).pipe(Effect.timeout("5 seconds"))
      expect((yield* failureOf(redis.send("PING", []))).reason._tag).toBe("Disconnected")
    }).pipe(Effect.scoped),
  )

  it.live("a script survives SCRIPT FLUSH and a restart, and a reply that isn't its own is Unexpected", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const redis = yield* clientOf({ url: server.url, reconnect: fast })
      expect(yield* redis.run(add, { key: "n", by: 2 })).toBe(2)
      yield* redis.send("SCRIPT", ["FLUSH"])
      expect(yield* redis.run(add, { key: "n", by: 3 })).toBe(5)
      yield* server.restart
      yield* answers(redis)
      expect(yield* redis.run(add, { key: "n", by: 1 })).toBe(6)
      const odd = RedisScript.make({ ...add, lua: "return 'six'", reply: Schema.Int })
      const failure = yield* failureOf(redis.run(odd, { key: "n", by: 1 }))
      expect(failure).toMatchObject({ command: "add", reason: { _tag: "Unexpected" }, isRetryable: false })
    }).pipe(Effect.scoped),
  )

  it.live("a server that doesn't speak Redis's protocol is told, not waited for", () =>
    Effect.gen(function* () {
      const port = yield* impostor("HTTP/1.1 400 Bad Request\r\n\r\n")
      const failure = yield* clientOf({ url: `redis://127.0.0.1:${port}`, commandTimeout: "500 millis" }).pipe(
        Effect.flip,
        Effect.timeout("3 seconds"),
      )
      expect(failure).toMatchObject({ command: "connect", reason: { _tag: "Disconnected" } })
    }).pipe(Effect.scoped),
  )

  it.live("a database that the server doesn't have fails the connection, which would go on in another one", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const failure = yield* Effect.flip(clientOf({ url: `redis://127.0.0.1:${server.port}/99` }))
      expect(failure).toMatchObject({ command: "connect", reason: { _tag: "Disconnected" } })
      expect(failure.message).toContain("DB index is out of range")
    }).pipe(Effect.scoped),
  )

  it.live("no password is in an error, whether it is right, wrong or in a URL that can't be read", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ requirepass: "s3cret" })
      const wrong = yield* Effect.flip(clientOf({ url: withPassword("wr0ng", server.port) }))
      expect(wrong).toMatchObject({ reason: { _tag: "Disconnected" } })
      expect(wrong.message).toContain("WRONGPASS")
      const unreadable = yield* Effect.flip(clientOf({ url: withPassword("s3cret", "port") }))
      expect(unreadable).toMatchObject({ reason: { _tag: "InvalidOptions" } })
      const redis = yield* clientOf({ url: withPassword("s3cret", server.port) })
      const unknown = yield* failureOf(redis.send("AUTHENTICATE", ["s3cret"]))
      expect(unknown.reason).toMatchObject({ _tag: "Refused", code: "ERR" })
      for (const error of [wrong, unreadable, unknown]) {
        const told = [Formatter.format(error), String(error), JSON.stringify(error), error.stack].join()
        expect(told).not.toMatch(/s3cret|wr0ng/)
      }
    }).pipe(Effect.scoped),
  )

  it.live("a client the caller has is shared, and left open; one that resends commands by itself is refused", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const client = new Client(server.url, { autoResendUnfulfilledCommands: false, keyPrefix: "theirs:" })
      yield* Effect.gen(function* () {
        const redis = yield* IoRedis.IoRedis
        yield* redis.send("SET", ["ours", "1"])
      }).pipe(Effect.provide(IoRedis.layerFrom(client)))
      expect(client.status).toBe("ready")
      expect(yield* Effect.promise(() => client.keys("*"))).toEqual(["ours"])
      client.disconnect()
      const resending = new Client(server.url)
      const refused = yield* Effect.flip(Layer.build(IoRedis.layerFrom(resending)))
      expect(refused.reason._tag).toBe("InvalidOptions")
      resending.disconnect()
    }).pipe(Effect.scoped),
  )

  it.live("Effect's own Redis service runs on it: a persisted queue, a subscription, a reserved connection", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      yield* Effect.gen(function* () {
        const redis = yield* Redis.Redis
        const messages = yield* redis.subscribe("news")
        // the subscription is in place when Redis says so
        yield* redis
          .send<number>("PUBLISH", "news", "hello")
          .pipe(Effect.repeat({ until: (receivers) => receivers > 0 }), Effect.timeout("2 seconds"))
        expect(yield* Queue.take(messages)).toEqual({ channel: "news", message: "hello" })
        const reserved = yield* redis.reserve
        expect(yield* reserved.send("WAIT", "0", "10")).toBe(0)
        const queue = yield* PersistedQueue.make({ name: "work", schema: Schema.Struct({ n: Schema.Int }) })
        yield* queue.offer({ n: 7 })
        expect(yield* queue.take((value) => Effect.succeed(value.n))).toBe(7)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          PersistedQueue.layer.pipe(
            Layer.provide(PersistedQueue.layerStoreRedis()),
            Layer.provideMerge(IoRedis.layer({ url: server.url })),
          ),
        ),
      )
    }).pipe(Effect.scoped),
  )

  it.live("a subscription of Effect's Redis service outlives connections that are lost while it is made again", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const proxy = yield* World.proxy(server.port)
      const publisher = yield* clientOf({ url: server.url })
      const context = yield* Layer.build(IoRedis.layer({ url: proxy.url, reconnect: fast }))
      const messages = yield* Context.get(context, Redis.Redis).subscribe("news")
      const heard = Effect.fnUntraced(function* (message: string) {
        const received = Effect.map(publisher.send("PUBLISH", ["news", message]), (receivers) => receivers === 1)
        yield* World.until(() => received)
        expect(yield* Effect.timeout(Queue.take(messages), "15 seconds")).toEqual({ channel: "news", message })
      })
      yield* heard("before")
      proxy.state.cuts = 3
      yield* proxy.cut
      yield* World.until(() => proxy.state.cuts === 0)
      yield* heard("after")
    }).pipe(Effect.scoped),
  )

  it.live("a connection that is swallowed on its way fails its reserve, and the next one has another", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const { state, url } = yield* blackHole(server.port)
      const redis = yield* clientOf({ url, commandTimeout: "300 millis" })
      state.isHole = true
      const failure = yield* failureOf(Effect.scoped(redis.reserve)).pipe(Effect.timeout("10 seconds"))
      expect(failure).toMatchObject({ command: "connect", reason: { _tag: "Disconnected" } })
      expect(failure.message).toContain("did not answer within 300 ms")
      expect(state.holed).toBe(1)
      state.isHole = false
      const reserved = Effect.flatMap(redis.reserve, ({ send }) => send("PING", []))
      expect(yield* Effect.scoped(reserved).pipe(Effect.timeout("10 seconds"))).toBe("PONG")
    }).pipe(Effect.scoped),
  )

  it.live("a scope closes while a connection is being reserved that nobody answers", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const { state, url } = yield* blackHole(server.port)
      const scope = yield* Scope.make()
      const redis = yield* Scope.provide(clientOf({ url, commandTimeout: "1 hour" }), scope)
      state.isHole = true
      yield* Effect.forkChild(Effect.ignore(Effect.scoped(redis.reserve)), { startImmediately: true })
      yield* World.until(() => state.holed === 1)
      yield* Scope.close(scope, Exit.void).pipe(Effect.timeout("10 seconds"))
    }).pipe(Effect.scoped),
  )

  it.live("closing the scope closes every connection", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const watcher = yield* clientOf({ url: server.url })
      const connections = Effect.map(watcher.send("CLIENT", ["LIST"]), (list) => String(list).trim().split("\n").length)
      yield* Effect.gen(function* () {
        const redis = yield* clientOf({ url: server.url })
        yield* redis.connect
        const reserved = yield* redis.reserve
        yield* reserved.send("PING", [])
        expect(yield* connections).toBe(4)
      }).pipe(Effect.scoped)
      yield* connections.pipe(Effect.repeat({ until: (n) => n === 1 }), Effect.timeout("2 seconds"))
    }).pipe(Effect.scoped),
  )
})
