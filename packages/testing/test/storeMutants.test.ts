import * as Cursor from "@throughline/core/Cursor"
import { type EncodedEnvelope, type Ending, EventJson, type Frame, type RunId } from "@throughline/core/Envelope"
import { type AppendResult, EventStore, layerMemory } from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
import type * as Law from "@throughline/testing/Law"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Struct from "effect/Struct"

type Store = EventStore["Service"]
type StoreMutant = Mutant.Mutant<EventStore, StoreOptions>

/** The memory store with some of its methods replaced. */
const mutant = (
  bug: string,
  law: Law.Law<EventStore, StoreOptions>,
  wrap: (store: Store) => Partial<Store>,
  configure: (options: StoreOptions | undefined) => StoreOptions | undefined = (options) => options,
): StoreMutant => ({
  bug,
  law: law.name,
  subject: (options) =>
    Layer.effect(
      EventStore,
      Effect.gen(function* () {
        const store = yield* EventStore
        return { ...store, ...wrap(store) }
      }),
    ).pipe(Layer.provide(layerMemory(configure(options)))),
})

const mapFrames = (result: AppendResult, f: (envelope: EncodedEnvelope) => EncodedEnvelope): AppendResult => ({
  ...result,
  frames: result.frames.map((frame): Frame => ({ ...frame, envelope: f(frame.envelope) })),
})

/** Every append and page with its envelopes changed. */
const mapEnvelopes =
  (f: (envelope: EncodedEnvelope) => EncodedEnvelope) =>
  (store: Store): Partial<Store> => ({
    append: (request) => Effect.map(store.append(request), (result) => mapFrames(result, f)),
    read: (request) => Effect.map(store.read(request), (page) => ({ ...page, envelopes: page.envelopes.map(f) })),
  })

const framesOf = (envelopes: ReadonlyArray<EncodedEnvelope>): ReadonlyArray<Frame> =>
  envelopes.map((envelope) => ({ _tag: "Frame", envelope, cursor: Cursor.run(envelope.seq, "00000000") }))

const printedAgain = (envelope: EncodedEnvelope): EncodedEnvelope => ({
  ...envelope,
  event: EventJson.make(JSON.stringify(JSON.parse(envelope.event))),
})

