/** `throughline serve`: runs over HTTP, and the server beside a recording. */
import type { RunId } from "@throughline/core/Envelope"
import type { Throughline } from "@throughline/core/Throughline"
import * as Access from "@throughline/http/Access"
import * as Page from "@throughline/http/Page"
import * as Server from "@throughline/http/Server"
import { Streams } from "@throughline/http/Streams"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Backend from "./Backend.ts"
import * as Exit from "./Exit.ts"
import { Output, tell } from "./Output.ts"
import { Signals } from "./Signals.ts"
import * as StoreUrl from "./StoreUrl.ts"

export interface ServeRequest {
  readonly port: number
  readonly host: string
  readonly store: string | undefined
  readonly token: Redacted.Redacted | undefined
  /** Without a token on an address that others can reach: said twice. */
  readonly open: boolean
}

const mac = Layer.provide(Mac.layerWebCrypto, SecureRandom.layerWebCrypto)

/** The viewer page, where it was built: without it the rest is served all the same. */
const page = Layer.effectContext(
  Layer.build(Layer.provide(Page.layerPrebuilt, Digest.layerWebCrypto)).pipe(
    Effect.catchTag("PageNotLoaded", ({ message }) =>
      // The routes look for a page, and take none for an answer.
      Effect.as(tell(`there is no page to watch runs on: ${message}`), Context.empty() as Context.Context<Page.Page>),
    ),
  ),
)

/** The routes on a server of their own, over services that are there. */
const listening = <E>(
  services: Context.Context<Throughline>,
  access: Layer.Layer<Access.Access, E, HttpServer.HttpServer | Mac.Mac>,
  listen: Server.ListenOptions,
) =>
  Layer.build(
    Server.layer().pipe(
      Layer.provide(Layer.succeedContext(services)),
      Layer.provide(page),
      Layer.provide(access),
      Layer.provide(mac),
      Layer.provideMerge(Server.layerListen(listen)),
    ),
  )

/** The address as a browser takes it: one that stands for all addresses is reached at loopback. */
const urlOf = ({ address }: HttpServer.HttpServer["Service"]): string => {
  if (!NetAddress.isInetAddress(address)) return String(address)
  const host = NetAddress.formatUrlHost(address.address)
  return `http://${host === "0.0.0.0" || host === "[::]" ? "localhost" : host}:${address.port}/`
}

/** What to say of a server that didn't start. */
const problemOf = (error: { readonly _tag: string; readonly message: string; readonly cause?: unknown }): string => {
  if (error._tag !== "ServeError") return error.message
  return `can't listen: ${error.cause instanceof Error ? error.cause.message : error.message}`
}

/** Serves a store until a signal stops it. */
export const serve = Effect.fnUntraced(function* (request: ServeRequest) {
  const { host, open, port } = request
  const { url } = yield* StoreUrl.resolve(request.store)
  const token = request.token ?? (yield* Config.Redacted("THROUGHLINE_TOKEN").pipe(Config.withDefault(undefined)))
  const access: Layer.Layer<
    Access.Access,
    Access.OpenRefused | Access.WeakSecret | Access.UnsendableToken,
    HttpServer.HttpServer | Mac.Mac
  > =
    token === undefined
      ? Access.layerOpen({ openToAnyone: open })
      : Access.layerEither(Access.layerBearer({ token }), Access.layerSignedLinks({ secret: token }))

  const stopped = yield* Deferred.make<void>()
  const services = yield* Layer.build(Backend.layer(url))
  const server = yield* listening(services, access, { host, port }).pipe(
    Effect.mapError((error) => {
      const hint = error._tag === "OpenRefused" ? " (--token, or --open to mean it)" : ""
      const code = error._tag === "ServeError" ? Exit.failed : Exit.usage
      return new Exit.CommandFailed({ code, message: `${problemOf(error)}${hint}` })
    }),
  )
  const output = yield* Output
  yield* output.write("stdout", `${urlOf(Context.get(server, HttpServer.HttpServer))}\n`)
  yield* tell(
    `serving ${StoreUrl.format(url)}${token === undefined ? " to anyone who reaches it" : " to whoever has the token"}; stop with Ctrl-C`,
  )
  const signals = yield* Signals
  yield* signals.take(() => Deferred.doneUnsafe(stopped, Effect.void))
  yield* Deferred.await(stopped)
}, Effect.scoped)

/** How long a link to a run that is being recorded works. */
const linkLifetime = "7 days"

/** How long viewers of a run have to be sent its end. */
const lastLook = "2 seconds"

/**
 * Serves one run while it is recorded, to whoever has the link that is told; what goes wrong is told, and no reason not
 * to record. Gives an effect that waits, for a moment, until viewers have seen the end.
 */
export const serveRun = Effect.fnUntraced(
  function* (services: Context.Context<Throughline>, runId: RunId) {
    const random = Context.get(services, SecureRandom.SecureRandom)
    const secret = Redacted.make(Base64Url.encode(yield* random.randomBytes(32)))
    const server = yield* listening(services, Access.layerSignedLinks({ secret }), { port: 0 })
    const token = yield* Effect.provide(Access.sign({ secret, runId, expiresIn: linkLifetime }), mac)
    const link = new URLSearchParams({ run: runId, token })
    yield* tell(`watch it at ${urlOf(Context.get(server, HttpServer.HttpServer))}#${link.toString()}`)
    const { open } = Context.get(server, Streams)
    return open.pipe(
      Effect.repeat({ while: (count) => count > 0, schedule: Schedule.spaced("20 millis") }),
      Effect.timeout(lastLook),
      Effect.ignore,
    )
  },
  Effect.catch((error) => Effect.as(tell(`the run is not served: ${problemOf(error)}`), Effect.void)),
)
