/**
 * Ranges kept beyond the floor; past it the newest are given up: what was there is taken for missing, so that it may be
 * read twice. Never the other way round: a hole may be what another process stored.
 */
const maxRanges = 64

const none: ReadonlyArray<number> = []

/**
 * A set of positions as a floor (all up to it) and ranges beyond it. Runs are published side by side, so positions
 * arrive nearly in order; the ranges are what is there while something before is still on its way.
 */
export class PositionSet {
  /** `undefined` until the first position. */
  floor: number | undefined
  /** `[first, last, first, last, …]`, rising, never touching; replaced, not changed. */
  ahead: ReadonlyArray<number>

  constructor(floor?: number, ahead: ReadonlyArray<number> = none) {
    this.floor = floor
    this.ahead = ahead
  }

  /** Whether more was added than is kept, perhaps. */
  get isFull(): boolean {
    return this.ahead.length === 2 * maxRanges
  }

  has(position: number): boolean {
    if (this.floor === undefined || position <= this.floor) return this.floor !== undefined
    const { ahead } = this
    for (let index = 0; index < ahead.length; index += 2) {
      if (position >= ahead[index]! && position <= ahead[index + 1]!) return true
    }
    return false
  }

  add(position: number): void {
    const { ahead, floor } = this
    if (ahead.length === 0 && (floor === undefined || position === floor + 1)) this.floor = position
    else if (!this.has(position)) this.#insert(position, floor!)
  }

  /** Adds all positions up to one. */
  raiseTo(floor: number): void {
    if (this.floor !== undefined && floor <= this.floor) return
    let from = 0
    while (from < this.ahead.length && this.ahead[from]! <= floor + 1) from += 2
    this.floor = from === 0 ? floor : Math.max(floor, this.ahead[from - 1]!)
    this.ahead = from === 0 ? this.ahead : this.ahead.slice(from)
  }

  #insert(position: number, floor: number): void {
    if (this.isFull && position > this.ahead.at(-1)! + 1) return
    const ranges = this.ahead.slice()
    let at = ranges.length
    while (at > 0 && ranges[at - 2]! > position) at -= 2
    // `at` is where the range after the position starts; the one before ends at `at - 1`.
    const joinsBefore = at > 0 && ranges[at - 1] === position - 1
    const joinsAfter = at < ranges.length && ranges[at] === position + 1
    if (joinsBefore && joinsAfter) ranges.splice(at - 1, 2)
    else if (joinsBefore) ranges[at - 1] = position
    else if (joinsAfter) ranges[at] = position
    else ranges.splice(at, 0, position, position)
    if (ranges.length > 2 * maxRanges) ranges.length = 2 * maxRanges
    this.ahead = ranges
    if (ranges[0] === floor + 1) {
      this.floor = ranges[1]!
      this.ahead = ranges.length === 2 ? none : ranges.slice(2)
    }
  }
}

/** The set of a floor, ranges beyond it and further positions, however many. */
export const union = (floor: number, ahead: ReadonlyArray<number>, positions: ReadonlyArray<number>): PositionSet => {
  const ranges = Array.from(positions, (position) => [position, position] as const)
  for (let index = 0; index < ahead.length; index += 2) ranges.push([ahead[index]!, ahead[index + 1]!])
  ranges.sort(([left], [right]) => left - right)
  const joined: Array<number> = []
  let end = floor
  for (const [first, last] of ranges) {
    if (last <= end) continue
    if (first > end + 1) joined.push(first, last)
    else if (joined.length > 0) joined[joined.length - 1] = last
    else floor = last
    end = last
  }
  return new PositionSet(floor, joined)
}
