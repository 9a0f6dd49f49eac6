/** A server between clients and a real one that changes what passes: so that a bug is put into HTTP alone. */
import * as Effect from "effect/Effect"
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

/** A request on its way. */
export interface Asked {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** An answer on its way, unless it is a stream. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** What a frame becomes; the stream closes after `null`. */
type Change = (frame: string) => ReadonlyArray<string | null>

export interface Changes {
  /** What is asked instead; of several, the last is answered. */
  readonly asked?: (asked: Asked) => ReadonlyArray<Asked>
  /** What is answered without asking. */
  readonly instead?: (asked: Asked) => Answer | undefined
  readonly answer?: (answer: Answer, asked: Asked) => Answer
  /** The frames of a stream, each without the empty line that ends it. */
  readonly frames?: (asked: Asked) => Change
  /** A stream that has come to its end stays open. */
  readonly staysOpen?: boolean
}

const hopByHop = new Set(["connection", "content-length", "host", "keep-alive", "transfer-encoding"])

const passedOn = (headers: IncomingHttpHeaders): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => (hopByHop.has(name) ? [] : [[name, String(value)]])),
  )

const textOf = async (request: IncomingMessage): Promise<string> => {
  let text = ""
  for await (const chunk of request.setEncoding("utf8")) text += chunk as string
  return text
}

const isStream = (type: string): boolean => type.startsWith("text/event-stream")

const relay = async (changes: Changes, base: string, request: IncomingMessage, response: ServerResponse) => {
  const gone = new AbortController()
  response.on("close", () => gone.abort())
  const asked: Asked = {
    method: request.method!,
    url: new URL(request.url!, base),
    headers: passedOn(request.headers),
    body: await textOf(request),
  }
  const send = ({ body, headers, method, url }: Asked) =>
    fetch(url, { method, headers, signal: gone.signal, ...(body === "" ? undefined : { body }) })
  const requests = changes.asked?.(asked) ?? [asked]
  for (const before of requests.slice(0, -1)) await (await send(before)).text()
  const give = ({ body, status, type }: Answer) => {
    response.writeHead(status, type === "" ? {} : { "content-type": type })
    // A stream in which nothing comes.
    return isStream(type) ? response.flushHeaders() : response.end(body)
  }
  const instead = changes.instead?.(asked)
  if (instead !== undefined) return give(instead)
  const answered = await send(requests.at(-1)!)
  const type = answered.headers.get("content-type") ?? ""
  if (!isStream(type)) {
    const answer: Answer = { status: answered.status, type, body: await answered.text() }
    return give(changes.answer?.(answer, asked) ?? answer)
  }
  response.writeHead(200, { "content-type": type })
  response.flushHeaders()
  const change = changes.frames?.(asked) ?? ((frame) => [frame])
  let text = ""
  for await (const chunk of answered.body!.pipeThrough(new TextDecoderStream())) {
    const frames = (text + chunk).split("\n\n")
    text = frames.pop()!
    for (const frame of frames) {
      for (const changed of change(frame)) {
        if (changed === null) return response.end()
        response.write(`${changed}\n\n`)
      }
    }
  }
  return changes.staysOpen === true ? undefined : response.end()
}

/** The address of such a server before the one at `base`. */
export const before = (base: string, changes: Changes) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = createServer((request, response) => {
        // A client that is gone, or a server that is: the connection says it.
        relay(changes, base, request, response).catch(() => response.destroy())
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const close = () => {
          server.close()
          server.closeAllConnections()
        }
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close }))
      })
    }),
    ({ close }) => Effect.sync(close),
  )
