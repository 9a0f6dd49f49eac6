/** `throughline record`: runs a command, or reads standard input, and records its output as a run. */
import { type AgentId, RunId, type SessionId } from "@throughline/core/Envelope"
import { type DeadLetter, EventBridge } from "@throughline/core/EventBridge"
import { EventStore } from "@throughline/core/EventStore"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Backend from "./Backend.ts"
import * as Exit from "./Exit.ts"
import type { Format } from "./LineFormat.ts"
import { Output, type OutputClosed, tell } from "./Output.ts"
import * as Recorder from "./Recorder.ts"
import * as RunEnding from "./RunEnding.ts"
import { type Signal, Signals } from "./Signals.ts"
import * as Source from "./Source.ts"
import * as StoreUrl from "./StoreUrl.ts"

export interface RecordRequest {
  readonly run: RunId | undefined
  readonly session: SessionId | undefined
  readonly agent: AgentId | undefined
  readonly store: string | undefined
  readonly format: Format
  /** Whether the run is served over HTTP while it is recorded. */
  readonly serve: boolean
  /** The command and its arguments; empty: standard input. */
  readonly command: ReadonlyArray<string>
}

/** Warnings about malformed lines that are told one by one; the rest are only counted. */
const malformedTold = 3

/** Quotes a word for a shell, where it needs to be. */
const quoted = (word: string): string => (/^[\w./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** Opens the store for a new run; `undefined`: it can't be used, and the user has been told. */
const open = Effect.fnUntraced(function* (
  url: StoreUrl.StoreUrl,
  runId: RunId,
  onDeadLetter: (letter: DeadLetter) => Effect.Effect<void>,
) {
  const services = yield* Layer.build(Backend.layer(url, onDeadLetter))
  const head = yield* Context.get(services, EventStore).head(runId)
  if (head.status !== "unknown") {
    return yield* new Exit.CommandFailed({
      code: Exit.usage,
      message: `run ${runId} exists already (${head.status}, ${head.lastSeq} events): expected the id of a new run`,
    })
  }
  return services
})

const openOrTell = (...[url, runId, onDeadLetter]: Parameters<typeof open>) =>
  open(url, runId, onDeadLetter).pipe(
    Effect.timeout("10 seconds"),
    Effect.catchIf(
      (error) => error._tag !== "CommandFailed",
      (error) => Effect.as(tell(`nothing will be recorded: ${error.message}`), undefined),
    ),
  )

/** Copies one output to ours and records it, until it ends or nobody reads ours any more. */
const copy = Effect.fnUntraced(
  function* (source: Source.Source["outputs"][number], recorder: Recorder.OutputRecorder) {
    const output = yield* Output
    const copied = source.bytes.pipe(
      Stream.runForEach((bytes) =>
        // What nobody reads any more is still part of the run.
        Effect.flatMap(Effect.exit(output.write(source.stream, bytes)), (written) =>
          Effect.andThen(recorder.take(bytes), written),
        ),
      ),
    )
    yield* Effect.ensuring(copied, recorder.end)
  },
  // Not read to its end, the pipe is closed: the command learns of it as it would without us.
  Effect.catchTag("OutputClosed", (closed: OutputClosed) => (closed.isReaderGone ? Effect.void : tell(closed.message))),
  Effect.catchTag("ReadFailed", (failed: Source.ReadFailed) =>
    tell(`${failed.stream} broke off: ${String(failed.cause)}`),
  ),
)

const announce = (runId: RunId, url: StoreUrl.StoreUrl, isDefault: boolean) => {
  if (url._tag === "Memory") return tell(`recording run ${runId} in memory; it is gone with this process`)
  const store = isDefault ? "" : ` --store ${quoted(StoreUrl.format(url))}`
  return tell(`recording run ${runId}; follow it with: throughline tail ${runId} --follow${store}`)
}

/** Where the lines go when there is no store to record them in. */
const unrecorded: Recorder.Recorder = {
  note: () => {},
  output: () => ({ take: () => Effect.void, end: Effect.void }),
  ending: () => undefined,
  lost: () => {},
  finish: () => Effect.succeed({ events: 1, stored: 0 }),
  abandon: () => {},
}

/** Runs the source to its end, signals handed on, output copied and recorded. */
const run = Effect.fnUntraced(function* (source: Source.Source, recorder: Recorder.Recorder) {
  const signals = yield* Signals
  const stopped = yield* Deferred.make<void>()
  let cancelledBy: Signal | undefined
  let isFinishing = false
  yield* signals.take((signal) => {
    if (isFinishing) return recorder.abandon()
    cancelledBy ??= signal
    // With the process gone, what keeps its output open is none of ours.
    if (!source.signal(signal)) Deferred.doneUnsafe(stopped, Effect.void)
  })
  yield* Effect.raceFirst(
    Effect.forEach(source.outputs, (output) => copy(output, recorder.output(output.stream)), {
      concurrency: "unbounded",
      discard: true,
    }),
    Deferred.await(stopped),
  )
  const ended = yield* source.ended
  isFinishing = true
  const circumstances = { ended, cancelledBy, own: recorder.ending() }
  const report = yield* recorder.finish(RunEnding.eventOf(circumstances))
  return { circumstances, report }
})

/** Records a run; fails with the exit code, unless it is 0. */
export const record = Effect.fnUntraced(function* (request: RecordRequest) {
  const { isDefault, url } = yield* StoreUrl.resolve(request.store)
  const random = yield* SecureRandom.SecureRandom
  const runId = request.run ?? RunId.make(yield* random.uuidV7())
  const output = yield* Output
  const say = (text: string) => Effect.provideService(tell(text), Output, output)

  let firstCause: string | undefined
  let recorder = unrecorded
  const services = yield* openOrTell(url, runId, (letter) => {
    recorder.lost(letter)
    const { cause } = letter
    if (firstCause !== undefined) return Effect.void
    firstCause = cause.message
    return say(`events are not stored: ${cause.message}`)
  })
  let malformed = 0
  let viewersDone: Effect.Effect<void> = Effect.void
  if (services !== undefined) {
    recorder = yield* Recorder.make({
      runId,
      sessionId: request.session,
      agentId: request.agent,
      format: request.format,
      onMalformed: (stream, problem) => {
        malformed += 1
        return malformed <= malformedTold ? say(`a line of ${stream} is recorded as text: ${problem}`) : Effect.void
      },
    }).pipe(Effect.provideService(EventBridge, Context.get(services, EventBridge)))
    yield* announce(runId, url, isDefault)
    if (request.serve) {
      const { serveRun } = yield* Effect.promise(() => import("./Serve.ts"))
      viewersDone = yield* serveRun(services, runId)
    }
  }

  const [command, ...args] = request.command
  if (request.format !== "agent") {
    const name = command === undefined ? "standard input" : request.command.join(" ")
    recorder.note({ _tag: "RunStarted", name: name.slice(0, 4096) })
  }
  const source =
    command === undefined
      ? Source.standardInput
      : yield* Source.command(command, args).pipe(
          Effect.catch((error) => Effect.as(tell(error.message), Source.ofNotStarted(error))),
        )
  const { circumstances, report } = yield* run(source, recorder)
  yield* viewersDone

  if (malformed > malformedTold) yield* tell(`${malformed} lines in all were recorded as text`)
  const code = RunEnding.exitCodeOf(circumstances)
  const missing = report.events - report.stored
  if (missing > 0) {
    const what =
      services === undefined
        ? "nothing of this run was stored"
        : `${missing} of ${report.events} events of run ${runId} were not stored`
    yield* tell(firstCause === undefined ? what : `${what}: ${firstCause}`)
  }
  const exitCode = code === 0 && missing > 0 ? Exit.notStored : code
  if (exitCode !== 0) return yield* new Exit.Exited({ code: exitCode })
}, Effect.scoped)
