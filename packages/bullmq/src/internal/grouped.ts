/** What is asked in one turn of the event loop is asked of Redis in one command: a script costs as much to call as to run. */
import { setImmediate } from "node:timers"

interface Asked<A, B> {
  readonly request: A
  readonly resolve: (answer: B) => void
  readonly reject: (error: unknown) => void
}

/**
 * Groups requests.
 *
 * `ask` gives an answer for each, in order, or rejects for all. `weigh` says how much of the `most` one takes; a request that is
 * heavier goes alone.
 */
export const grouped = <A, B>(
  ask: (requests: ReadonlyArray<A>) => Promise<ReadonlyArray<B>>,
  weigh: (request: A) => number,
  most: number,
): ((request: A) => Promise<B>) => {
  let waiting: Array<Asked<A, B>> = []
  let weight = 0

  const send = async (): Promise<void> => {
    const group = waiting
    if (group.length === 0) return
    waiting = []
    weight = 0
    try {
      const answers = await ask(group.map(({ request }) => request))
      for (const [index, { resolve }] of group.entries()) resolve(answers[index]!)
    } catch (error) {
      for (const { reject } of group) reject(error)
    }
  }

  return (request) =>
    new Promise((resolve, reject) => {
      const added = weigh(request)
      if (weight > 0 && weight + added > most) void send()
      if (waiting.length === 0) setImmediate(() => void send())
      waiting.push({ request, resolve, reject })
      weight += added
    })
}
