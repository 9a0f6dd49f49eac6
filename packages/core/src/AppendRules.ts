/**
 * The rules of append as pure functions: what a backend with transactions calls between reading and writing.
 *
 * A backend loads what it keeps of the run ({@link RunState}) and of the producer ({@link ProducerRecord}), asks
 * {@link decide}, and writes what the decision says, all in one transaction. The order of the checks is here and
 * nowhere else.
 */
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import * as Cursor from "./Cursor.ts"
import {
  type EncodedEnvelope,
  type EncodedEvent,
  type Ending,
  fieldProblem,
  type Frame,
  type RunId,
  type SessionId,
} from "./Envelope.ts"
import type { AppendError, AppendRequest, LeaseRequest, ProducerState } from "./EventStore.ts"
import * as StoreError from "./EventStoreError.ts"
import type { RunHead } from "./RunHead.ts"
import type { Bounds } from "./StoreOptions.ts"
import type { VocabularyId } from "./Vocabulary.ts"

/** What a backend keeps of a run. Times are milliseconds since 1970 by the store's clock. */
export interface RunState {
  readonly runId: RunId
  readonly generation: string
  readonly sessionId: SessionId | undefined
  readonly vocabulary: VocabularyId
  readonly firstSeq: number
  readonly lastSeq: number
  /** How the run ended; its end is `lastSeq`. */
  readonly ending: Ending | undefined
  readonly startedAt: number
  readonly lastActivityAt: number
  /** 0: the run never had a lease. */
  readonly leaseVersion: number
  readonly leaseExpiresAt: number | undefined
  readonly will: EncodedEvent | undefined
}

/** What a backend keeps of a producer in a run: its last append. */
export interface ProducerRecord extends ProducerState {
  readonly firstSeq: number
}

/** The answer is that of the last append: seqs `firstSeq` to `lastSeq`, if {@link repeated} finds the same content. */
export interface Repeat {
  readonly _tag: "Repeat"
  readonly state: RunState
  readonly record: ProducerRecord
}

/** Write `envelopes`, replace the run's state and the producer's record, delete what is before `state.firstSeq`. */
export interface Write {
  readonly _tag: "Write"
  readonly state: RunState
  readonly envelopes: ReadonlyArray<EncodedEnvelope>
  readonly producer: { readonly id: string; readonly record: ProducerRecord } | undefined
}

/** The run's head as readers see it. */
export const headOf = (state: RunState): RunHead => ({
  runId: state.runId,
  lastSeq: state.lastSeq,
  firstSeq: state.firstSeq,
  status: state.ending ?? "running",
  generation: state.generation,
  ...(state.sessionId === undefined ? undefined : { sessionId: state.sessionId }),
  vocabulary: state.vocabulary,
  ...(state.leaseExpiresAt === undefined
    ? undefined
    : {
        lease: {
          version: state.leaseVersion,
          expiresAt: state.leaseExpiresAt,
          hasWill: state.will !== undefined,
        },
      }),
  startedAt: state.startedAt,
  lastActivityAt: state.lastActivityAt,
})

/** Mints a generation for {@link decide}: 8 random characters of `a-z 0-9`. */
export const makeGeneration = (random: SecureRandom.SecureRandom["Service"]): Effect.Effect<string> =>
  Effect.map(random.intBetween(0, 36 ** 8 - 1), (value) => value.toString(36).padStart(8, "0"))

const encoder = new TextEncoder()

/** UTF-8 bytes of a text, never more than `text.length * 3`. */
export const byteLength = (text: string): number => encoder.encode(text).length

const tooLarge = (runId: RunId, event: EncodedEvent, maxBytes: number): StoreError.EventTooLarge | undefined => {
  if (event.event.length * 3 <= maxBytes) return undefined
  const bytes = byteLength(event.event)
  return bytes > maxBytes ? new StoreError.EventTooLarge({ runId, eventId: event.eventId, bytes, maxBytes }) : undefined
}

const invalid = (runId: RunId | undefined, detail: string) =>
  new StoreError.AppendFailed({
    ...(runId === undefined ? undefined : { runId }),
    reason: new StoreError.InvalidRequest({ detail }),
  })

