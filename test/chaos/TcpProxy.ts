/**
 * A TCP proxy that breaks connections the way networks do.
 *
 * Each fault says how many connections it met, so that whoever asked for it can tell whether it did anything.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Server, type Socket } from "node:net"

export type Way = "cut" | "halfOpen" | "slow" | "resetInAnswer" | "late"

export interface TcpProxy {
  readonly port: number
  /** Resets every connection. */
  readonly cut: Effect.Effect<void>
  /**
   * The server's side of every connection is gone; the client's stays open and silent. For so many ms, new connections
   * are of that kind too.
   */
  readonly halfOpen: (millis: number) => Effect.Effect<void>
  /** For so many ms everything trickles, in pieces of odd sizes. */
  readonly slow: (millis: number) => Effect.Effect<void>
  /** The next answer is delivered up to its middle; then the connection is reset. */
  readonly resetInAnswer: () => Effect.Effect<void>
  /**
   * The next requests are taken, not answered, and the client's connection is reset; the server gets them so many ms
   * later, when their sender has long sent them again, or another in its place has gone on.
   */
  readonly late: (millis: number) => Effect.Effect<void>
  /** Connections that each fault has met. */
  readonly met: Readonly<Record<Way, number>>
}

/** The sizes of the pieces that a slow link delivers, and how long it takes for each. */
const pieces = [1, 3, 700, 13, 1400, 2, 4096]
const pieceMillis = 4
/** Bytes that a slow link takes in before it makes its sender wait. */
const slowBuffer = 64 * 1024

/** For how long a connection whose requests are to be late takes them in. */
const heldMillis = 150

/** One direction of a connection. */
class Pipe {
  #waiting: Array<Buffer> = []
  #bytes = 0
  #piece = 0
  #timer: NodeJS.Timeout | undefined
  readonly #from: Socket
  readonly #to: Socket
  readonly #isSlow: () => boolean

  constructor(from: Socket, to: Socket, isSlow: () => boolean) {
    this.#from = from
    this.#to = to
    this.#isSlow = isSlow
    to.on("drain", () => from.resume())
  }

