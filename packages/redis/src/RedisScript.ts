/**
 * A Lua script as a value: typed parameters in, a decoded reply out.
 *
 * Scripts run by their hash; where Redis doesn't know it (a new server, a restart, `SCRIPT FLUSH`) the text is sent once.
 */
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"

export interface RedisScript<in P, out A> {
  /** What errors call it. */
  readonly name: string
  readonly lua: string
  readonly sha: string
  /** It writes nothing: a replica runs it too, and so does a server that is full or has its writes paused. */
  readonly readOnly: boolean
  readonly keys: (params: P) => ReadonlyArray<string>
  readonly args: (params: P) => ReadonlyArray<string>
  readonly decode: ReturnType<typeof Schema.decodeUnknownResult<Schema.Codec<A, unknown>>>
}

/** Makes a script. Every key it touches should be among `keys`; Redis Cluster routes by them. */
export const make = <P, A>(options: {
  readonly name: string
  readonly lua: string
  readonly readOnly?: boolean | undefined
  readonly keys: (params: P) => ReadonlyArray<string>
  readonly args: (params: P) => ReadonlyArray<string>
  readonly reply: Schema.Codec<A, unknown>
}): RedisScript<P, A> => ({
  name: options.name,
  lua: options.lua,
  sha: createHash("sha1").update(options.lua).digest("hex"),
  readOnly: options.readOnly ?? false,
  keys: options.keys,
  args: options.args,
  decode: Schema.decodeUnknownResult(options.reply),
})
