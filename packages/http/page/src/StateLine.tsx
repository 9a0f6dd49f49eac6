/** How the run stands, and the connection to it. */
import { useEffect, useState } from "preact/hooks"
import type { RunReader } from "./RunReader.ts"
import { Said } from "./Said.tsx"

export interface State {
  /** A class of the style sheet. */
  readonly tone: "busy" | "live" | "lost" | "completed" | "failed" | "cancelled"
  /** In one word, for the title of the tab. */
  readonly word: string
  /** What is said aloud. */
  readonly text: string
  readonly detail: string
}

const words = { completed: "Completed", failed: "Failed", cancelled: "Cancelled" } as const

const refusals: Readonly<Record<string, string>> = {
  "run-unknown": "There is no such run, or it isn't yours to see.",
  "run-removed": "The run was removed.",
  "cursor-stale": "The run was removed and written again.",
  unauthorized: "The link has expired, or the server asks for another token.",
}

export const stateOf = ({ head, phase, transcript }: RunReader): State => {
  const { ending } = transcript
  if (ending !== undefined) {
    return { tone: ending.status, word: words[ending.status], text: words[ending.status], detail: ending.detail }
  }
  switch (phase._tag) {
    case "connecting":
      return { tone: "busy", word: "", text: "Connecting", detail: "" }
    case "catching-up":
    case "live":
      if (transcript.events === 0 && head === 0) {
        return { tone: "busy", word: "Waiting", text: "Waiting for the run to begin", detail: "" }
      }
      return phase._tag === "live"
        ? { tone: "live", word: "Live", text: "Live", detail: "" }
        : { tone: "busy", word: "Live", text: "Catching up", detail: "" }
    case "lost":
      return { tone: "lost", word: "Reconnecting", text: "Connection lost, reconnecting", detail: "" }
    case "ended":
      return { tone: "completed", word: "Ended", text: "Ended", detail: "" }
    case "failed":
      return {
        tone: "failed",
        word: "Stopped",
        text: refusals[phase.code] ?? "The run can't be read on",
        detail: phase.code in refusals ? "" : phase.message,
      }
  }
}

/** The seconds until a moment, as they pass. */
const Countdown = ({ at }: { readonly at: number }) => {
  const [, again] = useState({})
  useEffect(() => {
    const timer = setInterval(() => again({}), 500)
    return () => clearInterval(timer)
  }, [])
  const seconds = Math.ceil((at - performance.now()) / 1000)
  return <span class="detail">{seconds > 0 ? `next try in ${seconds} s` : "trying now"}</span>
}

export const StateLine = (props: {
  readonly state: State
  readonly reader: RunReader
  readonly onAgain: () => void
}) => {
  const { onAgain, reader, state } = props
  const { head, phase, transcript } = reader
  const isOver = transcript.ending !== undefined
  const isCatchingUp = phase._tag === "catching-up" && !isOver && transcript.events > 0 && head > transcript.lastSeq
  return (
    <div class={`state ${state.tone}`}>
      <span class={`dot ${state.tone}`} aria-hidden="true" />
      <strong role="status">{state.text}</strong>
      {state.detail !== "" && (
        <span class="detail">
          <Said text={state.detail} />
        </span>
      )}
      {isCatchingUp && (
        <progress aria-label="Read so far" value={transcript.lastSeq} max={head}>
          {transcript.lastSeq} of {head}
        </progress>
      )}
      {!isOver && phase._tag === "lost" && (
        <>
          <Countdown at={phase.at} />
          <button type="button" onClick={reader.retry}>
            Try now
          </button>
        </>
      )}
      {!isOver && phase._tag === "failed" && (
        <button type="button" onClick={onAgain}>
          Read from the start
        </button>
      )}
    </div>
  )
}
