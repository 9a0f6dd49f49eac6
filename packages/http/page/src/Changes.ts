/** Something that views look at, and are told of. */
export abstract class Changes {
  readonly #listeners = new Set<() => void>()

  /** Calls `listener` at every change, until the returned function is called. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  protected changed(): void {
    for (const listener of this.#listeners) listener()
  }
}
