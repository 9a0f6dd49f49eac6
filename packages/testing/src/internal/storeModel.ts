/**
 * What an event store must answer, as a pure model: a run is a list of envelopes, and each operation is a function from
 * a run to an answer and the next run.
 *
 * Written from the promises, not from any store. It is slow and keeps everything, trimmed events too.
 */
import type * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope, EncodedEvent, Ending, RunId, SessionId } from "@throughline/core/Envelope"
import type { AppendRequest, LeaseRequest } from "@throughline/core/EventStore"
import type { RunHead } from "@throughline/core/RunHead"
import type { Bounds } from "@throughline/core/StoreOptions"
import type { VocabularyId } from "@throughline/core/Vocabulary"
import * as Duration from "effect/Duration"
import * as Equal from "effect/Equal"

export interface Producer {
  readonly epoch: number
  readonly lastNumber: number
  /** The seq of the first event of its last append. */
  readonly firstSeq: number
  readonly lastSeq: number
  readonly lastRequest: AppendRequest
}

interface Lease {
  /** As the store shows it; only that it rises is promised. */
  readonly version: number
  readonly expiresAt: number
  readonly will: EncodedEvent | undefined
}

export interface Run {
  readonly runId: RunId
  /** As the store shows it, from the first answer on. */
  readonly generation: string | undefined
  readonly sessionId: SessionId | undefined
  readonly vocabulary: VocabularyId
  /** Seqs 1 to n, what was trimmed included. */
  readonly envelopes: ReadonlyArray<EncodedEnvelope>
  readonly firstSeq: number
  readonly ending: Ending | undefined
  readonly startedAt: number
  readonly lastActivityAt: number
  readonly lease: Lease | undefined
  readonly hadLease: boolean
  readonly producers: ReadonlyMap<string, Producer>
}

/** What a store is configured with, as far as the model cares. */
export interface Rules {
  readonly bounds: Bounds
  readonly eventsPerRun: number | undefined
}

/** An error by its `_tag` and the fields that are promised; `reason` stands for the tag of the error's reason. */
export type Refusal = { readonly _tag: string } & Readonly<Record<string, unknown>>

/** One of these errors, and nothing changes. */
export interface Refused {
  readonly _tag: "Refused"
  readonly anyOf: ReadonlyArray<Refusal>
}

/** These envelopes, and the run is as given. */
export interface Appended {
  readonly _tag: "Appended"
  readonly envelopes: ReadonlyArray<EncodedEnvelope>
  readonly run: Run
}

/** A repeat whose difference lies in what was trimmed: the first answer or `ProducerMismatch`, and nothing changes. */
export interface Unknowable {
  readonly _tag: "Unknowable"
}

const refused = (...anyOf: ReadonlyArray<Refusal>): Refused => ({ _tag: "Refused", anyOf })

export const lastSeq = (run: Run | undefined): number => run?.envelopes.length ?? 0

export const bytesOf = (event: EncodedEvent): number => new TextEncoder().encode(event.event).length

const invalid: Refusal = { _tag: "AppendFailed", reason: "InvalidRequest" }

const isInteger = (value: number, from: number) => Number.isInteger(value) && value >= from

const faultsOfLease = (lease: LeaseRequest): ReadonlyArray<Refusal> => {
  const ttl = Duration.toMillis(Duration.fromInputUnsafe(lease.ttl))
  const sound = ttl > 0 && Number.isFinite(ttl) && (lease.will === undefined || lease.will.endsRun !== undefined)
  return sound ? [] : [invalid]
}

/** All that is wrong with a request, whatever the store holds. */
const faultsOf = (request: AppendRequest, bounds: Bounds): ReadonlyArray<Refusal> => {
  const { events, expectedGeneration, expectedSeq, lease, producer, runId } = request
  const faults: Array<Refusal> = lease === undefined ? [] : [...faultsOfLease(lease)]
  if (events.length === 0 || events.length > bounds.maxAppendEvents) faults.push(invalid)
  if (events.slice(0, -1).some((event) => event.endsRun !== undefined)) faults.push(invalid)
  if (expectedSeq !== undefined && !isInteger(expectedSeq, 0)) faults.push(invalid)
  if (expectedGeneration !== undefined && expectedSeq === undefined) faults.push(invalid)
  if (expectedGeneration !== undefined && !/^[a-z0-9]{8}$/.test(expectedGeneration)) faults.push(invalid)
  if (
    producer !== undefined &&
    (producer.id === "" || !isInteger(producer.epoch, 1) || !isInteger(producer.number, 1))
  ) {
    faults.push(invalid)
  }
  for (const event of lease?.will === undefined ? events : [...events, lease.will]) {
    const bytes = bytesOf(event)
    if (bytes <= bounds.maxEventBytes) continue
    faults.push({ _tag: "EventTooLarge", runId, eventId: event.eventId, bytes, maxBytes: bounds.maxEventBytes })
  }
  return faults
}

