/**
 * `sse-idle`: resident memory of the server's process per idle SSE client, 2,000 clients of 100 runs that are open and
 * quiet, after a collection; each round in a process of its own.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { type Bench, median } from "./Compare.ts"
import type { BareCommands } from "./sse-bare-server.ts"
import { type residentBytes, start } from "./sse-process.ts"
import type { ReaderCommands } from "./sse-readers.ts"
import type { ServerCommands } from "./sse-server.ts"

const rounds = 3
const runs = 100
const readersOfRun = 20
/** Of runs that are over when the memory is first looked at, so that code and pools are there that clients don't add. */
const warmUp = 5

type Memory = Awaited<ReturnType<typeof residentBytes>>

interface Server {
  readonly port: number
  readonly memory: Effect.Effect<Memory, string>
}

const open = Effect.fnUntraced(function* (port: number, names: ReadonlyArray<string>) {
  const readers = yield* start<ReaderCommands>("./sse-readers.ts")
  for (const name of names) {
    const path = `/runs/${name}/events?wait`
    yield* readers.ask("open", { port, path, readers: readersOfRun, ready: "event: caught-up" })
    yield* readers.ask("ready")
  }
})

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`)

/** KiB that a client adds. */
const perClient = Effect.fnUntraced(function* ({ memory, port }: Server) {
  yield* Effect.scoped(open(port, names("before", warmUp)))
  const before = yield* memory
  yield* open(port, names("idle", runs))
  const after = yield* memory
  return { ...after, added: (after.collected - before.collected) / (runs * readersOfRun) / 1024 }
}, Effect.scoped)

const throughline = Effect.gen(function* () {
  const server = yield* start<ServerCommands>("./sse-server.ts")
  const port = yield* server.ask("listen")
  return yield* perClient({ port, memory: server.ask("memory") })
}).pipe(Effect.scoped)

const bare = Effect.gen(function* () {
  const server = yield* start<BareCommands>("./sse-bare-server.ts")
  const port = yield* server.ask("listen")
  return yield* perClient({ port, memory: server.ask("memory") })
}).pipe(Effect.scoped)

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`

export const sseIdle: Bench = {
  name: "sse-idle",
  run: Effect.gen(function* () {
    const ours = yield* Effect.replicateEffect(throughline, rounds)
    const theirs = yield* bare
    const added = median(ours.map((sample) => sample.added))
    const { collected, now } = ours[rounds - 1]!
    yield* Console.log(`  node:http alone ${theirs.added.toFixed(1)} KiB`)
    yield* Console.log(
      `  the process with its clients: ${mebibytes(now)} as it was, ${mebibytes(collected)} after the collection`,
    )
    yield* Console.log(`bench sse-idle: ${added.toFixed(1)} KiB (target at most 40 KiB)`)
  }),
}
