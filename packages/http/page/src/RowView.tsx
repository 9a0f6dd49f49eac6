/** A row as it is drawn. Whatever came from the run is text: no markup of it is ever read. */
import { Component, type ComponentChildren } from "preact"
import { linkTo } from "./address.ts"
import { draw } from "./ansi.ts"
import { named, type Reading } from "./controls.ts"
import { oneLine, shown } from "./fields.ts"
import type { LineRow, NoteRow, Openable, ReasoningRow, Row, ToolRow } from "./Row.ts"
import { Marked, Said } from "./Said.tsx"
import { clock, duration, numeral } from "./time.ts"

export interface Props {
  readonly row: Row
  /** Of the row when this was drawn: the row itself changes in its place. */
  readonly version: number
  /** Of its kind, among its neighbours. */
  readonly isFirst: boolean
  readonly isLast: boolean
  readonly position: number
  readonly total: number
  readonly onToggle: (row: Openable) => void
}

/** The most of one text that is drawn: what is beyond it is in the store. */
const drawn = 50_000
/** The most of a line that is drawn before it is opened. */
const drawnLine = 1000

const Long = ({ reading, text }: { readonly text: string; readonly reading?: Reading }) => (
  <>
    <Marked text={text.slice(0, drawn)} reading={reading} />
    {text.length > drawn && <span class="more">{`\n… ${numeral(text.length - drawn)} more characters`}</span>}
  </>
)

interface FoldProps {
  readonly row: Openable
  readonly onToggle: Props["onToggle"]
  readonly head: ComponentChildren
  readonly children: ComponentChildren
}

const Fold = ({ children, head, onToggle, row }: FoldProps) => (
  <>
    <button type="button" class="fold" aria-expanded={row.isOpen} onClick={() => onToggle(row)}>
      <span class="mark" aria-hidden="true" />
      {head}
    </button>
    {row.isOpen && <div class="folded">{children}</div>}
  </>
)

const Line = ({
  isFirst,
  onToggle,
  row,
}: { readonly row: LineRow & Openable } & Pick<Props, "isFirst" | "onToggle">) => {
  const { isCut, spans } = draw(row.text, row.isOpen ? drawn : drawnLine)
  return (
    <div>
      <span class="seq" aria-hidden="true">
        {row.isContinuation ? "" : row.seq}
      </span>
      <code>
        {row.isError && isFirst && <span class="unseen">error output: </span>}
        {spans.map(({ background, classes, color, text }, index) =>
          classes === "" && color === undefined && background === undefined ? (
            <Marked key={index} text={text} />
          ) : (
            <span key={index} class={classes} style={{ color, backgroundColor: background }}>
              <Marked text={text} />
            </span>
          ),
        )}
        {isCut && row.isOpen && <span class="more"> … the rest is in the store</span>}
        {(isCut || row.isOpen) && (
          <button type="button" class="link" aria-expanded={row.isOpen} onClick={() => onToggle(row)}>
            {row.isOpen ? "less" : "more of this line"}
          </button>
        )}
      </code>
    </div>
  )
}

const phases: Readonly<Record<ToolRow["phase"], string>> = {
  writing: "being written",
  called: "called",
  running: "running",
  done: "done",
  failed: "failed",
}

const Part = ({ label, text }: { readonly label: string; readonly text: string }) => (
  <section>
    <h3>{label}</h3>
    <pre tabIndex={0} aria-label={label}>
      <Long text={text} />
    </pre>
  </section>
)

const Tool = ({ onToggle, row }: { readonly row: ToolRow & Openable; readonly onToggle: Props["onToggle"] }) => (
  <Fold
    row={row}
    onToggle={onToggle}
    head={
      <>
        <span class="name">
          <Said text={row.name || "tool"} />
        </span>
        <span class="brief">
          <Said text={oneLine(row.input)} />
        </span>
        <span class={`phase ${row.phase}`}>
          {phases[row.phase]}
          {row.ms === undefined ? "" : ` · ${duration(row.ms)}`}
        </span>
      </>
    }
  >
    {row.input !== "" && <Part label="Arguments" text={row.input} />}
    {row.output !== undefined && <Part label="Output" text={row.output} />}
    {row.error !== undefined && <Part label="Error" text={row.error} />}
    {row.told !== undefined && row.told !== row.output && <Part label="Told to the model" text={row.told} />}
  </Fold>
)

