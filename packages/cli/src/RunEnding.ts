/** The event that ends a recorded run: what became of its source, in the words of the vocabulary. */
import { type AgentEvent, vocabulary } from "@throughline/core/AgentEvents"
import * as Exit from "./Exit.ts"
import type { Ended } from "./Source.ts"
import type { Signal } from "./Signals.ts"

/** What is known when a source is done. */
export interface Circumstances {
  readonly ended: Ended
  /** The first signal that reached us. */
  readonly cancelledBy: Signal | undefined
  /** The event with which the source ended its run itself (`agent` format). */
  readonly own: AgentEvent | undefined
}

/**
 * A signal that reached us cancels the run; else the exit code or the signal of the process says how it ended. The
 * source's own ending event is taken where it doesn't contradict: a process that says it completed and exits with 1
 * has failed.
 */
export const eventOf = ({ cancelledBy, ended, own }: Circumstances): AgentEvent => {
  const claim = own === undefined ? undefined : vocabulary.endsRun(own)
  if (own !== undefined && (claim === "failed" || claim === "cancelled")) return own
  if (cancelledBy !== undefined) return { _tag: "RunCancelled", reason: cancelledBy }
  switch (ended._tag) {
    case "EndOfInput":
      return own ?? { _tag: "RunCompleted", finishReason: "end of input", iterations: 0 }
    case "Exited":
      return ended.code === 0
        ? (own ?? { _tag: "RunCompleted", finishReason: "exit", iterations: 0 })
        : {
            _tag: "RunFailed",
            error: { message: `the command exited with code ${ended.code}`, code: ended.code },
            reason: "exit",
          }
    case "NotStarted":
      return {
        _tag: "RunFailed",
        error: { message: ended.error.message, code: ended.error.code },
        reason: "not started",
      }
    case "Killed":
      return {
        _tag: "RunFailed",
        error: { message: `the command was ended by ${ended.signal}`, code: ended.signal },
        reason: "signal",
      }
  }
}

/** What `record` exits with on behalf of its source. */
export const exitCodeOf = ({ cancelledBy, ended }: Circumstances): number => {
  switch (ended._tag) {
    case "EndOfInput":
      return cancelledBy === undefined ? 0 : Exit.ofSignal(cancelledBy)
    case "Exited":
      return ended.code
    case "NotStarted":
      return ended.error.code
    case "Killed":
      return Exit.ofSignal(ended.signal)
  }
}
