/**
 * The event store on Redis Streams: every append is one script, one round trip.
 *
 * What an acknowledged append survives is what Redis is configured for; the README of this package says what each setting
 * can lose. With `durability: { replicas, timeout }` an append is acknowledged once so many replicas have it.
 *
 * **Example** (A store on a server of one's own)
 *
 * ```ts
 * import * as IoRedis from "@throughline/redis/IoRedis"
 * import * as RedisEventStore from "@throughline/redis/RedisEventStore"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Config from "effect/Config"
 * import * as Layer from "effect/Layer"
 *
 * export const layer = RedisEventStore.layer({ retention: { ageAfterEnd: "7 days" } }).pipe(
 *   Layer.provide(IoRedis.layerConfig({ url: Config.Redacted("REDIS_URL") })),
 *   Layer.provide(Throughline.layerCrypto),
 * )
 * ```
 */
import * as AppendRules from "@throughline/core/AppendRules"
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEvent, Ending, EventId, RunId } from "@throughline/core/Envelope"
import {
  type AppendError,
  type AppendRequest,
  type AppendResult,
  EventStore,
  type LeaseRequest,
} from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import { type RunHead, unknownHead } from "@throughline/core/RunHead"
import { defaultBounds, retained, type StoreOptions } from "@throughline/core/StoreOptions"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type Commands, IoRedis } from "./IoRedis.ts"
import * as eventRecord from "./internal/eventRecord.ts"
import * as position from "./internal/position.ts"
import * as answers from "./internal/storeAnswers.ts"
import * as storeScripts from "./internal/storeScripts.ts"
import { Disconnected, RedisFailed, toStoreReason } from "./RedisFailed.ts"
import * as RedisKeys from "./RedisKeys.ts"

export interface RedisStoreOptions extends StoreOptions {
  /**
   * When an append is acknowledged: `"server"`, the default, once Redis has carried it out; with `replicas`, once so many
   * replicas have confirmed it, else it fails `DurabilityUnconfirmed` after `timeout`, and sending it again asks again.
   */
  readonly durability?: "server" | { readonly replicas: number; readonly timeout: Duration.Input } | undefined
  /**
   * `false`: appends get no position and no entry in the archive's index, which saves one command an append (two with a
   * session) and the memory of an entry. There is no archive then. All stores on one prefix must agree.
   */
  readonly index?: boolean | undefined
  /**
   * `true`: the append script also publishes to the run's room, in the same step, and says so in `published`. Only with
   * this package's adapter on the same server and prefix; not done where replicas must confirm an append first.
   */
  readonly publish?: boolean | undefined
  /**
   * The clock of leases and ages: `"server"`, the default, is Redis's `TIME`, one for all processes. `"client"` is
   * Effect's `Clock` of this process: for tests, and for a single process that wants to own the time.
   */
  readonly clock?: "server" | "client" | undefined
}

