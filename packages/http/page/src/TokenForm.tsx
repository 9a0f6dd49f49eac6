/** Asks for the token of a server that wants one. */
import { useState } from "preact/hooks"
import * as credential from "./credential.ts"
import { named } from "./controls.ts"

interface Props {
  /** A token is being tried. */
  readonly isAsking: boolean
  /** The last one that was tried is not the server's. */
  readonly wasRefused: boolean
  readonly onToken: (token: string) => void
}

const noteOf = ({ isAsking, wasRefused }: Props, unusable: string | undefined): string => {
  if (unusable !== undefined) {
    return `No token has “${named(unusable)}” in it: letters from A to Z, digits and signs are all that can be sent. Look at the keyboard's layout.`
  }
  if (isAsking) return "Asking the server."
  if (wasRefused) return "The server refused this token."
  return "It was given to throughline serve, and is kept for this tab only."
}

export const TokenForm = (props: Props) => {
  const [token, setToken] = useState("")
  const [unusable, setUnusable] = useState<string>()
  const isBad = unusable !== undefined || (props.wasRefused && !props.isAsking)
  return (
    <main class="nothing">
      <form
        onSubmit={(event) => {
          event.preventDefault()
          const found = credential.unusable(token)
          setUnusable(found)
          if (token !== "" && found === undefined) props.onToken(token)
        }}
      >
        <h1>This server asks for a token</h1>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          autofocus
          value={token}
          aria-describedby="token-note"
          aria-invalid={isBad}
          onInput={(event) => {
            setToken(event.currentTarget.value)
            setUnusable(undefined)
          }}
        />
        <p id="token-note" role="status" class={isBad ? "bad" : ""}>
          {noteOf(props, unusable)}
        </p>
        <button type="submit">Show the runs</button>
      </form>
    </main>
  )
}
