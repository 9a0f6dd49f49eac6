/**
 * The list of a run's rows, of which only those in view are elements: their heights are estimated until they have been
 * seen, then measured, and what is in view stays where it is while the rest moves.
 *
 * At its end it follows what comes, until it is scrolled away from there.
 */
import { Component, createRef } from "preact"
import { Heights } from "./Heights.ts"
import type { Openable, Row } from "./Row.ts"
import { RowView } from "./RowView.tsx"

export interface Props {
  readonly label: string
  readonly rows: ReadonlyArray<Row>
  /** Only these, by their index in `rows`, which is in order. */
  readonly only: ReadonlyArray<number> | undefined
  /** Another text to find: other rows in the same place. */
  readonly finding: unknown
  /** Begins at its end. */
  readonly follows: boolean
  readonly onToggle: (row: Openable) => void
}

/** Beyond what is in view, in pixels: what a turn of the wheel shows before anything can be drawn. */
const margin = 400
const lineHeight = 20

const estimate = (row: Row): number => {
  switch (row.kind) {
    case "line":
      return lineHeight
    case "text":
      return 26 * Math.max(Math.ceil(row.text.length / 80), 1) + 8
    case "end":
      return 96
    default:
      return 36
  }
}

export class Rows extends Component<Props> {
  readonly #scroller = createRef<HTMLDivElement>()
  readonly #window = createRef<HTMLDivElement>()
  readonly #heights = new Heights()
  #follows: boolean
  #first = 0
  #top = 0
  #viewHeight = 800
  /** Where the list was put by this, which is not being scrolled by a person. */
  #putAt = -1
  /** The row at the top of the view before other rows took its place. */
  #wasAt = 0
  #hadFocus = false
  #observer: ResizeObserver | undefined

  constructor(props: Props) {
    super(props)
    this.#follows = props.follows
  }

  override componentDidMount(): void {
    const scroller = this.#scroller.current!
    this.#observer = new ResizeObserver(() => {
      // In another width text breaks elsewhere; what is out of view is measured when it is seen again.
      this.#viewHeight = scroller.clientHeight
      this.forceUpdate()
    })
    this.#observer.observe(scroller)
    this.#measure()
  }

  override componentWillUnmount(): void {
    this.#observer?.disconnect()
  }

  override componentDidUpdate(previous: Props): void {
    if (previous.finding !== this.props.finding) this.#foundOthers()
    this.#measure()
    this.#keepFocus()
  }

  /** The other end of the list. */
  readonly #toEnd = (): void => {
    this.#follows = true
    this.#scroller.current!.focus({ preventScroll: true })
    this.forceUpdate()
  }

  readonly #scrolled = (): void => {
    const { clientHeight, scrollHeight, scrollTop } = this.#scroller.current!
    this.#top = scrollTop
    if (Math.abs(scrollTop - this.#putAt) >= 2) this.#follows = scrollTop + clientHeight >= scrollHeight - lineHeight
    this.forceUpdate()
  }

  get #length(): number {
    return this.props.only?.length ?? this.props.rows.length
  }

  #row(index: number): Row {
    return this.props.rows[this.props.only?.[index] ?? index]!
  }

  #put(top: number): void {
    const scroller = this.#scroller.current!
    if (Math.abs(scroller.scrollTop - top) < 0.5) return
    scroller.scrollTop = top
    // It has bounds and is rounded.
    this.#top = this.#putAt = scroller.scrollTop
  }

  /** What was found is read from its start; without a text to find, the list goes on where the found rows stood. */
  #foundOthers(): void {
    if (!this.#follows) this.#put(this.props.only === undefined ? this.#heights.before(this.#wasAt) : 0)
  }

  /** Heights for rows that are new; for all where other rows have been found. */
  #sync(): void {
    const heights = this.#heights
    if (heights.length > this.#length) heights.clear()
    for (let index = heights.length; index < this.#length; index++) heights.push(estimate(this.#row(index)))
  }

  #measure(): void {
    const heights = this.#heights
    const scroller = this.#scroller.current!
    const elements = this.#window.current!.children
    const anchor = heights.at(this.#top)
    const offset = this.#top - heights.before(anchor)
    let hasChanged = false
    for (let place = 0; place < elements.length; place++) {
      const index = this.#first + place
      const { height } = elements[place]!.getBoundingClientRect()
      if (index >= heights.length || Math.abs(height - heights.get(index)) < 0.25) continue
      heights.set(index, height)
      hasChanged = true
    }
    if (hasChanged) this.#place()
    if (this.#follows) this.#put(scroller.scrollHeight - scroller.clientHeight)
    else if (hasChanged) this.#put(heights.before(anchor) + offset)
    // Now that they are as high as they are, others may be in view.
    if (hasChanged) this.forceUpdate()
  }

  #place(): void {
    const window = this.#window.current!
    window.parentElement!.style.height = `${this.#heights.total}px`
    window.style.transform = `translateY(${this.#heights.before(this.#first)}px)`
  }

  /** A row that had the focus and is out of view leaves it to the list. */
  #keepFocus(): void {
    if (this.#hadFocus && document.activeElement === document.body) {
      this.#scroller.current!.focus({ preventScroll: true })
    }
  }

  override shouldComponentUpdate(next: Props): boolean {
    if (next.finding !== this.props.finding) {
      this.#wasAt = this.#length === 0 ? 0 : this.#row(this.#heights.at(this.#top)).id
      this.#heights.clear()
    }
    return true
  }

  override render() {
    this.#sync()
    this.#hadFocus = this.#window.current?.contains(document.activeElement) === true
    const heights = this.#heights
    const top = this.#follows ? Math.max(heights.total - this.#viewHeight, 0) : this.#top
    this.#first = this.#length === 0 ? 0 : heights.at(Math.max(top - margin, 0))
    const last = this.#length === 0 ? -1 : heights.at(top + this.#viewHeight + margin)
    const views = []
    for (let index = this.#first; index <= last; index++) {
      const row = this.#row(index)
      views.push(
        <RowView
          key={row.id}
          row={row}
          version={row.version}
          isFirst={index === 0 || this.#row(index - 1).kind !== row.kind}
          isLast={index === this.#length - 1 || this.#row(index + 1).kind !== row.kind}
          position={index + 1}
          total={this.#length}
          onToggle={this.props.onToggle}
        />,
      )
    }
    return (
      <div class="rows">
        <div
          ref={this.#scroller}
          class="scroller"
          tabIndex={0}
          role="region"
          aria-label={this.props.label}
          onScroll={this.#scrolled}
        >
          <div class="space" style={{ height: `${heights.total}px` }}>
            <div
              ref={this.#window}
              class="window"
              role="list"
              aria-label="Events"
              style={{ transform: `translateY(${heights.before(this.#first)}px)` }}
            >
              {views}
            </div>
          </div>
        </div>
        {!this.#follows && heights.total > this.#viewHeight && (
          <button type="button" class="to-end" onClick={this.#toEnd}>
            Go to the end
          </button>
        )}
      </div>
    )
  }
}
