/**
 * What every event store promises: order, durability, once, one end, leases and wills, no silent loss, scoped cursors.
 *
 * The store's clock must be Effect's `Clock`. Laws about bounds and retention need a layer that takes `StoreOptions`;
 * on a plain layer they are skipped.
 */
import type { Frame } from "@throughline/core/Envelope"
import {
  type AppendError,
  type AppendRequest,
  type AppendResult,
  type AppendWillError,
  EventStore,
} from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as Generator from "./Generator.ts"
import * as Law from "./Law.ts"
import * as StoreHistory from "./internal/storeHistory.ts"
import * as StorePlayer from "./internal/storePlayer.ts"
import { oneText } from "./internal/storeText.ts"

export { oneText }

export type StoreLaw = Law.Law<EventStore, StoreOptions>

type History = ReadonlyArray<StoreHistory.Command>

/** What sizes grow to over the cases: all but the first few histories may have as many commands as there can be. */
const historySize = 1000

/** A history takes 2 ms on the memory store and 10 ms on a store in a file. */
const historyRuns = 60

/** A law about histories played on a store as it comes. */
const played = (spec: {
  readonly promise: Law.PromiseNumber
  readonly name: string
  readonly history: Arbitrary.Arbitrary<History>
  readonly runs?: number
  readonly enough?: number
  readonly reaches?: Readonly<Record<string, number>>
}): StoreLaw =>
  Law.make({
    ...spec,
    runs: spec.runs ?? historyRuns,
    size: historySize,
    property: (history, reach) => StorePlayer.play(StorePlayer.makeWorld(undefined, reach), history),
  })

const boundsOf = ({ eventsPerRun }: { readonly eventsPerRun: number | undefined }): StoreOptions => ({
  bounds: { maxEventBytes: 100, maxAppendEvents: 5, maxPageEvents: 4, maxPageBytes: 150 },
  retention: { eventsPerRun },
})

/** A law about histories played on a store with small bounds and, where one is drawn, retention by events. */
const playedWithin = (spec: {
  readonly promise: Law.PromiseNumber
  readonly name: string
  readonly history: Arbitrary.Arbitrary<History>
  readonly retention: Arbitrary.Arbitrary<number | undefined>
  readonly runs?: number
  readonly enough?: number
  readonly reaches?: Readonly<Record<string, number>>
}): StoreLaw => {
  return Law.make({
    ...spec,
    runs: spec.runs ?? historyRuns,
    size: historySize,
    history: Arbitrary.all({ commands: spec.history, eventsPerRun: spec.retention }),
    options: boundsOf,
    property: (history, reach) => StorePlayer.play(StorePlayer.makeWorld(boundsOf(history), reach), history.commands),
  })
}

const { append, appendWill, endAbandoned, list, of, read, remove, renew, spoilt, wait } = StoreHistory

/** Promise 1. */
export const contiguous = played({
  promise: 1,
  name: "appends get contiguous seqs from 1, whole or not at all",
  history: of([
    [8, append({ ends: 1, expected: 3 })],
    [1, spoilt],
    [1, remove],
  ]),
  enough: 25,
  reaches: { SeqConflict: 0.3, AppendFailed: 0.3, EventTooLarge: 0.06, "a run begun anew": 0.1 },
})

/** Promise 2. */
export const durable = played({
  promise: 2,
  name: "what was acknowledged is in every later read, field by field, until it is removed",
  history: of([
    [5, append({ producers: 2, sessions: 2, leases: 1, ends: 1 })],
    [6, read],
    [1, remove],
    [1, wait],
  ]),
  enough: 30,
  reaches: { "a page before the head": 0.4, "a removal": 0.2, "an end": 0.1 },
})

/** Promise 2. */
export const listed = played({
  promise: 2,
  name: "every run is listed once, last started first, by session and status, page by page",
  history: of([
    [6, append({ sessions: 5, ends: 2 })],
    [4, list],
    [1, remove],
    [2, wait],
  ]),
  enough: 25,
  reaches: { "a second page of runs": 0.05 },
})

