/** What is recorded: a process of our own, or our standard input. */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process"
import type { Readable } from "node:stream"
import * as Exit from "./Exit.ts"
import type { OutputStream } from "./LineFormat.ts"
import * as Pipe from "./Pipe.ts"
import type { Signal } from "./Signals.ts"

/** How the source ended. */
export type Ended =
  | { readonly _tag: "Exited"; readonly code: number }
  | { readonly _tag: "Killed"; readonly signal: NodeJS.Signals }
  | { readonly _tag: "EndOfInput" }
  | { readonly _tag: "NotStarted"; readonly error: NotStarted }

export interface Source {
  /** Its output, byte for byte. */
  readonly outputs: ReadonlyArray<{
    readonly stream: OutputStream
    readonly bytes: Stream.Stream<Uint8Array, ReadFailed>
  }>
  /** Completes when it has ended; there may be output left to read. */
  readonly ended: Effect.Effect<Ended>
  /** Hands a signal on; `false`: there is nobody left to take it. */
  readonly signal: (signal: Signal) => boolean
}

/** The command could not be started. `code` is what a shell would exit with: 127 not found, else 126. */
export class NotStarted extends Schema.TaggedError<NotStarted>("@throughline/cli/Source/NotStarted")("NotStarted", {
  command: Schema.String,
  code: Schema.Int,
  problem: Schema.String,
}) {
  override get message() {
    return `can't start ${this.command}: ${this.problem}`
  }
}

/** Output could not be read to its end. */
export class ReadFailed extends Schema.TaggedError<ReadFailed>("@throughline/cli/Source/ReadFailed")("ReadFailed", {
  stream: Schema.Literals(["stdout", "stderr"]),
  cause: Schema.Defect(),
}) {}

const bytesOf = (stream: OutputStream, readable: () => Readable): Stream.Stream<Uint8Array, ReadFailed> =>
  NodeStream.fromReadable<Uint8Array, ReadFailed>({
    evaluate: readable,
    onError: (cause) => new ReadFailed({ stream, cause }),
    // One read at a time, so that what has been read is passed on at once.
    chunkSize: 1,
  })

const started = (command: string, args: ReadonlyArray<string>, stdio: StdioOptions) =>
  Effect.callback<ChildProcess, NotStarted>((resume) => {
    const notStarted = (cause: NodeJS.ErrnoException) =>
      resume(
        Effect.fail(
          new NotStarted({
            command,
            code: cause.code === "ENOENT" ? Exit.notFound : Exit.notExecutable,
            problem: cause.code === "ENOENT" ? "command not found" : cause.message,
          }),
        ),
      )
    try {
      const child = spawn(command, args, { stdio })
      child.once("error", notStarted)
      child.once("spawn", () => {
        // From now on an error is a signal that could not be delivered, which `kill` says too.
        child.off("error", notStarted).on("error", () => {})
        resume(Effect.succeed(child))
      })
    } catch (cause) {
      notStarted(cause as NodeJS.ErrnoException)
    }
  })

/**
 * Starts a command. It inherits standard input, the environment and the working directory; its output comes through
 * pipes, so it finds no terminal there.
 */
export const command = Effect.fnUntraced(function* (
  name: string,
  args: ReadonlyArray<string>,
): Effect.fn.Return<Source, NotStarted, Scope.Scope> {
  const [stdout, stderr] = yield* Pipe.make(2)
  const child = yield* Effect.acquireRelease(
    started(name, args, ["inherit", stdout?.writeEnd ?? "pipe", stderr?.writeEnd ?? "pipe"]),
    (running) => Effect.sync(() => running.kill()),
  )
  stdout?.closeWriteEnd()
  stderr?.closeWriteEnd()
  const onTerminal = process.stdin.isTTY
  // Without a pipe of ours there is one of Node's.
  return {
    outputs: [
      { stream: "stdout", bytes: bytesOf("stdout", () => stdout?.readable ?? child.stdout!) },
      { stream: "stderr", bytes: bytesOf("stderr", () => stderr?.readable ?? child.stderr!) },
    ],
    ended: Effect.callback((resume) => {
      const done = () =>
        resume(
          Effect.succeed(
            child.signalCode === null
              ? { _tag: "Exited", code: child.exitCode ?? Exit.failed }
              : { _tag: "Killed", signal: child.signalCode },
          ),
        )
      if (child.exitCode !== null || child.signalCode !== null) return done()
      child.once("exit", done)
      return Effect.sync(() => child.off("exit", done))
    }),
    // A terminal gives its signals to every process of the job. Many programs take a second one as "at once".
    signal: (signal) =>
      (onTerminal && signal !== "SIGTERM" && child.exitCode === null && child.signalCode === null) ||
      child.kill(signal),
  }
})

/** A command that could not be started, as a source that has ended. */
export const ofNotStarted = (error: NotStarted): Source => ({
  outputs: [],
  ended: Effect.succeed({ _tag: "NotStarted", error }),
  signal: () => false,
})

/** Standard input, to its end. */
export const standardInput: Source = {
  outputs: [{ stream: "stdout", bytes: bytesOf("stdout", () => process.stdin) }],
  ended: Effect.succeed({ _tag: "EndOfInput" }),
  signal: () => false,
}
