/** An order for what nearly always comes in order. */
import { JobHeap, type Placed } from "./jobHeap.ts"

/**
 * Keeps what is added in order, the first at hand. What comes in order stands in a line, so that adding and taking are as
 * cheap as that; only what doesn't (of ready jobs: those given back or retried) is in a heap beside it.
 *
 * What stands in the line has the place `-2 - n`, n being how many stood there before it.
 */
export class JobLine<A extends Placed> {
  #line: Array<A | undefined> = []
  /** Where the line begins, and how many have left it altogether before that. */
  #from = 0
  #left = 0
  readonly #beside: JobHeap<A>
  readonly #before: (a: A, b: A) => boolean

  constructor(before: (a: A, b: A) => boolean) {
    this.#before = before
    this.#beside = new JobHeap(before)
  }

  get first(): A | undefined {
    const inLine = this.#line[this.#from]
    const beside = this.#beside.first
    if (inLine === undefined || beside === undefined) return inLine ?? beside
    return this.#before(beside, inLine) ? beside : inLine
  }

  add(item: A): void {
    const last = this.#line.at(-1)
    if (last !== undefined && this.#before(item, last)) return this.#beside.add(item)
    item.place = -2 - (this.#left + this.#line.length)
    this.#line.push(item)
  }

  remove(item: A): void {
    if (item.place >= 0) return this.#beside.remove(item)
    this.#line[-2 - item.place - this.#left] = undefined
    item.place = -1
    // Neither end of the line is ever empty, so `first` and `add` see a job there.
    while (this.#line.length > this.#from && this.#line.at(-1) === undefined) this.#line.pop()
    while (this.#from < this.#line.length && this.#line[this.#from] === undefined) this.#from++
    if (this.#from === this.#line.length || (this.#from > 1024 && this.#from * 2 > this.#line.length)) {
      this.#left += this.#from
      this.#line = this.#line.slice(this.#from)
      this.#from = 0
    }
  }
}
