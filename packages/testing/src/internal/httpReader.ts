/** Both clients, and one as simple as a browser's, as one reader: what each received, and how it ended. */
import type { RunItem } from "@throughline/client"
import * as Plain from "@throughline/client"
import type { Envelope, RunId } from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as EventSource from "./httpEventSource.ts"
import * as Faults from "./httpFaults.ts"
import * as World from "./httpWorld.ts"

export type Kind = "runEvents" | "RunClient" | "EventSource"

export const kinds: ReadonlyArray<Kind> = ["runEvents", "RunClient", "EventSource"]

export const arbitraryKind: Arbitrary.Arbitrary<Kind> = Generator.weighted([
  [1, "runEvents"],
  [1, "RunClient"],
  [1, "EventSource"],
])

/** What a reader received so far. */
export interface Seen {
  readonly kind: Kind
  readonly envelopes: Array<Envelope<unknown>>
  readonly cursors: Array<string>
  readonly caughtUp: Array<number>
  /** `open`, `ended`, or the name of the failure as the protocol has it. */
  end: string
  problem: string
  /** An `end` was received; only the simple one looks at it. */
  saidToEnd: boolean
}

export interface Options {
  readonly after?: string | number | undefined
  readonly fetch?: typeof globalThis.fetch | undefined
  readonly kinds?: ReadonlyArray<string> | undefined
}

const names: Readonly<Record<string, string>> = {
  RunUnknown: "run-unknown",
  RunRemoved: "run-removed",
  CursorAhead: "cursor-ahead",
  CursorStale: "cursor-stale",
  InvalidCursor: "invalid-cursor",
}

const take = (seen: Seen, item: { readonly _tag: string }): void => {
  // The items of both clients are the same, but for the types of their ids.
  const taken = item as RunItem
  if (taken._tag === "CaughtUp") seen.caughtUp.push(taken.head)
  if (taken._tag !== "Event") return
  seen.envelopes.push(taken.envelope as Envelope<unknown>)
  seen.cursors.push(taken.cursor)
}

const plain = (url: string, runId: RunId, seen: Seen, { after, fetch, kinds: only }: Options) =>
  Effect.promise(async (signal) => {
    const query = only === undefined ? "wait" : `wait&kinds=${only.join(",")}`
    try {
      const items = Plain.runEvents(`${url.replace(/\/$/, "")}/runs/${runId}/events?${query}`, {
        after,
        fetch,
        signal,
        attempts: World.attempts,
        backoff: () => World.pause,
        idleTimeout: World.idleTimeout,
      })
      for await (const item of items) take(seen, item)
      seen.end = "ended"
    } catch (error) {
      if (signal.aborted) return
      seen.end = error instanceof Plain.RunError ? error.code : "a defect"
      seen.problem = String(error)
    }
  })

const effect = Effect.fnUntraced(function* (runId: RunId, seen: Seen, { after, fetch, kinds: only }: Options) {
  const client = yield* World.client(fetch)
  const exit = yield* client.run(runId, { after, kinds: only, wait: true }).pipe(
    Stream.runForEach((item) => Effect.sync(() => take(seen, item))),
    Effect.exit,
  )
  if (Exit.isSuccess(exit)) {
    seen.end = "ended"
    return
  }
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  seen.end =
    error === undefined ? "a defect" : error._tag === "Refused" ? error.name : (names[error._tag] ?? error._tag)
  seen.problem = Cause.pretty(exit.cause)
})

/** A `fetch` for a reader's requests, whose connections fail by a plan. */
export const through = (kind: Kind, faults: ReadonlyArray<Faults.ReadFault>, reached: (fault: string) => void) =>
  Faults.reading(kind === "EventSource" ? faults.map(Faults.heard) : faults, reached)

/** The name of a problem. */
export const nameOf = (text: string): string => {
  const problem = JSON.parse(text) as { readonly type: string }
  return problem.type.slice(problem.type.lastIndexOf(":") + 1)
}

/** Takes a frame for what it says; whether to go on. */
const believe = (seen: Seen, { data, event, id = "" }: EventSource.Frame): boolean => {
  if (event === "message") {
    if (seen.saidToEnd) seen.end = "events after the end"
    seen.envelopes.push(JSON.parse(data) as Envelope<unknown>)
    seen.cursors.push(id)
  } else if (event === "caught-up" && seen.caughtUp.length === 0) {
    // Each connection says it.
    seen.caughtUp.push((JSON.parse(data) as { readonly head: number }).head)
  } else if (event === "end") seen.saidToEnd = true
  else if (event === "failed") seen.end = nameOf(data)
  return seen.end === "open"
}

const simple = (url: string, runId: RunId, seen: Seen, options: Options) =>
  Effect.promise(async (signal) => {
    const query = new URLSearchParams({ wait: "" })
    if (options.after !== undefined) query.set("after", String(options.after))
    if (options.kinds !== undefined) query.set("kinds", options.kinds.join(","))
    try {
      const answer = await EventSource.read(`${url.replace(/\/$/, "")}/runs/${runId}/events?${query}`, {
        fetch: options.fetch ?? globalThis.fetch,
        signal,
        pause: World.pause,
        take: (frame) => believe(seen, frame),
      })
      if (answer === undefined) return
      if (answer.status !== 204) seen.end = nameOf(await answer.text())
      else {
        // That nothing follows says it, too.
        if (seen.caughtUp.length === 0) seen.caughtUp.push(seen.envelopes.at(-1)?.seq ?? 0)
        seen.end = "ended"
      }
    } catch (error) {
      if (signal.aborted) return
      seen.end = "a defect"
      seen.problem = String(error)
    }
  })

const reading = (kind: Kind, url: string, runId: RunId, seen: Seen, options: Options) => {
  switch (kind) {
    case "runEvents":
      return plain(url, runId, seen, options)
    case "RunClient":
      return effect(runId, seen, options)
    case "EventSource":
      return simple(url, runId, seen, options)
  }
}

/** Follows a run until it ends or the scope closes; what it received fills in as it comes. */
export const follow = Effect.fnUntraced(function* (kind: Kind, runId: RunId, options: Options = {}) {
  const { url } = yield* World.HttpUnderTest
  const seen: Seen = { kind, envelopes: [], cursors: [], caughtUp: [], end: "open", problem: "", saidToEnd: false }
  yield* Effect.forkScoped(reading(kind, url, runId, seen, options), { startImmediately: true })
  return seen
})

/** Breaks the law unless the reader received `expected`, once each, in order, was told once that it caught up, and ended. */
export const sawAll = Effect.fnUntraced(function* (
  seen: Seen,
  expected: ReadonlyArray<Envelope<unknown>>,
  what: string,
) {
  yield* World.until(
    `end of ${seen.kind} ${what}: it has ${seen.envelopes.length} of ${expected.length} events`,
    () => seen.end !== "open",
  )
  yield* Law.holds(seen.end === "ended", () => `${seen.kind} ${what} failed: ${seen.end} ${seen.problem}`)
  yield* Law.same(`what ${seen.kind} ${what} received`, [...seen.envelopes], [...expected])
  const places = seen.cursors.map((cursor) => Number.parseInt(cursor, 10))
  yield* Law.same(
    `the cursors of ${seen.kind} ${what}`,
    places,
    expected.map(({ seq }) => seq),
  )
  yield* Law.holds(
    seen.caughtUp.length === 1,
    () => `${seen.kind} ${what} was told ${seen.caughtUp.length} times that it caught up`,
  )
})
