/** Something that changes, and fibers that wait for the next change. */
import * as Effect from "effect/Effect"

export class Signal {
  #version = 0
  readonly #waiting = new Set<() => void>()

  get version(): number {
    return this.#version
  }

  notify(): void {
    this.#version++
    const woken = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of woken) wake()
  }

  /** Returns once it has changed since a version. */
  changed(since: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.#version !== since) {
        resume(Effect.void)
        return
      }
      const wake = () => resume(Effect.void)
      this.#waiting.add(wake)
      return Effect.sync(() => {
        this.#waiting.delete(wake)
      })
    })
  }
}
