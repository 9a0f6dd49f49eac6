/** Where runs are kept, as a URL: `sqlite:PATH`, `redis://HOST`, or `memory:`. */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import * as UserDirectories from "effect/persistence/UserDirectories"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as RedisUrl from "./RedisUrl.ts"

export type StoreUrl =
  | { readonly _tag: "Sqlite"; readonly path: string }
  | { readonly _tag: "Memory" }
  | RedisUrl.RedisUrl

/** The text is no store URL. `text` is without what may be a password. */
export class InvalidStoreUrl extends Schema.TaggedError<InvalidStoreUrl>("@throughline/cli/StoreUrl/InvalidStoreUrl")(
  "InvalidStoreUrl",
  { text: Schema.String, source: Schema.Literals(["--store", "THROUGHLINE_STORE"]), expected: Schema.String },
) {
  override get message() {
    return `${this.source} ${JSON.stringify(this.text)} is no store: expected ${this.expected}`
  }
}

const expected =
  "sqlite:PATH (sqlite:runs.db, sqlite:/var/lib/runs.db), redis://HOST (redis://:password@host:6379/0) or memory:"

/** Reads a URL; `sqlite:///var/runs.db` is `sqlite:/var/runs.db`, other `//` forms of it are refused as ambiguous. */
export const parse = (text: string, source: InvalidStoreUrl["source"]): Result.Result<StoreUrl, InvalidStoreUrl> => {
  if (text === "memory:") return Result.succeed({ _tag: "Memory" })
  if (/^rediss?(\+sentinel)?:/i.test(text)) {
    return Result.mapError(
      RedisUrl.parse(text),
      (problem) => new InvalidStoreUrl({ text: RedisUrl.hidden(text), source, expected: problem }),
    )
  }
  const match = /^sqlite:(?:\/\/(?=\/))?((?!\/\/).+)$/s.exec(text)
  return match === null
    ? Result.fail(new InvalidStoreUrl({ text: RedisUrl.hidden(text), source, expected }))
    : Result.succeed({ _tag: "Sqlite", path: match[1]! })
}

/** The URL as it may be shown: without a password. */
export const format = (url: StoreUrl): string => {
  switch (url._tag) {
    case "Memory":
      return "memory:"
    case "Redis":
      return url.shown
    case "Sqlite":
      return `sqlite:${url.path}`
  }
}

/** One file in the user's data directory: `$XDG_DATA_HOME/throughline/throughline.db` or the platform's own place. */
const userStore = Effect.gen(function* () {
  const path = yield* Path.Path
  const directory = yield* UserDirectories.make().data("throughline")
  return { _tag: "Sqlite", path: path.join(directory, "throughline.db") } satisfies StoreUrl
})

/** The store that `--store` names, else `THROUGHLINE_STORE`, else the file in the user's data directory. */
export const resolve = Effect.fnUntraced(function* (flag: string | undefined) {
  if (flag !== undefined) return { url: yield* Effect.fromResult(parse(flag, "--store")), isDefault: false }
  const variable = yield* Config.NonEmptyString("THROUGHLINE_STORE").pipe(Config.withDefault(undefined))
  if (variable === undefined) return { url: yield* userStore, isDefault: true }
  return { url: yield* Effect.fromResult(parse(variable, "THROUGHLINE_STORE")), isDefault: true }
})