const ended = (run: Run): Refusal => ({
  _tag: "RunEnded",
  runId: run.runId,
  endSeq: lastSeq(run),
  ending: run.ending,
})

const seqConflict = (
  run: Run | undefined,
  { expectedGeneration, expectedSeq, runId }: Pick<AppendRequest, "runId" | "expectedSeq" | "expectedGeneration">,
): Refusal => ({
  _tag: "SeqConflict",
  runId,
  expectedSeq,
  expectedGeneration,
  headSeq: lastSeq(run),
  generation: run?.generation,
})

/** Whether the run's head is what was expected of it, if anything was. */
const isAtHead = (
  run: Run | undefined,
  { expectedGeneration, expectedSeq }: Pick<AppendRequest, "expectedSeq" | "expectedGeneration">,
): boolean =>
  (expectedSeq === undefined || expectedSeq === lastSeq(run)) &&
  (expectedGeneration === undefined || expectedGeneration === run?.generation)

/** The run after writing events, at `now`. */
const write = (run: Run, events: ReadonlyArray<EncodedEvent>, now: number, rules: Rules): Appended => {
  const envelopes = events.map((event, index): EncodedEnvelope => ({
    ...event,
    seq: lastSeq(run) + index + 1,
    runId: run.runId,
    ...(run.sessionId === undefined ? undefined : { sessionId: run.sessionId }),
    schemaVersion: run.vocabulary.version,
  }))
  const all = [...run.envelopes, ...envelopes]
  const ending = events[events.length - 1]!.endsRun
  const kept = rules.eventsPerRun ?? Number.POSITIVE_INFINITY
  return {
    _tag: "Appended",
    envelopes,
    run: {
      ...run,
      envelopes: all,
      firstSeq: Math.max(run.firstSeq, all.length - kept + 1),
      ending,
      lastActivityAt: now,
      lease: ending === undefined ? run.lease : undefined,
    },
  }
}

const leased = (run: Run, lease: LeaseRequest, now: number): Run => ({
  ...run,
  hadLease: true,
  lease: {
    version: run.lease?.version ?? 0,
    expiresAt: now + Duration.toMillis(Duration.fromInputUnsafe(lease.ttl)),
    will: lease.will ?? run.lease?.will,
  },
})

const repeat = (run: Run, producer: Producer, request: AppendRequest): Refused | Appended | Unknowable => {
  const { epoch, id, number } = request.producer!
  const mismatch = refused({ _tag: "ProducerMismatch", runId: run.runId, producerId: id, epoch, number })
  const first = producer.lastRequest.events
  if (request.sessionId !== undefined && request.sessionId !== run.sessionId) return mismatch
  if (request.events.length !== first.length) return mismatch
  const different = first.flatMap((event, index) => (Equal.equals(event, request.events[index]) ? [] : [index]))
  if (different.length === 0) {
    return { _tag: "Appended", envelopes: run.envelopes.slice(producer.firstSeq - 1, producer.lastSeq), run }
  }
  return different.every((index) => producer.firstSeq + index < run.firstSeq) ? { _tag: "Unknowable" } : mismatch
}

const newRun = (request: AppendRequest, now: number): Run => ({
  runId: request.runId,
  generation: undefined,
  sessionId: request.sessionId,
  vocabulary: request.vocabulary,
  envelopes: [],
  firstSeq: 1,
  ending: undefined,
  startedAt: now,
  lastActivityAt: now,
  lease: undefined,
  hadLease: false,
  producers: new Map(),
})

