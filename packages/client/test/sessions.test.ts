import { assert, describe, it } from "@effect/vitest"
import { SessionId } from "@throughline/core/Envelope"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { RunError, sessionEvents } from "../src/index.ts"
import * as RunClient from "../src/RunClient.ts"
import { answer, base, control, event, layerOf, problem, type Script, serverOf, streamed } from "./scripted.ts"

const sessionId = SessionId.make("s1")

interface Item {
  readonly _tag: string
  readonly cursor?: string
  readonly runId?: string
  readonly from?: number
  readonly to?: number
  readonly envelope?: { readonly seq: number; readonly runId: string }
}

interface Read {
  readonly items: ReadonlyArray<Item>
  /** The code of the failure; `left`: there were as many items as were wanted. */
  readonly end: string
}

type Reader = (fetch: typeof globalThis.fetch, wanted: number, options?: { readonly after?: string }) => Promise<Read>

const plain: Reader = async (fetch, wanted, options) => {
  const items: Array<Item> = []
  try {
    const session = sessionEvents(`${base}/sessions/${sessionId}/events`, {
      ...options,
      fetch,
      attempts: 5,
      backoff: () => 0,
    })
    for await (const item of session) if (items.push(item) === wanted) break
    return { items, end: "left" }
  } catch (error) {
    if (!(error instanceof RunError)) throw error
    return { items, end: error.code }
  }
}

const codes: Readonly<Record<string, string>> = {
  Unreachable: "unreachable",
  ProtocolViolation: "protocol-violation",
  InvalidCursor: "invalid-cursor",
}

const effect: Reader = (fetch, wanted, options) =>
  Effect.gen(function* () {
    const client = yield* RunClient.RunClient
    const items: Array<Item> = []
    const exit = yield* client.session(sessionId, options).pipe(
      Stream.take(wanted),
      Stream.runForEach((item) => Effect.sync(() => items.push(item))),
      Effect.exit,
    )
    if (Exit.isSuccess(exit)) return { items, end: "left" }
    const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    if (error === undefined) return yield* Effect.failCause(exit.cause)
    return { items, end: error._tag === "Refused" ? error.name : (codes[error._tag] ?? error._tag) }
  }).pipe(Effect.provide(layerOf(fetch, { retry: Schedule.recurs(4) })), Effect.runPromise)

/** An event of a run of the session, at a place of the session. */
const at = (place: string, runId: string, seq: number, of: string | undefined = sessionId): string =>
  event(seq, { runId, sessionId: of }).replace(/^id: .*/, `id: ${place}`)

const placesOf = ({ items }: Read): ReadonlyArray<string | undefined> => items.map(({ cursor }) => cursor)

const taken = (runId: string, to: number): string => control("truncated", { runId, from: 1, to })

/** A server that answers so, one request after the other. */
const inTurn = (answers: ReadonlyArray<ReturnType<Script>>) => serverOf((_, request) => answers[request]!)

for (const [name, read] of [
  ["sessionEvents", plain],
  ["RunClient.session", effect],
] as const) {
  describe(`${name} of a session`, () => {
    it("goes on after the last event, or after what it has caught up with, and says so once", async () => {
      const { fetch, log } = inTurn([
        streamed(at("p1", "r1", 1) + at("p2", "r2", 1) + at("p2", "r2", 1)),
        streamed(control("caught-up", { cursor: "p9" })),
        streamed(control("caught-up", { cursor: "p9" }) + at("p10", "r1", 2), "fails"),
        streamed(at("p11", "r3", 1), "stays"),
      ])
      const seen = await read(fetch, 5)
      assert.deepStrictEqual(placesOf(seen), ["p1", "p2", "p9", "p10", "p11"])
      assert.deepStrictEqual(
        seen.items.map(({ _tag }) => _tag),
        ["Event", "Event", "CaughtUp", "Event", "Event"],
      )
      assert.deepStrictEqual(
        log.requests.map(({ url }) => [url.pathname, url.searchParams.get("after")]),
        [null, "p2", "p9", "p10"].map((after) => ["/sessions/s1/events", after]),
      )
      // Leaving closes the connection.
      assert.strictEqual(log.open, 0)
    })

    it("begins where it is told to, and is refused there for good", async () => {
      const { fetch, log } = serverOf(() => problem(400, "invalid-cursor"))
      assert.deepStrictEqual(await read(fetch, 1, { after: "p7" }), { items: [], end: "invalid-cursor" })
      assert.strictEqual(log.requests[0]!.url.searchParams.get("after"), "p7")
      assert.strictEqual((await read(serverOf(() => problem(501, "no-archive")).fetch, 1)).end, "no-archive")
      assert.strictEqual(log.requests.length, 1)
    })

    it("is told once what retention took of a run, and again where it took more", async () => {
      const { fetch } = inTurn([
        streamed(taken("r1", 3) + taken("r2", 1)),
        streamed(taken("r1", 3) + taken("r2", 2)),
        streamed(taken("r1", 3) + taken("r2", 2) + at("p1", "r1", 4), "stays"),
      ])
      const { items } = await read(fetch, 4)
      assert.deepStrictEqual(items.slice(0, 3), [
        { _tag: "Truncated", runId: "r1", from: 1, to: 3 },
        { _tag: "Truncated", runId: "r2", from: 1, to: 1 },
        { _tag: "Truncated", runId: "r2", from: 1, to: 2 },
      ])
      assert.strictEqual(items[3]!.cursor, "p1")
    })

    it("is over where the server breaks the protocol again and again", async () => {
      for (const lie of [
        () => answer(204),
        () => streamed(event(1, { sessionId }).replace(/^id: .*\n/, "")),
        () => streamed(at("p1", "r1", 1) + at("p2", "r1", 2, "s2")),
        () => streamed(event(1)),
        () => streamed(control("caught-up", { head: 1 })),
        () => streamed(control("truncated", { from: 1, to: 2 })),
        () => streamed(control("truncated", { runId: "r1", from: 3, to: 2 })),
        () => streamed("id: p1\ndata: [\n\n"),
      ]) {
        assert.strictEqual((await read(serverOf(lie).fetch, 2)).end, "protocol-violation", String(lie))
      }
    })

    it("gives up where no connection holds", async () => {
      const { fetch, log } = serverOf(() => new TypeError("fetch failed"))
      assert.strictEqual((await read(fetch, 1)).end, "unreachable")
      assert.strictEqual(log.requests.length, 5)
    })
  })
}
