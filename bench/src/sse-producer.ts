/**
 * The process that writes over HTTP: one connection on which some requests are on their way at once, so that the server
 * is what a rate depends on, and events come in their order.
 */
import { once } from "node:events"
import { connect } from "node:net"
import { answer } from "./sse-process.ts"

interface Requests {
  readonly port: number
  readonly method: string
  readonly path: string
  readonly bodies: ReadonlyArray<string>
  /** Requests without an answer yet. */
  readonly inFlight: number
}

const statusLine = /HTTP\/1\.1 (\d{3})/g

const commands = {
  /** Returns once each was answered. */
  send: async ({ bodies, inFlight, method, path, port }: Requests) => {
    const socket = connect(port, "127.0.0.1")
    await once(socket, "connect")
    let sent = 0
    let answered = 0
    let rest = ""
    const fill = () => {
      let text = ""
      for (; sent < bodies.length && sent - answered < inFlight; sent++) {
        const body = bodies[sent]!
        text += `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
      }
      if (text !== "") socket.write(text)
    }
    fill()
    for await (const chunk of socket) {
      const text = rest + String(chunk)
      let read = 0
      for (const match of text.matchAll(statusLine)) {
        if (Number(match[1]) >= 300) throw new Error(`${method} ${path} was answered ${text.slice(match.index)}`)
        answered++
        read = match.index + match[0].length
      }
      // The beginning of a status line may be there.
      rest = text.slice(Math.max(read, text.length - 12))
      if (answered === bodies.length) break
      fill()
    }
    socket.destroy()
    if (answered < bodies.length) throw new Error(`${answered} of ${bodies.length} requests were answered`)
  },
}

export type ProducerCommands = typeof commands

answer(commands)
