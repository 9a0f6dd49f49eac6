/** A network between a client and a server on the loopback address, which can be cut. */
import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { onTestFinished } from "vitest"

export interface Network {
  /** The server's address, by way of this network. */
  readonly base: string
  /** Every connection is lost at once, and none is made until it is mended. */
  readonly cut: () => void
  readonly mend: () => void
  /** The server is somewhere else now. */
  readonly moveTo: (base: string) => void
}

/** Closed after the test. */
export const networkTo = async (base: string): Promise<Network> => {
  let target = new URL(base)
  let isCut = false
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    if (isCut) {
      near.destroy()
      return
    }
    const far = connect(Number(target.port), target.hostname)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const cut = () => {
    isCut = true
    for (const socket of sockets) socket.resetAndDestroy()
  }
  onTestFinished(() => {
    cut()
    server.close()
  })
  return {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    cut,
    mend: () => {
      isCut = false
    },
    moveTo: (next) => {
      target = new URL(next)
    },
  }
}