/** Promise 3. */
export const checksInOrder = played({
  promise: 3,
  name: "an append is checked in order: epoch, repeat, end, gap, expected seq, session, vocabulary",
  history: of([
    [9, append({ producers: 8, ends: 1, expected: 2, sessions: 3, vocabularies: 1, leases: 1 })],
    [1, spoilt],
    [1, remove],
  ]),
  runs: 100,
  enough: 40,
  reaches: {
    ProducerFenced: 0.07,
    "a repeat": 0.2,
    ProducerMismatch: 0.2,
    ProducerStale: 0.01,
    RunEnded: 0.15,
    ProducerGap: 0.2,
    SeqConflict: 0.1,
    SessionConflict: 0.1,
    VocabularyMismatch: 0.1,
  },
})

/** Promise 4. */
export const oneEnd = played({
  promise: 4,
  name: "after its end a run takes nothing more, and reading goes on",
  history: of([
    [5, append({ ends: 5, producers: 3 })],
    [1, spoilt],
    [1, renew],
    [3, read],
  ]),
  enough: 25,
  reaches: { "an end": 0.5, RunEnded: 0.4, "a repeat": 0.01 },
})

/** Promise 7. */
export const leases = played({
  promise: 7,
  name: "the one lease of a run is extended by whoever claims it, and its will ends the run once it has expired",
  history: of([
    [4, append({ leases: 7, ends: 1, producers: 2 })],
    [3, renew],
    [4, wait],
    [4, appendWill],
  ]),
  reaches: { "a will": 0.05, notExpired: 0.2, renewed: 0.05, noWill: 0.05, noLease: 0.2 },
})

/** Promise 7. */
export const abandoned = played({
  promise: 7,
  name: "only idle runs that never had a lease are ended as abandoned",
  history: of([
    [6, append({ leases: 3, ends: 1, sessions: 3 })],
    [2, wait],
    [2, endAbandoned],
    [1, renew],
    [1, remove],
  ]),
  reaches: { "an abandoned run": 0.04 },
})

/** Promise 9. */
export const truncated = playedWithin({
  promise: 9,
  name: "of a trimmed run the newest events are left, and reading before them tells the oldest",
  retention: Arbitrary.map(Generator.int(1, 6), (events) => events),
  history: of([
    [7, append({ producers: 5, ends: 1, leases: 1 })],
    [4, read],
    [1, remove],
    [1, appendWill],
    [1, wait],
  ]),
  enough: 40,
  reaches: { trimming: 0.3, HistoryTruncated: 0.1, "a repeat": 0.06 },
})

/** Promise 8. */
export const bounded = playedWithin({
  promise: 8,
  name: "events, appends and pages are bounded by count and UTF-8 bytes, and a page is never empty before the head",
  retention: Arbitrary.Constant(undefined),
  history: of([
    [6, append({ producers: 2 })],
    [3, spoilt],
    [4, read],
  ]),
  enough: 30,
  reaches: { EventTooLarge: 0.4, AppendFailed: 0.4, "a page before the head": 0.4 },
})

/** Promise 11. */
export const cursors = played({
  promise: 11,
  name: "a cursor resumes only its own run and generation, within what is stored",
  history: of([
    [4, append({ ends: 1 })],
    [8, read],
    [2, remove],
  ]),
  enough: 30,
  reaches: { CursorStale: 0.4, CursorAhead: 0.25, InvalidCursor: 0.15, "a removal": 0.3 },
})

const plainAppend = (run: number, events: AppendRequest["events"]): AppendRequest => ({
  runId: StorePlayer.runIdOf(run),
  vocabulary: { name: "law", version: 3 },
  events,
})

const plainEvent = (n: number) => StoreHistory.event(n, StoreHistory.plain)

const seqsOf = (frames: ReadonlyArray<Frame>): ReadonlyArray<number> => frames.map((frame) => frame.envelope.seq)

const countTo = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, index) => index + 1)

const readAll = Effect.fnUntraced(function* (runId: AppendRequest["runId"]) {
  const store = yield* EventStore
  const { envelopes, head } = yield* store.read({ runId, limit: 1000 })
  yield* Law.same("the seqs of a run", seqsOf(envelopes.map((envelope) => ({ _tag: "Frame", envelope, cursor: "" }))), [
    ...countTo(head.lastSeq),
  ])
  return envelopes
})

