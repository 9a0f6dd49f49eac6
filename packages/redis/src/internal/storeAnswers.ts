/** What the scripts' answers mean: frames, envelopes and heads, and the port's errors. */
import * as AppendRules from "@throughline/core/AppendRules"
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope, EncodedEvent, Frame, RunId, SessionId } from "@throughline/core/Envelope"
import type { AppendError, AppendRequest, AppendResult, Page } from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import type { RunHead } from "@throughline/core/RunHead"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type RedisFailed, toStoreReason } from "../RedisFailed.ts"
import * as eventRecord from "./eventRecord.ts"
import * as position from "./position.ts"
import * as storeScripts from "./storeScripts.ts"

export const appendFailed = (runId: RunId | undefined, reason: StoreError.StoreReason): StoreError.AppendFailed =>
  new StoreError.AppendFailed({ ...(runId === undefined ? undefined : { runId }), reason })

export const readFailed =
  (runId: RunId | undefined) =>
  (error: RedisFailed): StoreError.ReadFailed =>
    new StoreError.ReadFailed({ ...(runId === undefined ? undefined : { runId }), reason: toStoreReason(error) })

/** These errors of append can't be answers to a step that sends no producer. */
export const unconfirmed = (error: StoreError.DurabilityUnconfirmed | RedisFailed): StoreError.AppendFailed =>
  error._tag === "RedisFailed"
    ? appendFailed(undefined, toStoreReason(error))
    : appendFailed(error.runId, new StoreError.StoreUnavailable({ detail: error.message }))

/** A run of which Redis has something left, and not all. */
export const evicted = (runId: RunId): StoreError.StoreBroken =>
  new StoreError.StoreBroken({
    detail: `keys of run ${runId} were evicted by Redis or deleted by hand; remove the run to write it again`,
  })

export const framesOf = (
  runId: RunId,
  events: ReadonlyArray<EncodedEvent>,
  { entry, firstSeq, generation, keptFrom, sessionId, vocabulary }: storeScripts.Stored,
): AppendResult["frames"] => {
  const schemaVersion = vocabulary.version
  const firstPosition = entry === "-" ? undefined : position.firstOf(entry)
  return events.map((event, index): Frame => {
    const seq = firstSeq + index
    const envelope: EncodedEnvelope =
      sessionId === undefined
        ? { ...event, seq, runId, schemaVersion }
        : { ...event, seq, runId, sessionId, schemaVersion }
    const cursor = Cursor.run(seq, generation)
    // What was trimmed since it was stored has no position any more.
    return firstPosition === undefined || (keptFrom !== undefined && seq < keptFrom)
      ? { _tag: "Frame", envelope, cursor }
      : { _tag: "Frame", envelope, cursor, position: firstPosition + index }
  })
}

/** Whether an answer says that something is stored. */
export const isStored = (answer: string | readonly [string, ...ReadonlyArray<unknown>]): boolean =>
  typeof answer === "string" || answer[0] === "stored"

type AppendAnswer =
  ReturnType<ReturnType<typeof storeScripts.make>["append"]["decode"]> extends Result.Result<infer A, unknown>
    ? A
    : never

/** The place that an append expects the head at, as text. */
export const expectedHead = ({ expectedGeneration, expectedSeq }: AppendRequest): string | undefined =>
  expectedSeq === undefined || expectedGeneration === undefined
    ? expectedSeq?.toString()
    : Cursor.run(expectedSeq, expectedGeneration)

/** What was expected of a run's head, and the answer that tells what it is. */
export const seqConflict = (
  runId: RunId,
  { expectedGeneration, expectedSeq = 0 }: Pick<AppendRequest, "expectedGeneration" | "expectedSeq">,
  [, headSeq, generation]: readonly ["conflict", number, string],
): StoreError.SeqConflict =>
  new StoreError.SeqConflict({
    runId,
    expectedSeq,
    ...(expectedGeneration === undefined ? undefined : { expectedGeneration }),
    headSeq,
    ...(generation === "" ? undefined : { generation }),
  })

