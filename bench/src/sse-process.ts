/**
 * How the SSE benches and their processes talk: servers and readers each have a process of their own, so that no side
 * shares its loop with what measures it, and both sides are read alike.
 */
import type { EventJson } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { fork } from "node:child_process"
import { EventEmitter, once } from "node:events"
import { type AddressInfo, createServer } from "node:net"
import { setTimeout } from "node:timers/promises"

/** What a process can be asked, by name; arguments and answers are JSON. */
// oxlint-disable-next-line no-explicit-any -- each module says the types of its own commands
export type Commands = Readonly<Record<string, (...args: Array<any>) => Promise<unknown>>>

interface Question {
  readonly id: number
  readonly name: string
  readonly args: ReadonlyArray<unknown>
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

/** A process that answers. Its end, and what goes wrong in it, fails what it was asked. */
export interface Process<C extends Commands> {
  readonly ask: <Name extends keyof C & string>(
    name: Name,
    ...args: Parameters<C[Name]>
  ) => Effect.Effect<Awaited<ReturnType<C[Name]>>, string>
}

/** Starts a module of this folder, on a file where one is given, as a process that is gone with the scope. */
export const start = <C extends Commands>(
  module: string,
  filename?: string,
): Effect.Effect<Process<C>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        fork(new URL(module, import.meta.url), filename === undefined ? [] : [filename], { execArgv: ["--expose-gc"] }),
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL")),
    ),
    (child) => {
      const waiting = new Map<number, (answer: Answer) => void>()
      let questions = 0
      child.on("message", (message) => {
        const answer = message as Answer
        waiting.get(answer.id)?.(answer)
        waiting.delete(answer.id)
      })
      child.on("exit", (code, signal) => {
        for (const [id, resume] of waiting) resume({ id, error: `${module} ended with ${code ?? signal}` })
        waiting.clear()
      })
      return {
        ask: (name, ...args) =>
          Effect.callback((resume) => {
            const id = ++questions
            waiting.set(id, ({ error, value }) =>
              // What a command answers is what its module says.
              resume(error === undefined ? Effect.succeed(value as never) : Effect.fail(`${module} ${name}: ${error}`)),
            )
            child.send({ id, name, args } satisfies Question)
          }),
      }
    },
  )

/** In a process: answers what it is asked, until the bench is gone. */
export const answer = (commands: Commands): void => {
  process.on("message", (message) => {
    const { args, id, name } = message as Question
    commands[name]!(...args).then(
      (value) => process.send!({ id, value } satisfies Answer),
      (error: unknown) => process.send!({ id, error: error instanceof Error ? error.stack : String(error) }),
    )
  })
  process.on("disconnect", () => process.exit())
}

/** How events are published: each in a turn of the event loop of its own, or as fast as it goes. */
export type Pace = "turns" | "flood"

/** Milliseconds on a clock that all processes share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/** An event whose text is a time on that clock. */
export const textAt = (millis: number): EventJson =>
  JSON.stringify({ _tag: "TextDelta", messageId: "m1", text: String(millis) }) as EventJson

/** When the next event comes: once the client has said that it has the one before, or after some milliseconds. */
export type Apart = "answered" | number

export interface Clockwork {
  /** Where the client says that it is ready, and then of each event that it has it: a byte. */
  readonly port: number
  readonly next: (apart: Apart) => Promise<void>
}

/** In a server's process: what gives the pace of events whose latency is taken. */
export const makeClockwork = async (): Promise<Clockwork> => {
  const said = { count: 0 }
  const told = new EventEmitter()
  const server = createServer((socket) => {
    said.count = 0
    socket.on("data", (bytes) => {
      said.count += bytes.length
      told.emit("said")
    })
    socket.on("error", () => {})
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    port: (server.address() as AddressInfo).port,
    next: async (apart) => {
      if (apart !== "answered") return setTimeout(apart)
      while (said.count === 0) await once(told, "said")
      said.count--
    },
  }
}

/** In a server's process: the CPU it has used, in ms. */
export const cpuMillis = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1000
}

/** In a server's process: its resident memory in bytes, as it is. */
export const residentBytes = async (): Promise<number> => process.memoryUsage.rss()

/** In a server's process: its resident memory in bytes, after a collection that gives back what nothing is in. */
export const collectedBytes = async (): Promise<number> => {
  for (let round = 0; round < 3; round++) {
    await global.gc!({ execution: "async", flavor: "last-resort", type: "major" })
    await setTimeout(100)
  }
  return process.memoryUsage.rss()
}
