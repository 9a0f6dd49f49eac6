/** `throughline ls` and `throughline rm`: the runs of a store. */
import type { RunId, SessionId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import type { RunHead, RunStatus } from "@throughline/core/RunHead"
import { timestamp } from "@throughline/core/Vocabulary"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Output, tell } from "./Output.ts"
import * as Render from "./Render.ts"
import { unknownRun } from "./Tail.ts"

export interface ListRequest {
  readonly session: SessionId | undefined
  readonly status: Exclude<RunStatus, "unknown"> | undefined
  readonly json: boolean
}

const page = 500

/** All runs that match, last started first. */
const heads = (store: EventStore["Service"], { session, status }: ListRequest) =>
  Stream.paginate(undefined as RunHead | undefined, (last) =>
    Effect.map(
      store.runs({
        sessionId: session,
        status,
        limit: page,
        before: last?.startedAt === undefined ? undefined : { runId: last.runId, startedAt: last.startedAt },
      }),
      (runs) => [runs, runs.length < page ? Option.none() : Option.some(runs.at(-1))] as const,
    ),
  )

/** Lists runs: a table, or a line of JSON each. */
export const list = Effect.fnUntraced(
  function* (request: ListRequest) {
    const store = yield* EventStore
    const output = yield* Output
    const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
    const now = yield* Clock.currentTimeMillis
    const runs = (yield* Stream.runCollect(heads(store, request))).map((head) => Render.summary(head, now, timestamp))
    if (runs.length === 0) return yield* tell("no runs")
    const lines = request.json ? runs.map((run) => JSON.stringify(run)) : Render.table(runs, Render.paint(canColor))
    yield* output.write("stdout", `${lines.join("\n")}\n`)
  },
  Effect.catchIf(
    (error) => error._tag === "OutputClosed" && error.isReaderGone,
    () => Effect.void,
  ),
)

/** Removes a run and all that is kept of it. */
export const remove = Effect.fnUntraced(function* (run: RunId) {
  const store = yield* EventStore
  if (!(yield* store.remove(run))) return yield* unknownRun(run)
})
