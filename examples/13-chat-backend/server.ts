/**
 * The web server of the chat: `node examples/13-chat-backend/server.ts [PORT] [FILE]`, then open the address it prints.
 *
 * It answers nothing itself. A question starts a process that writes the answer into the same file, so neither a reader
 * that leaves nor a server that dies ends an answer: whoever comes back reads the run on from the last event they saw.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Envelope, Throughline } from "@throughline/core"
import { Access, Routes } from "@throughline/http"
import { SqliteThroughline } from "@throughline/sqlite"
import { Console, Effect, Layer, Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"

const [port = "3000", filename = "chat.db"] = process.argv.slice(2)
const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** A process of its own, which lives on when this one doesn't. */
const startAnswer = (runId: Envelope.RunId, question: string) =>
  Effect.sync(() => {
    const answer = spawn(process.execPath, [path("./answer.ts"), filename, runId, question], {
      detached: true,
      stdio: "ignore",
    })
    answer.unref()
  })

const Question = Schema.Struct({
  question: Schema.NonEmptyString.check(Schema.isMaxLength(4000)),
})

const ask = Effect.gen(function* () {
  // Only pages of this origin can send this type without being asked for leave first.
  yield* HttpServerRequest.schemaHeaders(Schema.Struct({ "content-type": Schema.Literal("application/json") }))
  const { question } = yield* HttpServerRequest.schemaBodyJson(Question)
  const random = yield* SecureRandom.SecureRandom
  const runId = Envelope.RunId.make(yield* random.uuidV7())
  yield* startAnswer(runId, question)
  return HttpServerResponse.jsonUnsafe({ runId })
}).pipe(
  Effect.catchTags({
    SchemaError: ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 400 })),
    HttpServerError: ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 400 })),
  }),
)

const page = HttpServerResponse.text(readFileSync(path("./index.html"), "utf8"), { contentType: "text/html" })

const routes = Layer.mergeAll(
  HttpRouter.add("GET", "/", Effect.succeed(page)),
  HttpRouter.add("POST", "/questions", ask),
  Routes.layer({ prefix: "/throughline" }),
  Layer.effectDiscard(HttpServer.addressFormattedWith((address) => Console.log(address))),
)

HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provide(Access.layerOpen()),
  Layer.provide(SqliteThroughline.layer({ filename })),
  Layer.provide(Throughline.layerCrypto),
  Layer.provide(NodeHttpServer.layer(createServer, { port: Number(port), host: "127.0.0.1" })),
  Layer.launch,
  NodeRuntime.runMain,
)
