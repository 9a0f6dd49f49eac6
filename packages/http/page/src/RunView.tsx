/** One run: what it is, how it stands, and its rows. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { Place } from "./address.ts"
import { named } from "./controls.ts"
import { Finder } from "./Finder.ts"
import { Rows } from "./Rows.tsx"
import { RunReader } from "./RunReader.ts"
import { Said } from "./Said.tsx"
import { StateLine, stateOf } from "./StateLine.tsx"
import { between, clock, numeral } from "./time.ts"
import { useChanges } from "./useChanges.ts"

/** How long a drawing of the page may look for rows, in ms; what is left comes with the next. */
const lookFor = 10

const useReader = (place: Place, tries: number): RunReader => {
  // The place is what the component is keyed by.
  const reader = useMemo(() => new RunReader(place), [tries])
  useEffect(() => () => reader.close(), [reader])
  useChanges(reader)
  return reader
}

const useFinder = (reader: RunReader) => {
  const [text, setText] = useState("")
  const finder = useMemo(() => (text.trim() === "" ? undefined : new Finder(text.trim())), [text, reader])
  const [, again] = useState({})
  const isDone = finder === undefined || finder.look(reader.transcript, lookFor)
  if (finder === undefined) reader.transcript.touched.clear()
  useEffect(() => {
    if (isDone) return
    const frame = requestAnimationFrame(() => again({}))
    return () => cancelAnimationFrame(frame)
  })
  return { text, setText, finder, isDone }
}

/** "/" goes to the field from wherever nothing is typed, Escape empties it. */
const useFindKeys = (setText: (text: string) => void) => {
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLInputElement
      if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault()
        field.current?.focus()
      } else if (event.key === "Escape" && event.target === field.current) setText("")
    }
    addEventListener("keydown", pressed)
    return () => removeEventListener("keydown", pressed)
  }, [])
  return field
}

const count = (number: number, one: string): string => `${numeral(number)} ${number === 1 ? one : `${one}s`}`

export const RunView = ({ isAlone, place }: { readonly place: Place; readonly isAlone: boolean }) => {
  const [tries, setTries] = useState(0)
  const reader = useReader(place, tries)
  const { finder, isDone, setText, text } = useFinder(reader)
  const field = useFindKeys(setText)
  const title = useRef<HTMLHeadingElement>(null)
  const { transcript } = reader
  const name = transcript.name ?? place.run ?? ""
  const state = stateOf(reader)

  useEffect(() => {
    // Whatever direction the name has is kept to it.
    document.title = `${state.word === "" ? "" : `${state.word} · `}\u2068${named(name)}\u2069 · Throughline`
    return () => {
      document.title = "Throughline"
    }
  }, [name, state.word])
  // Whoever chose this run in the list goes on reading here.
  useEffect(() => title.current?.focus({ preventScroll: true }), [])

  const { lastAt, startedAt } = transcript
  return (
    <main class="run" aria-label="Run">
      <header class="top">
        {!isAlone && (
          <a class="back" href="#">
            All runs
          </a>
        )}
        <h1 ref={title} tabIndex={-1}>
          <Said text={name} />
        </h1>
        <p class="meta">
          {name !== place.run && place.run !== undefined && (
            <span class="id">
              <Said text={place.run} />
            </span>
          )}
          <span>{count(transcript.events, "event")}</span>
          {startedAt !== undefined && <span>started {clock(startedAt)}</span>}
          {startedAt !== undefined && lastAt !== undefined && <span>{between(startedAt, lastAt)}</span>}
        </p>
        <StateLine state={state} reader={reader} onAgain={() => setTries(tries + 1)} />
        <search class="find">
          <input
            ref={field}
            type="search"
            value={text}
            placeholder="Find in this run"
            aria-label="Find in this run"
            aria-keyshortcuts="/"
            onInput={(event) => setText(event.currentTarget.value)}
          />
          <span role="status">
            {finder === undefined ? "" : `${count(finder.found.length, "row")}${isDone ? "" : " so far"}`}
          </span>
        </search>
      </header>
      {transcript.rows.length > 0 && (
        <Rows
          key={tries}
          label={`Events of ${named(name)}`}
          rows={transcript.rows}
          only={finder?.found}
          finding={finder}
          follows={reader.hadEnded !== true}
          onToggle={(row) => reader.toggle(row)}
        />
      )}
    </main>
  )
}
