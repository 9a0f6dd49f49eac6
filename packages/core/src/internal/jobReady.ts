/** The ready jobs of one name, in the order in which they are run. */
import type { Placed } from "./jobHeap.ts"
import { JobLine } from "./jobLine.ts"

/** What is needed to order ready jobs. */
export interface Ready extends Placed {
  /** The priority's place, from 1; the lowest goes first. */
  readonly rank: number
  /** In what order it was accepted. */
  readonly accepted: number
  readonly job: { readonly readyAt: number }
}

/** The order in which ready jobs are run. */
export const readyBefore = (a: Ready, b: Ready): boolean => (a.rank === b.rank ? sooner(a, b) : a.rank < b.rank)

/** The same of two jobs of one priority; of delayed jobs, the order of becoming ready. */
export const sooner = (a: Ready, b: Ready): boolean =>
  a.job.readyAt === b.job.readyAt ? a.accepted < b.accepted : a.job.readyAt < b.job.readyAt

export class ReadyJobs<A extends Ready> {
  readonly #lines: ReadonlyArray<JobLine<A>> = Array.from({ length: 4 }, () => new JobLine<A>(sooner))

  get first(): A | undefined {
    for (const line of this.#lines) {
      const first = line.first
      if (first !== undefined) return first
    }
    return undefined
  }

  add(item: A): void {
    this.#lines[item.rank - 1]!.add(item)
  }

  remove(item: A): void {
    this.#lines[item.rank - 1]!.remove(item)
  }
}
