/** The list of runs, last started first. */
import { noAnswer } from "./noAnswer.ts"
import { RunItems } from "./RunItems.tsx"
import type { RunList } from "./RunList.ts"
import { numeral } from "./time.ts"

export const RunsNav = ({ current, list }: { readonly list: RunList; readonly current: string | undefined }) => {
  const running = list.heads.filter(({ status }) => status === "running").length
  return (
    <nav class="runs" aria-label="Runs">
      <a class="skip" href="#events" onClick={skipToRun}>
        Skip to the run
      </a>
      <header>
        <a class="brand" href="#">
          Throughline
        </a>
        <span class="meta" role="status">
          {list.state === "unreachable" ? "Server out of reach" : running > 0 ? `${running} running` : ""}
        </span>
      </header>
      {list.isSlow && (
        <p class="meta" role="status">
          {noAnswer}
        </p>
      )}
      <RunItems heads={list.heads} current={current} />
      {list.hasMore && (
        <footer>
          <span class="meta" role="status">
            {list.isAdding ? "Asking for more" : `The last ${numeral(list.heads.length)} runs`}
          </span>
          <button type="button" onClick={() => list.more()}>
            Show more
          </button>
        </footer>
      )}
    </nav>
  )
}

/** The address names a run, so the link can't. */
const skipToRun = (event: Event): void => {
  event.preventDefault()
  document.querySelector<HTMLElement>("main .scroller, main h1")?.focus()
}
