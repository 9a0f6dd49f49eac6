/**
 * What reading and appending over HTTP can fail with.
 *
 * Where the answer carries what an error of the store says, it is that error (`RunEnded`, `ProducerFenced`, `CursorStale` …),
 * so that a program can be moved between a store and a server; everything else is one of those here.
 */
import { InvalidCursor } from "@throughline/core/Cursor"
import { Ending, RunId, SessionId } from "@throughline/core/Envelope"
import * as StoreError from "@throughline/core/EventStoreError"
import { RunRemoved } from "@throughline/core/RunItem"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Lost, Violation } from "./internal/failure.ts"
import type { RunError as Refusal } from "./RunError.ts"

const id = <const Name extends string>(name: Name) => `@throughline/client/RunClientError/${name}` as const

/** There is no such run, or the caller may not know of it. `wait` is for runs that are to come. */
export class RunUnknown extends Schema.TaggedError<RunUnknown>(id("RunUnknown"))("RunUnknown", { runId: RunId }) {
  override get message() {
    return `there is no run ${this.runId}`
  }
}

/** What was asked for; neither where it was runs that were listed. */
const asked = { runId: Schema.optionalKey(RunId), sessionId: Schema.optionalKey(SessionId) }

export interface Asked {
  readonly runId?: RunId
  readonly sessionId?: SessionId
}

const nameOf = ({ runId, sessionId }: Asked): string =>
  runId !== undefined ? `run ${runId}` : sessionId !== undefined ? `session ${sessionId}` : "the runs"

/** The server refuses, and asking again changes nothing. */
export class Refused extends Schema.TaggedError<Refused>(id("Refused"))("Refused", {
  ...asked,
  /** The problem's name, such as `unauthorized` (PROTOCOL.md lists them); `refused` where the answer was no problem. */
  name: Schema.String,
  /** 0 where there was no answer: what would be refused wasn't asked. */
  status: Schema.Int,
  detail: Schema.String,
  /** The problem as it was sent, with fields of its own. */
  problem: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
}) {
  override get message() {
    return `${this.name} (${nameOf(this)}): ${this.detail}`
  }
}

/**
 * No connection, or none that held, for as long as the retry schedule goes on. Of an append it leaves open whether it was
 * done: the same append, with the same producer and event ids, may be made again.
 */
