/**
 * Which frames a bus has taken in, by run: a frame is told from one that comes again, whether the ring still has it or not.
 *
 * A run's record is the range of its seqs with what is missing in it, so that its size doesn't depend on how long the run
 * is. Runs that nothing was taken in from for the longest time are forgotten first.
 */
import type { EncodedEnvelope } from "../Envelope.ts"

/** Seqs that may be missing in a run's range; past it what is before them is forgotten. */
const maxMissing = 1024

/** Generations of a run: it was removed and is written again. */
const maxGenerations = 4

const generationOf = (cursor: string): string => cursor.slice(cursor.indexOf("-") + 1)

/** The seqs that were taken in of a run's generation. */
export class RunTaken {
  readonly generation: string
  #first: number
  #last: number
  /** What is missing between; nearly always nothing. */
  #missing: Set<number> | undefined

  constructor(generation: string, seq: number) {
    this.generation = generation
    this.#first = seq
    this.#last = seq
  }

  /** False: it was taken in before. */
  add(seq: number): boolean {
    if (seq === this.#last + 1) this.#last = seq
    else if (seq > this.#last) this.#jump(this.#last + 1, seq - 1, seq)
    else if (seq < this.#first) this.#jump(seq + 1, this.#first - 1, seq)
    else return this.#missing?.delete(seq) ?? false
    return true
  }

  #jump(from: number, to: number, seq: number): void {
    const missing = (this.#missing ??= new Set())
    if (missing.size + to - from + 1 > maxMissing) {
      // What is far behind isn't remembered; what is far ahead is where the run goes on.
      if (seq < this.#first) return
      this.#first = seq
      this.#missing = undefined
    } else {
      for (let left = from; left <= to; left++) missing.add(left)
      this.#first = Math.min(this.#first, seq)
    }
    this.#last = Math.max(this.#last, seq)
  }
}

export class BusTaken {
  readonly #maxRuns: number
  /** The one that nothing was taken in from for the longest time first. */
  readonly #runs = new Map<string, Array<RunTaken>>()
  /** The one that stands last. */
  #latest: Array<RunTaken> | undefined

  constructor(maxRuns: number) {
    this.#maxRuns = maxRuns
  }

  /** The run's record, with the frame; `undefined`: it was taken in before. */
  add(cursor: string, { runId, seq }: EncodedEnvelope): RunTaken | undefined {
    const generations = this.#runs.get(runId)
    if (generations === undefined) {
      const fresh = new RunTaken(generationOf(cursor), seq)
      this.#latest = [fresh]
      this.#runs.set(runId, this.#latest)
      if (this.#runs.size > this.#maxRuns) this.#runs.delete(this.#runs.keys().next().value!)
      return fresh
    }
    const known = generations.find(({ generation }) => cursor.endsWith(generation))
    // What comes again doesn't keep a run from being forgotten: as long as the ring has frames of it, it isn't.
    if (known !== undefined && !known.add(seq)) return undefined
    if (generations !== this.#latest) {
      this.#runs.delete(runId)
      this.#runs.set(runId, generations)
      this.#latest = generations
    }
    if (known !== undefined) return known
    const fresh = new RunTaken(generationOf(cursor), seq)
    if (generations.push(fresh) > maxGenerations) generations.shift()
    return fresh
  }
}