  pass(bytes: Buffer): void {
    if (this.#timer === undefined && !this.#isSlow()) {
      if (!this.#to.write(bytes)) this.#from.pause()
      return
    }
    this.#waiting.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes > slowBuffer) this.#from.pause()
    this.#timer ??= setInterval(() => this.#trickle(), pieceMillis)
  }

  #trickle(): void {
    const all = Buffer.concat(this.#waiting)
    const size = this.#isSlow() ? pieces[this.#piece++ % pieces.length]! : all.length
    this.#to.write(all.subarray(0, size))
    this.#bytes = Math.max(0, all.length - size)
    this.#waiting = this.#bytes === 0 ? [] : [all.subarray(size)]
    if (this.#bytes <= slowBuffer) this.#from.resume()
    if (this.#bytes === 0) this.stop()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

/** What the proxy is up to; times are of `performance.now()`. */
class Faults {
  slowUntil = 0
  silentUntil = 0
  resetsInAnswer = 0
  readonly late: Array<number> = []
  readonly met: Record<Way, number> = { cut: 0, halfOpen: 0, slow: 0, resetInAnswer: 0, late: 0 }
}

class Connection {
  #isMute = false
  /** Requests that are to be late. */
  #held: Array<Buffer> | undefined
  #metSlow = 0
  readonly #client: Socket
  readonly #server: Socket
  readonly #faults: Faults
  readonly #requests: Pipe
  readonly #answers: Pipe

  constructor(client: Socket, server: Socket, faults: Faults) {
    this.#client = client
    this.#server = server
    this.#faults = faults
    const isSlow = () => this.#isSlow()
    this.#requests = new Pipe(client, server, isSlow)
    this.#answers = new Pipe(server, client, isSlow)
    client.setNoDelay(true).on("data", (bytes) => this.#request(bytes))
    server.setNoDelay(true).on("data", (bytes) => this.#answer(bytes))
    for (const socket of [client, server]) socket.on("error", () => {})
    client.on("close", () => {
      this.#stop()
      if (!this.#isMute) server.destroy()
    })
    server.on("close", () => {
      this.#answers.stop()
      if (!this.#isMute) client.resetAndDestroy()
    })
  }

  #isSlow(): boolean {
    const { slowUntil } = this.#faults
    if (performance.now() >= slowUntil) return false
    if (this.#metSlow !== slowUntil) this.#faults.met.slow++
    this.#metSlow = slowUntil
    return true
  }

  #request(bytes: Buffer): void {
    if (this.#held !== undefined) this.#held.push(bytes)
    if (this.#isMute) return
    const after = this.#faults.late.shift()
    if (after === undefined) this.#requests.pass(bytes)
    else this.#hold(bytes, after)
  }

  #hold(bytes: Buffer, after: number): void {
    const held = [bytes]
    this.#held = held
    this.#isMute = true
    setTimeout(() => {
      this.#held = undefined
      this.#faults.met.late++
      this.#client.resetAndDestroy()
    }, heldMillis)
    setTimeout(() => this.#server.end(Buffer.concat(held)), heldMillis + after)
  }

  #answer(bytes: Buffer): void {
    if (this.#isMute) return
    if (this.#faults.resetsInAnswer === 0 || bytes.length < 2) {
      this.#answers.pass(bytes)
      return
    }
    this.#faults.resetsInAnswer--
    this.#faults.met.resetInAnswer++
    this.#isMute = true
    this.#stop()
    // `end` flushes; the reset follows, so that the half arrives.
    this.#client.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => this.#client.resetAndDestroy())
    this.#server.destroy()
  }

  cut(): void {
    if (this.#isMute) return
    this.#faults.met.cut++
    this.#isMute = true
    this.#stop()
    this.#client.resetAndDestroy()
    this.#server.resetAndDestroy()
  }

  halfOpen(): void {
    if (this.#isMute) return
    this.#faults.met.halfOpen++
    this.#isMute = true
    this.#stop()
    this.#client.resume()
    this.#server.destroy()
  }

  close(): void {
    this.#isMute = true
    this.#stop()
    this.#client.destroy()
    this.#server.destroy()
  }

  #stop(): void {
    this.#requests.stop()
    this.#answers.stop()
  }
}

const listen = (server: Server): Effect.Effect<number> =>
  Effect.callback((resume) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** A proxy in front of a port of the loopback address; it and its connections end with the scope. */
export const make = Effect.fnUntraced(function* (target: number): Effect.fn.Return<TcpProxy, never, Scope.Scope> {
  const faults = new Faults()
  const connections = new Set<Connection>()
  const server = createServer((client) => {
    const connection = new Connection(client, connect(target, "127.0.0.1"), faults)
    connections.add(connection)
    client.on("close", () => connections.delete(connection))
    if (performance.now() < faults.silentUntil) connection.halfOpen()
  })
  const port = yield* Effect.acquireRelease(listen(server), () =>
    Effect.callback<void>((resume) => {
      server.close(() => resume(Effect.void))
      for (const connection of connections) connection.close()
    }),
  )
  return {
    port,
    cut: Effect.sync(() => {
      for (const connection of connections) connection.cut()
    }),
    halfOpen: (millis) =>
      Effect.sync(() => {
        faults.silentUntil = performance.now() + millis
        for (const connection of connections) connection.halfOpen()
      }),
    slow: (millis) =>
      Effect.sync(() => {
        faults.slowUntil = performance.now() + millis
      }),
    resetInAnswer: () =>
      Effect.sync(() => {
        faults.resetsInAnswer++
      }),
    late: (millis) =>
      Effect.sync(() => {
        faults.late.push(millis)
      }),
    met: faults.met,
  }
})
