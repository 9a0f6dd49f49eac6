/**
 * The promise, shown on real processes: a command is recorded into SQLite while a reader in another process is killed
 * half-way, and a new reader goes on from the last event that the first one gave. Together they have seen the run.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Envelope from "@throughline/core/Envelope"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Stream from "effect/Stream"
import { fileURLToPath } from "node:url"

class DemoFailed extends Data.TaggedError("DemoFailed")<{ readonly message: string }> {}

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** Reader A is killed once this many events were read from it; the run has some 400. */
const half = 150

/** The `throughline` command, as a user runs it. */
const throughline = (...args: ReadonlyArray<string>) =>
  ChildProcess.make(process.execPath, [path("../../packages/cli/src/main.ts"), ...args], { stdin: "ignore" })

/** What a reader prints: one envelope a line. A line that was cut short by the kill is no envelope. */
const printed = (reader: ChildProcessSpawner.ChildProcessHandle) =>
  reader.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.mapEffect((line) => Effect.option(Envelope.fromJson(line))),
    Stream.filter(Option.isSome),
    Stream.map(({ value }) => value),
  )

const range = (envelopes: ReadonlyArray<{ readonly seq: number }>) =>
  `${String(envelopes.at(0)?.seq).padStart(3)} to ${String(envelopes.at(-1)?.seq).padStart(3)}`

const demo = Effect.gen(function* () {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const fileSystem = yield* FileSystem.FileSystem
  const directory = yield* fileSystem.makeTempDirectoryScoped({ prefix: "throughline-demo-" })
  const store = `sqlite:${directory}/runs.db`

  yield* Console.log("\nThroughline: a run is recorded, its reader dies half-way, and no event is lost.\n")
  const recorder = yield* spawner.spawn(
    throughline("record", "--run", "demo", "--store", store, "--", process.execPath, path("./work.ts")),
  )
  // The recorder passes the output of what it records through, and waits for whoever reads that.
  yield* Effect.forkScoped(Stream.runDrain(recorder.all))
  yield* Console.log(`  recorder  pid ${recorder.pid}  records "node work.ts" into SQLite`)

  const readerA = yield* spawner.spawn(throughline("tail", "demo", "--follow", "--wait", "--json", "--store", store))
  yield* Console.log(`  reader A  pid ${readerA.pid}  follows from the start`)
  const seenByA = yield* Stream.runCollect(Stream.take(printed(readerA), half))
  yield* readerA.kill({ killSignal: "SIGKILL" })
  const last = seenByA.at(-1)?.seq ?? 0
  yield* Console.log(`  reader A  pid ${readerA.pid}  killed with SIGKILL; the last event read from it is ${last}`)

  const readerB = yield* spawner.spawn(
    throughline("tail", "demo", "--follow", "--after", String(last), "--json", "--store", store),
  )
  yield* Console.log(`  reader B  pid ${readerB.pid}  resumes after ${last}`)
  const seenByB = yield* Stream.runCollect(printed(readerB))
  const exits = { recorder: yield* recorder.exitCode, readerB: yield* readerB.exitCode }
  const end = seenByB.at(-1)

  yield* Console.log(`\n  reader A saw ${range(seenByA)}`)
  yield* Console.log(`  reader B saw ${range(seenByB)}, which ends the run: ${end?.kind} (${end?.endsRun})`)

  const seqs = [...seenByA, ...seenByB].map(({ seq }) => seq)
  const hole = seqs.findIndex((seq, index) => seq !== index + 1)
  if (hole !== -1) {
    return yield* new DemoFailed({ message: `event ${hole + 1} should come there, event ${seqs[hole]} did` })
  }
  if (end?.endsRun !== "completed") return yield* new DemoFailed({ message: "the end of the run did not arrive" })
  if (seenByA.length < half) {
    return yield* new DemoFailed({ message: "reader A was not killed half-way" })
  }
  if (exits.recorder !== 0 || exits.readerB !== 0) {
    return yield* new DemoFailed({ message: `exit codes: recorder ${exits.recorder}, reader B ${exits.readerB}` })
  }
  yield* Console.log(`  together: ${seqs.length} events, each once, in order, to the end. ✓\n`)
})

demo.pipe(
  Effect.scoped,
  Effect.timeoutOrElse({
    duration: "3 minutes",
    orElse: () => Effect.fail(new DemoFailed({ message: "it took longer than three minutes" })),
  }),
  Effect.tapError((error) => Console.error(`\n  ✗ ${error.message}\n`)),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true }),
)
