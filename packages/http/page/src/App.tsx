/** The page: the runs of the store, and the one that the address names. */
import { useEffect, useMemo, useState } from "preact/hooks"
import { type Place, placeOf } from "./address.ts"
import * as credential from "./credential.ts"
import { RunList } from "./RunList.ts"
import { RunsNav } from "./RunsNav.tsx"
import { RunView } from "./RunView.tsx"
import { TokenForm } from "./TokenForm.tsx"
import { useChanges } from "./useChanges.ts"

const usePlace = (): Place => {
  const [place, setPlace] = useState(() => placeOf(location.hash))
  useEffect(() => {
    const changed = () => setPlace(placeOf(location.hash))
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  return place
}

const Nothing = ({ isEmpty }: { readonly isEmpty: boolean }) => (
  <main class={isEmpty ? "nothing" : "nothing choose"}>
    <h1>{isEmpty ? "No runs yet" : "Choose a run"}</h1>
    <p>{isEmpty ? "A recorded command shows up here as it begins:" : "Or record another one:"}</p>
    <pre>throughline record -- npm test</pre>
  </main>
)

/** Everything that the store has. */
const Everything = ({ place }: { readonly place: Place }) => {
  const list = useMemo(() => new RunList(), [])
  const [tries, setTries] = useState(0)
  useEffect(() => list.start(), [list])
  useChanges(list)
  if (list.state === "unauthorized") {
    return (
      <TokenForm
        isAsking={list.isAsking && tries > 0}
        wasRefused={tries > 0}
        onToken={(token) => {
          credential.keep(token)
          setTries(tries + 1)
          list.look()
        }}
      />
    )
  }
  return (
    <div class={place.run === undefined ? "page" : "page with-run"}>
      <RunsNav list={list} current={place.run} />
      {place.run === undefined ? (
        <Nothing isEmpty={list.state === "here" && list.heads.length === 0} />
      ) : (
        // With a token that was typed in meanwhile it is read again.
        <RunView key={`${place.run} ${tries}`} place={place} isAlone={false} />
      )}
    </div>
  )
}

export const App = () => {
  const place = usePlace()
  if (place.token === undefined) return <Everything place={place} />
  return (
    <div class="page alone">
      <RunView key={location.hash} place={place} isAlone />
    </div>
  )
}