const isCount = (value: number, from: number) => Number.isSafeInteger(value) && value >= from

const eventProblem = (event: Omit<EncodedEvent, "eventId"> & Partial<EncodedEvent>): string | undefined => {
  const problem = fieldProblem(event)
  if (problem !== undefined) return problem
  if (!event.kind.isWellFormed()) return "kind has a lone surrogate"
  return event.event.isWellFormed() ? undefined : "event has a lone surrogate"
}

/** What is wrong with the event of `endAbandoned`. */
export const checkAbandoned = (
  event: Omit<EncodedEvent, "eventId">,
  bounds: Bounds,
): StoreError.AppendFailed | undefined => {
  if (event.endsRun === undefined) return invalid(undefined, "the event must end the run (endsRun)")
  const problem = eventProblem(event)
  if (problem !== undefined) return invalid(undefined, problem)
  const bytes = byteLength(event.event)
  return bytes > bounds.maxEventBytes
    ? invalid(undefined, `the event has ${bytes} bytes, more than the ${bounds.maxEventBytes} allowed`)
    : undefined
}

/** What is wrong with a lease request, whatever the store holds. */
export const checkLease = (
  runId: RunId | undefined,
  lease: LeaseRequest,
  bounds: Bounds,
): StoreError.AppendFailed | StoreError.EventTooLarge | undefined => {
  const ttl = Duration.toMillis(Duration.fromInputUnsafe(lease.ttl))
  if (!(ttl > 0) || !Number.isFinite(ttl)) return invalid(runId, "a lease's ttl must be positive and finite")
  if (lease.will === undefined) return undefined
  if (lease.will.endsRun === undefined) return invalid(runId, "a will must be an event that ends the run (endsRun)")
  if (runId === undefined) return checkAbandoned(lease.will, bounds)
  const problem = eventProblem(lease.will)
  return problem === undefined
    ? tooLarge(runId, lease.will, bounds.maxEventBytes)
    : invalid(runId, `the will's ${problem}`)
}

/** What is wrong with a request, whatever the store holds. */
export const checkRequest = (
  request: AppendRequest,
  bounds: Bounds,
): StoreError.AppendFailed | StoreError.EventTooLarge | undefined => {
  const { events, expectedGeneration, expectedSeq, lease, producer, runId } = request
  if (events.length === 0) return invalid(runId, "an append needs at least one event")
  if (events.length > bounds.maxAppendEvents) {
    return invalid(runId, `${events.length} events in one append, more than the ${bounds.maxAppendEvents} allowed`)
  }
  if (expectedSeq !== undefined && !isCount(expectedSeq, 0)) {
    return invalid(runId, `expectedSeq ${expectedSeq} is no seq: expected an integer from 0`)
  }
  if (expectedGeneration !== undefined && expectedSeq === undefined) {
    return invalid(runId, "expectedGeneration goes with expectedSeq")
  }
  if (expectedGeneration !== undefined && !Cursor.generationPattern.test(expectedGeneration)) {
    return invalid(runId, "expectedGeneration is no generation: expected 8 characters of a-z 0-9")
  }
  if (producer !== undefined) {
    if (producer.id === "" || producer.id.length > 128) return invalid(runId, "a producer id has 1 to 128 characters")
    if (!isCount(producer.epoch, 1))
      return invalid(runId, `producer epoch ${producer.epoch}: expected an integer from 1`)
    if (!isCount(producer.number, 1)) {
      return invalid(runId, `producer number ${producer.number}: expected an integer from 1`)
    }
  }
  for (let index = 0; index < events.length; index++) {
    const event = events[index]!
    if (event.endsRun !== undefined && index < events.length - 1) {
      return invalid(runId, `event ${index + 1} of ${events.length} ends the run, and events follow it`)
    }
    const problem = eventProblem(event)
    if (problem !== undefined) return invalid(runId, `event ${index + 1}: ${problem}`)
    const large = tooLarge(runId, event, bounds.maxEventBytes)
    if (large !== undefined) return large
  }
  return lease === undefined ? undefined : checkLease(runId, lease, bounds)
}

