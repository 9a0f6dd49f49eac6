/**
 * The streams of all tabs and windows of this page, shared out. Over HTTP/1.1 a browser opens six connections to a server
 * for all of them, and a stream holds one for as long as it lasts: a seat is the right to. The other connections are left
 * to what takes a moment.
 */

const seats = 4

/** Gives a seat back. */
export type Leave = () => void

const free: Leave = () => {}

/** Over HTTP/2 and 3 streams share one connection. A page that came over plain HTTP from elsewhere has no locks. */
const isBounded = (): boolean => {
  const [navigation] = performance.getEntriesByType("navigation")
  const isShared = navigation instanceof PerformanceNavigationTiming && /^h[23]/.test(navigation.nextHopProtocol)
  return navigator.locks !== undefined && !isShared
}

const take = (name: string): Promise<Leave | undefined> =>
  new Promise((resolve) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (lock) =>
        lock === null ? resolve(undefined) : new Promise<void>((leave) => resolve(leave)),
      )
      // A document that is being left gets none, and needs none.
      .catch(() => resolve(free))
  })

/** A seat, if one is free; a tab that is closed leaves its own. */
export const takeSeat = async (): Promise<Leave | undefined> => {
  if (!isBounded()) return free
  for (let number = 1; number <= seats; number++) {
    const leave = await take(`throughline-stream-${number}`)
    if (leave !== undefined) return leave
  }
  return undefined
}