/** Promise 3, check by check. */
export const append = (
  run: Run | undefined,
  request: AppendRequest,
  now: number,
  rules: Rules,
): Refused | Appended | Unknowable => {
  const { lease, producer, runId, sessionId, vocabulary } = request
  const faults = faultsOf(request, rules.bounds)
  if (faults.length > 0) return refused(...faults)
  const known = producer && run?.producers.get(producer.id)
  const by = { runId, producerId: producer?.id, epoch: producer?.epoch }
  if (producer && known && producer.epoch < known.epoch) {
    return refused({ _tag: "ProducerFenced", ...by, currentEpoch: known.epoch })
  }
  const current = known?.epoch === producer?.epoch ? known : undefined
  if (run && producer && current) {
    const { lastNumber } = current
    if (producer.number === lastNumber) return repeat(run, current, request)
    if (producer.number < lastNumber) {
      return refused({ _tag: "ProducerStale", ...by, number: producer.number, lastNumber })
    }
  }
  if (run?.ending !== undefined) return refused(ended(run))
  const expectedNumber = (current?.lastNumber ?? 0) + 1
  if (producer && producer.number !== expectedNumber) {
    return refused({ _tag: "ProducerGap", ...by, number: producer.number, expectedNumber })
  }
  if (!isAtHead(run, request)) return refused(seqConflict(run, request))
  if (run && sessionId !== undefined && sessionId !== run.sessionId) {
    return refused({ _tag: "SessionConflict", runId, given: sessionId, stored: run.sessionId })
  }
  if (run && !Equal.equals(vocabulary, run.vocabulary)) {
    return refused({ _tag: "VocabularyMismatch", runId, stored: run.vocabulary, given: vocabulary })
  }
  const before = run ?? newRun(request, now)
  const appended = write(lease === undefined ? before : leased(before, lease, now), request.events, now, rules)
  if (producer === undefined) return appended
  const producers = new Map(before.producers).set(producer.id, {
    epoch: producer.epoch,
    lastNumber: producer.number,
    firstSeq: lastSeq(before) + 1,
    lastSeq: lastSeq(appended.run),
    lastRequest: request,
  })
  return { ...appended, run: { ...appended.run, producers } }
}

/** The open run after a renewal; `undefined`: it is not open. */
export const renew = (run: Run | undefined, lease: LeaseRequest, now: number): Run | undefined =>
  run === undefined || run.ending !== undefined ? undefined : leased(run, lease, now)

/** Every reason there is to refuse a will counts: only that they are checked in one step is promised. */
export const appendWill = (
  run: Run | undefined,
  runId: RunId,
  expected: { readonly leaseVersion: number; readonly expectedSeq: number },
  now: number,
  rules: Rules,
): Refused | Appended => {
  const conflict = (problem: string): Refusal => ({ _tag: "LeaseConflict", runId, problem })
  if (run?.ending !== undefined) return refused(ended(run))
  if (run?.lease === undefined) return refused(conflict("noLease"))
  const reasons: Array<Refusal> = []
  if (expected.leaseVersion !== run.lease.version) reasons.push(conflict("renewed"))
  if (run.lease.expiresAt > now) reasons.push(conflict("notExpired"))
  if (!isAtHead(run, expected)) reasons.push(seqConflict(run, { runId, expectedSeq: expected.expectedSeq }))
  if (run.lease.will === undefined) reasons.push(conflict("noWill"))
  return reasons.length > 0 ? refused(...reasons) : write(run, [run.lease.will!], now, rules)
}

/** Whether `endAbandoned` ends the run. */
export const isAbandoned = (run: Run, idleFor: number, now: number): boolean =>
  run.ending === undefined && !run.hadLease && run.lastActivityAt + idleFor <= now

/** The run ended by an event. */
export const end = (run: Run, event: EncodedEvent, now: number, rules: Rules): Appended =>
  write(run, [event], now, rules)

/** Why a place can't be read from; `undefined`: it can. */
export const readRefusal = (run: Run | undefined, runId: RunId, place: Cursor.RunPlace): Refusal | undefined => {
  if (place.generation !== undefined && place.generation !== run?.generation) {
    return { _tag: "CursorStale", runId, cursorGeneration: place.generation, generation: run?.generation }
  }
  if (place.seq > lastSeq(run)) return { _tag: "CursorAhead", runId, after: place.seq, headSeq: lastSeq(run) }
  if (run !== undefined && place.seq + 1 < run.firstSeq) {
    return { _tag: "HistoryTruncated", runId, after: place.seq, oldestSeq: run.firstSeq }
  }
  return undefined
}

/** The run's head as the store must show it. */
export const headOf = (runId: RunId, run: Run | undefined): RunHead =>
  run === undefined
    ? { runId, lastSeq: 0, firstSeq: 0, status: "unknown" }
    : {
        runId,
        lastSeq: lastSeq(run),
        firstSeq: run.firstSeq,
        status: run.ending ?? "running",
        ...(run.generation === undefined ? undefined : { generation: run.generation }),
        ...(run.sessionId === undefined ? undefined : { sessionId: run.sessionId }),
        vocabulary: run.vocabulary,
        ...(run.lease === undefined
          ? undefined
          : {
              lease: {
                version: run.lease.version,
                expiresAt: run.lease.expiresAt,
                hasWill: run.lease.will !== undefined,
              },
            }),
        startedAt: run.startedAt,
        lastActivityAt: run.lastActivityAt,
      }
