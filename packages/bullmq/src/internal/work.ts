/**
 * How this process runs jobs: it claims as many as it has free slots, of all names in one step, and starts a fiber for each.
 *
 * Nothing is claimed that can't start at once, so no claimed job waits locked for a slot. Where nothing is ready, one blocking
 * command waits on the markers of all names, which BullMQ sets wherever a job becomes ready.
 */
import type { Claim, Outcome, Settlement, WorkOptions, Worker } from "@throughline/core/JobEngine"
import { isLive, type JobJson, type JobName, type JobRecord, type JobState } from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import { type Commands, IoRedis } from "@throughline/redis/IoRedis"
import type * as Redis from "effect/persistence/Redis"
import type { RedisFailed } from "@throughline/redis/RedisFailed"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as failures from "./failures.ts"
import type { Queues, Settling, WorkedQueue } from "./queues.ts"
import { fieldOf, recordOf, type Row } from "./record.ts"
import { onRealTime } from "./realTime.ts"
import type { Held, Scripts } from "./scripts.ts"
import { Signal } from "./signal.ts"

/** What the work of this process needs. */
export interface Workplace {
  readonly commands: Commands
  readonly scripts: Scripts
  readonly queues: Queues
  /** The clock that jobs go by. Locks, and waiting for Redis, go by the computer's. */
  readonly clock: Clock.Clock
  readonly root: string
  /** In ms. */
  readonly lockDuration: number
  /** In ms. */
  readonly stalledInterval: number
  /** Opens a connection for commands that block up to `longestWait`. */
  readonly connectBlocking: Effect.Effect<Context.Context<IoRedis | Redis.Redis>, RedisFailed, Scope.Scope>
}

/** How long one blocking command waits at most, in ms: a delayed job whose marker was lost is found after it. */
export const longestWait = 5000

/** How long the end of a name waits for handlers that were interrupted, in ms, until it leaves them alone. */
const longestClose = 5000

/** Jobs claimed in one script at most: it holds Redis up. */
const largestClaim = 25

/** Locks renewed in one script at most. */
const largestRenewal = 500

/** From 50 ms doubling to 2 s, jittered. */
const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

/** A name that is worked on. */
export interface Handled {
  readonly name: JobName
  readonly concurrency: number
  readonly queue: WorkedQueue
  readonly running: Set<Running>
  /** Whether there may be a job that is ready. */
  isHopeful: boolean
  stopped: boolean
}

/** A claim of this process. */
interface Running extends Held {
  readonly handled: Handled
  readonly job: JobRecord
  readonly traces: string | undefined
  /** How often the job had been claimed with this claim, as BullMQ counts. */
  readonly claims: string | undefined
  /** Until when the lock holds, on the monotonic clock in ms. */
  holdsUntil: number
  /** What is stored of it if it is interrupted. */
  onInterrupt: "Cancelled" | "GivenBack" | "Lost" | undefined
  /** It runs no more; what is stored of it is decided. */
  concluded: boolean
  fiber: Fiber.Fiber<void> | undefined
}

const monotonicMillis = onRealTime(Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos / 1_000_000n)))

export class Work {
  readonly #place: Workplace
  readonly #options: WorkOptions
  readonly #worker: Worker
  readonly #run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  readonly #id: string
  readonly #handled = new Map<string, Handled>()
  readonly #running = new Map<string, Running>()
  /** Names, slots or the pause have changed. */
  readonly #changed = new Signal()
  /** Held while claiming and starting, so that who has waited for it knows that no claim is under way. */
  readonly #claiming = Semaphore.makeUnsafe(1)
  /** Cancellations of the last seconds: one may come between a claim and its answer. */
  #cancelled = new Set<string>()
  #cancelledBefore = new Set<string>()
  #paused = false
  #blocked = false
  #claims = 0
  /** Claims that were never answered, and the names that they may have taken of: the next claim gives it back. */
  readonly #abandoned = new Map<string, ReadonlyArray<JobName>>()
  #nextAt = 0

  constructor(
    place: Workplace,
    options: WorkOptions,
    worker: Worker,
    id: string,
    run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>,
  ) {
    this.#place = place
    this.#options = options
    this.#worker = worker
    this.#id = id
    this.#run = run
  }