/** Opens the store until the scope closes. */
export const make = Effect.fnUntraced(function* (
  options: RedisStoreOptions = {},
): Effect.fn.Return<EventStore["Service"], never, IoRedis | SecureRandom.SecureRandom | Scope.Scope> {
  const redis = yield* IoRedis
  const random = yield* SecureRandom.SecureRandom
  const given = { ...defaultBounds, ...options.bounds }
  const bounds = {
    ...given,
    maxAppendEvents: Math.min(given.maxAppendEvents, position.perAppend),
    maxEventBytes: Math.min(given.maxEventBytes, mostAppendBytes),
  }
  const prefix = redis.keyPrefix
  const { ageAfterEnd, eventsPerRun } = retained(options.retention)
  const durability = options.durability ?? "server"
  const replicas = durability === "server" ? undefined : durability
  const publishes = options.publish === true && replicas === undefined
  const clock: Effect.Effect<number | undefined> =
    options.clock === "client" ? Clock.currentTimeMillis : Effect.succeed(undefined)

  const makeGeneration = AppendRules.makeGeneration(random)

  const scripts = storeScripts.make({
    prefix,
    ageAfterEnd,
    eventsPerRun,
    isIndexed: options.index !== false,
    isPublished: publishes,
    rewritesRepeats: replicas !== undefined,
  })

  /** The answer to a step that stored events, now or before. */
  const resultOf = (
    runId: RunId,
    events: ReadonlyArray<EncodedEvent>,
    reply: string,
  ): Result.Result<AppendResult, StoreError.AppendFailed> =>
    Result.mapBoth(storeScripts.parseStored(reply), {
      onFailure: (detail) => answers.appendFailed(runId, new StoreError.StoreBroken({ detail })),
      onSuccess: (stored) => ({
        frames: answers.framesOf(runId, events, stored),
        published: publishes && stored.keptFrom === undefined ? [{ _tag: "Run", runId }] : [],
      }),
    })

  /** Runs a writing step; where replicas must confirm it, on a connection of its own that then waits for them. */
  const durably = <A, E>(
    runId: RunId,
    step: (commands: Commands) => Effect.Effect<A, E | RedisFailed>,
    isWritten: (answer: A) => boolean,
  ): Effect.Effect<A, E | RedisFailed | StoreError.DurabilityUnconfirmed> => {
    if (replicas === undefined) return step(redis)
    const timeout = wholeMillis(replicas.timeout)
    return Effect.scoped(
      Effect.gen(function* () {
        const reserved = yield* redis.reserve
        const answer = yield* step(reserved)
        if (!isWritten(answer)) return answer
        const confirmed = Number(yield* reserved.send("WAIT", [replicas.replicas, timeout]))
        if (confirmed >= replicas.replicas) return answer
        const detail = `${confirmed} of ${replicas.replicas} replicas confirmed it within ${timeout} ms`
        return yield* new StoreError.DurabilityUnconfirmed({ runId, detail })
      }),
    ).pipe(
      // The pool's own timeout and a connection that blocks for ever look alike from here.
      Effect.timeoutOrElse({
        duration: timeout + 10_000,
        orElse: () => {
          const detail = `no answer from a connection of its own within ${timeout + 10_000} ms`
          return Effect.fail(new RedisFailed({ command: "WAIT", reason: new Disconnected({ detail }) }))
        },
      }),
    )
  }

  /** Runs that were there when this store last appended to them; the newest thousand. */
  const seen = new Set<string>()

  const remember = (runId: RunId): void => {
    if (seen.has(runId)) return
    if (seen.size >= 1000) for (const oldest of seen.values().take(1)) seen.delete(oldest)
    seen.add(runId)
  }

  /** A generation is minted for runs that may be new, and for one that is after all. */
  const mintedAppend = (request: AppendRequest, parameters: storeScripts.Append) =>
    Effect.flatMap(makeGeneration, (generation) => sendAppend(request, { ...parameters, generation }))

  const sendAppend = (
    request: AppendRequest,
    parameters: storeScripts.Append,
  ): Effect.Effect<AppendResult, AppendError> => {
    const { events, runId } = request
    return Effect.matchEffect(
      durably(runId, (commands) => commands.run(scripts.append, parameters), answers.isStored),
      {
        onFailure: (error): Effect.Effect<never, AppendError> =>
          Effect.fail(error._tag === "RedisFailed" ? answers.appendFailed(runId, toStoreReason(error)) : error),
        onSuccess: (answer): Effect.Effect<AppendResult, AppendError> => {
          if (typeof answer !== "string") {
            return answer[0] === "new"
              ? mintedAppend(request, parameters)
              : Effect.fail(answers.refusal(request, answer))
          }
          remember(runId)
          return Effect.fromResult(resultOf(runId, events, answer))
        },
      },
    )
  }

  // Few steps, not a generator: an append waits for its round trip, and each step is cold code after it.
  const append: EventStore["Service"]["append"] = (request) =>
    Effect.suspend(() => {
      const invalid = AppendRules.checkRequest(request, bounds)
      if (invalid !== undefined) return Effect.fail(invalid)
      const { events, lease, runId } = request
      const records = events.map(eventRecord.encode)
      const will = lease && willOf(lease)
      const bytes = bytesOf(records, will?.record ?? "")
      if (bytes > mostAppendBytes) {
        const detail = `an append of ${bytes} bytes, more than the ${mostAppendBytes} that Redis is sent at once`
        return Effect.fail(answers.appendFailed(runId, new StoreError.InvalidRequest({ detail })))
      }
      const parameters: storeScripts.Append = {
        runId,
        now: undefined,
        generation: "",
        identity: storeScripts.identityOf(request.sessionId, request.vocabulary),
        producer: request.producer,
        expected: answers.expectedHead(request),
        ending: events[events.length - 1]!.endsRun,
        leaseTtl: lease && leaseMillis(lease),
        will,
        records,
      }
      const send = seen.has(runId) ? sendAppend : mintedAppend
      return options.clock === "client"
        ? Effect.flatMap(Clock.currentTimeMillis, (now) => send(request, { ...parameters, now }))
        : send(request, parameters)
    })

  const page = Effect.fnUntraced(function* (runId: RunId, after: number, limit: number) {
    const now = ageAfterEnd === undefined ? undefined : yield* clock
    const parameters = { runId, now, after, limit, maxBytes: bounds.maxPageBytes }
    const answer = yield* Effect.mapError(redis.run(scripts.read, parameters), answers.readFailed(runId))
    if (answer[0] === "unknown") return undefined
    if (answer[0] === "evicted") {
      return yield* new StoreError.ReadFailed({ runId, reason: answers.evicted(runId) })
    }
    const state = answers.stateOf(runId, answer[1])
    if (state !== undefined) return { state, hasWill: answer[1][9] === 1, entries: answer[2] }
    const detail = `the head of run ${runId} can't be decoded`
    return yield* new StoreError.ReadFailed({ runId, reason: new StoreError.StoreBroken({ detail }) })
  })

  const read: EventStore["Service"]["read"] = Effect.fnUntraced(function* ({ after, limit, runId }) {
    const invalid = AppendRules.checkLimit(runId, limit)
    if (invalid !== undefined) return yield* invalid
    const place = yield* Cursor.runPlace(after)
    const found = yield* page(runId, place.seq, Math.min(limit, bounds.maxPageEvents))
    const refused = AppendRules.checkPlace(runId, found?.state, place)
    if (refused !== undefined) return yield* refused
    if (found === undefined) return { envelopes: [], head: unknownHead(runId) }
    const envelopes = yield* Effect.fromResult(answers.envelopesOf(found.state, place.seq + 1, found.entries))
    return { envelopes, head: answers.headOf(found) }
  })

  const head: EventStore["Service"]["head"] = Effect.fnUntraced(function* (runId) {
    const found = yield* page(runId, 0, 0)
    return found === undefined ? unknownHead(runId) : answers.headOf(found)
  })

  /** A run that goes while it is listed is left out, as is one that Redis answers.evicted. */
  const listedHead = (runId: RunId): Effect.Effect<RunHead | undefined, StoreError.ReadFailed> =>
    head(runId).pipe(
      Effect.map((found) => (found.status === "unknown" ? undefined : found)),
      Effect.catchIf(
        (error) => error.reason._tag === "StoreBroken" && error.reason.detail === answers.evicted(runId).detail,
        () => Effect.succeed(undefined),
      ),
    )

  /** A page of a list of runs, last started first, and the place to go on from. */
  const listPage = (key: string, limit: number, before: Place | undefined) =>
    Effect.map(redis.run(storeScripts.list, { key, limit, before }), (listed) => {
      const runIds = listed.filter((_, index) => index % 2 === 0) as ReadonlyArray<string> as ReadonlyArray<RunId>
      const next: Place | undefined =
        runIds.length < limit
          ? undefined
          : { runId: runIds[runIds.length - 1]!, startedAt: Number(listed[listed.length - 1]) }
      return { runIds, next }
    })

  const runs: EventStore["Service"]["runs"] = Effect.fnUntraced(function* ({ before, limit, sessionId, status }) {
    const invalid = AppendRules.checkLimit(undefined, limit)
    if (invalid !== undefined) return yield* invalid
    const most = Math.min(limit, 1000)
    const isOpenList = status === "running" && sessionId === undefined
    const key = isOpenList ? RedisKeys.open(prefix) : RedisKeys.runs(prefix, sessionId)
    const heads: Array<RunHead> = []
    let place: Place | undefined = before
    do {
      const listed: { readonly runIds: ReadonlyArray<RunId>; readonly next: Place | undefined } =
        yield* Effect.mapError(listPage(key, Math.max(most - heads.length, 100), place), answers.readFailed(undefined))
      for (const one of yield* Effect.forEach(listed.runIds, listedHead, { concurrency: "unbounded" })) {
        if (one === undefined || (status !== undefined && one.status !== status) || heads.length === most) continue
        heads.push(one)
      }
      place = listed.next
    } while (place !== undefined && heads.length < most)
    return heads
  })

  const producer: EventStore["Service"]["producer"] = (runId, producerId) =>
    redis.send("HGET", [RedisKeys.run(prefix, runId), `p:${producerId}`]).pipe(
      Effect.mapError(answers.readFailed(runId)),
      Effect.flatMap((text) => {
        if (text === null) return Effect.succeed(Option.none())
        const record = answers.decodeProducer(text)
        if (Result.isFailure(record)) {
          const detail = `producer ${producerId} of run ${runId} can't be decoded (${record.failure.message})`
          return Effect.fail(new StoreError.ReadFailed({ runId, reason: new StoreError.StoreBroken({ detail }) }))
        }
        const [epoch, , lastNumber, , , , lastSeq] = record.success
        return Effect.succeed(Option.some({ epoch, lastNumber, lastSeq }))
      }),
    )

  const renew: EventStore["Service"]["renew"] = Effect.fnUntraced(function* (runIds, lease) {
    const invalid = AppendRules.checkLease(undefined, lease, bounds)
    if (invalid !== undefined && invalid._tag === "AppendFailed") return yield* invalid
    const now = yield* clock
    const parameters = { now, leaseTtl: leaseMillis(lease), will: willOf(lease) }
    const renewed: Array<RunId> = []
    const refused: Array<RunId> = []
    yield* Effect.forEach(
      new Set(runIds),
      (runId) =>
        Effect.map(redis.run(scripts.renew, { runId, ...parameters }), (isOpen) =>
          (isOpen === 1 ? renewed : refused).push(runId),
        ),
      { concurrency: "unbounded", discard: true },
    ).pipe(Effect.mapError((error) => answers.appendFailed(undefined, toStoreReason(error))))
    return { renewed, refused }
  })

  const appendWill: EventStore["Service"]["appendWill"] = Effect.fnUntraced(function* (runId, expected) {
    const parameters = { runId, now: yield* clock, ...expected }
    const answer = yield* Effect.mapError(
      durably(runId, (commands) => commands.run(scripts.appendWill, parameters), answers.isStored),
      answers.unconfirmed,
    )
    switch (answer[0]) {
      case "stored": {
        const will = eventRecord.decode(answer[2], 1, { runId, sessionId: undefined, schemaVersion: 0 })
        if (Result.isFailure(will)) {
          const detail = `the will of run ${runId} was stored and can't be decoded: ${will.failure}`
          return yield* answers.appendFailed(runId, new StoreError.StoreBroken({ detail }))
        }
        return yield* Effect.fromResult(resultOf(runId, [will.success], answer[1]))
      }
      case "evicted":
        return yield* answers.appendFailed(runId, answers.evicted(runId))
      case "ended":
        return yield* new StoreError.RunEnded({ runId, endSeq: answer[1], ending: answer[2] })
      case "conflict":
        return yield* answers.seqConflict(runId, { expectedSeq: expected.expectedSeq }, answer)
      default:
        return yield* new StoreError.LeaseConflict({ runId, problem: answer[0] })
    }
  })

  const endOne = Effect.fnUntraced(function* (
    runId: RunId,
    event: Omit<EncodedEvent, "eventId">,
    ending: Ending,
    idleFor: number,
  ) {
    const one: EncodedEvent = { ...event, eventId: (yield* random.uuidV7()) as EventId }
    const parameters = { runId, now: yield* clock, idleFor, record: eventRecord.encode(one), ending }
    const answer = yield* Effect.mapError(
      durably(runId, (commands) => commands.run(scripts.endAbandoned, parameters), answers.isStored),
      answers.unconfirmed,
    )
    return typeof answer === "string" ? yield* Effect.fromResult(resultOf(runId, [one], answer)) : undefined
  })

  const endAbandoned: EventStore["Service"]["endAbandoned"] = Effect.fnUntraced(function* ({ event, idleFor }) {
    const invalid = AppendRules.checkAbandoned(event, bounds)
    if (invalid !== undefined) return yield* invalid
    const idle = Duration.toMillis(Duration.fromInputUnsafe(idleFor))
    const ended: Array<AppendResult> = []
    let place: Place | undefined
    do {
      const listed: { readonly runIds: ReadonlyArray<RunId>; readonly next: Place | undefined } =
        yield* Effect.mapError(listPage(RedisKeys.open(prefix), 1000, place), (error) =>
          answers.appendFailed(undefined, toStoreReason(error)),
        )
      const results = yield* Effect.forEach(listed.runIds, (runId) => endOne(runId, event, event.endsRun!, idle), {
        concurrency: 64,
      })
      for (const result of results) if (result !== undefined) ended.push(result)
      place = listed.next
    } while (place !== undefined)
    return ended
  })

  /** Takes what removed runs left in the index out of it, a bounded step at a time. */
  const reclaim: Effect.Effect<void, RedisFailed> = Effect.gen(function* () {
    for (let step = 0; step < mostReclaimed; step++) {
      if ((yield* redis.run(scripts.reclaim, undefined)) === 0) return
      yield* Effect.yieldNow
    }
  })

  const tryReclaim = reclaim.pipe(
    Effect.catch((error) => Effect.logWarning("Removed runs are still in the archive's index", error.message)),
  )

  const remove: EventStore["Service"]["remove"] = Effect.fnUntraced(function* (runId) {
    const parameters = { runId, now: yield* clock }
    const removed = yield* Effect.mapError(redis.run(scripts.remove, parameters), (error) =>
      answers.appendFailed(runId, toStoreReason(error)),
    )
    if (removed === 1) yield* tryReclaim
    return removed === 1
  })

  if (ageAfterEnd !== undefined) {
    const serverTime = Effect.flatMap(redis.send("TIME", []), (reply) => Effect.fromResult(answers.serverMillis(reply)))
    // Redis expires a run's keys by itself; what lists the run goes here.
    const sweep = Effect.gen(function* () {
      const now = yield* clock
      const time = now ?? (yield* serverTime)
      const range = [RedisKeys.ended(prefix), "-inf", time - ageAfterEnd, "BYSCORE", "LIMIT", 0, 500]
      let removed: number
      do {
        const runIds = yield* Effect.fromResult(answers.decodeIds(yield* redis.send("ZRANGE", range)))
        const expired = yield* Effect.forEach(runIds, (runId) => redis.run(scripts.expire, { runId, now }), {
          concurrency: "unbounded",
        })
        removed = expired.filter((one) => one === 1).length
      } while (removed > 0)
      yield* reclaim
    }).pipe(
      Effect.catch((error) =>
        Effect.logWarning("Runs past their age are still listed; trying again later", error.message),
      ),
    )
    yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(Math.min(Math.max(ageAfterEnd / 4, 10), 60_000))))
  }

  return EventStore.of({ append, read, head, runs, producer, renew, appendWill, endAbandoned, remove })
})

