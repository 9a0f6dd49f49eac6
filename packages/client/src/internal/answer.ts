/** Answers that are no streams. */
import type { RunError } from "../RunError.ts"
import { type Lost, refusal } from "./failure.ts"
import { within } from "./patience.ts"

/** Bytes that a problem may have. */
export const mostOfProblem = 65_536

/** Bytes that the answer to an append of so many events may have. */
export const mostOfAppended = (events: number): number => mostOfProblem + 1024 * events

const ignore = (): void => {}

/**
 * The first bytes of a body, at least `most` where it has as many. A body that isn't complete after `ms` is a lost
 * connection, except that of a refusal: the status says enough, and what has come explains it.
 */
export const textOf = async (
  { body, status }: Response,
  most: number,
  ms: number,
  signal: AbortSignal | undefined,
): Promise<string> => {
  if (body === null) return ""
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text = ""
  const read = async (): Promise<string> => {
    for (let bytes = 0; bytes < most;) {
      const { done, value } = await reader.read()
      if (done) break
      bytes += value.length
      text += decoder.decode(value, { stream: true })
    }
    return text
  }
  try {
    return await within(read(), ms, signal, status >= 400 ? () => text : undefined)
  } finally {
    reader.cancel().catch(ignore)
  }
}

/** What a refusal says, for good or for now. */
export const refusalOf = async (
  response: Response,
  ms: number,
  signal: AbortSignal | undefined,
): Promise<RunError | Lost> => {
  const text = await textOf(response, mostOfProblem, ms, signal)
  return refusal(response.status, text, response.headers.get("retry-after"), Date.now())
}
