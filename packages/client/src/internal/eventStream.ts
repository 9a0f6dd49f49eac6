/**
 * Server-Sent Events out of bytes, as the HTML Living Standard says (section 9.2.6), however the bytes are cut: inside of a
 * character, between CR and LF, anywhere.
 */
import { Violation } from "./failure.ts"

/** One dispatched frame. */
export interface Frame {
  /** Of this very frame: one that a frame before it had isn't carried on. */
  readonly id: string | undefined
  /** Empty where the frame has no name. */
  readonly event: string
  readonly data: string
}

const cr = 13
const lf = 10

/** The parser of one response. It throws `Violation` on text that is no UTF-8, and on a frame longer than allowed. */
export class EventStreamParser {
  /** The last `retry:`, in ms. */
  retry: number | undefined
  readonly #maxLength: number
  // It takes away a byte order mark at the start, and holds back the bytes of a character that isn't complete.
  readonly #decoder = new TextDecoder("utf-8", { fatal: true })
  /** The start of a line whose end hasn't come. */
  #line = ""
  #endedByCr = false
  #id: string | undefined
  #event = ""
  #data: string | undefined
  /** The lines of its data after the first, which hardly any frame has. */
  #more: Array<string> = []
  /** Characters of the frame's lines so far, comments aside. */
  #length = 0

  /** `maxLength`: characters that the lines of one frame may have. */
  constructor(maxLength: number) {
    this.#maxLength = maxLength
  }

  /** The frames that these bytes complete. What the stream ends in the middle of is no frame. */
  push(bytes: Uint8Array): Array<Frame> {
    const text = this.#decode(bytes)
    const frames: Array<Frame> = []
    let start = 0
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index)
      if (code !== cr && code !== lf) {
        this.#endedByCr = false
        continue
      }
      // The second half of a CRLF ends no line of its own.
      if (code === cr || !this.#endedByCr) this.#take(this.#line + text.slice(start, index), frames)
      this.#endedByCr = code === cr
      this.#line = ""
      start = index + 1
    }
    this.#line += text.slice(start)
    this.#bound(this.#line.length)
    return frames
  }

  #decode(bytes: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes, { stream: true })
    } catch {
      throw new Violation("the stream is not UTF-8")
    }
  }

  #bound(length: number): void {
    if (this.#length + length > this.#maxLength) {
      throw new Violation(`a frame has more than ${this.#maxLength} characters`)
    }
  }

  #joined(first: string): string {
    if (this.#more.length === 0) return first
    const data = `${first}\n${this.#more.join("\n")}`
    this.#more = []
    return data
  }

  #take(line: string, frames: Array<Frame>): void {
    if (line === "") {
      // A name or an id without data is no event.
      if (this.#data !== undefined) frames.push({ id: this.#id, event: this.#event, data: this.#joined(this.#data) })
      this.#id = this.#data = undefined
      this.#event = ""
      this.#length = 0
      return
    }
    const colon = line.indexOf(":")
    if (colon === 0) return
    // The whole line and its end, as each costs something, even one that brings nothing.
    this.#length += line.length + 1
    this.#bound(0)
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1)
    if (field === "data") {
      if (this.#data === undefined) this.#data = value
      else this.#more.push(value)
    } else if (field === "event") this.#event = value
    else if (field === "id" && !value.includes("\0")) this.#id = value
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value)
  }
}