/** Promise 1. */
export const concurrentAppends: StoreLaw = Law.make({
  promise: 1,
  name: "concurrent appenders never share, skip or interleave a seq",
  history: Arbitrary.array(
    Arbitrary.all({
      run: Generator.weighted([
        [4, 0],
        [1, 1],
      ]),
      batches: Arbitrary.array(Generator.int(1, 4), { minLength: 1, maxLength: 5 }),
      producer: Generator.boolean,
    }),
    { minLength: 2, maxLength: 8 },
  ),
  runs: 40,
  property: Effect.fnUntraced(function* (appenders) {
    const store = yield* EventStore
    let n = 0
    const answers = yield* Effect.forEach(
      appenders,
      Effect.fnUntraced(function* ({ batches, producer, run }, index) {
        const frames: Array<ReadonlyArray<Frame>> = []
        for (const [batch, size] of batches.entries()) {
          yield* Effect.yieldNow
          const events = countTo(size).map(() => plainEvent(++n))
          const by = producer ? { producer: { id: `appender ${index}`, epoch: 1, number: batch + 1 } } : undefined
          const answer = yield* store.append({ ...plainAppend(run, events), ...by })
          yield* Law.same(
            "the events of an answer",
            answer.frames.map((frame) => frame.envelope.eventId),
            events.map((event) => event.eventId),
          )
          frames.push(answer.frames)
        }
        return { run, frames }
      }),
      { concurrency: "unbounded" },
    )
    for (const run of [0, 1]) {
      const mine = answers.filter((answer) => answer.run === run)
      const envelopes = yield* readAll(StorePlayer.runIdOf(run))
      const answered = mine.flatMap((answer) => answer.frames.flat()).map((frame) => frame.envelope)
      yield* Law.same(
        "the stored events beside the answered ones",
        [...envelopes],
        answered.toSorted((left, right) => left.seq - right.seq),
      )
      for (const { frames } of mine) {
        const seqs = seqsOf(frames.flat())
        yield* Law.same(
          "an appender's seqs in its own order",
          seqs,
          seqs.toSorted((left, right) => left - right),
        )
        for (const batch of frames) {
          const first = batch[0]!.envelope.seq
          yield* Law.same(
            "the seqs of one append",
            seqsOf(batch),
            countTo(batch.length).map((seq) => first + seq - 1),
          )
        }
      }
    }
  }),
})

/** Promise 1. */
export const oneWriterPerHead: StoreLaw = Law.make({
  promise: 1,
  name: "of concurrent appends that expect the same head one is stored, and the others fail SeqConflict",
  history: Arbitrary.all({ before: Generator.int(0, 3), rivals: Generator.int(2, 6) }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ before, rivals }) {
    const store = yield* EventStore
    const runId = StorePlayer.runIdOf(0)
    for (const n of countTo(before)) yield* store.append(plainAppend(0, [plainEvent(n)]))
    const answers = yield* Effect.forEach(
      countTo(rivals),
      (n) => Effect.result(store.append({ ...plainAppend(0, [plainEvent(100 + n)]), expectedSeq: before })),
      { concurrency: "unbounded" },
    )
    yield* Law.same("the number of winners", answers.filter(Result.isSuccess).length, 1)
    for (const answer of answers.filter(Result.isFailure)) {
      yield* StorePlayer.refusedAs("the answer to a loser", answer, [
        { _tag: "SeqConflict", runId, expectedSeq: before, headSeq: before + 1 },
      ])
    }
    yield* Law.same("the number of events", (yield* readAll(runId)).length, before + 1)
  }),
})

/** Promise 11. */
export const oneGeneration: StoreLaw = Law.make({
  promise: 11,
  name: "an append that expects a generation is never stored in a run that was removed and begun anew meanwhile",
  history: Arbitrary.all({
    before: Generator.int(1, 3),
    rivals: Generator.int(1, 4),
    removedAfter: Generator.int(0, 4),
  }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ before, removedAfter, rivals }) {
    const store = yield* EventStore
    const runId = StorePlayer.runIdOf(0)
    const first = yield* store.append(plainAppend(0, countTo(before).map(plainEvent)))
    const expectedGeneration = first.frames[0]!.cursor.split("-")[1]!
    const anew = countTo(before).map((n) => plainEvent(10 + n))
    let isBegun = false
    const begin = Effect.gen(function* () {
      yield* store.remove(runId)
      yield* store.append(plainAppend(0, anew))
      isBegun = true
    })
    const refusals: Array<Result.Result<AppendResult, AppendError>> = []
    // Before, meanwhile and after.
    const rival = Effect.fnUntraced(function* (n: number) {
      for (let isLast = false; !isLast;) {
        isLast = isBegun
        const request = { ...plainAppend(0, [plainEvent(100 + n)]), expectedSeq: before, expectedGeneration }
        const answer = yield* Effect.result(store.append(request))
        if (Result.isFailure(answer)) refusals.push(answer)
        yield* Effect.yieldNow
      }
    })
    const steps: ReadonlyArray<Effect.Effect<void, Effect.Error<typeof begin>>> = countTo(rivals).map(rival)
    yield* Effect.all(steps.toSpliced(removedAfter, 0, begin), { concurrency: "unbounded", discard: true })
    const envelopes = yield* readAll(runId)
    const { generation } = yield* store.head(runId)
    yield* Law.same(
      "the events of the run begun anew",
      envelopes.map(({ eventId }) => eventId),
      anew.map(({ eventId }) => eventId),
    )
    // The head was that of the run with a rival's event, of no run, or of the run begun anew.
    const heads = [
      { headSeq: before + 1, generation: expectedGeneration },
      { headSeq: 0, generation: undefined },
      { headSeq: before, generation },
    ]
    for (const refusal of refusals) {
      yield* StorePlayer.refusedAs(
        "the answer to a loser",
        refusal,
        heads.map((head) => ({ _tag: "SeqConflict", runId, expectedSeq: before, expectedGeneration, ...head })),
      )
    }
  }),
})

