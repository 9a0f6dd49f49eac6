/**
 * Bytes of one output stream, cut into lines that fit an event.
 *
 * Bytes are decoded as UTF-8; what isn't UTF-8 becomes U+FFFD, in the record only. A line ends at `\n`, which is left
 * out; a `\r` before it stays. A line that is too long for one event comes in pieces, all but the last marked
 * `continued`.
 */

/** A line, or a piece of one. */
export interface Line {
  readonly text: string
  /** The next piece of the same stream goes on with this line. */
  readonly continued: boolean
}

export interface LineSplitter {
  /** The lines and pieces that these bytes complete. */
  readonly push: (bytes: Uint8Array) => ReadonlyArray<Line>
  /** What is left when the stream has ended: a last line without `\n`. */
  readonly end: () => ReadonlyArray<Line>
}

/** Bytes that a UTF-16 unit takes in JSON text written as UTF-8; each half of a surrogate pair counts 2 of its 4. */
const jsonBytes = (unit: number): number => {
  if (unit === 0x22 || unit === 0x5c) return 2
  if (unit >= 0x20) return unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 2 : 3
  return unit === 0x08 || unit === 0x09 || unit === 0x0a || unit === 0x0c || unit === 0x0d ? 2 : 6
}

/** Cuts a text into pieces of at most `maxBytes` as JSON (without its quotes), never inside a character. */
export const cut = (text: string, maxBytes: number): ReadonlyArray<string> => {
  if (text.length * 6 <= maxBytes) return [text]
  const pieces: Array<string> = []
  let start = 0
  let bytes = 0
  for (let index = 0; index < text.length;) {
    const unit = text.charCodeAt(index)
    const width = unit >= 0xd800 && unit <= 0xdbff && index + 1 < text.length ? 2 : 1
    const cost = width === 2 ? 4 : jsonBytes(unit)
    if (bytes + cost > maxBytes && index > start) {
      pieces.push(text.slice(start, index))
      start = index
      bytes = 0
    }
    bytes += cost
    index += width
  }
  pieces.push(text.slice(start))
  return pieces
}

/** Splits one stream; `maxBytes` is what a piece may take as JSON. */
export const make = (maxBytes: number): LineSplitter => {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  // Parts of the line that has not ended yet; joined once, so that a long line costs its length and no more.
  let parts: Array<string> = []
  let length = 0

  const complete = (text: string, into: Array<Line>) => {
    const pieces = cut(text, maxBytes)
    pieces.forEach((piece, index) => into.push({ text: piece, continued: index < pieces.length - 1 }))
  }

  const take = (text: string): ReadonlyArray<Line> => {
    const lines: Array<Line> = []
    let start = 0
    for (let newline = text.indexOf("\n"); newline !== -1; newline = text.indexOf("\n", start)) {
      parts.push(text.slice(start, newline))
      complete(parts.join(""), lines)
      parts = []
      length = 0
      start = newline + 1
    }
    if (start < text.length) {
      parts.push(text.slice(start))
      length += text.length - start
    }
    // A character takes a byte or more, so what is longer can't fit one piece; the last piece waits for more.
    if (length > maxBytes) {
      const pieces = cut(parts.join(""), maxBytes)
      const rest = pieces[pieces.length - 1]!
      for (const piece of pieces.slice(0, -1)) lines.push({ text: piece, continued: true })
      parts = [rest]
      length = rest.length
    }
    return lines
  }

  return {
    push: (bytes) => take(decoder.decode(bytes, { stream: true })),
    end: () => {
      const lines = [...take(decoder.decode())]
      if (length > 0) complete(parts.join(""), lines)
      parts = []
      length = 0
      return lines
    },
  }
}
