/** A set of positions that come in stretches; its size is that of the stretches, not of what is in them. */
export interface PositionRanges {
  readonly add: (position: number) => void
  readonly has: (position: number) => boolean
  /** Whether every position after `after` up to `until` is in the set. */
  readonly covers: (after: number, until: number) => boolean
  /** The highest position, 0 where there is none. */
  readonly last: () => number
  readonly dropUpTo: (position: number) => void
}

/** Stretches kept at most; the oldest is forgotten first. */
const capacity = 4096

export const make = (): PositionRanges => {
  /** Disjoint, not touching, rising. */
  let ranges: Array<{ first: number; last: number }> = []

  /** The index of the first stretch that ends at `position` or later. */
  const search = (position: number): number => {
    let low = 0
    let high = ranges.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (ranges[middle]!.last < position) low = middle + 1
      else high = middle
    }
    return low
  }

  return {
    add: (position) => {
      const index = search(position - 1)
      const range = ranges[index]
      if (range === undefined || range.first > position + 1) {
        ranges.splice(index, 0, { first: position, last: position })
        if (ranges.length > capacity) ranges.shift()
        return
      }
      if (position < range.first) range.first = position
      if (position <= range.last) return
      range.last = position
      const next = ranges[index + 1]
      if (next !== undefined && next.first <= position + 1) {
        range.last = next.last
        ranges.splice(index + 1, 1)
      }
    },
    has: (position) => {
      const range = ranges[search(position)]
      return range !== undefined && range.first <= position
    },
    covers: (after, until) => {
      const range = ranges[search(after + 1)]
      return until <= after || (range !== undefined && range.first <= after + 1 && range.last >= until)
    },
    last: () => ranges[ranges.length - 1]?.last ?? 0,
    dropUpTo: (position) => {
      ranges = ranges.slice(search(position + 1))
    },
  }
}