/** Promise 3. */
export const concurrentRepeats: StoreLaw = Law.make({
  promise: 3,
  name: "copies of one append sent at once are stored once and answered alike",
  history: Arbitrary.all({ copies: Generator.int(2, 6), events: Generator.int(1, 4), appends: Generator.int(1, 4) }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ appends, copies, events }) {
    const store = yield* EventStore
    let n = 0
    for (const number of countTo(appends)) {
      const request = plainAppend(
        0,
        countTo(events).map(() => plainEvent(++n)),
      )
      const answers = yield* Effect.forEach(
        countTo(copies),
        () => store.append({ ...request, producer: { id: "writer", epoch: 1, number } }),
        { concurrency: "unbounded" },
      )
      for (const { frames } of answers) yield* Law.same("the answer to a copy", frames, answers[0]!.frames)
    }
    yield* Law.same("the number of events", (yield* readAll(StorePlayer.runIdOf(0))).length, appends * events)
  }),
})

/** Promise 7. */
export const oneWatcher: StoreLaw = Law.make({
  promise: 7,
  name: "of many watchers one appends the will, and a producer that comes back is told RunEnded",
  history: Arbitrary.all({ watchers: Generator.int(2, 6), comesBack: Generator.boolean }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ comesBack, watchers }) {
    const store = yield* EventStore
    const runId = StorePlayer.runIdOf(0)
    const event = [plainEvent(1)]
    const will = StoreHistory.event(2, StoreHistory.plain, "failed")
    yield* store.append({ ...plainAppend(0, event), lease: { ttl: "30 seconds", will } })
    yield* TestClock.adjust("31 seconds")
    const { lease, lastSeq } = yield* store.head(runId)
    const watch: Effect.Effect<AppendResult, AppendError | AppendWillError> = store.appendWill(runId, {
      leaseVersion: lease?.version ?? 0,
      expectedSeq: lastSeq,
    })
    const late: Effect.Effect<AppendResult, AppendError | AppendWillError> = store.append(
      plainAppend(0, [plainEvent(3)]),
    )
    const answers = yield* Effect.all(
      [...countTo(watchers).map(() => Effect.result(watch)), ...(comesBack ? [Effect.result(late)] : [])],
      { concurrency: "unbounded" },
    )
    yield* Law.same("the number of winners", answers.filter(Result.isSuccess).length, 1)
    const envelopes = yield* readAll(runId)
    yield* Law.same("the number of events", envelopes.length, 2)
    const ended = envelopes[1]!.endsRun
    for (const answer of answers.filter(Result.isFailure)) {
      yield* StorePlayer.refusedAs(
        "the answer to a loser",
        answer,
        ended === undefined
          ? [{ _tag: "SeqConflict", runId, expectedSeq: 1, headSeq: 2 }]
          : [{ _tag: "RunEnded", runId, endSeq: 2, ending: "failed" }],
      )
    }
  }),
})

