/**
 * How the memory engine runs jobs: one fiber per job, started from one place.
 *
 * Imperative on purpose: a job costs a few microseconds in all, and an effect per step would double that.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { Settlement, Worker, WorkOptions } from "../JobEngine.ts"
import type { JobName } from "../JobRecord.ts"
import * as JobRules from "../JobRules.ts"
import { readyBefore } from "./jobReady.ts"
import type { Entry, MemoryJobs, Named } from "./memoryJobs.ts"

/** A claimed job. */
export interface Running {
  readonly entry: Entry
  readonly handled: Handled
  fiber: Fiber.Fiber<void> | undefined
  /** What is stored of it if it is interrupted. */
  onInterrupt: "Cancelled" | "GivenBack" | undefined
  /** Its outcome is stored: it is no longer interrupted. */
  concluded: boolean
}

interface Handled {
  readonly named: Named
  readonly concurrency: number
  readonly running: Set<Running>
  stopped: boolean
  closing: boolean
  /** Called once none runs. */
  readonly whenIdle: Array<() => void>
}

/** Jobs started in one go; then other fibers have their turn. */
const burst = 64

/** A clock may be set anew while nothing happens; it is looked at this often, in ms, while jobs are delayed. */
const longestSleep = 60_000

export class MemoryJobWork {
  readonly #jobs: MemoryJobs
  readonly #clock: Clock.Clock
  readonly #options: WorkOptions
  readonly #worker: Worker
  readonly #run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  readonly #handled = new Map<JobName, Handled>()
  /** The same as a list, which is gone through for every job. */
  #open: ReadonlyArray<Handled> = []
  #running = 0
  #paused = false
  #closed = false
  #starting = false
  #planned = false
  #timer: { readonly at: number; readonly fiber: Fiber.Fiber<void> } | undefined

  constructor(
    jobs: MemoryJobs,
    clock: Clock.Clock,
    context: Context.Context<never>,
    options: WorkOptions,
    worker: Worker,
  ) {
    this.#jobs = jobs
    this.#clock = clock
    this.#options = options
    this.#worker = worker
    this.#run = Effect.runForkWith(context)
  }

  /** Something may have become ready, or may soon. */
  look(): void {
    this.#plan()
    this.#arm()
  }

