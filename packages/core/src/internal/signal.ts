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
    return Effect.callback<void>((resume) => {
      if (this.version !== version) return resume(Effect.void)
      const wake = () => resume(Effect.void)
      this.#waiting.add(wake)
      return Effect.sync(() => {
        this.#waiting.delete(wake)
      })
    })
  }
}
