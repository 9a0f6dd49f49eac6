/** The runs of a list, of which only those in view are elements: each has one of two heights, so where it is is known. */
import { Component, createRef } from "preact"
import { linkTo } from "./address.ts"
import type { Head } from "./Heads.ts"
import { Said } from "./Said.tsx"
import { ago, numeral } from "./time.ts"

const words = { running: "Running", completed: "Completed", failed: "Failed", cancelled: "Cancelled" } as const

/** In pixels, as the style sheet has it. */
const heightOf = ({ sessionId }: Head): number => (sessionId === undefined ? 54 : 72)

/** Beyond what is in view, in pixels: what a turn of the wheel or the next key shows before anything can be drawn. */
const margin = 600

interface ItemProps {
  readonly head: Head
  readonly isCurrent: boolean
  readonly now: number
  readonly position: number
  readonly total: number
}

const Item = ({ head, isCurrent, now, position, total }: ItemProps) => (
  <li class={head.sessionId === undefined ? "" : "of-session"} aria-posinset={position} aria-setsize={total}>
    <a href={linkTo(head.runId)} aria-current={isCurrent ? "page" : undefined}>
      <span class={`dot ${head.status}`} aria-hidden="true" />
      <span class="id">
        <Said text={head.runId} />
      </span>
      <span class="about">
        {words[head.status]} · {numeral(head.lastSeq)} {head.lastSeq === 1 ? "event" : "events"}
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

interface Props {
  readonly heads: ReadonlyArray<Head>
  readonly current: string | undefined
}

export class RunItems extends Component<Props> {
  readonly #scroller = createRef<HTMLDivElement>()
  #top = 0
  #viewHeight = 800
  #observer: ResizeObserver | undefined

  override componentDidMount(): void {
    this.#observer = new ResizeObserver(this.#moved)
    this.#observer.observe(this.#scroller.current!)
  }

  override componentWillUnmount(): void {
    this.#observer?.disconnect()
  }

  readonly #moved = (): void => {
    const { clientHeight, scrollTop } = this.#scroller.current!
    this.#top = scrollTop
    this.#viewHeight = clientHeight
    this.forceUpdate()
  }

  override render() {
    const { current, heads } = this.props
    const now = Date.now()
    const items = []
    let above = 0
    let below = 0
    for (const [index, head] of heads.entries()) {
      const height = heightOf(head)
      if (above + height < this.#top - margin) above += height
      else if (above + below > this.#top + this.#viewHeight + margin) below += height
      else {
        below += height
        items.push(
          <Item
            key={head.runId}
            head={head}
            isCurrent={head.runId === current}
            now={now}
            position={index + 1}
            total={heads.length}
          />,
        )
      }
    }
    return (
      <div ref={this.#scroller} class="items" onScroll={this.#moved}>
        <ul aria-label="Runs" style={{ height: `${above + below}px`, paddingTop: `${above}px` }}>
          {items}
        </ul>
      </div>
    )
  }
}
