/** Asks for the token of a server that wants one. */
import { useState } from "preact/hooks"

export const TokenForm = (props: { readonly wasRefused: boolean; readonly onToken: (token: string) => void }) => {
  const [token, setToken] = useState("")
  return (
    <main class="nothing">
      <form
        onSubmit={(event) => {
          event.preventDefault()
          if (token !== "") props.onToken(token)
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
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <p id="token-note" role="status" class={props.wasRefused ? "bad" : ""}>
          {props.wasRefused
            ? "The server refused this token."
            : "It was given to throughline serve, and is kept for this tab only."}
        </p>
        <button type="submit">Show the runs</button>
      </form>
    </main>
  )
}
