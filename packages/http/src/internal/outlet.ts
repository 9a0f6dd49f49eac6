/**
 * Where a stream's bytes leave the process: the one seam between the routes and the platform's socket.
 *
 * `HttpServerResponse.stream` can't tell how long a socket has taken nothing, can't say why it closes, and copies what
 * many clients get; so streams write to Node's response themselves. Over HTTP/1.1 they write chunks, which are made once
 * for all clients, to its socket: the response would make each client's own, in three writes.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { ServerResponse } from "node:http"
import type { Socket } from "node:net"
import * as Chunk from "./chunk.ts"

const waits = (response: ServerResponse): boolean => response.writableLength > 0

/**
 * Calls back when bytes of a response have waited for so long, and the system took none of them: it counts when it takes a
 * part of a write, which a socket tells its timeout alone.
 */
export const onStuck = (response: ServerResponse, milliseconds: number, stuck: () => void): void => {
  response.setTimeout(milliseconds)
  response.on("timeout", () => {
    if (!waits(response)) return
    stuck()
    // Only bytes that the system takes begin it anew.
    if (!response.destroyed) response.setTimeout(milliseconds)
  })
}

export class Outlet {
  /** Whether bytes wait for a socket that doesn't take them. */
  stalled = false
  #onDrain: (() => void) | undefined = undefined
  /** What chunks are written to; without it their content goes through the response. */
  #socket: Socket | undefined = undefined
  readonly #response: ServerResponse

  constructor(request: HttpServerRequest) {
    // HTTP/2 responses have the same methods.
    this.#response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
  }

  /** Whether more can be written, and somebody may still read it. */
  get isOpen(): boolean {
    return !this.#response.destroyed && !this.#response.writableEnded
  }

  /** Whether everything was handed to the system, or the connection is gone. */
  get isDone(): boolean {
    return this.#response.destroyed || this.#response.writableFinished
  }

  /** Whether bytes wait in this process. */
  get waits(): boolean {
    return waits(this.#response)
  }

  /** Calls back when bytes have waited for so long, as {@link onStuck} does. */
  onStuck(milliseconds: number, stuck: () => void): void {
    onStuck(this.#response, milliseconds, stuck)
  }

  /** Sends the head, and a first chunk with it. */
  begin(headers: Readonly<Record<string, string>>, first: Chunk.Chunk): void {
    if (!this.isOpen) return
    const response = this.#response
    const { socket } = response
    socket?.cork()
    response.writeHead(200, headers)
    response.flushHeaders()
    // Without a socket it waits for the responses before it; HTTP/1.0 and HTTP/2 have no chunks.
    if (response.chunkedEncoding && socket !== null) this.#socket = socket
    this.write(first)
    socket?.uncork()
  }

  /** False: the socket is full, wait for {@link drained} before the next write. */
  write(chunk: Chunk.Chunk): boolean {
    if (!this.isOpen) return true
    const socket = this.#socket
    if (socket === undefined ? this.#response.write(Chunk.contentOf(chunk)) : socket.write(chunk)) return true
    if (this.stalled) return false
    this.stalled = true
    ;(socket ?? this.#response).once("drain", () => {
      this.stalled = false
      this.#onDrain?.()
    })
    return false
  }

  /** Returns once the socket has taken what was written; never where it doesn't, so it must be interrupted. */
  drained(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (!this.stalled) return resume(Effect.void)
      this.#onDrain = () => {
        this.#onDrain = undefined
        resume(Effect.void)
      }
      return Effect.sync(() => {
        this.#onDrain = undefined
      })
    })
  }

  end(last?: Chunk.Chunk): void {
    if (!this.isOpen) return
    if (last !== undefined) this.write(last)
    this.#response.end()
    if (!this.isDone) this.stalled = true
  }

  /** Ends the connection too, once all is sent. */
  endConnection(): void {
    const { socket } = this.#response
    if (this.isDone) socket?.end()
    else this.#response.once("finish", () => socket?.end())
  }

  /** Returns once all is sent, or the connection is gone. */
  done(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.isDone) return resume(Effect.void)
      const onDone = () => resume(Effect.void)
      this.#response.once("finish", onDone)
      this.#response.once("close", onDone)
      return Effect.sync(() => {
        this.#response.off("finish", onDone)
        this.#response.off("close", onDone)
      })
    })
  }

  /** Drops the connection, whatever still waits to be sent. */
  destroy(): void {
    this.#response.destroy()
  }
}
