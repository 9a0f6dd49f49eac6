/** What a terminal makes of a line: colours and weights; what else it says to a terminal is left out. */

interface Span {
  readonly text: string
  /** Classes of the style sheet. */
  readonly classes: string
  /** A colour beyond the sixteen that the style sheet has. */
  readonly color: string | undefined
  readonly background: string | undefined
}

interface Style {
  bold: boolean
  dim: boolean
  italic: boolean
  underline: boolean
  inverse: boolean
  color: string | number | undefined
  background: string | number | undefined
}

const plain = (): Style => ({
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
  color: undefined,
  background: undefined,
})

/**
 * Control sequences (CSI), operating system commands (OSC), other escapes, and control characters but the tab; those of one
 * character (C1) too. A text that was decoded wrongly is full of C1, so that one of them never takes the rest of a line.
 */
const control =
  // oxlint-disable-next-line no-control-regex -- control characters are what it is for
  /(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)|\x9d[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g

/** What overwrote itself on one line of a terminal, such as a progress bar, is what was written last. */
const lastWritten = (line: string): string => {
  const end = line.endsWith("\r") ? line.length - 1 : line.length
  const start = line.lastIndexOf("\r", end - 1)
  return line.slice(start + 1, end)
}

/** The line without anything for a terminal. */
export const plainText = (line: string): string => {
  const text = lastWritten(line)
  // oxlint-disable-next-line no-control-regex -- control characters are what it is for
  return /[\x00-\x1f\x7f-\x9f]/.test(text) ? text.replace(control, "") : text
}

const levels = [0, 95, 135, 175, 215, 255]

/** Of the 256: sixteen by class, a cube of 216, and 24 greys. */
const indexed = (index: number): string | number => {
  if (index < 16) return index
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10
    return `rgb(${grey} ${grey} ${grey})`
  }
  const cube = index - 16
  return `rgb(${levels[Math.floor(cube / 36)]} ${levels[Math.floor(cube / 6) % 6]} ${levels[cube % 6]})`
}

const isByte = (value: number | undefined): value is number => value !== undefined && value >= 0 && value <= 255

/** A colour given as `5;n` or `2;r;g;b`, and how many numbers that took. */
const extended = (codes: ReadonlyArray<number>, at: number): [string | number | undefined, number] => {
  const [mode, first, green, blue] = codes.slice(at, at + 4)
  if (mode === 5) return [isByte(first) ? indexed(first) : undefined, 2]
  if (mode !== 2) return [undefined, 0]
  return [isByte(first) && isByte(green) && isByte(blue) ? `rgb(${first} ${green} ${blue})` : undefined, 4]
}

const apply = (style: Style, parameters: string): Style => {
  const codes = parameters.split(/[;:]/).map(Number)
  let next = style
  for (let index = 0; index < codes.length; index++) {
    const code = codes[index]!
    if (code === 0) next = plain()
    else if (code === 1) next.bold = true
    else if (code === 2) next.dim = true
    else if (code === 3) next.italic = true
    else if (code === 4) next.underline = true
    else if (code === 7) next.inverse = true
    else if (code === 22) next.bold = next.dim = false
    else if (code === 23) next.italic = false
    else if (code === 24) next.underline = false
    else if (code === 27) next.inverse = false
    else if (code >= 30 && code <= 37) next.color = code - 30
    else if (code >= 90 && code <= 97) next.color = code - 82
    else if (code === 39) next.color = undefined
    else if (code >= 40 && code <= 47) next.background = code - 40
    else if (code >= 100 && code <= 107) next.background = code - 92
    else if (code === 49) next.background = undefined
    else if (code === 38 || code === 48) {
      const [color, taken] = extended(codes, index + 1)
      if (code === 38) next.color = color
      else next.background = color
      index += taken
    }
  }
  return next
}

const spanOf = (text: string, style: Style): Span => {
  const classes: Array<string> = []
  for (const name of ["bold", "dim", "italic", "underline", "inverse"] as const) if (style[name]) classes.push(name)
  if (typeof style.color === "number") classes.push(`fg${style.color}`)
  if (typeof style.background === "number") classes.push(`bg${style.background}`)
  return {
    text,
    classes: classes.join(" "),
    color: typeof style.color === "string" ? style.color : undefined,
    background: typeof style.background === "string" ? style.background : undefined,
  }
}

/** A line, or its beginning, as it is drawn. */
export interface Drawn {
  /** In pieces of one style each. */
  readonly spans: ReadonlyArray<Span>
  /** The line goes on. */
  readonly isCut: boolean
}

/** What takes no room is passed over, but not without end: so many characters for one that is drawn. */
const passedOver = 100

/** Of a line, as many characters as are to be seen; what is said to the terminal doesn't count. */
export const draw = (line: string, most: number): Drawn => {
  const text = lastWritten(line)
  const end = Math.min(text.length, most * passedOver)
  const spans: Array<Span> = []
  let style = plain()
  let start = 0
  let left = most
  const add = (until: number) => {
    const part = text.slice(start, Math.min(until, start + left))
    if (part !== "") spans.push(spanOf(part, style))
    left -= part.length
    start += part.length
  }
  for (const match of text.slice(0, end).matchAll(control)) {
    add(match.index)
    if (start < match.index) return { spans, isCut: true }
    // Others than these are private: they set no style.
    if (match[2] === "m" && /^[\d;:]*$/.test(match[1]!)) style = apply(style, match[1]!)
    start = match.index + match[0].length
  }
  add(end)
  return { spans, isCut: start < text.length }
}
