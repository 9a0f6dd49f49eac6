/** What a heap holds: it knows its place, so that it can be taken out of the middle. */
export interface Placed {
  /** Index in the one heap that it is in; -1 in none. */
  place: number
}

/** A binary heap: the first in order, adding and taking out of any place in O(log n). */
export class JobHeap<A extends Placed> {
  readonly #items: Array<A> = []
  readonly #before: (a: A, b: A) => boolean

  constructor(before: (a: A, b: A) => boolean) {
    this.#before = before
  }

  get size(): number {
    return this.#items.length
  }

  get first(): A | undefined {
    return this.#items[0]
  }

  add(item: A): void {
    this.#items.push(item)
    this.#rise(item, this.#items.length - 1)
  }

  remove(item: A): void {
    const place = item.place
    item.place = -1
    const last = this.#items.pop()!
    if (last === item) return
    this.#sink(last, place)
    this.#rise(last, last.place)
  }

  #rise(item: A, from: number): void {
    const items = this.#items
    let place = from
    while (place > 0) {
      const parentPlace = (place - 1) >> 1
      const parent = items[parentPlace]!
      if (!this.#before(item, parent)) break
      items[place] = parent
      parent.place = place
      place = parentPlace
    }
    items[place] = item
    item.place = place
  }

  #sink(item: A, from: number): void {
    const items = this.#items
    let place = from
    for (;;) {
      let childPlace = 2 * place + 1
      if (childPlace >= items.length) break
      if (childPlace + 1 < items.length && this.#before(items[childPlace + 1]!, items[childPlace]!)) childPlace++
      const child = items[childPlace]!
      if (!this.#before(child, item)) break
      items[place] = child
      child.place = place
      place = childPlace
    }
    items[place] = item
    item.place = place
  }
}
