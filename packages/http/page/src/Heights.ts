/**
 * Where the rows of a long list are: the sums of their heights, as a Fenwick tree, so that measuring a row, and finding the
 * row at a place, cost the logarithm of the length.
 */
export class Heights {
  length = 0
  #heights = new Float64Array(1024)
  /** At `index + 1`: the sum over as many rows, up to this one, as the lowest bit of the place says. */
  #sums = new Float64Array(1025)

  get(index: number): number {
    return this.#heights[index]!
  }

  push(height: number): void {
    if (this.length === this.#heights.length) {
      const heights = new Float64Array(this.length * 2)
      heights.set(this.#heights)
      const sums = new Float64Array(this.length * 2 + 1)
      sums.set(this.#sums)
      this.#heights = heights
      this.#sums = sums
    }
    this.#heights[this.length] = height
    const place = ++this.length
    this.#sums[place] = height + this.before(place - 1) - this.before(place - (place & -place))
  }

  set(index: number, height: number): void {
    const difference = height - this.#heights[index]!
    this.#heights[index] = height
    for (let place = index + 1; place <= this.length; place += place & -place) this.#sums[place]! += difference
  }

  /** The height of all rows before this one. */
  before(index: number): number {
    let sum = 0
    for (let place = index; place > 0; place -= place & -place) sum += this.#sums[place]!
    return sum
  }

  get total(): number {
    return this.before(this.length)
  }

  /** The row at a distance from the top; the last one beyond the end. */
  at(distance: number): number {
    let place = 0
    let left = distance
    for (let step = 2 ** Math.floor(Math.log2(Math.max(this.length, 1))); step >= 1; step /= 2) {
      const next = place + step
      if (next <= this.length && this.#sums[next]! <= left) {
        place = next
        left -= this.#sums[next]!
      }
    }
    return Math.max(Math.min(place, this.length - 1), 0)
  }

  clear(): void {
    this.length = 0
  }
}
