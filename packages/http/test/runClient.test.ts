import { assert, describe, it } from "@effect/vitest"
import * as RunClient from "@throughline/client/RunClient"
import * as AgentEvents from "@throughline/core/AgentEvents"
import { RunId, SessionId } from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { completed, delta, serve, type ServeOptions, started } from "./serving.ts"

const { vocabulary } = AgentEvents
const sessionId = SessionId.make("s1")

/** A server and its client. */
const both = Effect.fnUntraced(function* (options?: ServeOptions<never>) {
  const server = yield* serve(options)
  const built = yield* Layer.build(
    RunClient.layer({ url: server.base, retry: Schedule.recurs(2) }).pipe(
      Layer.provide([FetchHttpClient.layer, Throughline.layerCrypto]),
    ),
  )
  return { server, client: Context.get(built, RunClient.RunClient) }
})

const tagOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.match(effect, { onFailure: ({ _tag }) => _tag, onSuccess: (): string => "done" })

describe("RunClient on a server", () => {
  it.live("reads a run page by page, decoded, and its head", () =>
    Effect.gen(function* () {
      const { client, server } = yield* both()
      const runId = RunId.make("r1")
      yield* server.append(runId, [started, ...["a", "b", "c"].map(delta), completed], { sessionId })
      const stored = yield* server.store.head(runId)
      const first = yield* client.page(runId, { vocabulary, limit: 2 })
      assert.deepStrictEqual(first.head, stored)
      const rest = yield* client.page(runId, { vocabulary, after: first.next, kinds: ["TextDelta"] })
      assert.deepStrictEqual(
        [...first.events, ...rest.events].map(({ event }) => event),
        [started, ...["a", "b", "c"].map(delta), completed],
      )
      const head = yield* client.head(runId)
      assert.strictEqual(rest.next, head.cursor)
      const { firstSeq, generation, lastSeq, status } = stored
      assert.deepStrictEqual<object>(head, { runId, status, firstSeq, lastSeq, generation, cursor: `5-${generation}` })
      assert.strictEqual(yield* tagOf(client.page(runId, { after: `2-aaaaaaaa` })), "CursorStale")
      assert.strictEqual(yield* tagOf(client.page(runId, { after: 6 })), "CursorAhead")
      assert.strictEqual(yield* tagOf(client.page(runId, { after: "x" })), "InvalidCursor")
      assert.strictEqual(yield* tagOf(client.page(RunId.make("r2"))), "RunUnknown")
      assert.strictEqual(yield* tagOf(client.head(RunId.make("r2"))), "RunUnknown")
    }),
  )

  it.live("is told where a page's history was trimmed, and what to read on after", () =>
    Effect.gen(function* () {
      const { client, server } = yield* both({ throughline: { store: { retention: { eventsPerRun: 2 } } } })
      const runId = RunId.make("r1")
      yield* server.append(runId, [started, delta("a"), delta("b")])
      const truncated = yield* Effect.flip(client.page(runId))
      assert.deepInclude(truncated, { _tag: "HistoryTruncated", runId, after: 0, oldestSeq: 2 })
      const { events } = yield* client.page(runId, { after: 1 })
      assert.deepStrictEqual(
        events.map(({ seq }) => seq),
        [2, 3],
      )
    }),
  )

  it.live("lists runs, a page at a time", () =>
    Effect.gen(function* () {
      const { client, server } = yield* both()
      for (const name of ["r1", "r2", "r3"]) {
        yield* server.append(RunId.make(name), [started], { sessionId })
        yield* server.append(RunId.make(`${name}-other`), [started, completed])
      }
      const stored = yield* server.store.runs({ limit: 10 })
      const listed = yield* client.list()
      assert.deepStrictEqual(listed, { runs: stored, next: undefined })
      const some = { sessionId, status: "running", limit: 2 } as const
      const first = yield* client.list(some)
      const rest = yield* client.list({ ...some, before: first.next })
      assert.deepStrictEqual(
        [...first.runs, ...rest.runs],
        stored.filter((head) => head.sessionId === sessionId),
      )
      assert.isUndefined(rest.next)
    }),
  )

  it.live("keeps a run's lease, and removes it", () =>
    Effect.gen(function* () {
      const { client, server } = yield* both()
      const runId = RunId.make("r1")
      assert.strictEqual(yield* tagOf(client.renew(runId, "1 minute")), "RunUnknown")
      yield* server.append(runId, [started])
      yield* client.renew(runId, "1 minute")
      assert.isDefined((yield* server.store.head(runId)).lease)
      yield* server.append(runId, [completed])
      const ended = yield* Effect.flip(client.renew(runId, "1 minute"))
      assert.deepInclude(ended, { _tag: "RunEnded", endSeq: 2, ending: "completed" })
      assert.isTrue(yield* client.remove(runId))
      assert.isFalse(yield* client.remove(runId))
    }),
  )

  it.live("follows a session", () =>
    Effect.gen(function* () {
      const { client, server } = yield* both()
      yield* server.append(RunId.make("r1"), [started, delta("a")], { sessionId })
      const seen: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(client.session(sessionId, { vocabulary }), (item) =>
          Effect.sync(() =>
            seen.push(item._tag === "Event" ? `${item.envelope.runId} ${item.envelope.seq}` : item._tag),
          ),
        ),
      )
      while (!seen.includes("CaughtUp")) yield* Effect.sleep("2 millis")
      yield* server.append(RunId.make("r2"), [started], { sessionId })
      yield* server.append(RunId.make("r3"), [started])
      yield* server.append(RunId.make("r1"), [completed])
      while (seen.length < 5) yield* Effect.sleep("2 millis")
      assert.deepStrictEqual(seen, ["r1 1", "r1 2", "CaughtUp", "r2 1", "r1 3"])
    }),
  )
})