  /** Works until interrupted. */
  readonly loop: Effect.Effect<void> = Effect.suspend(() =>
    Effect.scoped(
      Effect.gen({ self: this }, function* () {
        // Jobs that are ready are claimed while it connects.
        const blocking = yield* Effect.cached(Effect.map(this.#place.connectBlocking, Context.get(IoRedis)))
        yield* Effect.forkScoped(Effect.ignore(blocking))
        return yield* Effect.forever(this.#step(blocking))
      }),
    ),
  ).pipe(
    Effect.tapError((failure) => {
      // What was ready may have been missed meanwhile.
      for (const handled of this.#handled.values()) handled.isHopeful = true
      return Effect.logDebug("Jobs can't be claimed", failure)
    }),
    // Without an end, so it never gives up.
    Effect.retry(backoff),
    Effect.ignore,
    onRealTime,
  )

  #step<R>(blocking: Effect.Effect<Commands, RedisFailed, R>): Effect.Effect<void, RedisFailed, R> {
    return Effect.suspend(() => {
      const { version } = this.#changed
      const free = this.#options.concurrency - this.#running.size
      const open = this.#paused || free <= 0 ? [] : [...this.#handled.values()].filter(isOpen)
      if (open.length === 0) return this.#changed.changed(version)
      if (open.some(({ isHopeful }) => isHopeful)) return this.#claiming.withPermits(1)(this.#claim)
      return Effect.flatMap(blocking, (connection) => this.#wait(connection, open, version))
    })
  }

  /** Claims what fits, and starts it. */
  readonly #claim: Effect.Effect<void, RedisFailed> = Effect.gen({ self: this }, function* () {
    const free = this.#options.concurrency - this.#running.size
    const open = this.#paused ? [] : [...this.#handled.values()].filter(isOpen)
    const count = Math.min(largestClaim, free)
    if (open.length === 0 || count <= 0) return
    const token = `${this.#id}:${++this.#claims}`
    const since = yield* monotonicMillis
    const names = open.map(({ concurrency, name, running }) => ({
      name,
      limit: Math.min(count, concurrency - running.size),
    }))
    // A name that is closed since is asked for nothing.
    const others = new Set([...this.#abandoned.values()].flat())
    for (const { name } of open) others.delete(name)
    const request = {
      now: yield* this.#place.clock.currentTimeMillis,
      lockDuration: this.#place.lockDuration,
      token,
      count,
      names: [...names, ...Array.from(others, (name) => ({ name, limit: 0 }))],
      abandoned: [...this.#abandoned.keys()],
    }
    this.#abandoned.set(
      token,
      open.map(({ name }) => name),
    )
    const [nextAt, claimed] = yield* this.#place.commands.run(this.#place.scripts.claim, request)
    this.#abandoned.clear()
    this.#nextAt = nextAt
    const taken = new Map<string, number>()
    for (const [name] of claimed) taken.set(name, (taken.get(name) ?? 0) + 1)
    for (const handled of open) {
      const limit = names.find(({ name }) => name === handled.name)!.limit
      handled.isHopeful = claimed.length >= count || (taken.get(handled.name) ?? 0) >= limit
    }
    for (const [name, id, held, row] of claimed) this.#start(name, id, held, row, since)
  })

  /** Waits until a job of an open name is ready, or the next delayed one is. */
  readonly #wait = Effect.fnUntraced(
    { self: this },
    function* (blocking: Commands, open: ReadonlyArray<Handled>, version: number) {
      const { root } = this.#place
      const now = yield* this.#place.clock.currentTimeMillis
      if (this.#nextAt !== 0 && this.#nextAt <= now) {
        // Its time came while the claim was under way.
        this.#nextAt = 0
        for (const handled of open) handled.isHopeful = true
        return
      }
      const keys = open.map(({ name }) => `${root}:${name}:marker`)
      this.#blocked = true
      if (this.#changed.version !== version) {
        this.#blocked = false
        return
      }
      const due = this.#nextAt === 0 ? undefined : this.#run(this.#due(open, this.#nextAt - now))
      const wait = blocking.send("BZPOPMIN", [this.#wakeKey, ...keys, String(longestWait / 1000)])
      const popped = yield* Effect.onExit(wait, () =>
        Effect.sync(() => {
          this.#blocked = false
          due?.interruptUnsafe()
        }),
      )
      const key = Array.isArray(popped) ? String(popped[0]) : undefined
      if (key === this.#wakeKey) return
      if (key === undefined) {
        for (const handled of open) handled.isHopeful = true
        return
      }
      const marked = open.find(({ name }) => key === `${root}:${name}:marker`)!
      marked.isHopeful = true
      // Taken from those who could run it: they are told again.
      if (this.#paused || !isOpen(marked)) yield* this.#place.commands.send("ZADD", [key, "0", "0"])
    },
  )

  /** Ends a wait when the next delayed job is ready. */
  #due(open: ReadonlyArray<Handled>, after: number): Effect.Effect<void> {
    return Effect.andThen(
      this.#place.clock.sleep(Duration.millis(after)),
      Effect.suspend(() => {
        for (const handled of open) handled.isHopeful = true
        return this.#look
      }),
    )
  }

  get #wakeKey(): string {
    return `${this.#place.root}::wake:${this.#id}`
  }

  /** Slots, names or the pause have changed: who waits looks again. */
  readonly #look: Effect.Effect<void> = Effect.suspend(() => {
    this.#changed.notify()
    if (!this.#blocked) return Effect.void
    const { commands } = this.#place
    const wake = Effect.andThen(
      commands.send("ZADD", [this.#wakeKey, "0", "0"]),
      commands.send("PEXPIRE", [this.#wakeKey, "60000"]),
    )
    // Where it can't be woken the wait ends by itself.
    return Effect.ignore(wake)
  })

  #start(name: string, id: string, token: string, row: Row, since: number): void {
    const handled = this.#handled.get(name)
    const record = recordOf(name, id, "running", row)
    if (handled === undefined || Result.isFailure(record)) {
      const reason = Result.isFailure(record) ? record.failure : "its name is not handled"
      this.#run(this.#refuse({ name, id, token }, reason))
      return
    }
    const running: Running = {
      name,
      id,
      token,
      handled,
      job: record.success,
      traces: fieldOf(row, "stacktrace"),
      claims: fieldOf(row, "ats"),
      holdsUntil: since + this.#place.lockDuration,
      onInterrupt: fieldOf(row, "tl:cancel") === undefined && !this.#isCancelled(id) ? undefined : "Cancelled",
      concluded: false,
      fiber: undefined,
    }
    handled.running.add(running)
    this.#running.set(id, running)
    const fiber = this.#run(this.#job(running))
    running.fiber = fiber
    fiber.addObserver(() => {
      handled.running.delete(running)
      if (this.#running.get(id) === running) this.#running.delete(id)
      this.#freed(handled)
    })
  }

  #freed(handled: Handled): void {
    // A blocking wait that began without this name must begin anew with it.
    if (this.#blocked && handled.isHopeful) this.#run(this.#look)
    else this.#changed.notify()
  }

  readonly #refuse = Effect.fnUntraced({ self: this }, function* (held: Held, reason: string) {
    yield* Effect.logError(`Job ${held.id} of ${held.name} can't be run`, reason)
    const now = yield* this.#place.clock.currentTimeMillis
    yield* Effect.ignore(this.#place.commands.run(this.#place.scripts.refuse, { ...held, now, reason }))
  })

  #job(running: Running): Effect.Effect<void> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const exit = running.onInterrupt === undefined ? yield* Effect.exit(restore(this.#handle(running))) : undefined
        const isCrash = exit !== undefined && Exit.isFailure(exit) && running.onInterrupt === undefined
        if (isCrash) yield* Effect.logError("a worker crashed", exit.cause)
        const settling = this.#conclude(running, exit)
        const [job, stored] = yield* isCrash
          ? this.#crash(running)
          : settling === "Lost"
            ? Effect.succeed(lost(running))
            : this.#settle(running, settling)
        yield* this.#worker.settled(job, stored)
      }),
    )
  }

  #handle(running: Running): Effect.Effect<Outcome> {
    const claim: Claim = {
      job: running.job,
      progress: (value: JobJson) =>
        Effect.tryPromise({
          try: () => running.handled.queue.backend.tellProgress(running.id, value),
          catch: failures.bullmqFailed("store progress"),
        }),
    }
    return Effect.suspend(() => this.#worker.run(claim))
  }

  #conclude(running: Running, exit: Exit.Exit<Outcome> | undefined): Settling | "Lost" {
    running.concluded = true
    const { onInterrupt } = running
    if (onInterrupt === "Lost") return "Lost"
    if (exit !== undefined && Exit.isSuccess(exit))
      return JobRules.settlementOf(exit.value, onInterrupt === "Cancelled")
    return onInterrupt === undefined ? "Lost" : { _tag: onInterrupt }
  }

  /** Stores what became of a claim, for as long as it holds. */
  readonly #settle = Effect.fnUntraced(
    { self: this },
    function* (running: Running, settling: Settling): Effect.fn.Return<readonly [JobRecord, Settlement]> {
      const { queues } = this.#place
      let wanted = settling
      let unknown = false
      for (let tries = 0; ; tries++) {
        const now = yield* this.#place.clock.currentTimeMillis
        const stored = yield* Effect.result(
          Effect.tryPromise({
            try: () => queues.settle(running.handled.queue, running, wanted, now),
            catch: failures.refusalOf,
          }),
        )
        if (Result.isSuccess(stored)) return [stored.success, wanted]
        const refusal = stored.failure
        if (refusal === "cancel") {
          wanted = { _tag: "Cancelled" }
          continue
        }
        if (refusal === "lost") {
          const before = unknown ? yield* this.#storedBefore(running, wanted) : undefined
          return before ?? lost(running)
        }
        unknown = true
        if (running.onInterrupt === "Lost" || (yield* monotonicMillis) >= running.holdsUntil) {
          return lost(running)
        }
        yield* onRealTime(Effect.sleep(Math.min(1000, 50 * 2 ** tries)))
      }
    },
  )

  /** A worker broke its promise never to fail: that is a crash of it, and no attempt. */
  readonly #crash = Effect.fnUntraced({ self: this }, function* (running: Running): Effect.fn.Return<
    readonly [JobRecord, Settlement]
  > {
    const { clock, commands, scripts } = this.#place
    const { maxCrashes } = this.#options
    const now = yield* clock.currentTimeMillis
    const noted = yield* Effect.result(commands.run(scripts.crash, { ...running, now, maxCrashes }))
    // Where it can't be noted the lock runs out, which comes to the same.
    if (Result.isFailure(noted) || noted.success === "lost") return lost(running)
    if (noted.success === "cancelled") {
      return [JobRules.settled(running.job, { _tag: "Cancelled" }, now), { _tag: "Cancelled" }]
    }
    const job = JobRules.crashed(running.job, maxCrashes, now)
    const failure = job.failures.at(-1)
    return [job, noted.success === "dead" && failure !== undefined ? { _tag: "Dead", failure } : { _tag: "GivenBack" }]
  })