/** The envelope of an event in a run. */
const envelopeOf = (
  event: EncodedEvent,
  seq: number,
  runId: RunId,
  sessionId: SessionId | undefined,
  schemaVersion: number,
): EncodedEnvelope =>
  sessionId === undefined ? { ...event, seq, runId, schemaVersion } : { ...event, seq, runId, sessionId, schemaVersion }

const leased = (state: RunState, lease: LeaseRequest | undefined, now: number): RunState =>
  lease === undefined
    ? state
    : {
        ...state,
        leaseVersion: state.leaseVersion + 1,
        leaseExpiresAt: now + Duration.toMillis(Duration.fromInputUnsafe(lease.ttl)),
        will: lease.will ?? state.will,
      }

const released = (state: RunState): RunState =>
  state.leaseExpiresAt === undefined
    ? state
    : { ...state, leaseVersion: state.leaseVersion + 1, leaseExpiresAt: undefined, will: undefined }

const ended = (state: RunState & { readonly ending: Ending }) =>
  new StoreError.RunEnded({ runId: state.runId, endSeq: state.lastSeq, ending: state.ending })

const isEnded = (state: RunState): state is RunState & { readonly ending: Ending } => state.ending !== undefined

const checkProducer = (
  state: RunState | undefined,
  record: ProducerRecord | undefined,
  request: AppendRequest,
): AppendError | Repeat | undefined => {
  const { producer, runId } = request
  if (producer === undefined) return undefined
  const fields = { runId, producerId: producer.id, epoch: producer.epoch }
  const sameEpoch = record !== undefined && record.epoch === producer.epoch
  if (record !== undefined && producer.epoch < record.epoch) {
    return new StoreError.ProducerFenced({ ...fields, currentEpoch: record.epoch })
  }
  if (sameEpoch && state !== undefined) {
    if (producer.number === record.lastNumber) return { _tag: "Repeat", state, record }
    if (producer.number < record.lastNumber) {
      return new StoreError.ProducerStale({ ...fields, number: producer.number, lastNumber: record.lastNumber })
    }
  }
  if (state !== undefined && isEnded(state)) return ended(state)
  const expectedNumber = sameEpoch ? record.lastNumber + 1 : 1
  return producer.number === expectedNumber
    ? undefined
    : new StoreError.ProducerGap({ ...fields, number: producer.number, expectedNumber })
}

/** The head against what was expected of it. */
const checkHead = (
  runId: RunId,
  state: RunState | undefined,
  { expectedGeneration, expectedSeq }: Pick<AppendRequest, "expectedGeneration" | "expectedSeq">,
): StoreError.SeqConflict | undefined => {
  const headSeq = state?.lastSeq ?? 0
  const generation = state?.generation
  if (expectedSeq === undefined) return undefined
  if (expectedSeq === headSeq && (expectedGeneration ?? generation) === generation) return undefined
  return new StoreError.SeqConflict({
    runId,
    expectedSeq,
    ...(expectedGeneration === undefined ? undefined : { expectedGeneration }),
    headSeq,
    ...(generation === undefined ? undefined : { generation }),
  })
}

const checkRun = (state: RunState | undefined, request: AppendRequest): AppendError | undefined => {
  const { runId, sessionId, vocabulary } = request
  if (state !== undefined && isEnded(state)) return ended(state)
  const conflict = checkHead(runId, state, request)
  if (conflict !== undefined) return conflict
  if (state === undefined) return undefined
  if (sessionId !== undefined && sessionId !== state.sessionId) {
    return new StoreError.SessionConflict({
      runId,
      given: sessionId,
      ...(state.sessionId === undefined ? undefined : { stored: state.sessionId }),
    })
  }
  if (vocabulary.name !== state.vocabulary.name || vocabulary.version !== state.vocabulary.version) {
    return new StoreError.VocabularyMismatch({ runId, stored: state.vocabulary, given: vocabulary })
  }
  return undefined
}

