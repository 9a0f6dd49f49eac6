/** The jobs of the memory engine: where each is, in what order the ready ones come, and the log of results. */
import {
  isLive,
  type JobId,
  type JobName,
  type JobRecord,
  type JobResult,
  type JobState,
  priorityRank,
} from "../JobRecord.ts"
import * as JobRules from "../JobRules.ts"
import { JobHeap } from "./jobHeap.ts"
import { JobLine } from "./jobLine.ts"
import { ReadyJobs, sooner } from "./jobReady.ts"
import type { Running } from "./memoryJobWork.ts"
import { Signal } from "./signal.ts"

/** A job in memory. It is in one heap at a time: delayed, ready, or (settled) by the time that it is kept until. */
export interface Entry {
  job: JobRecord
  /** In what order it was accepted. */
  readonly accepted: number
  readonly rank: number
  readonly named: Named
  place: number
  /** The position of its last entry in the results log. */
  result: number
  /** The run of it in this process. */
  running: Running | undefined
  /** Called as it settles. A job that is waited for is live, so it can't be gone before. */
  waiters: Array<(job: JobRecord) => void> | undefined
}

/** The jobs of one name. */
export interface Named {
  readonly name: JobName
  readonly ready: ReadyJobs<Entry>
  readonly counts: Record<JobState, number>
}

const expiresBefore = (a: Entry, b: Entry): boolean => JobRules.keptUntil(a.job) < JobRules.keptUntil(b.job)

/** No name holds a line break, so that the key of one name is never that of another. */
const uniqueOf = (job: Pick<JobRecord, "name" | "uniqueKey">): string => `${job.name}\n${job.uniqueKey}`

export class MemoryJobs {
  readonly entries = new Map<JobId, Entry>()
  readonly names = new Map<JobName, Named>()
  readonly delayed = new JobHeap<Entry>(sooner)
  /** Changes when a result is added. */
  readonly resulted = new Signal()
  readonly #settled = new JobLine<Entry>(expiresBefore)
  readonly #holders = new Map<string, Entry>()
  readonly #maxResults: number
  readonly #generation: string
  /** The log from `#from` on: the jobs as they settled. What is before was trimmed. */
  #results: Array<JobRecord | undefined> = []
  #from = 0
  #trimmed = 0
  #accepted = 0
  #waiting = 0

  constructor(generation: string, maxResults: number) {
    this.#generation = generation
    this.#maxResults = maxResults
  }

  /** Jobs waiting or delayed. */
  get waiting(): number {
    return this.#waiting
  }

  named(name: JobName): Named {
    let named = this.names.get(name)
    if (named === undefined) {
      const counts = { delayed: 0, waiting: 0, running: 0, succeeded: 0, dead: 0, cancelled: 0 }
      this.names.set(name, (named = { name, ready: new ReadyJobs(), counts }))
    }
    return named
  }

  /** The live job that holds the unique key of a job, if it has one. */
  holderOf(job: Pick<JobRecord, "name" | "uniqueKey">): Entry | undefined {
    return job.uniqueKey === undefined ? undefined : this.#holders.get(uniqueOf(job))
  }

  add(job: JobRecord): Entry {
    const entry: Entry = {
      job,
      accepted: this.#accepted++,
      rank: priorityRank[job.priority],
      named: this.named(job.name),
      place: -1,
      result: 0,
      running: undefined,
      waiters: undefined,
    }
    this.entries.set(job.id, entry)
    if (job.uniqueKey !== undefined) this.#holders.set(uniqueOf(job), entry)
    this.#enter(entry)
    return entry
  }

  /** Brings a job into its next state. */
  move(entry: Entry, job: JobRecord): void {
    this.#leave(entry)
    const wasLive = isLive(entry.job.state)
    entry.job = job
    const live = isLive(job.state)
    if (job.uniqueKey !== undefined && wasLive !== live) {
      if (live) this.#holders.set(uniqueOf(job), entry)
      else this.#holders.delete(uniqueOf(job))
    }
    this.#enter(entry)
    if (wasLive && !live) this.#log(entry)
  }

  remove(entry: Entry): void {
    this.#leave(entry)
    this.entries.delete(entry.job.id)
  }

  /** Makes the delayed jobs whose time has come ready, and forgets the settled ones that were kept long enough. */
  advance(now: number): void {
    for (let due = this.delayed.first; due !== undefined && due.job.readyAt <= now; due = this.delayed.first) {
      this.move(due, { ...due.job, state: "waiting" })
    }
    for (;;) {
      const oldest = this.#settled.first
      if (oldest === undefined || JobRules.keptUntil(oldest.job) > now) return
      this.remove(oldest)
    }
  }

  #enter(entry: Entry): void {
    const { state } = entry.job
    entry.named.counts[state]++
    if (state === "running") return
    if (state === "delayed") this.delayed.add(entry)
    else if (state === "waiting") entry.named.ready.add(entry)
    else return this.#settled.add(entry)
    this.#waiting++
  }

  #leave(entry: Entry): void {
    const { state } = entry.job
    entry.named.counts[state]--
    if (state === "running") return
    if (state === "delayed") this.delayed.remove(entry)
    else if (state === "waiting") entry.named.ready.remove(entry)
    else return this.#settled.remove(entry)
    this.#waiting--
  }

  #log(entry: Entry): void {
    const position = this.#trimmed + (this.#results.length - this.#from) + 1
    this.#results.push(entry.job)
    entry.result = position
    if (this.#results.length - this.#from > this.#maxResults) this.#trim()
    wake(entry)
    this.resulted.notify()
  }

  /** Drops the oldest result, and its job unless that is dead or has settled again since. */
  #trim(): void {
    const { id } = this.#results[this.#from]!
    const position = ++this.#trimmed
    // The array is cut only now and then: moving what is left costs its length.
    this.#results[this.#from++] = undefined
    if (this.#from > 1024 && this.#from * 2 > this.#results.length) {
      this.#results = this.#results.slice(this.#from)
      this.#from = 0
    }
    const entry = this.entries.get(id)
    if (entry?.result === position && (entry.job.state === "succeeded" || entry.job.state === "cancelled")) {
      this.remove(entry)
    }
  }

  get log(): JobRules.ResultsLog {
    const last = this.#trimmed + (this.#results.length - this.#from)
    return { generation: this.#generation, trimmed: this.#trimmed, last }
  }

  /** The results after a position that the log holds. */
  resultsAfter(position: number, limit: number): ReadonlyArray<JobResult> {
    const from = this.#from + (position - this.#trimmed)
    // What was trimmed is before `from`.
    return this.#results.slice(from, from + limit).map((job, index) => JobRules.resultOf(job!, position + 1 + index))
  }
}

const wake = (entry: Entry): void => {
  const waiters = entry.waiters
  entry.waiters = undefined
  if (waiters !== undefined) for (const waiter of waiters) waiter(entry.job)
}