const Reasoning = ({
  onToggle,
  row,
}: {
  readonly row: ReasoningRow & Openable
  readonly onToggle: Props["onToggle"]
}) => (
  <Fold
    row={row}
    onToggle={onToggle}
    head={
      <>
        <span class="label">Reasoning</span>
        <span class="brief">
          <Said text={oneLine(row.text)} />
        </span>
      </>
    }
  >
    <div class="prose">
      <Long text={row.text} reading="prose" />
    </div>
  </Fold>
)

const Note = ({ onToggle, row }: { readonly row: NoteRow & Openable; readonly onToggle: Props["onToggle"] }) => {
  const head = (
    <>
      <span class="label">
        <Said text={row.label} />
      </span>
      <span class="brief">
        <Said text={row.text} />
      </span>
    </>
  )
  if (row.detail !== undefined) {
    return (
      <Fold row={row} onToggle={onToggle} head={head}>
        <pre tabIndex={0} aria-label={named(row.label)}>
          <Long text={shown(row.detail)} />
        </pre>
      </Fold>
    )
  }
  return (
    <p>
      {head}
      {row.run !== undefined && <a href={linkTo(row.run)}>its run</a>}
    </p>
  )
}

const endings = { completed: "Completed", failed: "Failed", cancelled: "Cancelled" } as const

const content = ({ isFirst, onToggle, row }: Props): ComponentChildren => {
  switch (row.kind) {
    case "line":
      return <Line row={row} isFirst={isFirst} onToggle={onToggle} />
    case "heading":
      return (
        <>
          <h2>
            <Said text={row.label} />
          </h2>
          <span class="meta">
            {row.model !== undefined && row.model !== "" && <Said text={row.model} />}
            {row.model !== undefined && row.model !== "" && row.usage !== "" && " · "}
            {row.usage}
          </span>
        </>
      )
    case "text":
      return (
        <p>
          <Marked text={row.text.replace(/\n+$/, "")} reading="prose" />
        </p>
      )
    case "reasoning":
      return <Reasoning row={row} onToggle={onToggle} />
    case "tool":
      return <Tool row={row} onToggle={onToggle} />
    case "note":
      return <Note row={row} onToggle={onToggle} />
    case "resumed":
      return <p>{row.text}</p>
    case "end":
      return (
        <p>
          <strong>{endings[row.status]}</strong>
          {row.text !== "" && (
            <span class="brief">
              <Said text={row.text} />
            </span>
          )}
        </p>
      )
  }
}

const classesOf = ({ isFirst, isLast, row }: Props): string => {
  const classes = ["row", row.kind]
  if (isFirst) classes.push("first")
  if (isLast) classes.push("last")
  if (row.kind === "line" && row.isError) classes.push("error")
  if (row.kind === "note") classes.push(row.tone)
  if (row.kind === "resumed") classes.push(row.cause)
  if (row.kind === "end") classes.push(row.status)
  if (row.kind === "text" && row.text.endsWith("\n\n")) classes.push("paragraph")
  return classes.join(" ")
}

export class RowView extends Component<Props> {
  override shouldComponentUpdate(next: Props): boolean {
    const { isFirst, isLast, position, row, total, version } = this.props
    return (
      next.version !== version ||
      next.row !== row ||
      next.isFirst !== isFirst ||
      next.isLast !== isLast ||
      next.position !== position ||
      next.total !== total
    )
  }

  override render() {
    const { position, row, total } = this.props
    return (
      <div
        class={classesOf(this.props)}
        role="listitem"
        aria-posinset={position}
        aria-setsize={total}
        data-seq={row.seq}
        title={row.at === undefined ? undefined : clock(row.at)}
      >
        {content(this.props)}
      </div>
    )
  }
}
