/**
 * The job engine on BullMQ: background work of many machines on one Redis 7.
 *
 * Each job name is one BullMQ queue under one prefix, as a BullMQ worker takes whatever its queue has. The jobs are ordinary
 * BullMQ jobs: its dashboards and its `QueueEvents` see them come, run, retry, fail and complete. Adding goes through BullMQ's
 * `FlowProducer`, settling through its `Job`; this package puts some Lua around BullMQ's, so that the results log, a
 * cancellation and the time a record is kept are in one step with what BullMQ does. So it is made for one version of BullMQ.
 *
 * What an acknowledged job survives is what Redis is configured for (`appendonly yes`, `appendfsync always`: all that was
 * answered). What a worker that is killed was running is ready again once its lock has run out and a check has found it:
 * between `lockDuration` and `lockDuration` plus twice `stalledInterval`.
 *
 * Closing waits 5 s at most for handlers that were interrupted; one that runs on keeps its job until it ends, or until its lock
 * has run out after the engine is closed. Who waits for a job or for results when the engine closes is told `EngineFailed` with
 * `StoreUnavailable`.
 *
 * The README has a table of what differs from the other engines.
 *
 * **Example** (Jobs on a Redis of one's own)
 *
 * ```ts
 * import * as BullmqJobEngine from "@throughline/bullmq/BullmqJobEngine"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Config from "effect/Config"
 * import * as Layer from "effect/Layer"
 *
 * export const layer = BullmqJobEngine.layerConfig({ url: Config.Redacted("REDIS_URL") }).pipe(
 *   Layer.provide(Throughline.layerCrypto),
 * )
 * ```
 */
import * as AppendRules from "@throughline/core/AppendRules"
import { InvalidRequest } from "@throughline/core/EventStoreError"
import { type Enqueued, type EnqueueError, type EngineOptions, JobEngine } from "@throughline/core/JobEngine"
import * as JobError from "@throughline/core/JobError"
import {
  isLive,
  type JobCount,
  type JobId,
  type JobName,
  type JobRecord,
  JobResult,
  type JobState,
  type NewJob,
} from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as IoRedis from "@throughline/redis/IoRedis"
import { InvalidOptions, RedisFailed, Unexpected } from "@throughline/redis/RedisFailed"
import { RedisConnection } from "bullmq"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { enqueueLua } from "./internal/enqueueLua.ts"
import * as failures from "./internal/failures.ts"
import * as list from "./internal/list.ts"
import * as lua from "./internal/lua.ts"
import * as news from "./internal/news.ts"
import { type Guard, Queues } from "./internal/queues.ts"
import { onRealTime } from "./internal/realTime.ts"
import * as scripts from "./internal/scripts.ts"
import { longestWait, Work } from "./internal/work.ts"

export interface Options extends Omit<IoRedis.Options, "keyPrefix" | "pool">, EngineOptions {
  /**
   * What all keys begin with, in braces: with the default `throughline:jobs`, BullMQ's `prefix` is `{throughline:jobs}`. Engines
   * with the same prefix on the same Redis are one.
   */
  readonly prefix?: string | undefined
  /** How long a claim holds without being renewed; 30 seconds by default. It is renewed three times as often. */
  readonly lockDuration?: Duration.Input | undefined
  /** How often each process looks for jobs whose worker is gone; 30 seconds by default. */
  readonly stalledInterval?: Duration.Input | undefined
}

const millis = (input: Duration.Input | undefined, byDefault: number): number =>
  input === undefined ? byDefault : Math.ceil(Duration.toMillis(Duration.fromInputUnsafe(input)))

const invalid = (detail: string) => new RedisFailed({ command: "connect", reason: new InvalidOptions({ detail }) })

/** Results log entries as the log gives them. */
const decodeResult = Schema.decodeUnknownResult(JobResult)

const resultOf = (entry: string, texts: ReadonlyArray<string>): Result.Result<JobResult, string> => {
  const field = new Map<string, string>()
  for (let index = 0; index < texts.length; index += 2) field.set(texts[index]!, texts[index + 1] ?? "")
  const outcome = field.get("o")
  const value = field.get("v") ?? ""
  try {
    return Result.mapError(
      decodeResult({
        position: Number(entry.slice(entry.indexOf("-") + 1)),
        id: field.get("i"),
        name: field.get("n"),
        outcome,
        at: Number(field.get("a")),
        failedAttempts: Number(field.get("f")),
        ...(outcome === "succeeded" ? { result: value } : undefined),
        ...(outcome === "dead" ? { failure: JSON.parse(value) as unknown } : undefined),
      }),
      String,
    )
  } catch (cause) {
    return Result.fail(String(cause))
  }
}

