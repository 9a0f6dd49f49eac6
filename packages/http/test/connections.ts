/** Connections of bytes, and what a server has waiting for them. */
import * as Effect from "effect/Effect"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import type { ServerResponse } from "node:http"
import { connect, type Socket } from "node:net"
import type { Served } from "./serving.ts"

/** A connection of bytes. */
export const raw = (server: Pick<Served, "port">, text: string) =>
  Effect.acquireRelease(
    Effect.callback<Socket, Error>((resume) => {
      const socket = connect(server.port, "127.0.0.1", () => {
        socket.write(text)
        resume(Effect.succeed(socket))
      })
      socket.on("error", (error) => resume(Effect.fail(error)))
    }),
    (socket) => Effect.sync(() => socket.destroy()),
  )

/** All that a connection says until the server closes it. */
export const said = (socket: Socket) =>
  Effect.callback<string>((resume) => {
    let text = ""
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString()
    })
    socket.on("close", () => resume(Effect.succeed(text)))
  })

/** Waits until a connection has been told something. */
export const answered = (socket: Socket) =>
  Effect.callback<void>((resume) => {
    socket.once("data", () => resume(Effect.void))
  })

export const eventually = <E = never>(holds: () => Effect.Effect<boolean, E>) =>
  Effect.gen(function* () {
    while (!(yield* holds())) yield* Effect.sleep("5 millis")
  })

/** The responses of this process's servers, from now on. */
export const responsesServed = Effect.acquireRelease(
  Effect.sync(() => {
    const responses: Array<ServerResponse> = []
    const onStart = (message: unknown) => responses.push((message as { readonly response: ServerResponse }).response)
    subscribe("http.server.request.start", onStart)
    return { responses, onStart }
  }),
  ({ onStart }) => Effect.sync(() => unsubscribe("http.server.request.start", onStart)),
).pipe(Effect.map(({ responses }) => responses))

/** How many of them were dropped with bytes that nobody took. */
export const droppedOf = (responses: ReadonlyArray<ServerResponse>): number =>
  responses.filter(({ destroyed, writableFinished }) => destroyed && !writableFinished).length
