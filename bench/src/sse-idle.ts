/**
 * `sse-idle`: what an idle SSE client adds to the resident memory of the server's process, read as it is, with 2,000
 * clients of 100 runs that are open and quiet; each round in a process of its own.
 *
 * Much of it is there once, and not for each client: V8's space of young objects grows with the first load, and keeps what
 * it took until a collection. The process is told of before and after one.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { type Bench, median } from "./Compare.ts"
import type { BareCommands } from "./sse-bare-server.ts"
import { type Process, start } from "./sse-process.ts"
import type { ReaderCommands } from "./sse-readers.ts"
import type { ServerCommands } from "./sse-server.ts"

const rounds = 3
const runs = 100
const readersOfRun = 20
const clients = runs * readersOfRun
/** Of runs that are over when the memory is first looked at, so that code is there that clients don't add. */
const warmUp = 5
const quiet = "2 seconds"

const open = Effect.fnUntraced(function* (port: number, names: ReadonlyArray<string>) {
  const readers = yield* start<ReaderCommands>("./sse-readers.ts")
  for (const name of names) {
    const path = `/runs/${name}/events?wait`
    yield* readers.ask("open", { port, path, readers: readersOfRun, ready: "event: caught-up" })
    yield* readers.ask("ready")
  }
})

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`)

/** KiB that a client adds to the process as it is; and its bytes, before and after a collection. */
const perClient = Effect.fnUntraced(function* (
  server: Process<Pick<ServerCommands, "listen" | "resident" | "collected">>,
) {
  const port = yield* server.ask("listen")
  yield* Effect.scoped(open(port, names("before", warmUp)))
  const before = yield* server.ask("resident")
  yield* open(port, names("idle", runs))
  yield* Effect.sleep(quiet)
  const resident = yield* server.ask("resident")
  const collected = yield* server.ask("collected")
  return { resident, collected, added: (resident - before) / clients / 1024 }
}, Effect.scoped)

const throughline = Effect.scoped(Effect.flatMap(start<ServerCommands>("./sse-server.ts"), perClient))
const bare = Effect.scoped(Effect.flatMap(start<BareCommands>("./sse-bare-server.ts"), perClient))

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`

export const sseIdle: Bench = {
  name: "sse-idle",
  run: Effect.gen(function* () {
    const ours = yield* Effect.replicateEffect(throughline, rounds)
    const theirs = yield* bare
    const added = median(ours.map((sample) => sample.added))
    const process = (name: string, { collected, resident }: typeof theirs) =>
      `${name} ${mebibytes(resident)}, ${mebibytes(collected)} after a collection`
    yield* Console.log(`  node:http alone ${theirs.added.toFixed(1)} KiB a client`)
    yield* Console.log(
      `  processes with their clients: ${process("throughline", ours[0]!)}; ${process("node:http", theirs)}`,
    )
    yield* Console.log(`bench sse-idle: ${added.toFixed(1)} KiB (target at most 40 KiB)`)
  }),
}
