/**
 * How the command ends: its exit codes, and the failures that carry them.
 *
 * | code | meaning |
 * | --- | --- |
 * | 0 | done; for `record`, the command exited with 0 and all of it was stored |
 * | 1 | the store can't be used, or something unforeseen |
 * | 2 | the command line, an id, a cursor or a URL is wrong |
 * | 3 | the run or the job is not known |
 * | 4 | `record`: the command exited with 0, but not all of it was stored |
 * | 5 | `jobs`: the job is not in a state that allows it |
 *
 * `record` otherwise exits as the recorded command did: with its code, or 128 + n after signal n. 126 and 127 say that
 * it could not be started.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import { constants } from "node:os"

export const failed = 1
export const usage = 2
export const unknown = 3
export const notStored = 4
export const notAllowed = 5
export const notExecutable = 126
export const notFound = 127

/** Ends the command with a message on standard error and an exit code. */
export class CommandFailed extends Schema.TaggedError<CommandFailed>("@throughline/cli/Exit/CommandFailed")(
  "CommandFailed",
  { code: Schema.Int, message: Schema.String },
) {
  override readonly [Runtime.errorExitCode] = this.code
  override readonly [Runtime.errorReported] = false
}

/** Ends the command with an exit code; what there was to say has been said. */
export class Exited extends Schema.TaggedError<Exited>("@throughline/cli/Exit/Exited")("Exited", {
  code: Schema.Int,
}) {
  override readonly [Runtime.errorExitCode] = this.code
  override readonly [Runtime.errorReported] = false
}

/** Errors that mean the command line is wrong, and those that mean there is no such run or job. */
const usageErrors = new Set(["InvalidStoreUrl", "ConfigError", "InvalidCursor", "CursorAhead", "CursorStale"])
const unknownErrors = new Set(["RunRemoved", "JobUnknown"])
const notAllowedErrors = new Set(["JobNotDead", "UniqueKeyTaken"])

/** The exit code that an error means. */
export const codeOf = ({ _tag }: { readonly _tag: string }): number => {
  if (usageErrors.has(_tag)) return usage
  if (unknownErrors.has(_tag)) return unknown
  return notAllowedErrors.has(_tag) ? notAllowed : failed
}

/** The failure that says what an error means for the command. */
export const ofError = (error: { readonly _tag: string; readonly message: string }): CommandFailed | Exited => {
  if (error instanceof CommandFailed || error instanceof Exited) return error
  return new CommandFailed({ code: codeOf(error), message: error.message })
}

/** 128 + n, as a shell reports a process that signal n ended. */
export const ofSignal = (signal: NodeJS.Signals): number => 128 + constants.signals[signal]

/** Prints what nobody foresaw on standard error: standard output is the recorded command's, or the run's. */
export const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Cause.hasInterruptsOnly(cause) || !Runtime.getErrorReported(Cause.squash(cause))
    ? Effect.void
    : Effect.provideService(Effect.logError(cause), Logger.LogToStderr, true)