  #plan(): void {
    if (this.#planned || this.#closed) return
    this.#planned = true
    // Whoever enqueues goes on first, so what it enqueues at once is ordered by priority, not by arrival.
    this.#run(
      Effect.andThen(Effect.yieldNow, () => {
        this.#planned = false
        this.#start()
        return Effect.void
      }),
    )
  }

  handle(name: JobName, concurrency: number): Handled {
    const handled = {
      named: this.#jobs.named(name),
      concurrency,
      running: new Set<Running>(),
      stopped: false,
      closing: false,
      whenIdle: [],
    }
    this.#handled.set(name, handled)
    this.#open = Array.from(this.#handled.values())
    this.look()
    return handled
  }

  handles(name: JobName): boolean {
    return this.#handled.has(name)
  }

  /** Interrupts what runs of a name, gives it back and waits for that. */
  close(handled: Handled): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      handled.stopped = true
      handled.closing = true
      for (const running of handled.running) this.#interrupt(running, "GivenBack")
      handled.whenIdle.push(() => {
        this.#handled.delete(handled.named.name)
        this.#open = Array.from(this.#handled.values())
        resume(Effect.void)
      })
      this.#tellIdle(handled)
    })
  }

  /**
   * Ends the work: what still runs is given back, as if each name were closed. A name that is being closed is somebody else's to
   * wait for, who may have given up on it.
   */
  shut(): Effect.Effect<void> {
    this.#closed = true
    this.#timer?.fiber.interruptUnsafe()
    this.#timer = undefined
    const open = Array.from(this.#handled.values()).filter(({ closing }) => !closing)
    return Effect.forEach(open, (handled) => this.close(handled), { concurrency: "unbounded", discard: true })
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.look()
  }

  cancel(entry: Entry): void {
    if (entry.running !== undefined) this.#interrupt(entry.running, "Cancelled")
  }

  #interrupt(running: Running, as: "Cancelled" | "GivenBack"): void {
    if (running.concluded) return
    // A cancellation stands, even if the name is no longer handled before it is stored.
    if (running.onInterrupt !== "Cancelled") running.onInterrupt = as
    running.fiber?.interruptUnsafe()
  }

  #start(): void {
    // A job that ends at once starts the next from here, not from within itself.
    if (this.#starting) return
    this.#starting = true
    const now = this.#clock.currentTimeMillisUnsafe()
    this.#jobs.advance(now)
    let started = 0
    for (let handled = this.#next(); handled !== undefined; handled = this.#next()) {
      if (started++ === burst) {
        this.#plan()
        break
      }
      this.#claim(handled.named.ready.first!, handled, now)
    }
    this.#starting = false
    this.#arm()
  }

  /** Whose first ready job is the next to run. */
  #next(): Handled | undefined {
    if (this.#closed || this.#paused || this.#running >= this.#options.concurrency) return undefined
    let first: Entry | undefined
    let next: Handled | undefined
    for (const handled of this.#open) {
      const entry = handled.named.ready.first
      if (entry === undefined || handled.stopped || handled.running.size >= handled.concurrency) continue
      if (first === undefined || readyBefore(entry, first)) {
        first = entry
        next = handled
      }
    }
    return next
  }

  #claim(entry: Entry, handled: Handled, now: number): void {
    this.#jobs.move(entry, { ...entry.job, state: "running", startedAt: now })
    const running: Running = { entry, handled, fiber: undefined, onInterrupt: undefined, concluded: false }
    handled.running.add(running)
    entry.running = running
    this.#running++
    const claim = {
      job: entry.job,
      progress: (value: NonNullable<Entry["job"]["progress"]>) =>
        Effect.sync(() => {
          if (!running.concluded) entry.job = { ...entry.job, progress: value }
        }),
    }
    const fiber = this.#run(
      Effect.flatMap(
        Effect.suspend(() => this.#worker.run(claim)),
        (outcome) => this.#conclude(running, JobRules.settlementOf(outcome, running.onInterrupt === "Cancelled")),
      ),
    )
    running.fiber = fiber
    fiber.addObserver((exit) => this.#ended(running, exit))
  }

  /** Stores what became of a claim and gives what is to be told of it. */
  #conclude(running: Running, settlement: Exclude<Settlement, { _tag: "Lost" }>): Effect.Effect<void> {
    const { entry } = running
    running.concluded = true
    this.#jobs.move(entry, JobRules.settled(entry.job, settlement, this.#clock.currentTimeMillisUnsafe()))
    return this.#worker.settled(entry.job, settlement)
  }

  #ended(running: Running, exit: Exit.Exit<void>): void {
    if (running.concluded) return this.#free(running)
    const telling =
      running.onInterrupt === undefined
        ? this.#crashed(running, exit)
        : this.#conclude(running, { _tag: running.onInterrupt })
    this.#run(telling).addObserver(() => this.#free(running))
  }

  /** The worker broke its promise never to fail: that is a crash of it, and no attempt. */
  #crashed(running: Running, exit: Exit.Exit<void>): Effect.Effect<void> {
    const { entry } = running
    running.concluded = true
    this.#jobs.move(entry, JobRules.crashed(entry.job, this.#options.maxCrashes, this.#clock.currentTimeMillisUnsafe()))
    const { failures, state } = entry.job
    const settlement: Settlement =
      state === "dead" ? { _tag: "Dead", failure: failures.at(-1)! } : { _tag: "GivenBack" }
    return Effect.andThen(
      Effect.logError("a worker crashed", ...(Exit.isFailure(exit) ? [exit.cause] : [])),
      this.#worker.settled(entry.job, settlement),
    )
  }

  #free(running: Running): void {
    const { handled } = running
    handled.running.delete(running)
    running.entry.running = undefined
    this.#running--
    this.#tellIdle(handled)
    this.#start()
  }

  #tellIdle(handled: Handled): void {
    if (handled.running.size === 0) for (const tell of handled.whenIdle.splice(0)) tell()
  }

  #arm(): void {
    const due = this.#closed ? undefined : this.#jobs.delayed.first?.job.readyAt
    if (due === undefined || (this.#timer !== undefined && this.#timer.at <= due)) return
    this.#timer?.fiber.interruptUnsafe()
    this.#timer = undefined
    const wait = Math.min(longestSleep, Math.ceil(due - this.#clock.currentTimeMillisUnsafe()))
    if (wait <= 0) return this.#plan()
    const fiber = this.#run(
      Effect.andThen(Effect.sleep(wait), () => {
        this.#timer = undefined
        this.#start()
        return Effect.void
      }),
    )
    this.#timer = { at: due, fiber }
  }
}