const written = (
  state: RunState,
  events: ReadonlyArray<EncodedEvent>,
  now: number,
  eventsPerRun: number | undefined,
): { readonly state: RunState; readonly envelopes: ReadonlyArray<EncodedEnvelope> } => {
  const first = state.lastSeq + 1
  const lastSeq = state.lastSeq + events.length
  const ending = events[events.length - 1]!.endsRun
  const next: RunState = {
    ...state,
    firstSeq: eventsPerRun === undefined ? state.firstSeq : Math.max(state.firstSeq, lastSeq - eventsPerRun + 1),
    lastSeq,
    ending,
    lastActivityAt: now,
  }
  return {
    state: ending === undefined ? next : released(next),
    envelopes: events.map((event, index) =>
      envelopeOf(event, first + index, state.runId, state.sessionId, state.vocabulary.version),
    ),
  }
}

/**
 * Decides an append that passed {@link checkRequest}.
 *
 * `generation` is used if the run is new, and `eventsPerRun` is what `StoreOptions.retained` says. Of the envelopes of a `Write`, those before `state.firstSeq` are already past
 * retention: they are answered, not kept.
 */
export const decide = (
  current: RunState | undefined,
  record: ProducerRecord | undefined,
  request: AppendRequest,
  context: { readonly now: number; readonly generation: string; readonly eventsPerRun: number | undefined },
): Result.Result<Repeat | Write, AppendError> => {
  const producerAnswer = checkProducer(current, record, request)
  if (producerAnswer !== undefined) {
    return producerAnswer._tag === "Repeat" ? Result.succeed(producerAnswer) : Result.fail(producerAnswer)
  }
  const refused = checkRun(current, request)
  if (refused !== undefined) return Result.fail(refused)
  const base: RunState = current ?? {
    runId: request.runId,
    generation: context.generation,
    sessionId: request.sessionId,
    vocabulary: request.vocabulary,
    firstSeq: 1,
    lastSeq: 0,
    ending: undefined,
    startedAt: context.now,
    lastActivityAt: context.now,
    leaseVersion: 0,
    leaseExpiresAt: undefined,
    will: undefined,
  }
  const { envelopes, state } = written(
    leased(base, request.lease, context.now),
    request.events,
    context.now,
    context.eventsPerRun,
  )
  return Result.succeed({
    _tag: "Write",
    state,
    envelopes,
    producer: request.producer && {
      id: request.producer.id,
      record: {
        epoch: request.producer.epoch,
        lastNumber: request.producer.number,
        firstSeq: base.lastSeq + 1,
        lastSeq: state.lastSeq,
      },
    },
  })
}

/**
 * The answer to a repeated append: `stored` are the envelopes of seqs `record.firstSeq` to `record.lastSeq` that are
 * left. What was trimmed since is answered from the request.
 */
export const repeated = (
  { record, state }: Repeat,
  request: AppendRequest,
  stored: ReadonlyArray<EncodedEnvelope>,
): Result.Result<ReadonlyArray<EncodedEnvelope>, StoreError.ProducerMismatch> => {
  const envelopes = request.events.map((event, index) =>
    envelopeOf(event, record.firstSeq + index, state.runId, state.sessionId, state.vocabulary.version),
  )
  const same =
    envelopes.length === record.lastSeq - record.firstSeq + 1 &&
    (request.sessionId === undefined || request.sessionId === state.sessionId) &&
    stored.every((envelope) => Equal.equals(envelope, envelopes[envelope.seq - record.firstSeq]))
  if (same) return Result.succeed(envelopes)
  const producer = request.producer!
  return Result.fail(
    new StoreError.ProducerMismatch({
      runId: state.runId,
      producerId: producer.id,
      epoch: producer.epoch,
      number: producer.number,
    }),
  )
}