/** The store on the server of the `IoRedis`. */
export const layer = (
  options?: RedisStoreOptions,
): Layer.Layer<EventStore, never, IoRedis | SecureRandom.SecureRandom> => Layer.effect(EventStore, make(options))

/**
 * Steps of 500 index entries taken out at once, so that `remove` ends whatever the server answers; what is left goes with the
 * next run that is removed.
 */
const mostReclaimed = 2000

/** Bytes of the records of one append: a command is one string on its way, and Node's longest has 512 MiB. */
const mostAppendBytes = 128 * 1024 * 1024

/** UTF-8 bytes of records, counted only where they could be too many. */
const bytesOf = (records: ReadonlyArray<string>, will: string): number => {
  let most = will.length * 3
  for (const record of records) most += record.length * 3
  if (most <= mostAppendBytes) return most
  return records.reduce((bytes, record) => bytes + AppendRules.byteLength(record), AppendRules.byteLength(will))
}

type Place = { readonly runId: string; readonly startedAt: number }

const wholeMillis = (input: Duration.Input): number =>
  Math.max(1, Math.round(Duration.toMillis(Duration.fromInputUnsafe(input))))

const leaseMillis = (lease: LeaseRequest): number => Duration.toMillis(Duration.fromInputUnsafe(lease.ttl))

const willOf = ({ will }: LeaseRequest): storeScripts.Append["will"] =>
  will === undefined ? undefined : { record: eventRecord.encode(will), ending: will.endsRun! }
