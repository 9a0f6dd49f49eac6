/**
 * What a job engine does, as a pure model: written from the promises of `JobEngine`, and from no engine.
 *
 * Everything that can happen without time passing has happened after each call. Times are ms; jobs are named by the numbers
 * they were enqueued with.
 */

/** A job as it is asked for. */
export interface Asked {
  readonly number: number
  readonly name: string
  /** 1 (critical) to 4 (low). */
  readonly rank: number
  readonly delay: number
  readonly key?: string | undefined
}

export type State = "pending" | "running" | "succeeded" | "dead" | "cancelled"

export interface Job extends Asked {
  readonly state: State
  readonly readyAt: number
  readonly failures: number
  readonly crashes: number
}

/** How a run of a job ends. */
export type End =
  | { readonly _tag: "Succeed" }
  | { readonly _tag: "Fail"; readonly retryAfter: number }
  | { readonly _tag: "GiveUp" }
  | { readonly _tag: "Crash" }

/** Why a dead job isn't touched. */
export type Refusal = "JobUnknown" | "JobNotDead" | "UniqueKeyTaken"

export interface Bounds {
  /** Jobs at once. */
  readonly slots: number
  /** Jobs at once of a name; the keys are the names that are handled. */
  readonly names: ReadonlyMap<string, number>
  readonly maxCrashes: number
}

const isLive = (state: State): boolean => state === "pending" || state === "running"

/** Whether `a` is run before `b`. */
const isBefore = (a: Job, b: Job): boolean =>
  a.rank !== b.rank ? a.rank < b.rank : a.readyAt !== b.readyAt ? a.readyAt < b.readyAt : a.number < b.number

/** One engine and one worker. */
export class JobModel {
  now: number
  isPaused = false
  readonly jobs = new Map<number, Job>()
  /** Every start, in order. */
  readonly starts: Array<number> = []
  /** Every settling, in order. */
  readonly log: Array<readonly [job: number, outcome: State]> = []
  readonly #bounds: Bounds

  constructor(bounds: Bounds, now: number) {
    this.#bounds = bounds
    this.now = now
  }

  /** The jobs in a state, by the numbers they were enqueued with. */
  in(state: State): Array<Job> {
    return [...this.jobs.values()].filter((job) => job.state === state)
  }

  #set(job: Job, change: Partial<Job>): void {
    const next = { ...job, ...change }
    this.jobs.set(job.number, next)
    if (!isLive(next.state)) this.log.push([next.number, next.state])
  }

  #start(): void {
    while (!this.isPaused) {
      const running = this.in("running")
      if (running.length >= this.#bounds.slots) return
      let first: Job | undefined
      for (const job of this.in("pending")) {
        const most = this.#bounds.names.get(job.name)
        if (job.readyAt > this.now || most === undefined) continue
        if (running.filter(({ name }) => name === job.name).length >= most) continue
        if (first === undefined || isBefore(job, first)) first = job
      }
      if (first === undefined) return
      this.#set(first, { state: "running" })
      this.starts.push(first.number)
    }
  }

  /** The live job that holds a key. */
  holder({ key, name }: Pick<Asked, "name" | "key">): number | undefined {
    if (key === undefined) return undefined
    for (const job of this.jobs.values()) {
      if (isLive(job.state) && job.name === name && job.key === key) return job.number
    }
    return undefined
  }

  /** Of each job asked for, the one that will run; or how many wait where there is no room. */
  enqueue(
    asked: ReadonlyArray<Asked>,
    maxWaiting: number | undefined,
  ): ReadonlyArray<number> | { readonly full: number } {
    const waiting = this.in("pending").length
    const keys = new Set<string>()
    const added = asked.filter((job) => {
      if (this.holder(job) !== undefined) return false
      if (job.key === undefined) return true
      const isFirst = !keys.has(`${job.name} ${job.key}`)
      keys.add(`${job.name} ${job.key}`)
      return isFirst
    }).length
    if (maxWaiting !== undefined && added > 0 && waiting + added > maxWaiting) return { full: waiting }
    const answers = asked.map((job) => {
      const holder = this.holder(job)
      if (holder !== undefined) return holder
      this.jobs.set(job.number, { ...job, state: "pending", readyAt: this.now + job.delay, failures: 0, crashes: 0 })
      return job.number
    })
    this.#start()
    return answers
  }

  /** Time passes; what becomes ready meanwhile starts at its time. */
  pass(ms: number): void {
    const end = this.now + ms
    while (true) {
      const next = Math.min(...this.in("pending").flatMap(({ readyAt }) => (readyAt > this.now ? [readyAt] : [])))
      if (!(next <= end)) break
      this.now = next
      this.#start()
    }
    this.now = end
  }

  /** A running job ends. */
  end(job: Job, end: End): void {
    switch (end._tag) {
      case "Succeed":
        this.#set(job, { state: "succeeded" })
        break
      case "GiveUp":
        this.#set(job, { state: "dead", failures: job.failures + 1 })
        break
      case "Fail":
        this.#set(job, { state: "pending", failures: job.failures + 1, readyAt: this.now + end.retryAfter })
        break
      case "Crash": {
        const crashes = job.crashes + 1
        const isDead = crashes >= this.#bounds.maxCrashes
        // A crash is no attempt, and the job keeps its place; of the dead, a last failure says why.
        this.#set(job, isDead ? { state: "dead", crashes, failures: job.failures + 1 } : { state: "pending", crashes })
      }
    }
    this.#start()
  }

  cancel(number: number): "cancelled" | "requested" | "settled" | "JobUnknown" {
    const job = this.jobs.get(number)
    if (job === undefined) return "JobUnknown"
    if (!isLive(job.state)) return "settled"
    this.#set(job, { state: "cancelled" })
    this.#start()
    return job.state === "running" ? "requested" : "cancelled"
  }

  retryDead(number: number): Refusal | undefined {
    const job = this.jobs.get(number)
    if (job === undefined) return "JobUnknown"
    if (job.state !== "dead") return "JobNotDead"
    if (this.holder(job) !== undefined) return "UniqueKeyTaken"
    this.#set(job, { state: "pending", readyAt: this.now, failures: 0, crashes: 0 })
    this.#start()
    return undefined
  }

  removeDead(number: number): Refusal | undefined {
    const job = this.jobs.get(number)
    if (job === undefined) return "JobUnknown"
    if (job.state !== "dead") return "JobNotDead"
    this.jobs.delete(number)
    return undefined
  }

  /** The worker stops and another begins: what ran is given back, uncharged and in its place. */
  restart(): void {
    for (const job of this.in("running")) this.#set(job, { state: "pending" })
    this.isPaused = false
    this.#start()
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    this.#start()
  }
}
