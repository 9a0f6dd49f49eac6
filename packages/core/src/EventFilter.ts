/**
 * Filters over envelope fields: which runs, which sessions. Empty means any.
 *
 * A filter compiles once to a predicate and to the scope its cursors are cut for. The same meaning gives the same
 * scope, whatever order the filter was written in.
 */
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ArchiveScope } from "./Cursor.ts"
import { type Routing, RunId, SessionId } from "./Envelope.ts"

/** Which envelopes: every field that is given must match; an absent or empty field matches any. */
export const EventFilter = Schema.Struct({
  runIds: Schema.optional(Schema.Array(RunId)),
  sessionIds: Schema.optional(Schema.Array(SessionId)),
})
export type EventFilter = typeof EventFilter.Type

/** A filter ready to match. */
export interface CompiledFilter {
  /** Sorted, without doubles; `undefined` matches any. */
  readonly runIds: ReadonlyArray<RunId> | undefined
  readonly sessionIds: ReadonlyArray<SessionId> | undefined
  readonly matches: (envelope: Routing) => boolean
  readonly scope: ArchiveScope
}

/** The filter that matches everything. */
export const all: EventFilter = {}

const canonical = <A extends string>(ids: ReadonlyArray<A> | undefined): ReadonlyArray<A> | undefined =>
  ids === undefined || ids.length === 0 ? undefined : [...new Set(ids)].toSorted()

/** Compiles a filter; the scope of a filter that is neither "all" nor one session is its SHA-256 fingerprint. */
export const compile = Effect.fnUntraced(function* (filter: EventFilter) {
  const runIds = canonical(filter.runIds)
  const sessionIds = canonical(filter.sessionIds)
  const runSet = runIds && new Set<string>(runIds)
  const sessionSet = sessionIds && new Set<string>(sessionIds)
  const compiled: CompiledFilter = {
    runIds,
    sessionIds,
    matches: (envelope) =>
      (runSet === undefined || runSet.has(envelope.runId)) &&
      (sessionSet === undefined || (envelope.sessionId !== undefined && sessionSet.has(envelope.sessionId))),
    scope: yield* scopeOf(runIds, sessionIds),
  }
  return compiled
})

const scopeOf = Effect.fnUntraced(function* (
  runIds: ReadonlyArray<RunId> | undefined,
  sessionIds: ReadonlyArray<SessionId> | undefined,
) {
  if (runIds === undefined && sessionIds === undefined) return { kind: "All", id: "" } satisfies ArchiveScope
  if (runIds === undefined && sessionIds?.length === 1) {
    return { kind: "Session", id: sessionIds[0]! } satisfies ArchiveScope
  }
  const digest = yield* Digest.Digest
  const text = JSON.stringify([runIds ?? null, sessionIds ?? null])
  return {
    kind: "Filter",
    id: yield* digest.digestHex(Digest.sha256, new TextEncoder().encode(text)),
  } satisfies ArchiveScope
})
