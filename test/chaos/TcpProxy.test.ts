import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { connect, createServer, type Socket } from "node:net"
import * as TcpProxy from "./TcpProxy.ts"

/** A server that keeps what it is sent and answers with the same bytes. */
const echo = Effect.gen(function* () {
  const received: Array<string> = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
    socket.on("data", (bytes) => {
      received.push(bytes.toString())
      socket.write(bytes)
    })
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
  return { port, received, sockets }
})

/** A connection, with all that it was sent and how it ended. */
const clientOf = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly socket: Socket; text: string; ended: string | undefined }>((resume) => {
      const socket = connect(port, "127.0.0.1")
      const client = { socket, text: "", ended: undefined as string | undefined }
      socket.on("data", (bytes) => (client.text += bytes.toString()))
      socket.on("error", (error: NodeJS.ErrnoException) => (client.ended = error.code ?? error.message))
      socket.on("close", () => (client.ended ??= "closed"))
      socket.once("connect", () => resume(Effect.succeed(client)))
    }),
    ({ socket }) => Effect.sync(() => socket.destroy()),
  )

const until = (condition: () => boolean) =>
  Effect.suspend(() => (condition() ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("10 seconds"),
  )

const world = Effect.gen(function* () {
  const server = yield* echo
  const proxy = yield* TcpProxy.make(server.port)
  const client = yield* clientOf(proxy.port)
  client.socket.write("hello")
  yield* until(() => client.text === "hello")
  return { client, proxy, server }
})

describe("the proxy", () => {
  it.live("cuts: both sides are reset, and a new connection works", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* world
      yield* proxy.cut
      yield* until(() => client.ended === "ECONNRESET" && server.sockets.size === 0)
      const next = yield* clientOf(proxy.port)
      next.socket.write("again")
      yield* until(() => next.text === "again")
      expect(proxy.met).toMatchObject({ cut: 1 })
    }).pipe(Effect.scoped),
  )

  it.live("half-open: the server lost the client, which still believes in its connection", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* world
      yield* proxy.halfOpen(60_000)
      yield* until(() => server.sockets.size === 0)
      const next = yield* clientOf(proxy.port)
      for (const { socket } of [client, next]) socket.write("anybody?")
      yield* until(() => proxy.met.halfOpen === 2)
      expect(server.received.join("")).toBe("hello")
      expect([client.ended, next.ended, next.text]).toEqual([undefined, undefined, ""])
      yield* proxy.halfOpen(0)
      const third = yield* clientOf(proxy.port)
      third.socket.write("third")
      yield* until(() => third.text === "third")
    }).pipe(Effect.scoped),
  )

  it.live("slow: everything arrives in order, in pieces", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* world
      yield* proxy.slow(1000)
      const text = Array.from({ length: 20_000 }, (_, index) => String(index)).join()
      client.socket.write(text)
      yield* until(() => client.text === `hello${text}`)
      expect(server.received.length).toBeGreaterThan(2)
      expect(proxy.met.slow).toBe(1)
    }).pipe(Effect.scoped),
  )

  it.live("resets in an answer: half of it arrives", () =>
    Effect.gen(function* () {
      const { client, proxy } = yield* world
      yield* proxy.resetInAnswer()
      client.socket.write("0123456789")
      yield* until(() => client.ended === "ECONNRESET")
      expect(client.text === "hello01234" || client.text === "hello").toBe(true)
      expect(proxy.met.resetInAnswer).toBe(1)
    }).pipe(Effect.scoped),
  )

  it.live("late: the client is reset, the server gets what it sent afterwards", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* world
      yield* proxy.late(50)
      client.socket.write("delayed")
      yield* until(() => client.ended === "ECONNRESET")
      expect(client.text).toBe("hello")
      yield* until(() => server.received.join("") === "hellodelayed")
      expect(proxy.met.late).toBe(1)
    }).pipe(Effect.scoped),
  )
})
