import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as RunClient from "../src/RunClient.ts"
import { answer, event, generation, layerOf, problem, runId, type Script, serverOf } from "./scripted.ts"

type Client = RunClient.RunClient["Service"]

/** What is called, and how a server answers it. */
interface Call {
  readonly call: (client: Client) => Effect.Effect<unknown, { readonly _tag: string }>
  readonly good: () => Response
  readonly lies: ReadonlyArray<() => Response>
}

const cursor = `1-${generation}`
const head = { runId, status: "running", firstSeq: 1, lastSeq: 1, cursor }
const stored: unknown = JSON.parse(/data: (.*)/.exec(event(1))![1]!)

const headers = { "run-status": "running", "run-head": cursor, "run-first": "1" }

const calls: Readonly<Record<string, Call>> = {
  page: {
    call: (client) => client.page(runId, { after: cursor, limit: 5 }),
    good: () => answer(200, { head, next: cursor, events: [stored] }),
    lies: [
      () => answer(200, "<html>"),
      () => answer(200, { head, events: [] }),
      () => answer(200, { head: { ...head, status: "unknown" }, next: cursor, events: [] }),
      () => answer(200, { head, next: cursor, events: [{ seq: 1 }] }),
      () => answer(204),
    ],
  },
  head: {
    call: (client) => client.head(runId),
    good: () => answer(200, null, headers),
    lies: [
      () => answer(200),
      () => answer(200, null, { ...headers, "run-head": "1" }),
      () => answer(200, null, { ...headers, "run-status": "unknown" }),
      () => answer(200, null, { ...headers, "run-first": "one" }),
      () => answer(204, null, headers),
    ],
  },
  list: {
    call: (client) => client.list({ limit: 5 }),
    good: () => answer(200, { runs: [head] }),
    lies: [() => answer(200, "<html>"), () => answer(200, { runs: [{}] }), () => answer(204)],
  },
  renew: {
    call: (client) => client.renew(runId, "30 seconds"),
    good: () => answer(204),
    lies: [() => answer(200, "<html>")],
  },
  remove: { call: (client) => client.remove(runId), good: () => answer(204), lies: [() => answer(200, "<html>")] },
}

const asks = async (script: Script, call: Call["call"]) => {
  const { fetch, log } = serverOf(script)
  const result = await Effect.flatMap(RunClient.RunClient, (client) => Effect.result(call(client))).pipe(
    Effect.provide(layerOf(fetch, { retry: Schedule.recurs(4) })),
    Effect.runPromise,
  )
  return { result, requests: log.requests.length, end: Result.isSuccess(result) ? "done" : result.failure._tag }
}

for (const [name, { call, good, lies }] of Object.entries(calls)) {
  describe(`RunClient.${name}`, () => {
    it("is asked again until it is answered", async () => {
      const answers = [new TypeError("fetch failed"), problem(503, "store-unavailable"), good()]
      const { end, requests } = await asks((_, request) => answers[request]!, call)
      assert.deepStrictEqual([end, requests], ["done", 3])
    })

    it("gives up typed on a server that is never there, that refuses, and that answers something else", async () => {
      assert.strictEqual((await asks(() => new TypeError("fetch failed"), call)).end, "Unreachable")
      const refused = await asks(() => answer(403, "<html>"), call)
      assert.deepStrictEqual([refused.end, refused.requests], ["Refused", 1])
      for (const lie of lies) {
        const { end, requests } = await asks(lie, call)
        assert.deepStrictEqual([end, requests], ["ProtocolViolation", 3], String(lie))
      }
    })
  })
}

describe("RunClient", () => {
  it("fails a page with an event that its vocabulary can't read, at its place", async () => {
    const { result } = await asks(calls["page"]!.good, (client) =>
      client.page(runId, { vocabulary: AgentEvents.vocabulary }),
    )
    assert.deepInclude<object>(Result.isFailure(result) ? result.failure : {}, { _tag: "CorruptRecord", runId, seq: 1 })
  })

  it("asks for no page after text that is no cursor, nor of kinds that the query can't say", async () => {
    for (const [options, tag] of [
      [{ after: "x" }, "InvalidCursor"],
      [{ kinds: ["a,b"] }, "Refused"],
    ] as const) {
      const { end, requests } = await asks(calls["page"]!.good, (client) => client.page(runId, options))
      assert.deepStrictEqual([end, requests], [tag, 0])
    }
  })

  it("says that a run was not there to remove, and nothing of an answer that was lost", async () => {
    const { result } = await asks(() => problem(404, "run-unknown"), calls["remove"]!.call)
    assert.deepStrictEqual(result, Result.succeed(false))
    assert.strictEqual((await asks(() => problem(404, "not-found"), calls["remove"]!.call)).end, "Refused")
  })
})
