/** Where a reader asks, and what it is due there. */
import type { Frame } from "./eventStream.ts"

/** What a reader has, over all its connections, and what it makes of what they bring. */
export interface Progress<Item> {
  /** What to resume after; `undefined`: the start. */
  readonly cursor: string | undefined
  /** The generation of what is read, once it is known. */
  readonly generation: string | undefined
  /** Nothing follows, and the reader has all. */
  readonly isOver: boolean
  /** Nothing follows: what would say so is not needed. */
  readonly hasEnd: boolean
  /** A connection has brought something new, or said that there is nothing new; whoever looks at this puts it back. */
  isAlive: boolean
  /** The item in a frame, unless the reader has it. Throws `Lost`, `Violation`, or the `RunError` that the server sent. */
  take(frame: Frame): Item | undefined
  /** The server says that nothing follows what the reader has. Throws `Violation` where that can't be. */
  nothingFollows(): void
  /** What is left to tell once it is over. */
  rest(): ReadonlyArray<Item>
}

/** How long an answer may take beyond the seconds that the server was asked to wait for a run, in ms. */
const waitGrace = 10_000

/** Whether a query leaves every event of the run to be read. */
export const isWhole = (query: URLSearchParams): boolean =>
  !query.has("kinds") && !query.has("delivery") && !query.has("overflow")

/** What to ask next, and for how many ms no answer is to be expected. */
export const nextRequest = (
  url: URL,
  { cursor, generation }: Pick<Progress<unknown>, "cursor" | "generation">,
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