/** The error of an answer that isn't a success. */
export const refusal = (request: AppendRequest, answer: Exclude<AppendAnswer, string>): AppendError => {
  const { producer, runId, sessionId, vocabulary } = request
  const by = { runId, producerId: producer?.id ?? "", epoch: producer?.epoch ?? 0 }
  const number = producer?.number ?? 0
  switch (answer[0]) {
    case "fenced":
      return new StoreError.ProducerFenced({ ...by, currentEpoch: answer[1] })
    case "mismatch":
      return new StoreError.ProducerMismatch({ ...by, number })
    case "stale":
      return new StoreError.ProducerStale({ ...by, number, lastNumber: answer[1] })
    case "gap":
      return new StoreError.ProducerGap({ ...by, number, expectedNumber: answer[1] })
    case "ended":
      return new StoreError.RunEnded({ runId, endSeq: answer[1], ending: answer[2] })
    case "conflict":
      return seqConflict(runId, request, answer)
    case "session": {
      const stored = answer[1] === "*" ? undefined : { stored: answer[1] as SessionId }
      return new StoreError.SessionConflict({ runId, given: sessionId!, ...stored })
    }
    case "vocabulary": {
      const stored = storeScripts.parseVocabulary(answer[1])
      return stored === undefined
        ? appendFailed(runId, new StoreError.StoreBroken({ detail: `the vocabulary of run ${runId} can't be decoded` }))
        : new StoreError.VocabularyMismatch({ runId, stored, given: vocabulary })
    }
    case "producer":
      return appendFailed(runId, new StoreError.StoreBroken({ detail: `producer ${by.producerId} can't be decoded` }))
    case "evicted":
    case "new":
      return appendFailed(runId, evicted(runId))
  }
}

export const stateOf = (runId: RunId, head: storeScripts.Head): AppendRules.RunState | undefined => {
  const [, identity, firstSeq, lastSeq, ending, startedAt, lastActivityAt, version, expires] = head
  const parsed = storeScripts.parseIdentity(identity)
  return parsed === undefined
    ? undefined
    : {
        runId,
        ...parsed,
        firstSeq,
        lastSeq,
        ending: ending ?? undefined,
        startedAt,
        lastActivityAt,
        leaseVersion: version ?? 0,
        leaseExpiresAt: expires ?? undefined,
        will: undefined,
      }
}

export const headOf = ({
  hasWill,
  state,
}: {
  readonly hasWill: boolean
  readonly state: AppendRules.RunState
}): RunHead => {
  const head = AppendRules.headOf(state)
  return head.lease === undefined ? head : { ...head, lease: { ...head.lease, hasWill } }
}

/**
 * The envelopes of a page's entries, up to the first that is corrupt or missing; that one is the failure where there is
 * nothing before it.
 */
export const envelopesOf = (
  state: AppendRules.RunState,
  firstSeq: number,
  entries: ReadonlyArray<string>,
): Result.Result<Page["envelopes"], StoreError.CorruptRecord> => {
  const run = { runId: state.runId, sessionId: state.sessionId, schemaVersion: state.vocabulary.version }
  const envelopes: Array<EncodedEnvelope> = []
  let problem: string | undefined
  for (let index = 0; index < entries.length && problem === undefined; index += 2) {
    const seq = firstSeq + envelopes.length
    if (seq > state.lastSeq) break
    if (entries[index] !== `${seq}-0`) problem = "it is missing"
    else {
      const decoded = eventRecord.decode(entries[index + 1]!, seq, run)
      if (Result.isSuccess(decoded)) envelopes.push(decoded.success)
      else problem = decoded.failure
    }
  }
  if (entries.length === 0 && firstSeq <= state.lastSeq) problem = "it is missing: evicted by Redis, or deleted by hand"
  return problem === undefined || envelopes.length > 0
    ? Result.succeed(envelopes)
    : Result.fail(new StoreError.CorruptRecord({ runId: state.runId, seq: firstSeq, problem }))
}

export const decodeProducer = Schema.decodeUnknownResult(
  Schema.TemplateLiteralParser([Schema.Int, " ", Schema.Int, " ", Schema.Int, " ", Schema.Int]),
)

export const decodeIds = Schema.decodeUnknownResult(Schema.Array(Schema.String))

const decodeTime = Schema.decodeUnknownResult(Schema.Tuple([Schema.NumberFromString, Schema.NumberFromString]))

/** The milliseconds of an answer to `TIME`. */
export const serverMillis = (reply: unknown) =>
  Result.map(decodeTime(reply), ([seconds, micros]) => seconds * 1000 + Math.floor(micros / 1000))
