/**
 * Where a stream's bytes leave the process: the one seam between the routes and the platform's socket.
 *
 * `HttpServerResponse.stream` can't tell how long a socket has taken nothing, can't say why it closes, and copies what
 * many clients get; so streams write to Node's response themselves.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { ServerResponse } from "node:http"

export class Outlet {
  /** Whether bytes wait for a socket that doesn't take them. */
  stalled = false
  #onDrain: (() => void) | undefined = undefined
  readonly #response: ServerResponse

  constructor(request: HttpServerRequest) {
    // HTTP/2 responses have the same methods.
    this.#response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    this.#response.on("drain", () => {
      this.stalled = false
      this.#onDrain?.()
    })
  }

  /** Whether more can be written, and somebody may still read it. */
  get isOpen(): boolean {
    return !this.#response.destroyed && !this.#response.writableEnded
  }

  /** Whether everything was handed to the system, or the connection is gone. */
  get isDone(): boolean {
    return this.#response.destroyed || this.#response.writableFinished
  }

  head(headers: Readonly<Record<string, string>>): void {
    if (this.isOpen) this.#response.writeHead(200, headers)
  }

  /** False: the socket is full, wait for {@link drained} before the next write. */
  write(bytes: Uint8Array): boolean {
    if (!this.isOpen || this.#response.write(bytes)) return true
    this.stalled = true
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

  end(bytes?: Uint8Array): void {
    if (!this.isOpen) return
    if (bytes === undefined) this.#response.end()
    else this.#response.end(bytes)
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
