import { assert, describe, it } from "@effect/vitest"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { RunClient } from "../src/RunClient.ts"
import {
  answer,
  caughtUp,
  control,
  ending,
  event,
  events,
  generation,
  layerOf,
  problem,
  range,
  readers,
  runId,
  type Script,
  serverOf,
  streamed,
} from "./scripted.ts"

const cut = Arbitrary.all({
  bytes: Generator.int(0, 2_000),
  rest: Generator.weighted([
    [1, "closes"],
    [1, "fails"],
  ]),
  refusal: Generator.weighted<"no connection" | number | undefined>([
    [4, undefined],
    [1, "no connection"],
    [1, 503],
    [1, 429],
  ]),
})

describe.each(readers)("$name", ({ read }) => {
  it.live.prop(
    "gives each event once, in order, to the end, wherever its connections are cut and its bytes split",
    {
      length: Generator.int(1, 12),
      stored: Generator.int(0, 12),
      cuts: Arbitrary.array(cut, { maxLength: 6 }),
      chunk: Generator.int(1, 300),
      after: Generator.int(0, 12),
    },
    ({ after: from, chunk, cuts, length, stored }) =>
      Effect.promise(async () => {
        const start = from % length
        const head = Math.min(stored, length)
        const { fetch, log } = serverOf((after, request) => {
          const replay = after < head ? events(after + 1, Math.min(head, length - 1)) : ""
          const live = events(Math.max(after, Math.min(head, length - 1)) + 1, length - 1)
          const bytes = new TextEncoder().encode(
            `retry: 1\n\n${replay}${head === length ? "" : caughtUp(Math.max(after, Math.min(head, length - 1)))}${live}${ending(length)}`,
          )
          const chunks = (end: number) =>
            Array.from({ length: Math.ceil(end / chunk) }, (_, index) =>
              bytes.slice(index * chunk, Math.min(end, (index + 1) * chunk)),
            )
          const { bytes: end, refusal, rest } = cuts[request] ?? { bytes: bytes.length, rest: "closes" as const }
          if (refusal === "no connection") return new TypeError("fetch failed")
          if (refusal !== undefined) return answer(refusal, "busy")
          return streamed(chunks(Math.min(end, bytes.length)), rest)
        })
        const seen = await read(fetch, { after: start === 0 ? undefined : start })
        assert.deepStrictEqual(seen.seqs, range(start + 1, length))
        assert.strictEqual(seen.end, "ended")
        assert.strictEqual(seen.items.filter(({ _tag }) => _tag === "CaughtUp").length, 1)
        // Every connection went on after what was received.
        const places = log.requests.map(({ url }) => Number.parseInt(url.searchParams.get("after") ?? "0", 10))
        assert.deepStrictEqual(
          places,
          places.toSorted((left, right) => left - right),
        )
        assert.strictEqual(places[0], start)
      }),
    { arbitrary: { runs: 60 }, timeout: 60_000 },
  )

  it("comes back with its cursor even if no event came yet", async () => {
    const { fetch, log } = serverOf((_, request) =>
      request < 2 ? streamed(": keep-alive\n\n") : streamed(events(6, 8) + ending(9)),
    )
    const seen = await read(fetch, { after: `5-${generation}` })
    assert.deepStrictEqual([seen.seqs, seen.end], [range(6, 9), "ended"])
    const asked = log.requests.map(({ url }) => url.searchParams.get("after"))
    assert.deepStrictEqual(asked, Array(3).fill(`5-${generation}`))
  })

  it("takes a connection that closes cleanly before the end for a lost one, and after the last event for the end", async () => {
    const lost = serverOf((after) => streamed(after === 0 ? events(1, 3) + caughtUp(3) : ending(4)))
    assert.deepStrictEqual((await read(lost.fetch)).seqs, range(1, 4))
    assert.strictEqual(lost.log.requests.length, 2)
    for (const rest of ["closes", "fails"] as const) {
      const whole = serverOf(() => streamed(event(1) + event(2, { endsRun: "failed" }), rest))
      const seen = await read(whole.fetch)
      assert.deepStrictEqual([seen.seqs, seen.end], [[1, 2], "ended"])
      assert.deepStrictEqual(seen.items.at(-1), { _tag: "CaughtUp", head: 2, cursor: `2-${generation}` })
      assert.strictEqual(whole.log.requests.length, 1)
    }
  })

  it("ends at 204 where that can be, and tells of it nowhere else", async () => {
    const cursor = `4-${generation}`
    const atEnd = await read(serverOf(() => answer(204)).fetch, { after: cursor })
    assert.deepStrictEqual([atEnd.items, atEnd.end], [[{ _tag: "CaughtUp", head: 4, cursor }], "ended"])
    const bySeq = await read(serverOf(() => answer(204)).fetch, { after: 4 })
    assert.deepStrictEqual([bySeq.items, bySeq.end], [[{ _tag: "CaughtUp", head: 4 }], "ended"])
    const lies: ReadonlyArray<Script> = [
      () => answer(204),
      (after) => (after === 0 ? streamed(events(1, 2)) : answer(204)),
    ]
    for (const lie of lies) assert.strictEqual((await read(serverOf(lie).fetch)).end, "protocol-violation")
  })

  it("tells of trimmed history once, and goes on after it", async () => {
    const { fetch } = serverOf((_, request) =>
      request === 0
        ? streamed(control("truncated", { from: 1, to: 4 }))
        : streamed(control("truncated", { from: 1, to: 6 }) + events(7, 8) + caughtUp(8) + ending(9)),
    )
    const seen = await read(fetch)
    assert.deepStrictEqual(seen.seqs, [7, 8, 9])
    assert.deepStrictEqual(
      seen.items.filter(({ _tag }) => _tag !== "Event"),
      [
        { _tag: "Truncated", from: 1, to: 4 },
        { _tag: "Truncated", from: 5, to: 6 },
        { _tag: "CaughtUp", head: 8 },
      ],
    )
  })

  it("passes over what the query asked not to have, and over control frames it doesn't know", async () => {
    const frames = `${event(3)}${control("weather", { sun: true })}event: message\n${event(7)}${caughtUp(9)}${ending(12)}`
    const seen = await read(serverOf(() => streamed(frames)).fetch, { query: "filtered" })
    assert.deepStrictEqual([seen.seqs, seen.end], [[3, 7, 12], "ended"])
  })

  it("doubles nothing that a server sends again, and hands on what a policy dropped", async () => {
    const notice = {
      policy: "dropProgress",
      reason: "queueFull",
      frames: 2,
      kinds: { Note: 2 },
      first: `4-${generation}`,
      last: `5-${generation}`,
      terminalsSurvived: true,
    }
    const { fetch } = serverOf((_, request) =>
      streamed(
        events(1, 3) + events(2, 3) + (request === 0 ? "" : control("dropped", notice) + events(1, 4) + ending(5)),
      ),
    )
    const seen = await read(fetch)
    assert.deepStrictEqual([seen.seqs, seen.end], [range(1, 5), "ended"])
    assert.deepInclude(seen.items, { _tag: "Dropped", notice })
  })

  it("fails with what the server refuses for good, at once", async () => {
    const refusals: ReadonlyArray<readonly [Response, code: string]> = [
      [problem(404, "run-unknown"), "run-unknown"],
      [problem(401, "unauthorized"), "unauthorized"],
      [problem(410, "cursor-stale"), "cursor-stale"],
      [problem(409, "cursor-ahead", { lastSeq: 2 }), "cursor-ahead"],
      [problem(500, "store-broken"), "store-broken"],
      [answer(403, "<html>no</html>", { "content-type": "text/html" }), "refused"],
    ]
    for (const [response, code] of refusals) {
      const { fetch, log } = serverOf(() => response)
      const seen = await read(fetch, { after: `5-${generation}` })
      const expected = code === "run-unknown" && seen.end === "run-removed" ? "run-removed" : code
      assert.deepStrictEqual([seen.end, seen.items, log.requests.length], [expected, [], 1])
    }
  })

  it("fails with what ends a stream for good, after what came before", async () => {
    const removed = control("failed", { type: "urn:throughline:problem:run-removed", status: 410 })
    const { fetch, log } = serverOf(() => streamed(events(1, 2) + removed, "stays"))
    const seen = await read(fetch)
    assert.deepStrictEqual([seen.seqs, seen.end, log.requests.length], [[1, 2], "run-removed", 1])
  })

  it("comes back where the server closes the stream, or can't go on for now", async () => {
    for (const frame of [
      control("closing", { reason: "shutdown" }),
      control("failed", { type: "urn:throughline:problem:store-unavailable", status: 503 }),
    ]) {
      const { fetch, log } = serverOf((after) =>
        after === 0 ? streamed(events(1, 2) + frame, "stays") : streamed(ending(3)),
      )
      const seen = await read(fetch)
      assert.deepStrictEqual([seen.seqs, seen.end, log.requests.length], [[1, 2, 3], "ended", 2])
      assert.strictEqual(log.cancelled > 0, true, "the connection was not closed")
    }
  })

  it("closes its connection at the end, even if the server doesn't", async () => {
    const { fetch, log } = serverOf(() => streamed(event(1) + ending(2), "stays"))
    assert.strictEqual((await read(fetch)).end, "ended")
    assert.isAbove(log.cancelled, 0)
  })
})