const mutants: ReadonlyArray<StoreMutant> = [
  mutant(
    "skips a seq",
    EventStoreLaws.contiguous,
    mapEnvelopes((envelope) => (envelope.seq > 3 ? { ...envelope, seq: envelope.seq + 1 } : envelope)),
  ),
  mutant("appends a batch event by event", EventStoreLaws.concurrentAppends, (store) => ({
    append: Effect.fnUntraced(function* (given) {
      const { events, ...request } = Struct.omit(given, ["producer"])
      const frames: Array<Frame> = []
      for (const event of events) {
        frames.push(...(yield* store.append({ ...request, events: [event] })).frames)
        yield* Effect.yieldNow
      }
      return { frames, published: [] }
    }),
  })),
  mutant("looks at the head and writes in two steps", EventStoreLaws.oneWriterPerHead, (store) => ({
    append: Effect.fnUntraced(function* ({ expectedSeq, ...request }) {
      const { lastSeq: headSeq } = yield* Effect.orDie(store.head(request.runId))
      if (expectedSeq !== undefined && expectedSeq !== headSeq) {
        return yield* new StoreError.SeqConflict({ runId: request.runId, expectedSeq, headSeq })
      }
      yield* Effect.yieldNow
      return yield* store.append(request)
    }),
  })),
  mutant("takes a run that was begun anew for the one that was removed", EventStoreLaws.contiguous, (store) => ({
    append: (request) =>
      store.append(
        request.expectedSeq === undefined || !Cursor.generationPattern.test(request.expectedGeneration ?? "")
          ? request
          : Struct.omit(request, ["expectedGeneration"]),
      ),
  })),
  mutant("looks at the generation and writes in two steps", EventStoreLaws.oneGeneration, (store) => ({
    append: Effect.fnUntraced(function* ({ expectedGeneration, ...request }) {
      const { expectedSeq, runId } = request
      if (expectedGeneration === undefined || expectedSeq === undefined) return yield* store.append(request)
      const conflict = (headSeq: number, generation: string | undefined) => {
        const now = generation === undefined ? undefined : { generation }
        return new StoreError.SeqConflict({ runId, expectedSeq, expectedGeneration, headSeq, ...now })
      }
      const { generation, lastSeq } = yield* Effect.orDie(store.head(runId))
      if (expectedGeneration !== generation) return yield* conflict(lastSeq, generation)
      yield* Effect.yieldNow
      return yield* Effect.catchTag(store.append(request), "SeqConflict", (error) =>
        Effect.fail(conflict(error.headSeq, error.generation)),
      )
    }),
  })),
  mutant("acknowledges events and loses some of them", EventStoreLaws.durable, (store) => {
    const lost = new Set<string>()
    return {
      append: (request) =>
        Effect.tap(store.append(request), ({ frames }) =>
          Effect.sync(() => frames.length === 3 && lost.add(frames[2]!.envelope.eventId)),
        ),
      read: (request) =>
        Effect.map(store.read(request), (page) => ({
          ...page,
          envelopes: page.envelopes.filter(({ eventId }) => !lost.has(eventId)),
        })),
    }
  }),
  mutant(
    "stores no provider",
    EventStoreLaws.durable,
    mapEnvelopes((envelope) => Struct.omit(envelope, ["provider"])),
  ),
  mutant("parses events and prints them again for its pages", EventStoreLaws.oneText, (store) => ({
    read: (request) =>
      Effect.map(store.read(request), (page) => ({ ...page, envelopes: page.envelopes.map(printedAgain) })),
  })),
  mutant("lists runs first started first", EventStoreLaws.listed, (store) => ({
    // Pages of one run can't be out of order.
    runs: (request) => Effect.map(store.runs(request), (heads) => (request.limit > 2 ? heads.toReversed() : heads)),
  })),
  mutant("starts every page of runs at the top", EventStoreLaws.listed, (store) => ({
    runs: (request) => store.runs(Struct.omit(request, ["before"])),
  })),
  mutant(
    "keeps ended runs for ever",
    EventStoreLaws.removedByAge,
    () => ({}),
    () => undefined,
  ),
  mutant("forgets its producers", EventStoreLaws.checksInOrder, (store) => ({
    append: (request) => store.append(Struct.omit(request, ["producer"])),
  })),
  mutant("takes a used number with other content for a repeat", EventStoreLaws.checksInOrder, (store) => ({
    append: (request) =>
      Effect.catchTag(store.append(request), "ProducerMismatch", ({ runId, producerId }) =>
        Effect.gen(function* () {
          const producer = yield* store.producer(runId, producerId)
          const page = yield* store.read({ runId, limit: 1000 })
          const lastSeq = producer._tag === "Some" ? producer.value.lastSeq : 0
          return { frames: framesOf(page.envelopes.slice(0, lastSeq).slice(-request.events.length)), published: [] }
        }).pipe(Effect.orDie),
      ),
  })),
  mutant("looks at the expected seq before the producer", EventStoreLaws.checksInOrder, (store) => ({
    append: Effect.fnUntraced(function* (request) {
      const { expectedSeq, runId } = request
      const { lastSeq: headSeq } = yield* Effect.orDie(store.head(runId))
      if (expectedSeq !== undefined && expectedSeq !== headSeq) {
        return yield* new StoreError.SeqConflict({ runId, expectedSeq, headSeq })
      }
      return yield* store.append(request)
    }),
  })),
  mutant("finds a repeat before it stores, in another step", EventStoreLaws.concurrentRepeats, (store) => {
    const answers = new Map<string, AppendResult>()
    return {
      append: Effect.fnUntraced(function* ({ producer, ...request }) {
        const key = `${request.runId} ${producer?.id} ${producer?.epoch} ${producer?.number}`
        const before = answers.get(key)
        if (before !== undefined) return before
        yield* Effect.yieldNow
        const answer = yield* store.append(request)
        answers.set(key, answer)
        return answer
      }),
    }
  }),
  mutant("takes events after the end", EventStoreLaws.oneEnd, (store) => {
    const endings = new Map<string, Ending>()
    const ended = new Map<RunId, Ending>()
    const restore = (envelope: EncodedEnvelope): EncodedEnvelope => {
      const endsRun = endings.get(envelope.eventId)
      return endsRun === undefined ? envelope : { ...envelope, endsRun }
    }
    const restoreHead = <Head extends { readonly runId: RunId }>(head: Head): Head => {
      const status = ended.get(head.runId)
      return status === undefined ? head : { ...head, status }
    }
    return {
      append: Effect.fnUntraced(function* (request) {
        const last = request.events[request.events.length - 1]
        const events = request.events.map(({ endsRun, ...event }) => {
          if (endsRun !== undefined) endings.set(event.eventId, endsRun)
          return event
        })
        const result = yield* store.append({ ...request, events })
        if (last?.endsRun !== undefined) ended.set(request.runId, last.endsRun)
        return mapFrames(result, restore)
      }),
      read: (request) =>
        Effect.map(store.read(request), ({ envelopes, head }) => ({
          envelopes: envelopes.map(restore),
          head: restoreHead(head),
        })),
      head: (runId) => Effect.map(store.head(runId), restoreHead),
      renew: Effect.fnUntraced(function* (runIds, lease) {
        const { refused, renewed } = yield* store.renew(
          runIds.filter((runId) => !ended.has(runId)),
          lease,
        )
        return { renewed, refused: [...refused, ...runIds.filter((runId) => ended.has(runId))] }
      }),
    }
  }),
  mutant("extends the lease although it refuses the append", EventStoreLaws.leases, (store) => ({
    append: (request) =>
      Effect.tapError(store.append(request), () =>
        request.lease === undefined ? Effect.void : Effect.orDie(store.renew([request.runId], request.lease)),
      ),
  })),
  mutant("appends a will whatever the lease's version", EventStoreLaws.leases, (store) => ({
    appendWill: Effect.fnUntraced(function* (runId, expected) {
      const { lease } = yield* Effect.orDie(store.head(runId))
      return yield* store.appendWill(runId, { ...expected, leaseVersion: lease?.version ?? 0 })
    }),
  })),
  mutant("forgets the will at a renewal without one", EventStoreLaws.leases, (store) => {
    const forgotten = new Set<RunId>()
    return {
      renew: Effect.fnUntraced(function* (runIds, lease) {
        const result = yield* store.renew(runIds, lease)
        for (const runId of result.renewed) {
          if (lease.will === undefined) forgotten.add(runId)
          else forgotten.delete(runId)
        }
        return result
      }),
      appendWill: (runId, expected) =>
        forgotten.has(runId)
          ? Effect.fail(new StoreError.LeaseConflict({ runId, problem: "noWill" }))
          : store.appendWill(runId, expected),
    }
  }),
  mutant("lets every watcher win", EventStoreLaws.oneWatcher, (store) => {
    const answers = new Map<RunId, AppendResult>()
    return {
      appendWill: (runId, expected) =>
        store.appendWill(runId, expected).pipe(
          Effect.tap((answer) => Effect.sync(() => answers.set(runId, answer))),
          Effect.catchTag("RunEnded", (ended) =>
            answers.has(runId) ? Effect.succeed(answers.get(runId)!) : Effect.fail(ended),
          ),
        ),
    }
  }),
  mutant("ends runs as abandoned that were just written", EventStoreLaws.abandoned, (store) => ({
    endAbandoned: ({ event }) => store.endAbandoned({ event, idleFor: 0 }),
  })),
  mutant("ends abandoned runs with one event id for all", EventStoreLaws.abandoned, (store) => ({
    endAbandoned: (options) =>
      Effect.map(store.endAbandoned(options), (results) => {
        const eventId = results[0]?.frames[0]!.envelope.eventId
        return results.map((result) => mapFrames(result, (envelope) => ({ ...envelope, eventId: eventId! })))
      }),
  })),
  mutant(
    "bounds pages by count alone",
    EventStoreLaws.bounded,
    () => ({}),
    (options) => ({ ...options, bounds: { ...options?.bounds, maxPageBytes: 1_000_000 } }),
  ),
  mutant(
    "takes events one byte over the bound",
    EventStoreLaws.bounded,
    () => ({}),
    (options) => ({ ...options, bounds: { ...options?.bounds, maxEventBytes: options!.bounds!.maxEventBytes! + 1 } }),
  ),
  mutant("starts a page later than asked where history is gone", EventStoreLaws.truncated, (store) => ({
    read: (request) =>
      Effect.catchTag(store.read(request), "HistoryTruncated", ({ oldestSeq }) =>
        store.read({ ...request, after: oldestSeq - 1 }),
      ),
  })),
  mutant("trims the end with the rest where no event is to be kept", EventStoreLaws.retentionEdges, (store) => ({
    head: (runId) =>
      Effect.map(store.head(runId), (head) =>
        head.status !== "unknown" && head.firstSeq === head.lastSeq ? { ...head, firstSeq: head.lastSeq + 1 } : head,
      ),
  })),
  mutant("answers a page after the head with nothing", EventStoreLaws.cursors, (store) => ({
    read: (request) =>
      Effect.catchTag(store.read(request), "CursorAhead", ({ headSeq }) => store.read({ ...request, after: headSeq })),
  })),
  mutant("takes cursors of a run that was removed", EventStoreLaws.cursors, (store) => ({
    read: ({ after, ...request }) =>
      store.read(after === undefined ? request : { ...request, after: String(after).replace(/-[a-z0-9]{8}$/, "") }),
  })),
]

Mutant.suite("EventStore", EventStoreLaws.laws, mutants)
