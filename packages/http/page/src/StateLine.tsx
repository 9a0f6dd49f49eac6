/** How the run stands, and the connection to it. */
import { useEffect, useState } from "preact/hooks"
import { noAnswer, patience } from "./noAnswer.ts"
import { asideFor, type RunReader } from "./RunReader.ts"
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

/** What the server refuses for now. */
const passing: Readonly<Record<string, string>> = {
  "too-many-streams": "The server has as many readers as it takes.",
  "too-many-requests": "The server is asked too often.",
  "store-unavailable": "The server can't reach its store.",
  "shutting-down": "The server is being stopped.",
}

export const stateOf = ({ head, phase, transcript }: RunReader): State => {
  const { ending } = transcript
  if (ending !== undefined) {
    return { tone: ending.status, word: words[ending.status], text: words[ending.status], detail: ending.detail }
  }
  switch (phase._tag) {
    case "paused":
      return { tone: "busy", word: "Paused", text: "Paused while nobody looks", detail: "" }
    case "connecting":
      return { tone: "busy", word: "", text: "Connecting", detail: "" }
    case "catching-up":
    case "live":
    case "aside":
      if (transcript.events === 0 && head === 0) {
        return { tone: "busy", word: "Waiting", text: "Waiting for the run to begin", detail: "" }
      }
      if (phase._tag === "aside") {
        const detail = "The connections of this browser are taken by runs in other windows."
        return { tone: "live", word: "Live", text: `Live, every ${asideFor / 1000} s`, detail }
      }
      return phase._tag === "live"
        ? { tone: "live", word: "Live", text: "Live", detail: "" }
        : { tone: "busy", word: "Live", text: "Catching up", detail: "" }
    case "lost":
      return {
        tone: "lost",
        word: "Reconnecting",
        text: "Connection lost, reconnecting",
        detail: passing[phase.refused ?? ""] ?? "",
      }
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
const useSecondsTo = (at: number): number => {
  const [, again] = useState({})
  useEffect(() => {
    const timer = setInterval(() => again({}), 500)
    return () => clearInterval(timer)
  }, [])
  return Math.ceil((at - performance.now()) / 1000)
}

/** When the next try is, and why it takes so long once it does. */
const Try = ({ at }: { readonly at: number }) => {
  const seconds = useSecondsTo(at)
  const text = seconds > 0 ? `next try in ${seconds} s` : seconds * 1000 > -patience ? "trying now" : noAnswer
  return <span class="detail">{text}</span>
}

/** Nothing, until it takes long. */
const First = ({ since }: { readonly since: number }) =>
  useSecondsTo(since) * 1000 > -patience ? null : <span class="detail">{noAnswer}</span>

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
      {!isOver && phase._tag === "connecting" && <First since={phase.since} />}
      {!isOver && phase._tag === "lost" && (
        <>
          <Try at={phase.at} />
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