export class Unreachable extends Schema.TaggedError<Unreachable>(id("Unreachable"))("Unreachable", {
  ...asked,
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  override get message() {
    return `the server of ${nameOf(this)} can't be reached: ${this.detail}`
  }
}

/** Three answers in a row were not what the protocol says; `detail` tells in what way the last one wasn't. */
export class ProtocolViolation extends Schema.TaggedError<ProtocolViolation>(id("ProtocolViolation"))(
  "ProtocolViolation",
  { ...asked, detail: Schema.String },
) {
  override get message() {
    return `the server of ${nameOf(this)} breaks the protocol: ${this.detail}`
  }
}

/** How reading a run can fail. */
export type RunError =
  | RunUnknown
  | CallError
  | RunRemoved
  | InvalidCursor
  | StoreError.CursorAhead
  | StoreError.CursorStale
  | StoreError.CorruptRecord

/** How a request can fail, whatever it asks for. */
export type CallError = Refused | Unreachable | ProtocolViolation

/** How reading a page can fail. */
export type PageError = RunError | StoreError.HistoryTruncated

/** How reading a session can fail. */
export type SessionError = CallError | InvalidCursor | StoreError.CorruptRecord

/** How an append can fail, beyond an event that its vocabulary refuses. */
export type AppendError =
  | CallError
  | StoreError.RunEnded
  | StoreError.SeqConflict
  | StoreError.ProducerFenced
  | StoreError.ProducerGap
  | StoreError.ProducerStale
  | StoreError.ProducerMismatch

/** @internal What the server refused. */
export const refused = (what: Asked, { code, message, problem, status }: Refusal): Refused =>
  new Refused({
    ...what,
    name: code,
    status: status ?? 0,
    detail: problem?.detail ?? message,
    ...(problem === undefined ? undefined : { problem }),
  })

/** A field of a problem, if it is there and is what it should be. */
const field = <A>(schema: Schema.Codec<A, unknown>, { problem }: Refusal, name: string): A | undefined =>
  Option.getOrUndefined(Schema.decodeUnknownOption(schema)(problem?.[name]))

const invalidCursor = (cursor: string | undefined, { message, problem }: Refusal): InvalidCursor =>
  new InvalidCursor({ text: (cursor ?? "0").slice(0, 512), problem: problem?.detail ?? message })

/** @internal What reading a session was refused with; `cursor` is what the reader has. */
export const ofSession = (sessionId: SessionId, refusal: Refusal, cursor: string | undefined): SessionError =>
  refusal.code === "invalid-cursor" ? invalidCursor(cursor, refusal) : refused({ sessionId }, refusal)

/** @internal What reading was refused with; `place` is what the reader has. */
export const ofRead = (
  runId: RunId,
  refusal: Refusal,
  place: { readonly cursor: string | undefined; readonly generation: string | undefined },
): RunError => {
  const { cursor = "0", generation } = place
  switch (refusal.code) {
    case "run-unknown":
    case "run-removed":
      if (generation !== undefined) return new RunRemoved({ runId, generation })
      return refusal.code === "run-unknown" ? new RunUnknown({ runId }) : refused({ runId }, refusal)
    case "cursor-stale":
      return generation === undefined
        ? refused({ runId }, refusal)
        : new StoreError.CursorStale({ runId, cursorGeneration: generation })
    case "cursor-ahead": {
      const headSeq = field(Schema.Int, refusal, "lastSeq")
      return headSeq === undefined
        ? refused({ runId }, refusal)
        : new StoreError.CursorAhead({ runId, after: Number.parseInt(cursor, 10), headSeq })
    }
    case "invalid-cursor":
      return invalidCursor(cursor, refusal)
    case "corrupt-record": {
      const seq = field(Schema.Int, refusal, "seq")
      return seq === undefined
        ? refused({ runId }, refusal)
        : new StoreError.CorruptRecord({ runId, seq, problem: "the server can't read it" })
    }
    default:
      return refused({ runId }, refusal)
  }
}

/** @internal What a page was refused with; `place` is what it was to follow. */
export const ofPage = (
  runId: RunId,
  refusal: Refusal,
  place: { readonly cursor: string | undefined; readonly generation: string | undefined },
): PageError => {
  const oldestSeq = field(Schema.Int, refusal, "oldestSeq")
  const [, generation] = placeOf(field(Schema.String, refusal, "next"))
  return refusal.code !== "history-truncated" || oldestSeq === undefined || generation === undefined
    ? ofRead(runId, refusal, place)
    : new StoreError.HistoryTruncated({ runId, after: placeOf(place.cursor ?? "0")[0], oldestSeq, generation })
}

/** @internal What a renewal was refused with. */
export const ofRenewal = (runId: RunId, refusal: Refusal): RunUnknown | StoreError.RunEnded | Refused =>
  refusal.code === "run-unknown" ? new RunUnknown({ runId }) : (endedBy(runId, refusal) ?? refused({ runId }, refusal))

/** The end of the run that a request was refused for. */
const endedBy = (runId: RunId, refusal: Refusal): StoreError.RunEnded | undefined => {
  const endSeq = field(Schema.Int, refusal, "endSeq")
  const ending = field(Ending, refusal, "ending")
  return refusal.code !== "run-ended" || endSeq === undefined || ending === undefined
    ? undefined
    : new StoreError.RunEnded({ runId, endSeq, ending })
}

/** The parts of a run cursor. */
const placeOf = (cursor: string | undefined): readonly [seq: number, generation: string | undefined] => {
  const [seq, generation] = (cursor ?? "").split("-")
  return [Number.parseInt(seq!, 10), generation]
}

/** @internal What an append was refused with. */
export const ofAppend = (
  runId: RunId,
  refusal: Refusal,
  {
    expected,
    producer,
  }: {
    readonly expected: string | undefined
    readonly producer: { readonly id: string; readonly epoch: number; readonly number: number }
  },
): AppendError => {
  const { epoch, number } = producer
  const who = { runId, producerId: producer.id, epoch }
  const int = (name: string) => field(Schema.Int, refusal, name)
  const given = <A>(value: A | undefined, make: (value: A) => AppendError) =>
    value === undefined ? refused({ runId }, refusal) : make(value)
  switch (refusal.code) {
    case "run-ended":
      return endedBy(runId, refusal) ?? refused({ runId }, refusal)
    case "producer-fenced":
      return given(int("currentEpoch"), (currentEpoch) => new StoreError.ProducerFenced({ ...who, currentEpoch }))
    case "producer-gap":
      return given(
        int("expectedNumber"),
        (expectedNumber) => new StoreError.ProducerGap({ ...who, number, expectedNumber }),
      )
    case "producer-stale":
      return given(int("lastNumber"), (lastNumber) => new StoreError.ProducerStale({ ...who, number, lastNumber }))
    case "producer-mismatch":
      return new StoreError.ProducerMismatch({ ...who, number })
    case "head-moved": {
      const [headSeq, generation] = placeOf(field(Schema.String, refusal, "cursor"))
      const [expectedSeq, expectedGeneration] = placeOf(expected)
      return given(
        Number.isNaN(headSeq + expectedSeq) ? undefined : headSeq,
        (seq) =>
          new StoreError.SeqConflict({
            runId,
            expectedSeq,
            ...(expectedGeneration === undefined ? undefined : { expectedGeneration }),
            headSeq: seq,
            ...(generation === undefined ? undefined : { generation }),
          }),
      )
    }
    default:
      return refused({ runId }, refusal)
  }
}

/** @internal What is left once there are no more tries. */
export const givenUp = (what: Asked, cause: Lost | Violation): Unreachable | ProtocolViolation =>
  "after" in cause
    ? new Unreachable({ ...what, detail: cause.message, cause })
    : new ProtocolViolation({ ...what, detail: cause.message })