describe.each(readers)("$name of a refusal", ({ read }) => {
  const removed = JSON.stringify({ type: "urn:throughline:problem:cursor-ahead", status: 409, lastSeq: 2 })

  it("reads no more than a problem can have, and goes by the status", async () => {
    const { fetch, log } = serverOf(() => streamed(Array(1_000).fill("x".repeat(65_536)), "stays", 403))
    const seen = await read(fetch, { idleTimeout: 600_000 })
    assert.deepStrictEqual([seen.end, log.requests.length, log.open], ["refused", 1, 0])
    assert.isBelow(log.chunks, 8)
  })

  it("waits no longer for its body than for anything else, and goes by what has come", async () => {
    for (const [text, end] of [
      ["", "refused"],
      [removed.slice(0, 20), "refused"],
      [removed, "cursor-ahead"],
    ] as const) {
      const { fetch, log } = serverOf(() => streamed(text, "stays", 409))
      const seen = await read(fetch, { after: 5, idleTimeout: 100 })
      assert.deepStrictEqual([seen.end, log.requests.length, log.open], [end, 1, 0])
    }
  })

  it("asks again where the connection fails in the middle of it", async () => {
    const { fetch, log } = serverOf((_, request) =>
      request === 0 ? streamed(removed.slice(0, 20), "fails", 409) : streamed(removed, "closes", 409),
    )
    const seen = await read(fetch, { after: 5 })
    assert.deepStrictEqual([seen.end, log.requests.length], ["cursor-ahead", 2])
  })
})

describe("RunClient", () => {
  it.effect("refuses kinds that its query would change, and asks nothing", () => {
    const { fetch, log } = serverOf(() => streamed(ending(1)))
    return Effect.gen(function* () {
      const client = yield* RunClient
      for (const kind of ["a,b", ""]) {
        const error = yield* Effect.flip(Stream.runDrain(client.run(runId, { kinds: ["Note", kind] })))
        assert.deepInclude(error, { _tag: "Refused", name: "invalid-query", runId })
        assert.include(error.message, JSON.stringify(kind))
      }
      assert.strictEqual(log.requests.length, 0)
      yield* Stream.runDrain(client.run(runId, { kinds: ["Note", "a b&c=d"] }))
      assert.strictEqual(log.requests[0]!.url.searchParams.get("kinds"), "Note,a b&c=d")
    }).pipe(Effect.provide(layerOf(fetch)))
  })
})
