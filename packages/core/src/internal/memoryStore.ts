/** The memory body of the event store and the archive: one log, two doors. */
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as Digest from "effect/crypto/Digest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as AppendRules from "../AppendRules.ts"
import * as Cursor from "../Cursor.ts"
import type { EncodedEnvelope, EventId, RunId } from "../Envelope.ts"
import type { ArchiveItem, ArchiveTruncated, EventArchive } from "../EventArchive.ts"
import * as EventFilter from "../EventFilter.ts"
import type { AppendError, AppendRequest, AppendResult, EventStore } from "../EventStore.ts"
import * as StoreError from "../EventStoreError.ts"
import { unknownHead } from "../RunHead.ts"
import { defaultBounds, retained, type StoreOptions } from "../StoreOptions.ts"

interface MemoryRun {
  state: AppendRules.RunState
  /** Seqs `state.firstSeq` to `state.lastSeq`. Envelopes are kept, frames are made when asked for: a long log is mostly this. */
  readonly envelopes: Array<EncodedEnvelope>
  readonly positions: Array<number>
  /** The position of the last trimmed envelope, 0 where nothing was trimmed. */
  trimmedPosition: number
  readonly producers: Map<string, AppendRules.ProducerRecord>
}

export const make = Effect.fnUntraced(function* (options: StoreOptions = {}) {
  const bounds = { ...defaultBounds, ...options.bounds }
  const { ageAfterEnd, eventsPerRun } = retained(options.retention)
  const context = yield* Effect.context<SecureRandom.SecureRandom | Digest.Digest>()
  const random = Context.get(context, SecureRandom.SecureRandom)
  const runs = new Map<string, MemoryRun>()
  const trimmedRuns = new Set<MemoryRun>()
  /** Every envelope and its position; what was trimmed or removed stays until half of the log is dead. */
  let log: Array<EncodedEnvelope> = []
  let logPositions: Array<number> = []
  let dead = 0
  let position = 0

  const isLive = (envelope: EncodedEnvelope): boolean => {
    const run = runs.get(envelope.runId)
    return run !== undefined && run.envelopes[envelope.seq - run.state.firstSeq] === envelope
  }

  const bury = (envelopes: number): void => {
    dead += envelopes
    if (dead > 1024 && dead > log.length / 2) {
      const live = log.map(isLive)
      log = log.filter((_, index) => live[index])
      logPositions = logPositions.filter((_, index) => live[index])
      dead = 0
    }
  }

  const store = (write: AppendRules.Write): AppendResult => {
    const { state } = write
    let run = runs.get(state.runId)
    if (run === undefined) {
      run = { state, envelopes: [], positions: [], trimmedPosition: 0, producers: new Map() }
      runs.set(state.runId, run)
    }
    const frames = AppendRules.framesOf(write.envelopes, state.generation, position + 1)
    for (const envelope of write.envelopes) {
      position++
      run.envelopes.push(envelope)
      run.positions.push(position)
      log.push(envelope)
      logPositions.push(position)
    }
    run.state = state
    if (write.producer !== undefined) run.producers.set(write.producer.id, write.producer.record)
    const trimmed = run.envelopes.length - (state.lastSeq - state.firstSeq + 1)
    if (trimmed > 0) {
      run.trimmedPosition = run.positions[trimmed - 1]!
      trimmedRuns.add(run)
      run.envelopes.splice(0, trimmed)
      run.positions.splice(0, trimmed)
      bury(trimmed)
    }
    return { frames, published: [] }
  }

  // Without a generator, which would take a third of an append's time.
  const append: EventStore["Service"]["append"] = (request) =>
    Effect.suspend((): Effect.Effect<AppendResult, AppendError> => {
      const invalid = AppendRules.checkRequest(request, bounds)
      if (invalid !== undefined) return Effect.fail(invalid)
      // Drawing random bytes takes as long as all the rest, and only a run's first append needs them.
      return runs.has(request.runId)
        ? decided(request, undefined)
        : Effect.flatMap(AppendRules.makeGeneration(random), (minted) => decided(request, minted))
    })

  const decided = (request: AppendRequest, minted: string | undefined): Effect.Effect<AppendResult, AppendError> =>
    // Nothing yields between the decision and the write: they are one step.
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const run = runs.get(request.runId)
      const generation = minted ?? run?.state.generation
      // It was removed meanwhile.
      if (generation === undefined) return append(request)
      const record = request.producer && run?.producers.get(request.producer.id)
      const decision = AppendRules.decide(run?.state, record, request, { now, generation, eventsPerRun })
      if (Result.isFailure(decision)) return Effect.fail(decision.failure)
      if (decision.success._tag === "Write") return Effect.succeed(store(decision.success))
      return Effect.fromResult(repeat(decision.success, request, run!))
    })

  const repeat = (
    decision: AppendRules.Repeat,
    request: AppendRequest,
    run: MemoryRun,
  ): Result.Result<AppendResult, StoreError.ProducerMismatch> => {
    const { firstSeq, lastSeq } = decision.record
    const stored = run.envelopes.slice(
      Math.max(0, firstSeq - run.state.firstSeq),
      Math.max(0, lastSeq - run.state.firstSeq + 1),
    )
    return Result.map(AppendRules.repeated(decision, request, stored), (envelopes): AppendResult => ({
      frames: AppendRules.framesOf(envelopes, run.state.generation, undefined).map((frame) => {
        const kept = run.positions[frame.envelope.seq - run.state.firstSeq]
        return kept === undefined ? frame : { ...frame, position: kept }
      }),
      published: [],
    }))
  }

  const read: EventStore["Service"]["read"] = Effect.fnUntraced(function* ({ after, limit, runId }) {
    const invalid = AppendRules.checkLimit(runId, limit)
    if (invalid !== undefined) return yield* invalid
    const place = yield* Cursor.runPlace(after)
    const run = runs.get(runId)
    const refused = AppendRules.checkPlace(runId, run?.state, place)
    if (refused !== undefined) return yield* refused
    if (run === undefined) return { envelopes: [], head: unknownHead(runId) }
    const from = place.seq + 1 - run.state.firstSeq
    const envelopes = run.envelopes.slice(from, from + Math.min(limit, bounds.maxPageEvents))
    envelopes.length = AppendRules.pageLength(envelopes, bounds.maxPageBytes)
    return { envelopes, head: AppendRules.headOf(run.state) }
  })

  const heads = Effect.fnUntraced(function* (request: Parameters<EventStore["Service"]["runs"]>[0]) {
    const invalid = AppendRules.checkLimit(undefined, request.limit)
    if (invalid !== undefined) return yield* invalid
    const { before, sessionId, status } = request
    return Array.from(runs.values(), (run) => AppendRules.headOf(run.state))
      .filter(
        (head) =>
          (sessionId === undefined || head.sessionId === sessionId) &&
          (status === undefined || head.status === status) &&
          (before === undefined || lastStartedFirst({ ...before }, head) < 0),
      )
      .toSorted(lastStartedFirst)
      .slice(0, Math.min(request.limit, 1000))
  })

  const renew: EventStore["Service"]["renew"] = Effect.fnUntraced(function* (runIds, lease) {
    const invalid = AppendRules.checkLease(undefined, lease, bounds)
    if (invalid !== undefined && invalid._tag === "AppendFailed") return yield* invalid
    const now = yield* Clock.currentTimeMillis
    const renewed: Array<RunId> = []
    const refused: Array<RunId> = []
    for (const runId of new Set(runIds)) {
      const run = runs.get(runId)
      const state = AppendRules.renewed(run?.state, lease, now)
      if (run === undefined || state === undefined) refused.push(runId)
      else {
        run.state = state
        renewed.push(runId)
      }
    }
    return { renewed, refused }
  })

  const appendWill: EventStore["Service"]["appendWill"] = Effect.fnUntraced(function* (runId, expected) {
    const now = yield* Clock.currentTimeMillis
    const decision = AppendRules.decideWill(runId, runs.get(runId)?.state, expected, now, eventsPerRun)
    return store(yield* Effect.fromResult(decision))
  })

  const endAbandoned: EventStore["Service"]["endAbandoned"] = Effect.fnUntraced(function* ({ event, idleFor }) {
    const invalid = AppendRules.checkAbandoned(event, bounds)
    if (invalid !== undefined) return yield* invalid
    const now = yield* Clock.currentTimeMillis
    const idleSince = now - Duration.toMillis(Duration.fromInputUnsafe(idleFor))
    const results: Array<AppendResult> = []
    for (const run of Array.from(runs.values())) {
      const eventId = (yield* random.uuidV7()) as EventId
      if (!AppendRules.isAbandoned(run.state, idleSince)) continue
      results.push(store(AppendRules.ending(run.state, { ...event, eventId }, now, eventsPerRun)))
    }
    return results
  })

  const removeNow = (runId: RunId): boolean => {
    const run = runs.get(runId)
    if (run === undefined) return false
    runs.delete(runId)
    trimmedRuns.delete(run)
    bury(run.envelopes.length)
    return true
  }

  if (ageAfterEnd !== undefined) {
    const sweep = Effect.map(Clock.currentTimeMillis, (now) => {
      for (const { state } of Array.from(runs.values())) {
        if (state.ending !== undefined && state.lastActivityAt + ageAfterEnd <= now) removeNow(state.runId)
      }
    })
    yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(Math.min(Math.max(ageAfterEnd / 4, 10), 60_000))))
  }

  const eventStore: EventStore["Service"] = {
    append,
    read,
    head: (runId) =>
      Effect.sync(() => {
        const run = runs.get(runId)
        return run === undefined ? unknownHead(runId) : AppendRules.headOf(run.state)
      }),
    runs: heads,
    producer: (runId, producerId) =>
      Effect.sync(() => {
        const record = runs.get(runId)?.producers.get(producerId)
        return record === undefined
          ? Option.none()
          : Option.some({ epoch: record.epoch, lastNumber: record.lastNumber, lastSeq: record.lastSeq })
      }),
    renew,
    appendWill,
    endAbandoned,
    remove: (runId) => Effect.sync(() => removeNow(runId)),
  }

  /** The index of the first envelope after a position. */
  const indexAfter = (after: number): number => {
    let low = 0
    let high = log.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (logPositions[middle]! <= after) low = middle + 1
      else high = middle
    }
    return low
  }

  /**
   * What was trimmed is told at the place of its last position: there every reader whose cursor is before it comes by,
   * and nobody else.
   */
  const truncatedBetween = (filter: EventFilter.CompiledFilter, after: number, reached: number) => {
    const items: Array<ArchiveTruncated & { readonly position: number }> = []
    for (const { envelopes, state, trimmedPosition } of trimmedRuns) {
      if (trimmedPosition <= after || trimmedPosition > reached || !filter.matchesRun(envelopes[0]!)) continue
      items.push({ _tag: "Truncated", runId: state.runId, from: 1, to: state.firstSeq - 1, position: trimmedPosition })
    }
    return items.toSorted((left, right) => left.position - right.position)
  }

  const replayPage = (filter: EventFilter.CompiledFilter, after: number, until: number) => {
    const begin = indexAfter(after)
    const end = Math.min(begin + bounds.maxPageEvents, log.length)
    const reached = Math.max(end < log.length ? Math.min(logPositions[end]! - 1, until) : until, after)
    const truncated = truncatedBetween(filter, after, reached)
    const items: Array<ArchiveItem> = []
    const tell = (before: number): void => {
      while (truncated.length > 0 && truncated[0]!.position < before) {
        const { position: _, ...item } = truncated.shift()!
        items.push(item)
      }
    }
    for (let index = begin; index < end && logPositions[index]! <= until; index++) {
      const envelope = log[index]!
      if (!isLive(envelope) || !filter.matches(envelope)) continue
      tell(logPositions[index]!)
      items.push({
        _tag: "Event",
        envelope,
        position: logPositions[index]!,
        cursor: Cursor.archive(filter.scope, logPositions[index]!),
        runCursor: Cursor.run(envelope.seq, runs.get(envelope.runId)!.state.generation),
      })
    }
    tell(Number.POSITIVE_INFINITY)
    return { items, reached }
  }

  const archive: EventArchive["Service"] = {
    replay: ({ after, filter }) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const compiled = yield* EventFilter.compile(filter)
          const start = after === undefined ? 0 : yield* Cursor.archivePosition(after, compiled.scope)
          const until = position
          if (start > until) return yield* new Cursor.CursorBeyondEnd({ position: start, end: until })
          return Stream.paginate(start, (from) =>
            Effect.sync(() => {
              const { items, reached } = replayPage(compiled, from, until)
              if (reached < until) return [items, Option.some(reached)] as const
              items.push({ _tag: "Checkpoint", position: until, cursor: Cursor.archive(compiled.scope, until) })
              return [items, Option.none<number>()] as const
            }),
          )
        }),
      ).pipe(Stream.provideContext(context)),
  }

  return { eventStore, archive }
})

/** Orders heads for `runs`: last started first, ties by run id. */
const lastStartedFirst = (
  left: { readonly runId: string; readonly startedAt?: number },
  right: { readonly runId: string; readonly startedAt?: number },
): number =>
  (right.startedAt ?? 0) - (left.startedAt ?? 0) || (left.runId < right.runId ? 1 : left.runId > right.runId ? -1 : 0)
