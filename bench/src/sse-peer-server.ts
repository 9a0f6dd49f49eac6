/** The process of `@durable-streams/server`, in memory. */
import { DurableStreamTestServer } from "@durable-streams/server"
import { answer, cpuMillis } from "./sse-process.ts"

const server = new DurableStreamTestServer({ port: 0 })

const commands = {
  listen: async () => Number(new URL(await server.start()).port),
  cpu: async () => cpuMillis(),
}

export type PeerCommands = typeof commands

answer(commands)
