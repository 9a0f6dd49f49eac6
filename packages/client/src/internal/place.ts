/** Where a reader asks, and what it is due there. */
import type { Reading } from "./reading.ts"

/** How long an answer may take beyond the seconds that the server was asked to wait for a run, in ms. */
const waitGrace = 10_000

/** Whether a query leaves every event of the run to be read. */
export const isWhole = (query: URLSearchParams): boolean =>
  !query.has("kinds") && !query.has("delivery") && !query.has("overflow")

/** What to ask next, and for how many ms no answer is to be expected. */
export const nextRequest = (
  url: URL,
  { cursor, generation }: Reading,
): { readonly target: URL; readonly patience: number } => {
  const target = new URL(url)
  const query = target.searchParams
  // In the query and not as `Last-Event-ID`, for which a browser would ask other origins first.
  if (cursor !== undefined) query.set("after", cursor)
  // A run that was there and isn't was removed: that is no reason to wait for it.
  if (generation !== undefined) query.delete("wait")
  const seconds = Number(query.get("wait") ?? 0)
  return { target, patience: seconds > 0 ? seconds * 1000 + waitGrace : 0 }
}
