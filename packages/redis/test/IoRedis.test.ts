import { describe, expect, it } from "@effect/vitest"
import * as IoRedis from "@throughline/redis/IoRedis"
import type { RedisFailed } from "@throughline/redis/RedisFailed"
import * as RedisScript from "@throughline/redis/RedisScript"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Redis as Client, type RedisOptions } from "ioredis"
import { connect, createServer, type Socket } from "node:net"
import process from "node:process"
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

const sentinelAt = (host: string, port: number): IoRedis.Options => ({
  sentinel: { name: "runs", sentinels: [{ host, port }] },
})

/** A client that is the caller's own, as ioredis makes it. */
const theirs = (url: string, options: Omit<RedisOptions, "replyMapping">) =>
  Effect.acquireRelease(
    Effect.sync(() => new Client({ ...options, port: Number(new URL(url).port) }).on("error", () => {})),
    (client) => Effect.sync(() => client.disconnect()),
  )

/** The names of the warnings that Node gives until the scope closes. */
const warned = Effect.gen(function* () {
  const warnings: Array<string> = []
  const onWarning = ({ name }: Error): void => void warnings.push(name)
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("warning", onWarning)),
    () => Effect.sync(() => process.off("warning", onWarning)),
  )
  return warnings
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

  it.live("no argument is in an error, wherever Redis repeats it", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = yield* clientOf({ url: server.url })
      for (const [command, ...args] of [
        ["CONFIG", "s3cret"],
        ["CONFIG", "s3'cret' s3cret"],
        ["ACL", "SETUSER", "bob", "+nosuchs3cret"],
        ["EVAL", "return s3cret s3cret", "0"],
        ["S3CRET", "s3cret"],
      ] as const) {
        const { reason } = yield* failureOf(redis.send(command, args))
        expect(reason).toMatchObject({ _tag: "Refused", code: "ERR" })
        expect(reason.message).not.toMatch(/s3|cret/i)
      }
    }).pipe(Effect.scoped),
  )

  it.live("a server without TLS, asked by TLS, is told as that", () =>
    Effect.gen(function* () {
      for (const answer of ["", "-ERR unknown command\r\n"]) {
        const port = yield* impostor(answer)
        const url = `rediss://127.0.0.1:${port}`
        const failure = yield* Effect.flip(clientOf({ url, connectTimeout: "300 millis" }))
        expect(failure).toMatchObject({ command: "connect", reason: { _tag: "Disconnected" } })
        expect(failure.message).toContain("TLS, which it may not speak")
      }
    }).pipe(Effect.scoped),
  )

  it.live("the password of a Sentinel with TLS is never sent in clear, whether or not the master has TLS", () =>
    Effect.gen(function* () {
      const heard: Array<Buffer> = []
      const port = yield* listening((socket) => {
        socket.on("error", () => {})
        socket.on("data", (bytes) => {
          heard.push(bytes)
          socket.destroy()
        })
      })
      const sentinel = { name: "runs", sentinels: [{ host: "127.0.0.1", port }], password: "s3cret", tls: true }
      yield* Effect.forkScoped(clientOf({ sentinel, reconnect: fast }))
      yield* World.until(() => heard.length > 1)
      // a TLS handshake
      expect(heard.map((bytes) => bytes[0])).toEqual(heard.map(() => 22))
      expect(Buffer.concat(heard).includes("s3cret")).toBe(false)
    }).pipe(Effect.scoped),
  )

  it.live("options that can't be used are InvalidOptions", () =>
    Effect.gen(function* () {
      const given: ReadonlyArray<IoRedis.Options> = [
        { connectTimeout: 0 },
        { connectTimeout: -1 },
        { commandTimeout: Number.NaN },
        { commandTimeout: "soon" as Duration.Input },
        { sentinel: { name: "runs", sentinels: [] } },
        sentinelAt("127.0.0.1", 99_999),
        sentinelAt("127.0.0.1", 0),
        sentinelAt("127.0.0.1", 1.5),
        sentinelAt("", 26_379),
      ]
      for (const options of given) {
        const failure = yield* Effect.flip(clientOf(options)).pipe(Effect.timeout("10 seconds"))
        expect(failure, JSON.stringify(options)).toMatchObject({ reason: { _tag: "InvalidOptions" } })
      }
    }).pipe(Effect.scoped),
  )

  it.live("a timeout without end, or longer than a timer of Node, waits as long as it can", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const warnings = yield* warned
      for (const timeout of ["Infinity", "3000 days"] as const) {
        const redis = yield* clientOf({ url: server.url, connectTimeout: timeout, commandTimeout: timeout })
        const own = new Client(server.url)
        yield* Effect.addFinalizer(() => Effect.sync(() => own.disconnect()))
        const context = yield* Layer.build(IoRedis.layerFrom(own, { commandTimeout: timeout }))
        for (const { send } of [redis, Context.get(context, IoRedis.IoRedis)]) {
          expect(yield* send("PING", [])).toBe("PONG")
        }
      }
      expect(warnings).toEqual([])
    }).pipe(Effect.scoped),
  )

  it.live("a command that is too long for Node fails typed, and the connection goes on", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = yield* clientOf({ url: server.url })
      const long = "a".repeat(2 ** 26)
      const failure = yield* failureOf(
        redis.send(
          "DEL",
          Array.from({ length: 9 }, () => long),
        ),
      )
      expect(failure).toMatchObject({ command: "DEL", isRetryable: false, reason: { _tag: "Unsendable" } })
      expect(yield* redis.send("PING", [])).toBe("PONG")
    }).pipe(Effect.scoped),
  )

  it.live("however many commands are late on a connection, it is hung up once", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const warnings = yield* warned
      const redis = yield* clientOf({ url: server.url, commandTimeout: "60 millis", reconnect: fast })
      yield* server.signal("SIGSTOP")
      const pings = Array.from({ length: 50 }, () => Effect.flip(redis.send("PING", [])))
      const failures = yield* Effect.all(pings, { concurrency: "unbounded" })
      expect(new Set(failures.map(({ reason }) => reason._tag))).toEqual(new Set(["TimedOut"]))
      const { reason } = yield* failureOf(redis.send("PING", []))
      expect(reason).toMatchObject({ _tag: "Disconnected", detail: "it did not answer within 60 ms" })
      yield* server.signal("SIGCONT")
      yield* answers(redis)
      expect(warnings).toEqual([])
    }).pipe(Effect.scoped),
  )

  it.live("what is sent after a command was late doesn't go the same way", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = yield* clientOf({ url: server.url, commandTimeout: "60 millis", reconnect: fast })
      yield* server.signal("SIGSTOP")
      expect((yield* failureOf(redis.send("PING", []))).reason._tag).toBe("TimedOut")
      expect((yield* failureOf(redis.send("INCR", ["count"]))).reason._tag).toBe("Disconnected")
      yield* server.signal("SIGCONT")
      yield* answers(redis)
      expect(yield* redis.send("GET", ["count"])).toBe(null)
    }).pipe(Effect.scoped),
  )

  it.live("each connection goes by a reconnect schedule of its own", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const reconnect = Schedule.max([Schedule.spaced("1 millis"), Schedule.recurs(4)])
      const redis = yield* clientOf({ url: server.url, reconnect })
      const clients = [redis.client, (yield* redis.connect).client]
      const attempts = clients.map((client) => {
        const counted = { count: 0 }
        client.on("reconnecting", () => counted.count++)
        return counted
      })
      yield* server.kill()
      yield* World.until(() => clients.every(({ status }) => status === "end"))
      expect(attempts).toEqual([{ count: 4 }, { count: 4 }])
    }).pipe(Effect.scoped),
  )

  it.live("a script that was interrupted is not sent as text when Redis turns out not to know it", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = yield* clientOf({ url: server.url })
      yield* server.signal("SIGSTOP")
      const running = yield* Effect.forkChild(redis.run(add, { key: "n", by: 1 }), { startImmediately: true })
      yield* Fiber.interrupt(running)
      yield* server.signal("SIGCONT")
      expect(yield* redis.send("PING", [])).toBe("PONG")
      expect(yield* redis.send("GET", ["n"])).toBe(null)
    }).pipe(Effect.scoped),
  )

  it.live("a client the caller has is copied and left as it is: nothing waits behind its commands", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const client = yield* theirs(server.url, { autoResendUnfulfilledCommands: false, keyPrefix: "theirs:" })
      const blocked = client.blpop("nothing", 0).catch((error: unknown) => error)
      yield* Effect.gen(function* () {
        const redis = yield* IoRedis.IoRedis
        expect(redis.client).not.toBe(client)
        yield* redis.send("SET", ["ours", "1"])
      }).pipe(Effect.provide(IoRedis.layerFrom(client)))
      expect(client.status).toBe("ready")
      const other = yield* theirs(server.url, { keyPrefix: "theirs:" })
      yield* Effect.promise(() => other.lpush("nothing", "something"))
      expect(yield* Effect.promise(() => blocked)).toEqual(["theirs:nothing", "something"])
      expect(yield* Effect.promise(() => client.keys("*"))).toEqual(["ours"])
    }).pipe(Effect.scoped),
  )

  it.live("over a client that queues and resends, a command that failed is not sent later", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      const client = yield* theirs(server.url, { retryStrategy: () => 20 })
      const redis = Context.get(
        yield* Layer.build(IoRedis.layerFrom(client, { commandTimeout: "2 seconds" })),
        IoRedis.IoRedis,
      )
      yield* server.signal("SIGSTOP")
      const lost = yield* Effect.forkChild(failureOf(redis.send("INCR", ["count"])), { startImmediately: true })
      yield* server.kill()
      expect((yield* Fiber.join(lost)).reason._tag).toBe("Disconnected")
      expect((yield* failureOf(redis.send("INCR", ["count"]))).reason._tag).toBe("Disconnected")
      yield* server.start
      yield* answers(redis)
      expect(yield* redis.send("GET", ["count"])).toBe(null)
    }).pipe(Effect.scoped),
  )

  it.live("over a client that has numbers as texts, replies are as ever", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const client = yield* theirs(server.url, {
        autoResendUnfulfilledCommands: false,
        stringNumbers: true,
        enableAutoPipelining: true,
      })
      const redis = Context.get(yield* Layer.build(IoRedis.layerFrom(client)), IoRedis.IoRedis)
      expect(yield* redis.run(add, { key: "n", by: 2 })).toBe(2)
      const { run } = yield* redis.connect
      expect(yield* run(add, { key: "n", by: 1 })).toBe(3)
      const reserved = yield* redis.reserve
      expect(yield* reserved.run(add, { key: "n", by: 1 })).toBe(4)
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

  it.live("Effect's rate limiter and circuit breaker run on it, and outlive SCRIPT FLUSH and a restart", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ appendfsync: "always" })
      yield* Effect.gen(function* () {
        const redis = yield* IoRedis.IoRedis
        const limiter = yield* RateLimiter.RateLimiter
        const breaker = yield* CircuitBreaker.CircuitBreaker
        const consume = limiter.consume({ key: "k", limit: 2, window: "1 hour", onExceeded: "fail" })
        const call = breaker.execute(Effect.fail("away" as const), { key: "k" })
        const forget = Effect.andThen(redis.send("SCRIPT", ["FLUSH"]), Effect.void)
        const again = Effect.andThen(server.restart, answers(redis))
        expect((yield* consume).remaining).toBe(1)
        expect(yield* Effect.flip(call)).toBe("away")
        yield* forget
        expect((yield* consume).remaining).toBe(0)
        expect(yield* Effect.flip(call)).toBe("away")
        yield* again
        expect(yield* Effect.flip(consume)).toMatchObject({ reason: { _tag: "RateLimitExceeded" } })
        expect(yield* Effect.flip(call)).toMatchObject({ reason: { _tag: "CircuitOpen" } })
      }).pipe(
        Effect.provide(
          Layer.merge(
            Layer.provide(RateLimiter.layer, RateLimiter.layerStoreRedis()),
            Layer.provide(
              CircuitBreaker.layer({
                tripPolicy: CircuitBreaker.consecutive(2),
                openDuration: "1 hour",
                onStoreError: "fail",
              }),
              CircuitBreaker.layerStoreRedis(),
            ),
          ).pipe(Layer.provideMerge(IoRedis.layer({ url: server.url, reconnect: fast }))),
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
