/**
 * The page at `/`: a prebuilt directory of files, read once, served from memory under a strict Content-Security-Policy.
 *
 * A request only finds the names that were there when the layer was built, so none can name another file.
 */
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Mime from "effect/http/Mime"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Schema from "effect/Schema"

/** The directory can't be read, or has no `index.html`. */
export class PageNotLoaded extends Schema.TaggedError<PageNotLoaded>("@throughline/http/Page/PageNotLoaded")(
  "PageNotLoaded",
  { directory: Schema.String, problem: Schema.String },
) {
  override get message() {
    return `the page can't be served from ${this.directory}: ${this.problem}`
  }
}

export interface File {
  readonly bytes: Uint8Array
  readonly contentType: string
  /** Strong, of the content. */
  readonly etag: string
}

/**
 * Nothing but the page's own files runs, is loaded or is talked to; nothing frames it, and no form leads away.
 */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ")

/** The files of the page, by their path below the prefix; `index.html` is the page itself. */
export class Page extends Context.Service<Page, { readonly files: ReadonlyMap<string, File> }>()(
  "@throughline/http/Page",
) {}

const index = "index.html"

/** The name of the file at a path below the prefix. */
export const nameOf = (segments: ReadonlyArray<string>): string => {
  const name = segments.join("/")
  return name === "" ? index : name
}

/** A file as an answer; 304 where the client has it. */
export const respond = (file: File, ifNoneMatch: string | undefined): HttpServerResponse.HttpServerResponse => {
  const headers = {
    "cache-control": "no-cache",
    etag: file.etag,
    "content-security-policy": contentSecurityPolicy,
    "cross-origin-opener-policy": "same-origin",
  }
  return ifNoneMatch === file.etag
    ? HttpServerResponse.empty({ status: 304, headers })
    : HttpServerResponse.uint8Array(file.bytes, { headers, contentType: file.contentType })
}

/** Text files are UTF-8; what has no known type is only bytes. */
const contentTypeOf = (name: string): string => {
  const type = Option.getOrElse(Mime.getType(name), () => "application/octet-stream")
  return type.startsWith("text/") || type.endsWith("javascript") || type.endsWith("json")
    ? `${type}; charset=utf-8`
    : type
}

const load = Effect.fnUntraced(function* (directory: string) {
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const digest = yield* Digest.Digest
  const files = new Map<string, File>()
  for (const name of yield* fileSystem.readDirectory(directory, { recursive: true })) {
    const location = path.join(directory, name)
    if ((yield* fileSystem.stat(location)).type !== "File") continue
    const bytes = yield* fileSystem.readFile(location)
    const etag = `"${(yield* digest.digestHex(Digest.sha256, bytes)).slice(0, 32)}"`
    files.set(name.split(path.sep).join("/"), { bytes, contentType: contentTypeOf(name), etag })
  }
  return files
})

/** The page in a directory. */
export const layer = (options: {
  readonly directory: string
}): Layer.Layer<Page, PageNotLoaded, FileSystem.FileSystem | Path.Path | Digest.Digest> =>
  Layer.effect(
    Page,
    Effect.gen(function* () {
      const { directory } = options
      const files = yield* Effect.mapError(
        load(directory),
        ({ message }) => new PageNotLoaded({ directory, problem: message }),
      )
      if (!files.has(index)) return yield* new PageNotLoaded({ directory, problem: `it has no ${index}` })
      return Page.of({ files })
    }),
  )

/** The viewer page that this package ships, prebuilt, in `page/prebuilt`. */
export const layerPrebuilt: Layer.Layer<Page, PageNotLoaded, FileSystem.FileSystem | Path.Path | Digest.Digest> =
  Layer.unwrap(
    Effect.map(
      Effect.flatMap(Path.Path, (path) => path.fromFileUrl(new URL("../page/prebuilt/", import.meta.url))),
      (directory) => layer({ directory }),
    ).pipe(Effect.mapError(({ message }) => new PageNotLoaded({ directory: "page/prebuilt", problem: message }))),
  )