/** Promise 2. */
export const removedByAge: StoreLaw = Law.make({
  promise: 2,
  name: "retention by age removes ended runs once they are old enough, and no others",
  history: Arbitrary.all({ hours: Generator.int(1, 8), open: Generator.boolean }),
  options: ({ hours }) => ({ retention: { ageAfterEnd: `${hours} hours` } }),
  runs: 20,
  property: Effect.fnUntraced(function* ({ hours, open }) {
    const store = yield* EventStore
    const runId = StorePlayer.runIdOf(0)
    yield* store.append(plainAppend(0, [StoreHistory.event(1, StoreHistory.plain, open ? undefined : "completed")]))
    yield* TestClock.adjust(`${hours * 60 - 1} minutes`)
    yield* Law.same("the events before its age", (yield* readAll(runId)).length, 1)
    yield* TestClock.adjust("1 hour")
    yield* Law.same("the events after its age", (yield* store.head(runId)).lastSeq, open ? 1 : 0)
  }),
})

/** What retention can be configured with and how many of seven events it leaves; all of them until an age has passed. */
const edges = Generator.weighted([
  [1, { retention: { eventsPerRun: 0 }, kept: 1 }],
  [1, { retention: { eventsPerRun: -3 }, kept: 1 }],
  [1, { retention: { eventsPerRun: 0.5 }, kept: 1 }],
  [1, { retention: { eventsPerRun: 2.5 }, kept: 2 }],
  [1, { retention: { eventsPerRun: Number.POSITIVE_INFINITY }, kept: 7 }],
  [1, { retention: { eventsPerRun: Number.NaN }, kept: 7 }],
  [1, { retention: { eventsPerRun: 1e300 }, kept: 7 }],
  [1, { retention: { ageAfterEnd: "Infinity" }, kept: 7 }],
  [1, { retention: { ageAfterEnd: "999999999999 days" }, kept: 7 }],
  [1, { retention: { ageAfterEnd: 2 ** 52 }, kept: 7 }],
  [1, { retention: { ageAfterEnd: "1.5 days" }, kept: 7 }],
  [1, { retention: { ageAfterEnd: 0 }, kept: 0 }],
  [1, { retention: { ageAfterEnd: "-1 days" }, kept: 0 }],
])

/** Promise 9. */
export const retentionEdges: StoreLaw = Law.make({
  promise: 9,
  name: "whatever number retention is given, appends are stored whole, and a run's end is never trimmed",
  history: Arbitrary.all({ edge: edges, batch: Generator.int(1, 6) }),
  options: ({ edge }) => ({ retention: edge.retention }),
  runs: 40,
  property: Effect.fnUntraced(function* ({ batch, edge: { kept } }) {
    const store = yield* EventStore
    const runId = StorePlayer.runIdOf(0)
    const events = countTo(6).map(plainEvent)
    const batches = countTo(Math.ceil(6 / batch)).map((n) => events.slice((n - 1) * batch, n * batch))
    batches.push([StoreHistory.event(7, StoreHistory.plain, "completed")])
    const frames: Array<Frame> = []
    for (const one of batches) frames.push(...(yield* store.append(plainAppend(0, one))).frames)
    yield* Law.same("the seqs that were answered", seqsOf(frames), countTo(7))
    yield* TestClock.adjust("100 millis")
    const { firstSeq, lastSeq, status } = yield* store.head(runId)
    if (kept === 0) return yield* Law.same("a run past its age", status, "unknown")
    yield* Law.same("the head", { firstSeq, lastSeq, status }, { firstSeq: 8 - kept, lastSeq: 7, status: "completed" })
    const { envelopes } = yield* store.read({ runId, after: 7 - kept, limit: 10 })
    yield* Law.same(
      "the events that are left",
      [...envelopes],
      frames.slice(7 - kept).map(({ envelope }) => envelope),
    )
  }),
})

/** By promise. */
export const laws: ReadonlyArray<StoreLaw> = [
  contiguous,
  concurrentAppends,
  oneWriterPerHead,
  durable,
  oneText,
  listed,
  removedByAge,
  checksInOrder,
  concurrentRepeats,
  oneEnd,
  leases,
  oneWatcher,
  abandoned,
  bounded,
  truncated,
  retentionEdges,
  cursors,
  oneGeneration,
]

/**
 * Holds a store to its laws: one vitest test each. A layer that takes `StoreOptions` is held to all of them.
 *
 * **Example** (A store of your own)
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
 *
 * EventStoreLaws.suite("memory", EventStore.layerMemory)
 * ```
 */
export const suite = (name: string, subject: Law.Subject<EventStore, StoreOptions>, options?: Law.SuiteOptions): void =>
  Law.suite("EventStore", name, laws, subject, options)
