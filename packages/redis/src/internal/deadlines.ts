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
  const pending: Array<{ readonly asked: Asked; readonly at: number }> = []
  let timer: NodeJS.Timeout | undefined

  const look = (): void => {
    const now = performance.now()
    let settled = 0
    // They were asked in this order, so they are late in this order.
    for (const { asked, at } of pending) {
      if (!asked.isAnswered && at > now) break
      settled++
      if (asked.isAnswered) continue
      asked.isAnswered = true
      asked.onLate()
    }
    pending.splice(0, settled)
    if (pending.length > 0) timer?.refresh()
    else timer = undefined
  }

  return {
    add: (asked) => {
      // What is answered in order leaves at once, so that a busy connection keeps a short list.
      if (pending.length >= 64 && pending[0]!.asked.isAnswered) {
        const open = pending.findIndex((entry) => !entry.asked.isAnswered)
        pending.splice(0, open === -1 ? pending.length : open)
      }
      pending.push({ asked, at: performance.now() + after })
      // @effect-diagnostics-next-line globalTimers:off
      timer ??= setTimeout(look, Math.max(1, after / 8)).unref()
    },
  }
}
