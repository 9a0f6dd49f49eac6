import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Access from "../src/Access.ts"
import { problemOf, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"

describe("a right that can't be interrupted while it is decided", () => {
  it.live("is denied in time all the same, to who asks and to who has a stream", () =>
    Effect.gen(function* () {
      const decided = yield* Deferred.make<void>()
      const stuck = { is: false }
      const server = yield* serve({
        access: Layer.succeed(Access.Access, {
          decide: () =>
            stuck.is
              ? Effect.uninterruptible(Effect.as(Deferred.await(decided), Access.allowed))
              : Effect.succeed(Access.allowed),
        }),
        routes: { recheck: "20 millis", decideWithin: "200 millis" },
      })
      yield* server.append(runId, [started])
      const client = yield* server.follow(path)
      yield* client.untilText("caught-up")
      stuck.is = true
      yield* client.closed
      assert.deepStrictEqual(client.control("closing"), [{ reason: "revoked" }])
      assert.strictEqual(problemOf(yield* server.ask(path)), "run-unknown")
      yield* Deferred.succeed(decided, undefined)
    }),
  )
})
