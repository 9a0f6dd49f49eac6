/** Both clients, and one as simple as a browser's, as readers of a session. */
import * as Plain from "@throughline/client"
import type { SessionItem } from "@throughline/client"
import type { SessionId } from "@throughline/core/Envelope"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Law from "../Law.ts"
import * as EventSource from "./httpEventSource.ts"
import { type Kind, nameOf } from "./httpReader.ts"
import * as World from "./httpWorld.ts"

/** What a reader received so far. */
export interface Seen {
  readonly kind: Kind
  /** Runs and seqs, in the order in which they came. */
  readonly events: Array<string>
  readonly cursors: Array<string>
  caughtUp: number
  /** `open`, or the name of the failure as the protocol has it. */
  end: string
}

export interface Options {
  readonly after?: string | undefined
  readonly fetch?: typeof globalThis.fetch | undefined
}

/** An event as readers are compared by it. */
export const placeOf = (runId: string, seq: number): string => `${runId} ${seq}`

const take = (seen: Seen, item: { readonly _tag: string }): void => {
  // The items of both clients are the same, but for the types of their ids.
  const taken = item as SessionItem
  if (taken._tag === "CaughtUp") seen.caughtUp++
  if (taken._tag !== "Event") return
  seen.events.push(placeOf(taken.envelope.runId, taken.envelope.seq))
  seen.cursors.push(taken.cursor)
}

const plain = (url: string, seen: Seen, { after, fetch }: Options) =>
  Effect.promise(async (signal) => {
    try {
      const items = Plain.sessionEvents(url, {
        after,
        fetch,
        signal,
        attempts: World.attempts,
        backoff: () => World.pause,
        idleTimeout: World.idleTimeout,
      })
      for await (const item of items) take(seen, item)
    } catch (error) {
      if (!signal.aborted) seen.end = error instanceof Plain.RunError ? error.code : String(error)
    }
  })

const effect = Effect.fnUntraced(function* (sessionId: SessionId, seen: Seen, { after, fetch }: Options) {
  const client = yield* World.client(fetch)
  const exit = yield* client.session(sessionId, { after }).pipe(
    Stream.runForEach((item) => Effect.sync(() => take(seen, item))),
    Effect.exit,
  )
  if (Exit.isSuccess(exit)) seen.end = "ended"
  else {
    const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    seen.end = error?._tag === "Refused" ? error.name : Cause.pretty(exit.cause)
  }
})

const believe = (seen: Seen, { data, event, id = "" }: EventSource.Frame): boolean => {
  if (event === "message") {
    const { runId, seq } = JSON.parse(data) as { readonly runId: string; readonly seq: number }
    seen.events.push(placeOf(runId, seq))
    seen.cursors.push(id)
    // Each connection says it.
  } else if (event === "caught-up") seen.caughtUp = 1
  else if (event === "failed") seen.end = nameOf(data)
  return seen.end === "open"
}

const simple = (url: string, seen: Seen, { after, fetch = globalThis.fetch }: Options) =>
  Effect.promise(async (signal) => {
    try {
      const answer = await EventSource.read(after === undefined ? url : `${url}?${new URLSearchParams({ after })}`, {
        fetch,
        signal,
        pause: World.pause,
        take: (frame) => believe(seen, frame),
      })
      if (answer !== undefined) seen.end = answer.status === 204 ? "ended" : nameOf(await answer.text())
    } catch (error) {
      if (!signal.aborted) seen.end = String(error)
    }
  })

const reading = (kind: Kind, url: string, sessionId: SessionId, seen: Seen, options: Options) => {
  switch (kind) {
    case "runEvents":
      return plain(url, seen, options)
    case "RunClient":
      return effect(sessionId, seen, options)
    case "EventSource":
      return simple(url, seen, options)
  }
}

/** Follows a session until the scope closes; what it received fills in as it comes. */
export const follow = Effect.fnUntraced(function* (kind: Kind, sessionId: SessionId, options: Options = {}) {
  const { url } = yield* World.HttpUnderTest
  const seen: Seen = { kind, events: [], cursors: [], caughtUp: 0, end: "open" }
  const at = `${url.replace(/\/$/, "")}/sessions/${sessionId}/events`
  yield* Effect.forkScoped(reading(kind, at, sessionId, seen, options), { startImmediately: true })
  return seen
})

/** Breaks the law unless the reader received `expected`, once each, in order, and goes on. */
export const sawAll = Effect.fnUntraced(function* (seen: Seen, expected: ReadonlyArray<string>, what: string) {
  const isDone = () => seen.end !== "open" || seen.events.length >= expected.length
  yield* World.until(`${expected.length} events of ${seen.kind} ${what}: it has ${seen.events.length}`, isDone)
  yield* Law.same(`how ${seen.kind} ${what} stands`, seen.end, "open")
  yield* Law.same(`what ${seen.kind} ${what} received`, [...seen.events], [...expected])
  yield* World.until(`word that ${seen.kind} ${what} caught up`, () => seen.caughtUp > 0)
  yield* Law.same(`how often ${seen.kind} ${what} was told that it caught up`, seen.caughtUp, 1)
})
