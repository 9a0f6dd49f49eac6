/**
 * Deadlines of what is asked of a server, all after the same time: one timer for all that is under way.
 *
 * A timer for each command, as ioredis has them, costs as much as the command. These are the process's own timers and
 * not Effect's `Clock`: no server waits for a virtual one.
 */
import { performance } from "node:perf_hooks"
import { setTimeout } from "node:timers"

/** Something that was asked. */
export interface Asked {
  /** Set by whoever got the answer. */
  isAnswered: boolean
  readonly onLate: () => void
}

export interface Deadlines {
  /** Calls `onLate` after the time, up to an eighth of it later, unless it was answered. */
  readonly add: (asked: Asked) => void
}

/** Deadlines `after` milliseconds; the timer keeps no process alive. */
export const make = (after: number): Deadlines => {
  let pending: Array<{ readonly asked: Asked; readonly at: number }> = []
  let most = 4
  let timer: NodeJS.Timeout | undefined

  /** What is answered holds all that was sent: kept until it would have been late, it is seconds of traffic. */
  const letGo = (): void => {
    pending = pending.filter(({ asked }) => !asked.isAnswered)
    most = Math.max(4, 2 * pending.length)
  }

  const look = (): void => {
    const now = performance.now()
    letGo()
    // They were asked in this order, so they are late in this order.
    for (const { asked, at } of pending) {
      if (at > now) break
      asked.isAnswered = true
      asked.onLate()
    }
    letGo()
    if (pending.length > 0) timer?.refresh()
    else timer = undefined
  }

  return {
    add: (asked) => {
      if (pending.length >= most) letGo()
      pending.push({ asked, at: performance.now() + after })
      // @effect-diagnostics-next-line globalTimers:off
      timer ??= setTimeout(look, Math.max(1, after / 8)).unref()
    },
  }
}
