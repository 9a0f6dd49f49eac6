/** Standard output and standard error, written whole and in order, with their backpressure and without their surprises. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schema from "effect/Schema"

/** Whoever read the output is gone (`EPIPE`), or it can't be written (`ENOSPC`, …). */
export class OutputClosed extends Schema.TaggedError<OutputClosed>("@throughline/cli/Output/OutputClosed")(
  "OutputClosed",
  { stream: Schema.Literals(["stdout", "stderr"]), code: Schema.String },
) {
  override get message() {
    return `${this.stream} can't be written: ${this.code}`
  }

  /** The reader went away, as `head` does when it has enough: nothing to complain about. */
  get isReaderGone() {
    return this.code === "EPIPE"
  }
}

export class Output extends Context.Service<
  Output,
  {
    /** Returns once the data has been handed to the system, so a slow reader holds up its writer. */
    readonly write: (stream: "stdout" | "stderr", data: string | Uint8Array) => Effect.Effect<void, OutputClosed>
  }
>()("@throughline/cli/Output") {}

/** Tells the user something on standard error; if nobody listens there, nobody can be told. */
export const tell = (text: string): Effect.Effect<void, never, Output> =>
  Effect.flatMap(Output, (output) => Effect.ignore(output.write("stderr", `throughline: ${text}\n`)))

const writeTo = (stream: "stdout" | "stderr", target: NodeJS.WriteStream, data: string | Uint8Array) =>
  Effect.callback<void, OutputClosed>((resume) => {
    target.write(data, (cause) => {
      if (cause == null) return resume(Effect.void)
      const code = (cause as NodeJS.ErrnoException).code ?? cause.name
      // Once broken, a stream only says that it is.
      resume(Effect.fail(new OutputClosed({ stream, code: code === "ERR_STREAM_DESTROYED" ? "EPIPE" : code })))
    })
  })

/** The output of this process. */
export const layer: Layer.Layer<Output> = Layer.sync(Output, () => {
  const targets = { stdout: process.stdout, stderr: process.stderr }
  // Each write learns of its own failure; without a listener the event would end the process. It stays, because what
  // is under way when the layer goes can still fail.
  for (const target of Object.values(targets)) target.on("error", () => {})
  return { write: (stream, data) => writeTo(stream, targets[stream], data) }
})

const said = (part: unknown): string => (part instanceof Error ? part.message : String(part))

/** What the services warn of (a connection is lost, a lease was not renewed), a line each in this command's own words. */
export const layerLogger: Layer.Layer<never, never, Output> = Logger.layer([
  Effect.map(Effect.context<Output>(), (context) =>
    Logger.make(({ cause, logLevel, message }) => {
      if (!LogLevel.isGreaterThanOrEqualTo(logLevel, "Warn")) return
      const parts: ReadonlyArray<unknown> = Array.isArray(message) ? message : [message]
      const told = cause.reasons.length === 0 ? parts : [...parts, Cause.squash(cause)]
      Effect.runForkWith(context)(tell(told.map(said).join(": ")))
    }),
  ),
])
