/**
 * The routes in an app that is there already: under a prefix, beside the app's own routes, with rights that the app
 * decides. A run is recorded in the process, a client reads it over HTTP, and one without the right learns nothing.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { runEvents } from "@throughline/client"
import { AgentEvents, Envelope, EventBridge, Throughline } from "@throughline/core"
import { Access, Routes } from "@throughline/http"
import { Console, Effect, Layer, Redacted, Stream } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

/** The app's users: each sees the runs whose ids begin with their name. */
const users = new Map([["token-of-ada", "ada"]])

const access = Layer.succeed(Access.Access, {
  decide: ({ action, bearer, resource }) => {
    const user = bearer === undefined ? undefined : users.get(Redacted.value(bearer))
    if (user === undefined) return Effect.succeed(Access.unauthorized)
    const isTheirs = action === "read" && resource._tag === "Run" && resource.runId.startsWith(`${user}-`)
    // The client's name is for the bounds per client, whatever address it comes from.
    return Effect.succeed(isTheirs ? { _tag: "Allowed", client: user } : Access.denied)
  },
})

const hello = HttpRouter.add("GET", "/hello", Effect.succeed(HttpServerResponse.text("hello from the app")))

const app = HttpRouter.serve(Layer.mergeAll(hello, Routes.layer({ prefix: "/events" })), {
  disableLogger: true,
  disableListenLog: true,
}).pipe(
  Layer.provide(access),
  Layer.provideMerge(Throughline.layerMemory()),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
)

const events = Stream.make<ReadonlyArray<AgentEvents.AgentEvent>>(
  { _tag: "RunStarted", name: "report" },
  { _tag: "TextDelta", messageId: "m1", text: "All is well." },
  { _tag: "RunCompleted", finishReason: "stop", iterations: 1 },
)

const program = Effect.gen(function* () {
  const base = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(address))
  const bridge = yield* EventBridge.EventBridge
  for (const name of ["ada-report", "bob-report"]) {
    yield* bridge.record(
      AgentEvents.vocabulary,
      { runId: Envelope.RunId.make(name) },
      Stream.map(events, (event) => ({ event })),
    )
  }

  yield* Console.log(yield* Effect.promise(async () => (await fetch(`${base}/hello`)).text()))

  const headers = { authorization: "Bearer token-of-ada" }
  const read = Stream.fromAsyncIterable(
    runEvents<AgentEvents.AgentEvent>(`${base}/events/runs/ada-report/events`, { headers }),
    (cause) => cause,
  )
  yield* Stream.runForEach(read, (item) =>
    item._tag === "Event" ? Console.log(item.cursor.split("-")[0], item.envelope.event) : Effect.void,
  )

  const status = (run: string, init: RequestInit) =>
    Effect.promise(async () => (await fetch(`${base}/events/runs/${run}/events`, init)).status)
  yield* Console.log(
    `without a token ${yield* status("ada-report", {})},`,
    `a run of another ${yield* status("bob-report", { headers })},`,
    `a run that isn't there ${yield* status("bob-nothing", { headers })}`,
  )
})

NodeRuntime.runMain(Effect.provide(program, app))