  /** Whether a try to settle that was never answered was carried out: nobody has claimed the job since, and it is so. */
  readonly #storedBefore = Effect.fnUntraced(
    { self: this },
    function* (
      { claims, id, job, name }: Running,
      wanted: Settling,
    ): Effect.fn.Return<readonly [JobRecord, Settlement] | undefined> {
      const { clock, commands, scripts } = this.#place
      const now = yield* clock.currentTimeMillis
      const found = yield* Effect.result(commands.run(scripts.read, { now, jobs: [{ name, id }] }))
      const [, , state = "", row = []] = (Result.isSuccess(found) ? found.success[0] : undefined) ?? []
      const record = recordOf(name, id, state as JobState, row)
      if (Result.isFailure(record) || fieldOf(row, "ats") !== claims) return undefined
      const stored = record.success
      const expected = JobRules.settled(job, wanted, now)
      const isSo =
        stored.crashes === expected.crashes &&
        stored.failures.length === expected.failures.length &&
        (isLive(expected.state) ? isLive(stored.state) && stored.state !== "running" : stored.state === expected.state)
      return isSo ? [stored, wanted] : undefined
    },
  )

  #interrupt(running: Running, as: "Cancelled" | "GivenBack" | "Lost"): void {
    // Lost is for good; a cancellation stands, even if the name is no longer handled before it is stored.
    if (running.onInterrupt === "Lost" || (running.onInterrupt === "Cancelled" && as === "GivenBack")) return
    if (running.concluded && as !== "Lost") return
    running.onInterrupt = as
    running.fiber?.interruptUnsafe()
  }

  /** Keeps the locks of what runs, and learns what is to stop. */
  readonly renewal: Effect.Effect<void> = Effect.suspend(() =>
    Effect.andThen(Effect.sleep(this.#place.lockDuration / 3), Effect.ignore(this.#renew)),
  ).pipe(Effect.forever, onRealTime)

  readonly #renew: Effect.Effect<void, RedisFailed> = Effect.gen({ self: this }, function* () {
    const { commands, lockDuration, scripts } = this.#place
    this.#cancelledBefore = this.#cancelled
    this.#cancelled = new Set()
    const all = [...this.#running.values()]
    for (let from = 0; from < all.length; from += largestRenewal) {
      const held = all.slice(from, from + largestRenewal)
      const since = yield* monotonicMillis
      const renewed = yield* commands.run(scripts.renew, { lockDuration, held })
      for (const [index, running] of held.entries()) {
        const answer = renewed[index]
        // What has settled since has no lock any more.
        if (answer === "lost") {
          if (!running.concluded) this.#interrupt(running, "Lost")
          continue
        }
        running.holdsUntil = since + lockDuration
        if (answer === "cancel") this.#interrupt(running, "Cancelled")
      }
    }
  })

  /** Stops what runs on without a lock: another process may have begun it. */
  readonly expiry: Effect.Effect<void> = Effect.suspend(() =>
    Effect.map(monotonicMillis, (now) => {
      for (const running of this.#running.values()) if (running.holdsUntil <= now) this.#interrupt(running, "Lost")
    }),
  ).pipe(Effect.delay(Duration.millis(100)), Effect.forever, onRealTime)

  #isCancelled(id: string): boolean {
    return this.#cancelled.has(id) || this.#cancelledBefore.has(id)
  }

  cancel(id: string): void {
    this.#cancelled.add(id)
    const running = this.#running.get(id)
    if (running !== undefined) this.#interrupt(running, "Cancelled")
  }

  handles(name: string): boolean {
    return this.#handled.has(name)
  }

  readonly handle = Effect.fnUntraced({ self: this }, function* (name: JobName, concurrency: number) {
    const queue = this.#place.queues.work(name)
    const handled: Handled = {
      name,
      concurrency,
      queue,
      running: new Set(),
      isHopeful: true,
      stopped: false,
    }
    this.#handled.set(name, handled)
    yield* this.#look
    return handled
  })

  /** Looks for jobs of a name whose worker is gone, until interrupted. */
  readonly watch = (handled: Handled): Effect.Effect<void> => {
    const { commands, scripts, stalledInterval } = this.#place
    const look = Effect.gen({ self: this }, function* () {
      const now = yield* this.#place.clock.currentTimeMillis
      const { maxCrashes } = this.#options
      const request = { name: handled.name, now, interval: stalledInterval, maxCrashes }
      const ids = yield* commands.run(scripts.stalled, request)
      if (ids.length === 0) return
      const jobs = ids.map((id) => ({ name: handled.name, id }))
      for (const [name, id, state, row] of yield* commands.run(scripts.read, { now, jobs })) {
        const record = state === "dead" || state === "cancelled" ? recordOf(name, id, state, row) : undefined
        if (record === undefined || Result.isFailure(record)) continue
        const failure = record.success.failures.at(-1)
        yield* this.#worker.settled(
          record.success,
          state === "dead" && failure !== undefined ? { _tag: "Dead", failure } : { _tag: "Cancelled" },
        )
      }
    })
    return Effect.forever(Effect.andThen(Effect.ignore(look), onRealTime(Effect.sleep(stalledInterval))))
  }

  /** Claims no more of a name; returns once no job of it can start. */
  readonly stop = (handled: Handled): Effect.Effect<void> =>
    Effect.suspend(() => {
      handled.stopped = true
      return Effect.andThen(this.#look, this.#claiming.withPermits(1)(Effect.void))
    })

  /**
   * Stops a name, interrupts what runs of it, gives that back and waits for it, {@link longestClose} at most. What runs on keeps
   * its slot, and its lock for as long as this process works; it is given back when it ends.
   */
  readonly close = Effect.fnUntraced({ self: this }, function* (handled: Handled) {
    yield* this.stop(handled)
    // From here on it isn't waited for by `closeAll`: who closed it may have given up on it, and may handle it anew.
    if (this.#handled.get(handled.name) === handled) this.#handled.delete(handled.name)
    const fibers: Array<Fiber.Fiber<void>> = []
    for (const running of handled.running) {
      this.#interrupt(running, "GivenBack")
      if (running.fiber !== undefined) fibers.push(running.fiber)
    }
    const closed = Effect.promise(() => handled.queue.worker.close())
    // Apart, as jobs settle through BullMQ's worker for as long as they run.
    const ending = this.#run(Effect.andThen(Fiber.awaitAll(fibers), closed))
    const ended = yield* onRealTime(Effect.timeoutOption(Fiber.await(ending), longestClose))
    if (Option.isNone(ended)) {
      yield* Effect.logError(`handlers of ${handled.name} that can't be interrupted were left running`)
    }
  })

  readonly closeAll: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach([...this.#handled.values()], (handled) => this.close(handled), {
      concurrency: "unbounded",
      discard: true,
    }),
  )

  readonly pause: Effect.Effect<void> = Effect.suspend(() => {
    this.#paused = true
    return Effect.andThen(this.#look, this.#claiming.withPermits(1)(Effect.void))
  })

  readonly resume: Effect.Effect<void> = Effect.suspend(() => {
    this.#paused = false
    return this.#look
  })
}

const lost = ({ job }: Running): readonly [JobRecord, Settlement] => [job, { _tag: "Lost" }]

const isOpen = ({ concurrency, running, stopped }: Handled): boolean => !stopped && running.size < concurrency
