/** The heads of runs as they were last seen, in the server's order, put together from pages that were had at different times. */

export interface Head {
  readonly runId: string
  readonly status: "running" | "completed" | "failed" | "cancelled"
  readonly lastSeq: number
  readonly sessionId?: string
  readonly startedAt?: string
  readonly lastActivityAt?: string
}

export interface Page {
  readonly heads: ReadonlyArray<Head>
  /** Where the list goes on, unless this is its end. */
  readonly next: string | undefined
}

export class Heads {
  #all: ReadonlyArray<Head> = []
  #next: string | undefined
  /** The run that no other is after. */
  #end: string | undefined

  /** Where the list goes on after these. */
  get next(): string | undefined {
    return this.#all.at(-1)?.runId === this.#end ? undefined : this.#next
  }

  get all(): ReadonlyArray<Head> {
    return this.#all
  }

  /**
   * Puts a page in the place of what it shows anew: from after a run, or from the start, to its last one. What follows that
   * is kept; where the list doesn't have it, what follows is others.
   */
  take({ heads, next }: Page, after?: string): void {
    const start = after === undefined ? 0 : this.#all.findIndex(({ runId }) => runId === after) + 1
    // Where that run is no longer in the list, nothing is known of the place.
    if (after !== undefined && start === 0) return
    const last = next === undefined ? -1 : this.#all.findIndex(({ runId }) => runId === heads.at(-1)?.runId)
    const rest = last < start ? [] : this.#all.slice(last + 1)
    this.#all = [...this.#all.slice(0, start), ...heads, ...rest]
    if (rest.length > 0) return
    this.#next = next
    // A page that is full may be the last one all the same.
    if (next === undefined) this.#end = this.#all.at(-1)?.runId
  }
}
