/**
 * An engine at work in one process: claims jobs in batches, keeps their leases, and stores what becomes of them.
 *
 * One fiber looks for jobs and minds the leases; each claimed job has a fiber of its own, which ends once its outcome is
 * stored or its claim is lost.
 */
import { InvalidRequest, type StoreReason } from "@throughline/core/EventStoreError"
import type { Outcome, Settlement, Worker, Working, WorkOptions } from "@throughline/core/JobEngine"
import * as JobError from "@throughline/core/JobError"
import type { JobName, JobRecord } from "@throughline/core/JobRecord"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Changes } from "./changes.ts"
import * as groupCommit from "./groupCommit.ts"
import type * as jobRow from "./jobRow.ts"
import type { JobStore } from "./jobStore.ts"

/** What a worker stands on. */
export interface Ground {
  readonly store: JobStore
  readonly commit: groupCommit.Commit
  readonly batch: groupCommit.Batch
  readonly changes: Changes
  /** Names this worker among those that share the store. */
  readonly id: string
  /** ms that a claim holds unless it is renewed. */
  readonly lease: number
  readonly reasonOf: (error: groupCommit.Below) => StoreReason
  /** How many cancellations of running jobs were asked for through this engine. */
  readonly cancellations: () => number
  /** Tells those who wait for jobs what settled. */
  readonly settled: (jobs: ReadonlyArray<JobRecord>) => void
}

interface Handled {
  readonly name: JobName
  readonly concurrency: number
  readonly running: Set<Running>
  isStopped: boolean
}

interface Running {
  readonly handled: Handled
  stored: jobRow.Stored
  /** When the claim is over unless it is renewed. */
  holdsUntil: number
  fiber: Fiber.Fiber<void> | undefined
  /** It is stopped on purpose, so being interrupted is no crash. */
  isStopped: boolean
  /** Its outcome is known: it is no longer interrupted. */
  isConcluded: boolean
}

/** Pauses after the store failed: 50, 100, 200 … ms, every second at the latest. */
const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")]).pipe(Schedule.jittered)

/** A clock may be set anew while nothing happens. */
const longestSleep = 60_000

/** ms between looks for cancellations that other processes ask for: at each commit, one would cost as much as a claim. */
const cancelledLookEvery = 20

