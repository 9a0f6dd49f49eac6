/**
 * Many processes over one Redis: two producers each record a run; one reader follows each run, a third follows the session
 * that both belong to. None of them knows of another; each reader sees each of its events once, in order, to the end.
 *
 * `REDIS_URL` names the server, `redis://127.0.0.1:6379` by default. What is recorded is removed in the end.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Envelope, EventStore } from "@throughline/core"
import { Console, Data, Effect, Layer, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { layer } from "./services.ts"

class ExampleFailed extends Data.TaggedError("ExampleFailed")<{ readonly message: string }> {}

/** Runs a script of this directory to its end; what it printed. */
const start = Effect.fnUntraced(function* (script: string, ...args: ReadonlyArray<string>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const path = fileURLToPath(new URL(`./${script}.ts`, import.meta.url))
  const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [path, ...args]))
  const lines = yield* handle.all.pipe(Stream.decodeText, Stream.splitLines, Stream.runCollect)
  if ((yield* handle.exitCode) === 0) return lines
  return yield* new ExampleFailed({ message: `${script} ${args.join(" ")} failed:\n${lines.join("\n")}` })
}, Effect.scoped)

/** The seqs of a run in what a reader printed. */
const seqsOf = (lines: ReadonlyArray<string>, run: string) =>
  lines.filter((line) => line.startsWith(`${run} `)).map((line) => Number(line.slice(run.length + 1)))

const program = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  const session = yield* (yield* SecureRandom.SecureRandom).uuidV7()
  const runs = [`${session}-a`, `${session}-b`]
  const removed = Effect.forEach(runs, (run) => store.remove(Envelope.RunId.make(run)))

  const readers = Effect.all(
    [...runs.map((run) => start("reader", "run", run)), start("reader", "session", session, String(runs.length))],
    { concurrency: "unbounded" },
  )
  const producers = Effect.forEach(runs, (run) => start("producer", run, session), { concurrency: "unbounded" })
  yield* Console.log("two producers and three readers are started")
  const [[a = [], b = [], both = []]] = yield* Effect.all([readers, producers], { concurrency: "unbounded" }).pipe(
    Effect.ensuring(Effect.ignore(removed)),
  )

  for (const [name, lines, of] of [
    ["the reader of run a", a, [runs[0]!]],
    ["the reader of run b", b, [runs[1]!]],
    ["the reader of the session", both, runs],
  ] as const) {
    for (const run of of) {
      const seqs = seqsOf(lines, run)
      if (seqs.length !== 26 || seqs.some((seq, index) => seq !== index + 1)) {
        return yield* new ExampleFailed({ message: `${name} saw ${seqs.join(" ")} of run ${run}` })
      }
    }
    yield* Console.log(`${name} saw ${lines.length} events, each once, in order, to the end`)
  }
  return undefined
})

NodeRuntime.runMain(Effect.provide(program, Layer.mergeAll(layer, NodeServices.layer)))
