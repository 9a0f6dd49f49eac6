import * as Effect from "effect/Effect"

/** A counter that fibers can wait on: a change between reading `version` and waiting is never missed. */
export class Signal {
  version = 0
  #waiting = new Set<() => void>()

  notify(): void {
    this.version++
    const waiting = this.#waiting
    if (waiting.size === 0) return
    this.#waiting = new Set()
    for (const wake of waiting) wake()
  }

  /** Returns once `version` differs from the given one. */
  changed(version: number): Effect.Effect<void> {
    return this.changedThen(version, Effect.void)
  }

  /** Goes on with an effect once `version` differs from the given one; cheaper than to wait, and then go on. */
  changedThen<A, E>(version: number, then: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.callback<A, E>((resume) => {
      if (this.version !== version) return resume(then)
      const wake = () => resume(then)
      this.#waiting.add(wake)
      return Effect.sync(() => {
        this.#waiting.delete(wake)
      })
    })
  }
}