export const make = Effect.fnUntraced(function* (
  ground: Ground,
  options: WorkOptions,
  worker: Worker,
): Effect.fn.Return<Working, never, Scope.Scope> {
  const { changes, commit, lease, store } = ground
  /** Whole milliseconds: a clock that is asked for parts of one may not move at all. */
  const renewEvery = Math.floor(lease / 3)
  const names = new Map<JobName, Handled>()
  const running = new Map<number, Running>()
  /** Held while jobs are claimed and started, so that who stops a name can wait for that. */
  const claiming = yield* Semaphore.make(1)
  let isPaused = false
  /** There may be jobs to claim. */
  let mayFind = true
  let nextReady = Number.POSITIVE_INFINITY
  let nextExpiry = 0
  let nextRenewal = 0
  /** A running job may have been asked to be cancelled. */
  let mayBeCancelled = false
  let nextCancelledLook = 0
  let cancellations = ground.cancellations()

  // Running

  const settle = ground.batch((claims: ReadonlyArray<{ readonly stored: jobRow.Stored; readonly outcome: Outcome }>) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => store.settle(claims, now)),
  )

  const conclude = Effect.fnUntraced(function* (current: Running, outcome: Outcome) {
    current.isConcluded = true
    const [job, settlement] = yield* storeOutcome(current, outcome)
    if (job.settledAt !== undefined && settlement._tag !== "Lost") ground.settled([job])
    yield* worker.settled(job, settlement)
  })

  /** Tries for as long as the claim holds. */
  const storeOutcome = (current: Running, outcome: Outcome): Effect.Effect<readonly [JobRecord, Settlement]> => {
    const lost = [current.stored.job, { _tag: "Lost" }] as const
    // A claim that is thought lost may hold all the same: the store knows by its number.
    return settle({ stored: current.stored, outcome }).pipe(
      Effect.retry({
        schedule: backoff,
        while: (error) =>
          Effect.map(Clock.currentTimeMillis, (now) => error !== groupCommit.closed && now < current.holdsUntil),
      }),
      Effect.catch((error) =>
        Effect.as(Effect.logError(`The outcome of job ${current.stored.job.id} could not be stored`, error), lost),
      ),
    )
  }

  /** The worker broke its promise never to fail: that is a crash of it, and no attempt. */
  const crash = Effect.fnUntraced(function* (current: Running, cause: Cause.Cause<unknown>) {
    current.isConcluded = true
    yield* Effect.logError(`The worker of job ${current.stored.job.id} crashed`, cause)
    // The lease ends now; whoever looks next takes the job like that of a worker that is gone.
    const { ended } = yield* Effect.flatMap(Clock.currentTimeMillis, (now) =>
      commit(Effect.andThen(store.release(current.stored, now), store.expire(options.maxCrashes, now))),
    ).pipe(
      Effect.catch((error) =>
        Effect.as(Effect.logError("A crashed job waits for its lease to end", error), { ended: none }),
      ),
    )
    yield* tellEnded(ended)
    const hasEnded = ended.some(({ id }) => id === current.stored.job.id)
    if (!hasEnded) yield* worker.settled(current.stored.job, { _tag: "GivenBack" })
  })

  const runJob = (current: Running): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) => {
      const claim = {
        job: current.stored.job,
        progress: (value: NonNullable<JobRecord["progress"]>) =>
          Effect.mapError(
            commit(
              Effect.suspend(() => {
                current.stored = { ...current.stored, job: { ...current.stored.job, progress: value } }
                return store.progress(current.stored, value)
              }),
            ),
            (error) => new JobError.EngineFailed({ operation: "progress", reason: ground.reasonOf(error) }),
          ),
      }
      return restore(Effect.suspend(() => worker.run(claim))).pipe(
        Effect.exit,
        Effect.flatMap((exit) => {
          if (Exit.isSuccess(exit)) return conclude(current, exit.value)
          return current.isStopped && Cause.hasInterruptsOnly(exit.cause)
            ? conclude(current, { _tag: "GivenBack" })
            : crash(current, exit.cause)
        }),
        Effect.ensuring(
          Effect.sync(() => {
            running.delete(current.stored.key)
            current.handled.running.delete(current)
            look()
          }),
        ),
      )
    })

  const stop = (current: Running): void => {
    if (current.isConcluded) return
    current.isStopped = true
    current.fiber?.interruptUnsafe()
  }

  /** Tells of jobs that ended without a run of this worker: dead by their crashes, or cancelled when nobody was left to. */
  const tellEnded = (jobs: ReadonlyArray<JobRecord>) => {
    ground.settled(jobs)
    return Effect.forEach(
      jobs,
      (job) => {
        const failure = job.failures.at(-1)
        const isDead = job.state === "dead" && failure !== undefined
        return worker.settled(job, isDead ? { _tag: "Dead", failure } : { _tag: "Cancelled" })
      },
      { discard: true },
    )
  }

  // Looking for jobs

  const wake = Latch.makeUnsafe(false)

  const look = () => {
    mayFind = true
    wake.openUnsafe()
  }

  const claimSome = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const slots = options.concurrency - running.size
    const free = isPaused ? [] : freeNames()
    // Before the look: what frees a slot or brings a job meanwhile asks for another one.
    mayFind = false
    if (slots <= 0 || free.length === 0) {
      nextReady = Number.POSITIVE_INFINITY
      return
    }
    const claimed = yield* commit(
      Effect.gen(function* () {
        const found = yield* store.claim(free, slots, ground.id, now + lease, now)
        const isAll = found.length < slots
        return { found, isAll, nextReady: isAll ? yield* store.nextReady([...names.keys()], now) : undefined }
      }),
    ).pipe(Effect.onError(() => Effect.sync(look)))
    // A name at its own bound is looked for again when one of its jobs has ended.
    if (!claimed.isAll) mayFind = true
    if (claimed.nextReady !== undefined) nextReady = claimed.nextReady
    if (running.size === 0) nextRenewal = now + renewEvery
    for (const stored of claimed.found) {
      const handled = names.get(stored.job.name)!
      const current: Running = {
        handled,
        stored,
        holdsUntil: now + lease,
        fiber: undefined,
        isStopped: false,
        isConcluded: false,
      }
      running.set(stored.key, current)
      handled.running.add(current)
      current.fiber = yield* Effect.forkDetach(runJob(current))
    }
  }).pipe(Effect.uninterruptible, (effect) => claiming.withPermit(effect))

  const freeNames = () => {
    const free: Array<{ readonly name: JobName; readonly slots: number }> = []
    for (const { concurrency, isStopped, name, running: own } of names.values()) {
      if (!isStopped && own.size < concurrency) free.push({ name, slots: concurrency - own.size })
    }
    return free
  }

  // Minding leases

  const mind = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    if (running.size > 0 && now >= nextRenewal) {
      const held = yield* Effect.tapError(commit(store.renew(ground.id, now + lease)), () => stopOverdue)
      for (const [key, current] of running) {
        if (held.get(key) === current.stored.claim) current.holdsUntil = now + lease
        else if (!current.isConcluded) stop(current)
        held.delete(key)
      }
      // Claims of this worker that nobody works on any more: their outcome could not be stored while it was time.
      if (held.size > 0) {
        yield* commit(store.releaseAll([...held.keys()], ground.id, now))
        nextExpiry = now
      }
      nextRenewal = now + renewEvery
    }
    if (now >= nextExpiry) {
      const { ended, found, next } = yield* commit(store.expire(options.maxCrashes, now))
      // A claim that is made from now on holds for longer than until the look after this one.
      nextExpiry = found > 0 ? now : Math.min(now + renewEvery, next)
      if (found > 0) mayFind = true
      yield* tellEnded(ended)
    }
  })

  /** The store is away: a job whose claim is over may be another worker's by now. */
  const stopOverdue = Effect.map(Clock.currentTimeMillis, (now) => {
    for (const current of running.values()) if (now >= current.holdsUntil) stop(current)
  })

  const stopCancelled = Effect.gen(function* () {
    if (running.size === 0) mayBeCancelled = false
    const now = yield* Clock.currentTimeMillis
    const asked = ground.cancellations()
    // A clock that was set back must not keep the look from coming.
    const wait = Math.min(nextCancelledLook - now, cancelledLookEvery)
    nextCancelledLook = now + wait
    if (!mayBeCancelled || (asked === cancellations && wait > 0)) return
    // Before the look: what is asked for meanwhile asks for another one.
    mayBeCancelled = false
    cancellations = asked
    nextCancelledLook = now + cancelledLookEvery
    for (const key of yield* store.cancelled(ground.id)) {
      const current = running.get(key)
      if (current !== undefined) stop(current)
    }
  })

  const turn = Effect.fnUntraced(function* (seen: number) {
    const hasChanged = changes.seen() !== seen
    const now = changes.seen()
    if (hasChanged) {
      mayFind = true
      mayBeCancelled = true
    }
    yield* stopCancelled
    yield* mind
    const at = yield* Clock.currentTimeMillis
    if (mayFind || at >= nextReady) yield* claimSome
    return now
  })

  const rest = Effect.fnUntraced(function* (seen: number) {
    if (mayFind && freeNames().length > 0 && !isPaused && running.size < options.concurrency) return
    wake.closeUnsafe()
    const now = yield* Clock.currentTimeMillis
    const due = Math.min(
      nextReady,
      nextExpiry,
      running.size > 0 ? nextRenewal : Number.POSITIVE_INFINITY,
      mayBeCancelled ? nextCancelledLook : Number.POSITIVE_INFINITY,
    )
    const wait = Math.min(Math.max(Math.ceil(due - now), 0), longestSleep)
    yield* Effect.raceFirst(
      Effect.raceFirst(wake.await, names.size > 0 ? changes.after(seen) : Effect.never),
      Effect.sleep(wait),
    )
  })

  const loop = Effect.gen(function* () {
    let seen = changes.seen()
    let isAway = false
    while (true) {
      seen = yield* turn(seen).pipe(
        Effect.tapError((error) => {
          // One line for each time, not one for each attempt.
          const isNews = !isAway
          isAway = true
          const { message } = ground.reasonOf(error)
          return isNews ? Effect.logWarning(`The job store can't be used; trying again: ${message}`) : Effect.void
        }),
        Effect.retry(backoff),
      )
      isAway = false
      yield* rest(seen)
    }
  })
  const looking = yield* Effect.forkDetach(loop)

  /** Interrupts jobs and waits until they are given back, or can't be. */
  const giveBack = (some: Iterable<Running>) =>
    Effect.suspend(() => {
      const stopping = [...some]
      for (const current of stopping) stop(current)
      return Fiber.awaitAll(stopping.flatMap(({ fiber }) => fiber ?? []))
    })

  /** Returns when nothing is being claimed under what was so before. */
  const settleDown = claiming.withPermit(Effect.void)

  // Every fiber of this worker ends here, and in this order: an outcome is stored by what outlives it.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      for (const handled of names.values()) handled.isStopped = true
      yield* settleDown
      // Who lets a name go waits for its jobs as long as it likes; what it gave up waiting for isn't waited for here.
      yield* giveBack([...running.values()].filter(({ isStopped }) => !isStopped))
      yield* Fiber.interrupt(looking)
    }),
  )

  return {
    handle: Effect.fnUntraced(function* (name, { concurrency }) {
      const handled: Handled = { name, concurrency: concurrency ?? Infinity, running: new Set(), isStopped: false }
      if (names.has(name)) {
        const reason = new InvalidRequest({ detail: `jobs of the name ${name} are handled already` })
        return yield* new JobError.EngineFailed({ operation: "handle", reason })
      }
      const stopName = Effect.andThen(
        Effect.sync(() => {
          handled.isStopped = true
        }),
        settleDown,
      )
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          names.set(name, handled)
          look()
        }),
        () =>
          stopName.pipe(
            // From here on the name may be handled anew.
            Effect.andThen(Effect.sync(() => names.delete(name))),
            Effect.andThen(giveBack(handled.running)),
          ),
      )
      return { stop: stopName }
    }),
    pause: Effect.andThen(
      Effect.sync(() => {
        isPaused = true
      }),
      settleDown,
    ),
    resume: Effect.sync(() => {
      isPaused = false
      look()
    }),
  }
})

const none: ReadonlyArray<JobRecord> = []
