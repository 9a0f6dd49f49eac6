/** The rows with a text in them, found in slices of time so that the page stays quick while it is typed. */
import { type Row, searchable } from "./Row.ts"
import type { Transcript } from "./Transcript.ts"

export class Finder {
  /** Of the rows found so far, their indexes in order. */
  readonly found: Array<number> = []
  readonly #text: string
  #looked = 0

  constructor(text: string) {
    this.#text = text.toLowerCase()
  }

  /** Looks on for so many ms; whether it is done with all rows there are. */
  look({ rows, touched }: Transcript, ms: number): boolean {
    const until = performance.now() + ms
    for (const row of touched) {
      touched.delete(row)
      if (row.id < this.#looked) this.#lookAgain(row)
      // A row may be long, and have changed with every event.
      if (performance.now() > until) return false
    }
    while (this.#looked < rows.length) {
      const row = rows[this.#looked++]!
      if (this.#matches(row)) this.found.push(row.id)
      if (this.#looked % 64 === 0 && performance.now() > until) return false
    }
    return true
  }

  #matches(row: Row): boolean {
    return searchable(row).toLowerCase().includes(this.#text)
  }

  /** A row that has been found stays, also where what it was found by is gone. */
  #lookAgain(row: Row): void {
    if (!this.#matches(row)) return
    let place = this.found.length
    while (place > 0 && this.found[place - 1]! > row.id) place--
    if (this.found[place - 1] !== row.id) this.found.splice(place, 0, row.id)
  }
}
