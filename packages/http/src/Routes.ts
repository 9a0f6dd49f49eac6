/**
 * Runs over HTTP, as PROTOCOL.md says, to mount in any Effect HTTP app under any prefix.
 *
 * **Example** (Mounting the routes in an app)
 *
 * ```ts
 * import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
 * import * as Throughline from "@throughline/core/Throughline"
 * import * as Access from "@throughline/http/Access"
 * import * as Routes from "@throughline/http/Routes"
 * import * as Effect from "effect/Effect"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { createServer } from "node:http"
 *
 * const hello = HttpRouter.add("GET", "/hello", Effect.succeed(HttpServerResponse.text("hello")))
 *
 * export const app = HttpRouter.serve(Layer.mergeAll(hello, Routes.layer({ prefix: "/throughline" }))).pipe(
 *   Layer.provide(Throughline.layerMemory()),
 *   Layer.provide(Access.layerOpen()),
 *   Layer.provide(NodeHttpServer.layer(createServer, { port: 3000, host: "127.0.0.1" })),
 * )
 * ```
 */
import * as AgentEvents from "@throughline/core/AgentEvents"
import { defaultRooms, type RoomKind } from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import { EventBus } from "@throughline/core/EventBus"
import { EventStore } from "@throughline/core/EventStore"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import type { Vocabulary } from "@throughline/core/Vocabulary"
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Access } from "./Access.ts"
import { type Bounds, defaultBounds } from "./Bounds.ts"
import * as dispatch from "./internal/dispatch.ts"
import * as rateLimit from "./internal/rateLimit.ts"
import type { Services } from "./internal/services.ts"
import { LiveFrames } from "./internal/sseFrame.ts"
import { Page } from "./Page.ts"
import * as Waiting from "./internal/waiting.ts"
import * as Streams from "./Streams.ts"

export interface Options extends Omit<Streams.Options, "bounds"> {
  /** What can be appended, the default first; `AgentEvents` where absent. With none, nothing can. */
  // oxlint-disable-next-line no-explicit-any -- the routes never name the type of an event, so any vocabulary will do
  readonly vocabularies?: ReadonlyArray<Vocabulary<any>> | undefined
  readonly bounds?: Partial<Bounds> | undefined
  /** How long `Access.decide` may take; 5 s by default. Past it the right is denied, of a request as of an open stream. */
  readonly decideWithin?: Duration.Input | undefined
  /** Kinds of rooms that appended events are published to; `Run` and `Session` by default. */
  readonly rooms?: ReadonlyArray<RoomKind> | undefined
  /** Web pages of other origins that may use the routes: none by default. `"*"`: any, without credentials of the browser's. */
  readonly cors?: { readonly origins: ReadonlyArray<string> | "*" } | undefined
}

/** Where an app mounts the routes. */
export interface MountOptions extends Options {
  /** What all paths are under, such as `/throughline`; nothing by default. */
  readonly prefix?: `/${string}` | undefined
}

/** The paths that belong to the routes; a router prefers what is more exact. */
const paths = ["/runs/*", "/sessions/*", "/health", "/metrics", "/openapi.json"] as const

/**
 * The handler of all routes, for an app without a router: it answers every path, 404 included. Its streams are closed with
 * the scope.
 */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const bounds: Bounds = { ...defaultBounds, ...options.bounds }
  const streams = yield* Streams.make({ ...options, bounds })
  const page = Option.getOrUndefined(yield* Effect.serviceOption(Page))
  const services: Services = {
    store: yield* EventStore,
    hub: yield* SubscriptionHub,
    adapter: yield* StreamAdapter,
    archive: Option.getOrUndefined(yield* Effect.serviceOption(EventArchive)),
    bus: Option.getOrUndefined(yield* Effect.serviceOption(EventBus)),
    random: yield* SecureRandom,
    streams,
    frames: new LiveFrames(),
    waiting: Waiting.make(bounds),
    vocabularies: options.vocabularies ?? [AgentEvents.vocabulary],
    bounds,
    rooms: options.rooms ?? defaultRooms,
    // Still open while an app that is closing answers its last requests.
    scope: yield* Scope.fork(yield* Effect.scope),
  }
  const handle = dispatch.make({
    services,
    page,
    access: yield* Access,
    cors: options.cors,
    decideWithin: options.decideWithin ?? "5 seconds",
    limit: yield* rateLimit.make(bounds.rate),
  })
  return { handle, page, streams }
})

const mount = Effect.fnUntraced(function* ({ prefix, ...options }: MountOptions) {
  const { handle, page, streams } = yield* make(options)
  const app = yield* HttpRouter.HttpRouter
  const router = prefix === undefined ? app : app.prefixed(prefix)
  for (const path of paths) yield* router.add("*", path, handle)
  if (page !== undefined) {
    yield* router.add("*", "/", handle)
    for (const name of page.files.keys()) yield* router.add("*", `/${encodeURI(name)}`, handle)
  }
  // Below a prefix of their own the routes answer for everything.
  if (prefix !== undefined) yield* router.add("*", "/*", handle)
  return Context.make(Streams.Streams, streams)
})

/**
 * The routes, on the app's router.
 *
 * Sessions need an {@link EventArchive} in the context, the page a {@link Page}; an {@link EventBus} there gets what is
 * appended, and a `RateLimiter` there counts requests, so that several servers can share one. Streams are closed with the
 * layer; an app that drains its connections before its layers are released closes them first with `Streams.drain`.
 */
export const layer = (
  options: MountOptions = {},
): Layer.Layer<
  Streams.Streams,
  never,
  HttpRouter.HttpRouter | EventStore | SubscriptionHub | StreamAdapter | Access | SecureRandom
> => Layer.effectContext(mount(options))