const cursorPlace = /^(\d{1,16})-/

/** The states in the order in which they are counted. */
const counted: ReadonlyArray<JobState> = ["delayed", "waiting", "running", "succeeded", "dead", "cancelled"]

/** What became of a job, as the script that enqueues answers. */
const enqueuedOf = (answer: string): Enqueued => ({
  // Ids that the store gave are those of jobs of this engine.
  id: answer.slice(1) as JobId,
  created: answer.startsWith("+"),
  pending: false,
})

const isKept = (job: JobRecord, now: number): boolean => isLive(job.state) || JobRules.keptUntil(job) > now

/** Fails on a server that is too old for the scripts. */
const checkVersion = Effect.fnUntraced(function* (redis: IoRedis.Commands) {
  const version = /redis_version:(\d+)/.exec(String(yield* redis.send("INFO", ["server"])))?.[1]
  if (version !== undefined && Number(version) < 7) {
    return yield* new RedisFailed({
      command: "INFO",
      reason: new Unexpected({ problem: `the server is of version ${version}, and the engine needs Redis 7` }),
    })
  }
})

/** Opens the engine until the scope closes. Fails where the first connection can't be made. */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<JobEngine["Service"], RedisFailed, Scope.Scope | SecureRandom> {
  const bounds = JobRules.boundsOf(options)
  const root = `{${options.prefix ?? "throughline:jobs"}}`
  const lockDuration = millis(options.lockDuration, 30_000)
  const stalledInterval = millis(options.stalledInterval, 30_000)
  const commandTimeout = millis(options.commandTimeout, 5000)
  if (/[{}]/.test(options.prefix ?? "") || options.prefix === "")
    return yield* invalid("the prefix is empty or has a brace")
  if (!(lockDuration > 0) || !(stalledInterval > 0))
    return yield* invalid("lockDuration and stalledInterval must be positive")

  const random = yield* SecureRandom
  const clock = yield* Clock.Clock
  const redis = Context.get(yield* IoRedis.make(options), IoRedis.IoRedis)
  yield* checkVersion(redis)
  const bullmqScripts = lua.captureScripts(redis.client)
  const connection = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const opened = new RedisConnection(redis.client, { shared: true, blocking: false, skipVersionCheck: true })
      // The client's own errors are told by the commands that meet them.
      return opened.on("error", () => {})
    }),
    (opened) => Effect.promise(() => opened.close()),
  )
  const scope = { root, maxResults: bounds.maxResults }
  yield* Effect.tryPromise({ try: () => connection.client, catch: failures.redisFailed("connect") })
  const script = scripts.make(scope, bullmqScripts)
  const queues = yield* Effect.tryPromise({
    try: () =>
      Queues.make(connection, scope, {
        enqueue: enqueueLua(bullmqScripts),
        succeed: lua.succeedLua(bullmqScripts.get("moveToFinished")!),
      }),
    catch: failures.redisFailed("connect"),
  })
  const told = yield* news.make(yield* redis.connect, redis, script, root, clock)
  const ownGeneration = yield* AppendRules.makeGeneration(random)
  const processId = yield* AppendRules.makeGeneration(random)
  const listJobs = list.make(redis, script, root, clock)
  let work: Work | undefined

  // BullMQ's commands have no timeout; while this one is not answered in time, the connection is made anew and they fail.
  const ping = Effect.ignore(redis.send("PING", []))
  yield* Effect.forkScoped(onRealTime(Effect.repeat(ping, Schedule.spaced(Duration.millis(commandTimeout)))))
  const sweep = Effect.flatMap(clock.currentTimeMillis, (now) => redis.run(script.sweep, { now, limit: 500 }))
  const sweepAll = Effect.ignore(Effect.repeat(sweep, { until: (swept) => swept < 500 }))
  yield* Effect.forkScoped(onRealTime(Effect.repeat(sweepAll, Schedule.jittered(Schedule.spaced("30 seconds")))))

  const add = Effect.fnUntraced(function* (jobs: ReadonlyArray<NewJob>, guard: Guard) {
    const now = yield* clock.currentTimeMillis
    return yield* Effect.tryPromise({ try: () => queues.add(jobs, guard, now), catch: failures.enqueueFailed })
  })
  const enqueue: JobEngine["Service"]["enqueue"] = ({ jobs, maxWaiting }) =>
    Effect.suspend((): Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError> => {
      const refused = JobRules.checkJobs("enqueue", jobs, bounds.maxPayloadBytes)
      if (refused !== undefined) return Effect.fail(refused)
      return Effect.map(add(jobs, maxWaiting === undefined ? {} : { maxWaiting }), (answers) => answers.map(enqueuedOf))
    })

  const tick: JobEngine["Service"]["tick"] = ({ at, job, schedule }) =>
    Effect.suspend(() => {
      const refused = JobRules.checkJobs("tick", [job], bounds.maxPayloadBytes)
      if (refused !== undefined) return Effect.fail(refused)
      return add([job], { schedule, at }).pipe(
        Effect.map(([answer]) =>
          answer === undefined || answer === "ticked" ? Option.none() : Option.some(enqueuedOf(answer)),
        ),
        Effect.catchTag("PoolFull", () => Effect.fail(failures.broken("tick", "a tick was refused for want of room"))),
      )
    })

  const readJob = Effect.fnUntraced(function* (id: JobId) {
    const now = yield* clock.currentTimeMillis
    const [found] = yield* Effect.mapError(
      redis.run(script.read, { now, jobs: [{ name: "", id }] }),
      failures.engineFailed("read a job"),
    )
    return found === undefined || !list.isOurs(found) ? undefined : yield* list.readable(found)
  })

  const get: JobEngine["Service"]["get"] = Effect.fnUntraced(function* (id) {
    const job = yield* readJob(id)
    return job !== undefined && isKept(job, yield* clock.currentTimeMillis) ? Option.some(job) : Option.none()
  })

  const awaitSettled: JobEngine["Service"]["awaitSettled"] = (id) =>
    told.waitingFor(
      id,
      Effect.fnUntraced(function* (signal) {
        for (;;) {
          const { version } = signal
          if (told.isClosed) return yield* failures.closed("wait for a job")
          const job = yield* readJob(id)
          if (job === undefined) return yield* new JobError.JobUnknown({ id })
          if (!isLive(job.state)) return job
          yield* signal.changed(version)
        }
      }),
    )

  const cancel: JobEngine["Service"]["cancel"] = Effect.fnUntraced(function* (id) {
    const now = yield* clock.currentTimeMillis
    const answer = yield* Effect.mapError(redis.run(script.cancel, { id, now }), failures.engineFailed("cancel a job"))
    if (answer === "unknown") return yield* new JobError.JobUnknown({ id })
    return answer
  })

  const onDead = Effect.fnUntraced(function* (id: JobId, operation: string, what: "retryDead" | "removeDead") {
    const now = yield* clock.currentTimeMillis
    const answer = yield* Effect.mapError(redis.run(script[what], { id, now }), failures.engineFailed(operation))
    const [outcome, detail = "", holder = ""] = answer
    if (outcome === "unknown") return yield* new JobError.JobUnknown({ id })
    // What the scripts answer with: a state, and the id of a job of this engine.
    if (outcome === "not dead") return yield* new JobError.JobNotDead({ id, state: detail as JobState })
    if (outcome === "taken")
      return yield* new JobError.UniqueKeyTaken({ id, uniqueKey: detail, holder: holder as JobId })
  })

  const logAt = Effect.fnUntraced(function* (after: string | undefined, limit: number) {
    const place = after === undefined ? undefined : Number(cursorPlace.exec(after)?.[1] ?? 0)
    const request = { generation: ownGeneration, after: place, limit }
    const [generation, trimmed, last, entries] = yield* Effect.mapError(
      redis.run(script.results, request),
      failures.engineFailed("read results"),
    )
    return { log: { generation, trimmed, last }, entries }
  })
  const resultsEnd = Effect.map(logAt(undefined, 0), ({ log }) => JobRules.resultsCursor(log, log.last))

  const results: JobEngine["Service"]["results"] = Effect.fnUntraced(function* ({ after, limit }) {
    const refused = JobRules.checkLimit("results", limit)
    if (refused !== undefined) return yield* refused
    const { entries, log } = yield* logAt(after, limit)
    const place = yield* Effect.fromResult(JobRules.resultsPlace(after, log))
    const page: Array<JobResult> = []
    for (const [entry, texts] of entries) {
      const result = resultOf(entry, texts)
      if (Result.isFailure(result)) return yield* failures.broken("read results", `entry ${entry}: ${result.failure}`)
      page.push(result.success)
    }
    return { results: page, cursor: JobRules.resultsCursor(log, page.at(-1)?.position ?? place) }
  })

  const awaitResults: JobEngine["Service"]["awaitResults"] = Effect.fnUntraced(function* (after) {
    const { version } = told.results
    // A cursor that is no good is told by `results`, so waiting on one returns.
    if (!told.isClosed && (yield* resultsEnd) === after) yield* told.results.changed(version)
    if (told.isClosed) return yield* failures.closed("wait for results")
  })

  const connectBlocking = IoRedis.make({
    ...options,
    commandTimeout: Duration.millis(commandTimeout + longestWait),
  })

  const begin: JobEngine["Service"]["work"] = Effect.fnUntraced(function* (workOptions, worker) {
    if (work !== undefined) {
      const reason = new InvalidRequest({ detail: "a pool works on this engine already" })
      return yield* new JobError.EngineFailed({ operation: "work", reason })
    }
    const context: Context.Context<never> = yield* Effect.context()
    const run = Effect.runForkWith(context)
    const workplace = {
      commands: redis,
      scripts: script,
      queues,
      clock,
      root,
      lockDuration,
      stalledInterval,
      connectBlocking,
    }
    const working = new Work(workplace, workOptions, worker, processId, run)
    work = working
    told.onCancel = (id) => working.cancel(id)
    // Finalizers run in the reverse order: nothing more is claimed, then all is given back, and locks are kept until then.
    yield* Effect.forkScoped(working.renewal)
    yield* Effect.forkScoped(working.expiry)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        working.closeAll,
        Effect.sync(() => {
          work = undefined
          told.onCancel = () => {}
        }),
      ),
    )
    yield* Effect.forkScoped(working.loop)
    return {
      handle: Effect.fnUntraced(function* (name: JobName, { concurrency = Number.MAX_SAFE_INTEGER }) {
        if (working.handles(name)) {
          const reason = new InvalidRequest({ detail: `the name ${name} is handled already` })
          return yield* new JobError.EngineFailed({ operation: "handle", reason })
        }
        const handled = yield* Effect.acquireRelease(working.handle(name, concurrency), (acquired) =>
          working.close(acquired),
        )
        yield* Effect.forkScoped(working.watch(handled))
        return { stop: working.stop(handled) }
      }),
      pause: working.pause,
      resume: working.resume,
    }
  })

  return {
    options: bounds,
    enqueue,
    tick,
    lastTick: (schedule) =>
      redis.send("HGET", [`${root}::ticks`, schedule]).pipe(
        Effect.mapError(failures.engineFailed("read the last tick")),
        Effect.map((at) => (typeof at === "string" ? Option.some(Number(at)) : Option.none())),
      ),
    get,
    awaitSettled,
    cancel,
    retryDead: (id) => onDead(id, "retry a dead job", "retryDead"),
    removeDead: (id) =>
      Effect.catchTag(onDead(id, "remove a dead job", "removeDead"), "UniqueKeyTaken", () => Effect.void),
    list: Effect.fnUntraced(function* (request) {
      const refused = JobRules.checkLimit("list", request.limit)
      return refused === undefined ? yield* listJobs(request) : yield* refused
    }),
    counts: Effect.gen(function* () {
      const now = yield* clock.currentTimeMillis
      const names = yield* Effect.mapError(redis.run(script.counts, { now }), failures.engineFailed("count jobs"))
      const counts: Array<JobCount> = []
      for (const [name, values] of names) {
        for (const [index, state] of counted.entries()) {
          const count = values[index] ?? 0
          if (count > 0) counts.push({ name: name as JobName, state, count })
        }
      }
      return counts
    }),
    results,
    resultsEnd,
    awaitResults,
    work: begin,
  }
})

/** The engine on connections of its own. See {@link make}. */
export const layer = (options?: Options): Layer.Layer<JobEngine, RedisFailed, SecureRandom> =>
  Layer.effect(JobEngine, make(options))

/** The engine on connections of its own, from configuration. See {@link make}. */
export const layerConfig = (
  options: Config.Wrap<Options>,
): Layer.Layer<JobEngine, RedisFailed | Config.ConfigError, SecureRandom> =>
  Layer.effect(JobEngine, Effect.flatMap(Config.unwrap(options), make))
