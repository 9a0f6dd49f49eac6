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

/** Reads what has these runs, to the end; fails unless that was each of their events once, in order. */
const read = Effect.fnUntraced(function* (runs: ReadonlyArray<string>, ...what: ReadonlyArray<string>) {
  const lines = yield* start("reader", ...what)
  for (const run of runs) {
    const seqs = lines.filter((line) => line.startsWith(`${run} `)).map((line) => Number(line.slice(run.length + 1)))
    if (seqs.length !== 26 || seqs.some((seq, index) => seq !== index + 1)) {
      return yield* new ExampleFailed({
        message: `the reader of ${what.join(" ")} saw ${seqs.join(" ")} of run ${run}`,
      })
    }
  }
  yield* Console.log(`the reader of ${what[0]} ${what[1]} saw ${lines.length} events, each once, in order, to the end`)
})

const program = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  const id = yield* (yield* SecureRandom.SecureRandom).uuidV7()
  const [session, one, two] = [`${id}-session`, `${id}-one`, `${id}-two`] as const
  yield* Effect.all(
    [
      read([one], "run", one),
      read([two], "run", two),
      read([one, two], "session", session, "2"),
      start("producer", one, session),
      start("producer", two, session),
    ],
    { concurrency: "unbounded" },
  ).pipe(Effect.ensuring(Effect.ignore(Effect.forEach([one, two], (run) => store.remove(Envelope.RunId.make(run))))))
})

NodeRuntime.runMain(Effect.provide(program, Layer.mergeAll(layer, NodeServices.layer)))
