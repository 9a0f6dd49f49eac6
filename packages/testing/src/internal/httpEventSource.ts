/**
 * A reader that believes what it is told, as a browser's `EventSource` does: it checks nothing, comes back with the last `id:`
 * of any frame, and stays away only after 204. What a server does wrong, and the clients of this project put right, it shows.
 */
import * as Sse from "effect/encoding/Sse"

export interface Frame {
  /** The last `id:` there was, on this frame or before it. */
  readonly id: string | undefined
  /** `message` where it has no name. */
  readonly event: string
  readonly data: string
}

export interface Options {
  readonly fetch: typeof globalThis.fetch
  readonly signal: AbortSignal
  /** Between two connections, in ms. */
  readonly pause: number
  /** Whether to go on. */
  readonly take: (frame: Frame) => boolean
}

const connect = async (url: string, { fetch, signal, take }: Options, last: { id: string | undefined }) => {
  const headers = { accept: "text/event-stream", ...(last.id === undefined ? undefined : { "last-event-id": last.id }) }
  const response = await fetch(url, { headers, signal })
  if (response.status !== 200 || response.body === null) return response
  let goesOn = true
  const parser = Sse.makeParser((frame) => {
    if (frame._tag !== "Event" || !goesOn) return
    last.id = frame.id ?? last.id
    goesOn = take({ id: last.id, event: frame.event, data: frame.data })
  })
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    parser.feed(text)
    if (!goesOn) return undefined
  }
  return undefined
}

/** Reads until the server says that nothing follows, or refuses: gives that answer. `undefined`: nothing more was wanted. */
export const read = async (url: string, options: Options): Promise<Response | undefined> => {
  const { pause, signal, take } = options
  const last = { id: undefined }
  let wanted = true
  const wanting: Options = { ...options, take: (frame) => (wanted = take(frame)) }
  for (;;) {
    try {
      const answer = await connect(url, wanting, last)
      if (answer !== undefined || !wanted) return answer
    } catch (error) {
      if (signal.aborted) throw error
    }
    // @effect-diagnostics-next-line globalTimers:off -- the network is real, and so is its time
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
}
