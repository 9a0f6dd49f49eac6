/** Bytes as a chunk of HTTP/1.1 (RFC 9112, section 7.1): their number in hex, CR LF, the bytes, CR LF. */
import type * as Brand from "effect/Brand"

export type Chunk = Uint8Array & Brand.Brand<"@throughline/http/Chunk">

const lineFeed = 0x0a

/** The chunk of a text, which must not be empty: an empty chunk ends a response. */
export const of = (text: string): Chunk =>
  // What a brand says of bytes is that this made them.
  Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`) as Uint8Array as Chunk

/** The bytes in a chunk, for a response that is not sent in chunks, or makes its own. */
export const contentOf = (chunk: Chunk): Uint8Array => chunk.subarray(chunk.indexOf(lineFeed) + 1, -2)
