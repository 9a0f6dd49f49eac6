/** An app with routes of its own, as `HttpRouter.serve` makes it where nothing is configured, with the routes mounted. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Throughline from "@throughline/core/Throughline"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import { createServer } from "node:http"
import * as Access from "../src/Access.ts"
import * as Routes from "../src/Routes.ts"

const hello = HttpRouter.add("GET", "/hello", Effect.succeed(HttpServerResponse.text("hello")))
const fallback = HttpRouter.add("GET", "/*", Effect.succeed(HttpServerResponse.text("the app's own")))

export const mounted = Effect.fnUntraced(function* (options: Routes.MountOptions) {
  const app = HttpRouter.serve(Layer.mergeAll(hello, fallback, Routes.layer(options)), {
    disableLogger: true,
    disableListenLog: true,
  }).pipe(
    Layer.provide(Throughline.layerMemory()),
    Layer.provide(Access.layerOpen()),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  )
  const { address } = Context.get(yield* Layer.build(app), HttpServer.HttpServer)
  const port = NetAddress.isInetAddress(address) ? address.port : 0
  return { base: `http://127.0.0.1:${port}`, port }
})
