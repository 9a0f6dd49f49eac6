/**
 * What waits for sockets to take it: a connection has one answer at a time, and the bytes of pages are bounded, those of one
 * client and all of them. A client may ask for much more than it reads.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Semaphore from "effect/Semaphore"
import type { ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Bounds } from "../Bounds.ts"
import * as Problem from "../Problem.ts"
import { onStuck } from "./outlet.ts"

/** Pages that are made at once: their bytes are known only then, so the bounds may be passed by as many. */
const madeAtOnce = 16

const patience = "10 seconds"

export interface Waiting {
  /** Returns once the connection has sent the answers to what was asked on it before. */
  readonly turn: (request: HttpServerRequest) => Effect.Effect<void, Problem.Refused>
  /** Makes a page for a client, and counts its bytes until they are sent. */
  readonly page: (
    client: string,
    request: HttpServerRequest,
    made: Effect.Effect<HttpServerResponse, Problem.Refused>,
  ) => Effect.Effect<HttpServerResponse, Problem.Refused>
}

// HTTP/2 responses have the same methods, and a socket from the start.
const responseOf = (request: HttpServerRequest) => NodeHttpServerRequest.toServerResponse(request) as ServerResponse

/** Ends the wait when Node hands the connection on, which it does once what was before is sent. */
const handedOn = (response: ServerResponse) =>
  Effect.callback<void>((resume) => {
    const go = () => resume(Effect.void)
    const giveUp = () => resume(Effect.interrupt)
    response.once("socket", go)
    response.once("close", giveUp)
    return Effect.sync(() => {
      response.off("socket", go)
      response.off("close", giveUp)
    })
  })

const tooManyAhead = (ahead: number) =>
  new Problem.Refused({
    name: "too-many-requests",
    detail: `more than ${ahead} requests of this connection wait for the answer to the one before`,
    retryAfter: 1,
    isLast: true,
  })

const tooMuchWaiting = (whose: string, bytes: number) =>
  Problem.later(
    "too-many-requests",
    `${bytes} bytes of pages wait to be read by ${whose}, which is the most there may be`,
  )

export const make = (
  bounds: Pick<Bounds, "ahead" | "waitingBytes" | "waitingBytesPerClient" | "slow" | "pageTimeout">,
): Waiting => {
  const slow = Duration.toMillis(Duration.fromInputUnsafe(bounds.slow))
  const ahead = new WeakMap<Socket, number>()
  const making = Semaphore.makeUnsafe(madeAtOnce)
  const perClient = new Map<string, number>()
  let waiting = 0

  const turn = (request: HttpServerRequest) =>
    Effect.suspend(() => {
      // `undefined` of another platform's requests.
      const response: ServerResponse | undefined = responseOf(request)
      if (response === undefined) return Effect.die(new Error("the routes work on Node's HTTP servers alone"))
      // Nobody would be told that its client is gone, as that was told before.
      if (response.destroyed) return Effect.interrupt
      if (response.socket !== null) return Effect.void
      const { socket } = response.req
      if (socket.destroyed) return Effect.interrupt
      const count = (by: number) => {
        ahead.set(socket, (ahead.get(socket) ?? 0) + by)
      }
      if ((ahead.get(socket) ?? 0) >= bounds.ahead) return Effect.fail(tooManyAhead(bounds.ahead))
      count(1)
      return Effect.ensuring(
        handedOn(response),
        Effect.sync(() => count(-1)),
      )
    })

  const add = (client: string, bytes: number) => {
    waiting += bytes
    const own = (perClient.get(client) ?? 0) + bytes
    if (own === 0) perClient.delete(client)
    else perClient.set(client, own)
  }

  const refusal = (client: string): Problem.Refused | undefined => {
    const { waitingBytes, waitingBytesPerClient } = bounds
    if (waiting >= waitingBytes) return tooMuchWaiting("all clients", waitingBytes)
    return (perClient.get(client) ?? 0) >= waitingBytesPerClient
      ? tooMuchWaiting("this client", waitingBytesPerClient)
      : undefined
  }

  /** Counts the bytes of a page until they are sent, or its reader has had the time for it. */
  const count = (client: string, response: ServerResponse, bytes: number) => {
    const drop = () => response.destroy()
    return Effect.map(Effect.forkDetach(Effect.delay(Effect.sync(drop), bounds.pageTimeout)), (deadline) => {
      if (response.destroyed) return deadline.interruptUnsafe()
      add(client, bytes)
      // A server's own timeout, where it has one, may be shorter.
      onStuck(response, Math.min(slow, response.socket?.timeout || slow), drop)
      response.once("close", () => {
        add(client, -bytes)
        deadline.interruptUnsafe()
      })
    })
  }

  const page: Waiting["page"] = (client, request, made) =>
    Effect.suspend(() => {
      const refused = refusal(client)
      if (refused !== undefined) return Effect.fail(refused)
      return Effect.flatMap(made, (answer) => {
        const { body } = answer
        const bytes = "contentLength" in body ? body.contentLength : undefined
        return bytes === undefined
          ? Effect.succeed(answer)
          : Effect.as(count(client, responseOf(request), bytes), answer)
      })
    }).pipe(
      Semaphore.withPermit(making),
      // Behind others that the store leaves without an answer.
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.fail(Problem.later("store-unavailable", "the store did not answer")),
      }),
    )

  return { turn, page }
}
