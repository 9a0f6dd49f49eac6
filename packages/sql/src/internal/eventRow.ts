/** An event's row: what an `EncodedEnvelope` is stored as, beside what its run's row says. */
import { EncodedEnvelope, type RunId, type SessionId } from "@throughline/core/Envelope"
import { CorruptRecord } from "@throughline/core/EventStoreError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { SqlDialect } from "../SqlDialect.ts"

/** A row as an array in the order of the columns: a page of them takes two thirds of the time of a page of objects. */
export type EventRow = ReadonlyArray<unknown>

const stored = [
  "seq",
  "event_id",
  "agent_id",
  "provider",
  "turn_id",
  "kind",
  "delivery",
  "ends_run",
  "emitted_at",
  "tags",
  "correlation",
  "event",
]

/** The columns that an insert writes. */
export const inserted = ["position", "run_key", ...stored]

/**
 * What {@link decode} reads: position, the stored columns, and whether the event's text is JSON. The text isn't parsed
 * here; the database looks through it, so that no reader hands on a text that isn't JSON.
 */
export const columns = (dialect: SqlDialect, alias: string): string =>
  [...["position", ...stored].map((name) => `${alias}.${name}`), dialect.isJson(`${alias}.event`)].join(", ")

/** How many columns {@link columns} has. */
export const width = stored.length + 2

/** What an event's row needs from its run. */
export interface Run {
  readonly runId: RunId
  readonly sessionId: SessionId | undefined
  readonly schemaVersion: number
}

const decodeEnvelope = Schema.decodeUnknownResult(EncodedEnvelope)

/** The values of an envelope in the order of {@link inserted}. */
export const encode = (into: Array<unknown>, envelope: EncodedEnvelope, position: number, runKey: number): void => {
  into.push(
    position,
    runKey,
    envelope.seq,
    envelope.eventId,
    envelope.agentId ?? null,
    envelope.provider ?? null,
    envelope.turnId ?? null,
    envelope.kind,
    envelope.delivery,
    envelope.endsRun ?? null,
    envelope.emittedAt,
    envelope.tags.length === 0 ? null : JSON.stringify(envelope.tags),
    isEmpty(envelope.correlation) ? null : JSON.stringify(envelope.correlation),
    envelope.event,
  )
}

const isEmpty = (record: Readonly<Record<string, string>>): boolean => {
  for (const _ in record) return false
  return true
}

const optional = (key: string, value: unknown) => (value === null ? undefined : { [key]: value })

/** What isn't text is left for the schema to refuse. */
const parsed = (text: unknown, empty: unknown): unknown =>
  text === null ? empty : typeof text === "string" ? JSON.parse(text) : text

/** SQLite calls JSON that is nested deeper than 1,000 levels no JSON. */
const isDeepJson = (text: unknown): boolean => {
  try {
    if (typeof text === "string") JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The envelope of a row. */
export const decode = (row: EventRow, run: Run): Result.Result<EncodedEnvelope, CorruptRecord> => {
  const [
    ,
    seq,
    eventId,
    agentId,
    provider,
    turnId,
    kind,
    delivery,
    endsRun,
    emittedAt,
    tags,
    correlation,
    event,
    isJson,
  ] = row
  const corrupt = (problem: string) =>
    Result.fail(new CorruptRecord({ runId: run.runId, seq: Number.isSafeInteger(seq) ? (seq as number) : 0, problem }))
  if (isJson !== 1 && !isDeepJson(event)) return corrupt("its event is not JSON")
  try {
    const envelope = decodeEnvelope({
      eventId,
      seq,
      runId: run.runId,
      ...(run.sessionId === undefined ? undefined : { sessionId: run.sessionId }),
      ...optional("agentId", agentId),
      ...optional("provider", provider),
      ...optional("turnId", turnId),
      kind,
      delivery,
      ...optional("endsRun", endsRun),
      emittedAt,
      tags: parsed(tags, noTags),
      correlation: parsed(correlation, noCorrelation),
      schemaVersion: run.schemaVersion,
      event,
    })
    return Result.isFailure(envelope) ? corrupt(String(envelope.failure)) : Result.succeed(envelope.success)
  } catch (cause) {
    return corrupt(`its tags or correlation are not JSON (${String(cause)})`)
  }
}

const noTags: ReadonlyArray<string> = []
const noCorrelation: Readonly<Record<string, string>> = {}
