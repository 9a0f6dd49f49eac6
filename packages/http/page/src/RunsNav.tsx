/** The list of runs, last started first. */
import { linkTo } from "./address.ts"
import { noAnswer } from "./noAnswer.ts"
import type { Head, RunList } from "./RunList.ts"
import { Said } from "./Said.tsx"
import { ago } from "./time.ts"

const words = { running: "Running", completed: "Completed", failed: "Failed", cancelled: "Cancelled" } as const

const Item = ({ head, isCurrent, now }: { readonly head: Head; readonly isCurrent: boolean; readonly now: number }) => (
  <li>
    <a href={linkTo(head.runId)} aria-current={isCurrent ? "page" : undefined}>
      <span class={`dot ${head.status}`} aria-hidden="true" />
      <span class="id">
        <Said text={head.runId} />
      </span>
      <span class="about">
        {words[head.status]} · {head.lastSeq.toLocaleString("en")} {head.lastSeq === 1 ? "event" : "events"}
        {head.startedAt === undefined ? "" : ` · ${ago(head.startedAt, now)}`}
      </span>
      {head.sessionId !== undefined && (
        <span class="about">
          in <Said text={head.sessionId} />
        </span>
      )}
    </a>
  </li>
)

export const RunsNav = ({ current, list }: { readonly list: RunList; readonly current: string | undefined }) => {
  const now = Date.now()
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
      <ul aria-label="Runs">
        {list.heads.map((head) => (
          <Item key={head.runId} head={head} isCurrent={head.runId === current} now={now} />
        ))}
      </ul>
      {list.hasMore && (
        <button type="button" onClick={() => list.more()}>
          Show more
        </button>
      )}
    </nav>
  )
}

/** The address names a run, so the link can't. */
const skipToRun = (event: Event): void => {
  event.preventDefault()
  document.querySelector<HTMLElement>("main .scroller, main h1")?.focus()
}
