/** Processes that are killed and started again until their work is done. */
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ChildProcess from "effect/process/ChildProcess"
import { type ChildProcessHandle, ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { fileURLToPath } from "node:url"
import * as Process from "./Process.ts"

export type Role = "producer" | "reader"

/** A process that ended before its work was done, and not by a kill of the suite. */
export class WorkerFailed extends Data.TaggedError("WorkerFailed")<{
  readonly role: Role
  readonly index: number
  readonly exit: string
  /** The end of what it wrote. */
  readonly output: string
}> {
  override get message() {
    return `${this.role} ${this.index} ended with ${this.exit}:\n${this.output}`
  }
}

export interface Worker {
  readonly role: Role
  readonly index: number
  /** Kills the process with `SIGKILL`; the next one starts at once. `false`: its work was already done. */
  readonly kill: Effect.Effect<boolean>
  /** Stops the process, or lets it go on. */
  readonly signal: (signal: "SIGSTOP" | "SIGCONT") => Effect.Effect<void>
  /** Waits until the work is done. */
  readonly done: Effect.Effect<void, WorkerFailed>
  readonly isDone: Effect.Effect<boolean>
}

const programs: Readonly<Record<Role, string>> = {
  producer: fileURLToPath(new URL("producer.ts", import.meta.url)),
  reader: fileURLToPath(new URL("reader.ts", import.meta.url)),
}

const kept = 4000

/** Starts a worker; it ends with the scope. */
export const start = Effect.fnUntraced(function* (role: Role, parameters: Omit<Process.Parameters, "incarnation">) {
  const spawner = yield* ChildProcessSpawner
  const done = yield* Deferred.make<void, WorkerFailed>()
  const { index } = parameters
  let running: ChildProcessHandle | undefined
  let isKilled = false
  let output = ""

  /** Whether the process of this incarnation came to the end of its work. */
  const live = Effect.fnUntraced(function* (incarnation: number) {
    isKilled = false
    output = ""
    const handle = yield* spawner.spawn(
      ChildProcess.make(process.execPath, [programs[role], ...Process.argumentsOf({ ...parameters, incarnation })], {
        stdin: "ignore",
        killSignal: "SIGKILL",
      }),
    )
    running = handle
    yield* handle.all.pipe(
      Stream.decodeText(),
      Stream.runForEach((text) =>
        Effect.sync(() => {
          output = (output + text).slice(-kept)
        }),
      ),
      Effect.ignore,
    )
    const exit = yield* Effect.result(handle.exitCode)
    running = undefined
    if (isKilled) return false
    if (exit._tag === "Success" && exit.success === 0) return true
    const how = exit._tag === "Success" ? `code ${exit.success}` : exit.failure.message
    return yield* new WorkerFailed({ role, index, exit: how, output })
  }, Effect.scoped)

  const work = Effect.gen(function* () {
    for (let incarnation = 1; !(yield* live(incarnation)); incarnation++);
  }).pipe(
    Effect.catchTag("PlatformError", (error) =>
      Effect.fail(new WorkerFailed({ role, index, exit: error.message, output })),
    ),
  )
  yield* Effect.forkScoped(Deferred.into(work, done))

  const isDone = Deferred.isDone(done)
  const worker: Worker = {
    role,
    index,
    isDone,
    done: Deferred.await(done),
    kill: Effect.gen(function* () {
      // A process between two lives is killed once it is there.
      const handle = yield* Effect.sync(() => running).pipe(
        Effect.repeat({
          until: (found) => (found === undefined ? isDone : Effect.succeed(true)),
          schedule: Schedule.spaced("10 millis"),
        }),
      )
      if (handle === undefined) return false
      isKilled = true
      yield* Effect.ignore(handle.kill({ killSignal: "SIGKILL" }))
      return true
    }),
    signal: (signal) =>
      Effect.sync(() => {
        if (running !== undefined) process.kill(running.pid, signal)
      }),
  }
  return worker
})