/** Decides `appendWill`. */
export const decideWill = (
  runId: RunId,
  state: RunState | undefined,
  expected: { readonly leaseVersion: number; readonly expectedSeq: number },
  now: number,
  eventsPerRun: number | undefined,
): Result.Result<Write, StoreError.RunEnded | StoreError.LeaseConflict | StoreError.SeqConflict> => {
  const conflict = (problem: StoreError.LeaseConflict["problem"]) =>
    Result.fail(new StoreError.LeaseConflict({ runId, problem }))
  if (state === undefined) return conflict("noLease")
  if (isEnded(state)) return Result.fail(ended(state))
  if (state.leaseExpiresAt === undefined) return conflict("noLease")
  if (state.leaseVersion !== expected.leaseVersion) return conflict("renewed")
  if (state.leaseExpiresAt > now) return conflict("notExpired")
  const moved = checkHead(runId, state, { expectedSeq: expected.expectedSeq })
  if (moved !== undefined) return Result.fail(moved)
  if (state.will === undefined) return conflict("noWill")
  return Result.succeed(ending(state, state.will, now, eventsPerRun))
}

/** The write that ends an open run with one event. */
export const ending = (state: RunState, event: EncodedEvent, now: number, eventsPerRun: number | undefined): Write => ({
  _tag: "Write",
  ...written(state, [event], now, eventsPerRun),
  producer: undefined,
})

/** The state of an open run after a renewal; `undefined`: the run is not open. */
export const renewed = (state: RunState | undefined, lease: LeaseRequest, now: number): RunState | undefined =>
  state === undefined || isEnded(state) ? undefined : leased(state, lease, now)

/** Whether `endAbandoned` ends this run: open, never leased, not written to since `idleSince`. */
export const isAbandoned = (state: RunState, idleSince: number): boolean =>
  state.ending === undefined && state.leaseVersion === 0 && state.lastActivityAt <= idleSince

/**
 * Checks a read's place against the run: `undefined` means the page after `place.seq` can be read.
 *
 * `state` is `undefined` for an unknown run, whose only page is the empty one after 0.
 */
export const checkPlace = (
  runId: RunId,
  state: Pick<RunState, "generation" | "firstSeq" | "lastSeq"> | undefined,
  place: Cursor.RunPlace,
): StoreError.CursorStale | StoreError.CursorAhead | StoreError.HistoryTruncated | undefined => {
  if (place.generation !== undefined && place.generation !== state?.generation) {
    return new StoreError.CursorStale({
      runId,
      cursorGeneration: place.generation,
      ...(state === undefined ? undefined : { generation: state.generation }),
    })
  }
  const headSeq = state?.lastSeq ?? 0
  if (place.seq > headSeq) return new StoreError.CursorAhead({ runId, after: place.seq, headSeq })
  if (state !== undefined && place.seq + 1 < state.firstSeq) {
    return new StoreError.HistoryTruncated({
      runId,
      after: place.seq,
      oldestSeq: state.firstSeq,
      generation: state.generation,
    })
  }
  return undefined
}

/** What is wrong with a read's limit. */
export const checkLimit = (runId: RunId | undefined, limit: number): StoreError.ReadFailed | undefined =>
  isCount(limit, 1)
    ? undefined
    : new StoreError.ReadFailed({
        ...(runId === undefined ? undefined : { runId }),
        reason: new StoreError.InvalidRequest({ detail: `limit ${limit}: expected an integer from 1` }),
      })

/** How many of `envelopes` fit a page of `maxBytes`; at least one. */
export const pageLength = (envelopes: ReadonlyArray<EncodedEnvelope>, maxBytes: number): number => {
  let most = 0
  for (const envelope of envelopes) most += envelope.event.length * 3
  if (most <= maxBytes) return envelopes.length
  let bytes = 0
  for (let index = 0; index < envelopes.length; index++) {
    bytes += byteLength(envelopes[index]!.event)
    if (bytes > maxBytes && index > 0) return index
  }
  return envelopes.length
}

/** Frames of envelopes, with positions counted from `firstPosition` where the store has an archive. */
export const framesOf = (
  envelopes: ReadonlyArray<EncodedEnvelope>,
  generation: string,
  firstPosition: number | undefined,
): ReadonlyArray<Frame> =>
  envelopes.map((envelope, index) => {
    const cursor = Cursor.run(envelope.seq, generation)
    return firstPosition === undefined
      ? { _tag: "Frame", envelope, cursor }
      : { _tag: "Frame", envelope, cursor, position: firstPosition + index }
  })
