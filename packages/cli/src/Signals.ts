/** Signals that ask this process to stop: they end the command, unless it takes them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Exit from "./Exit.ts"

export const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const
export type Signal = (typeof names)[number]

export class Signals extends Context.Service<
  Signals,
  {
    /** While the scope is open, every signal goes to the handler and does nothing else. */
    readonly take: (handler: (signal: Signal) => void) => Effect.Effect<void, never, Scope.Scope>
  }
>()("@throughline/cli/Signals") {}

/** Listens to the process. `watch` gives the fiber that a signal nobody takes interrupts. */
export const make = (): {
  readonly service: Signals["Service"]
  readonly watch: (fiber: Fiber.Fiber<unknown, unknown>) => () => void
  /** The exit code of the signal that ended the command. */
  readonly exitCode: () => number | undefined
} => {
  const handlers: Array<(signal: Signal) => void> = []
  let ended: Signal | undefined
  return {
    service: {
      take: (handler) =>
        Effect.acquireRelease(
          Effect.sync(() => handlers.push(handler)),
          () => Effect.sync(() => handlers.splice(handlers.indexOf(handler), 1)),
        ),
    },
    watch: (fiber) => {
      const listener = (signal: Signal) => {
        const handler = handlers.at(-1)
        if (handler !== undefined) return handler(signal)
        ended ??= signal
        fiber.interruptUnsafe(fiber.id)
      }
      for (const name of names) process.on(name, listener)
      return () => {
        for (const name of names) process.off(name, listener)
      }
    },
    exitCode: () => (ended === undefined ? undefined : Exit.ofSignal(ended)),
  }
}
