/** What the commands share: the flag that names a store, and opening what it names. */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Exit from "./Exit.ts"
import * as StoreUrl from "./StoreUrl.ts"

/** Flags are seen by whoever lists the processes of a machine. */
export const redisUrls =
  "redis://[user:password@]host[:port][/database][?prefix=KEYS] (rediss:// for TLS, with NODE_EXTRA_CA_CERTS=FILE for a certificate authority of your own; redis+sentinel://host,host/master behind Sentinels; a password is better kept in THROUGHLINE_STORE)"

export const store = Flag.String("store").pipe(
  Flag.withMetavar("URL"),
  Flag.withDescription(
    `Where runs and jobs are kept: sqlite:PATH, or ${redisUrls}. Default: THROUGHLINE_STORE, else one file in your data directory. A file and its directory must be writable even to read from: copy a store on read-only media first`,
  ),
  Flag.optional,
)

export const toggle = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

export const wrong = (message: string) => new Exit.CommandFailed({ code: Exit.usage, message })

/** Opens the store to read from. One that isn't there is not made: `missing` says what its absence means. */
export const withStore = Effect.fnUntraced(function* <S, EL, A, E, R, A2, E2, R2>(
  flag: Option.Option<string>,
  open: (url: Exclude<StoreUrl.StoreUrl, { readonly _tag: "Memory" }>) => Layer.Layer<S, EL>,
  use: Effect.Effect<A, E, R>,
  missing: Effect.Effect<A2, E2, R2> | undefined,
) {
  const { url } = yield* StoreUrl.resolve(Option.getOrUndefined(flag))
  if (url._tag === "Memory")
    return yield* wrong(
      "memory: is for record alone, nothing can be read from it: expected sqlite:PATH or redis://HOST",
    )
  const fileSystem = yield* FileSystem.FileSystem
  if (missing !== undefined && url._tag === "Sqlite" && !(yield* fileSystem.exists(url.path))) return yield* missing
  return yield* use.pipe(Effect.provide(open(url)))
})
