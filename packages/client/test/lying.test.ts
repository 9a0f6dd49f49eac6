import { assert, describe, it } from "@effect/vitest"
import {
  answer,
  caughtUp,
  control,
  ending,
  endFrame,
  event,
  events,
  generation,
  problem,
  range,
  readers,
  type Script,
  serverOf,
  streamed,
} from "./scripted.ts"

/** A generation that isn't the run's. */
const other = "zzzz9999"

/** What is no event stream of a run. */
const lies: ReadonlyArray<readonly [what: string, end: string, seqs: number, script: Script]> = [
  ["no connection", "unreachable", 0, () => new TypeError("fetch failed")],
  ["a status that passes, for ever", "unreachable", 0, () => answer(503, "later")],
  [
    "a page in place of a stream",
    "protocol-violation",
    0,
    () => answer(200, "<html>", { "content-type": "text/html" }),
  ],
  ["no type", "protocol-violation", 0, () => new Response(new Uint8Array(3))],
  [
    "a status that no stream has",
    "protocol-violation",
    0,
    () => answer(206, "", { "content-type": "text/event-stream" }),
  ],
  ["a redirect that isn't followed", "protocol-violation", 0, () => answer(302, null, { location: "/" })],
  ["streams that end in the middle of a frame", "unreachable", 0, () => streamed(event(1).slice(0, -1))],
  ["streams that say nothing", "unreachable", 0, () => streamed("")],
  ["a skipped seq", "protocol-violation", 2, (after) => streamed(after === 0 ? events(1, 2) + event(4) : event(4))],
  [
    "a seq skipped by the end",
    "protocol-violation",
    2,
    (after) => streamed((after < 2 ? events(after + 1, 2) : "") + endFrame(4)),
  ],
  [
    "a seq skipped by the head",
    "protocol-violation",
    1,
    (after) => streamed((after < 1 ? event(1) : "") + caughtUp(3)),
  ],
  [
    "an end that no event was",
    "protocol-violation",
    2,
    (after) => streamed((after < 2 ? events(after + 1, 2) : "") + endFrame(2)),
  ],
  [
    "another generation",
    "protocol-violation",
    1,
    (after) => streamed((after === 0 ? event(1) : "") + event(2, {}, other)),
  ],
  ["ids that are not those of the data", "protocol-violation", 0, () => streamed(event(1).replace("id: 1", "id: 2"))],
  ["events without an id", "protocol-violation", 0, () => streamed(event(1).replace(/^id.*\n/, ""))],
  ["data that is no JSON", "protocol-violation", 0, () => streamed(`id: 1-${generation}\ndata: {"seq":1\n\n`)],
  ["JSON that is no object", "protocol-violation", 0, () => streamed(`id: 1-${generation}\ndata: 7\n\n`)],
  ["bytes that are no UTF-8", "protocol-violation", 0, () => streamed([Uint8Array.of(0x64, 0xff, 0x0a)])],
  ["a line that never ends", "protocol-violation", 0, () => streamed(Array(200).fill("x".repeat(1_000)), "stays")],
  [
    "a comment that never ends",
    "protocol-violation",
    0,
    () => streamed([":", ...Array<string>(200).fill("x".repeat(1_000))], "stays"),
  ],
  [
    "a frame that never ends",
    "protocol-violation",
    0,
    () => streamed(Array(20_000).fill("data: xxxxxxxxx\n"), "stays"),
  ],
  [
    "an event of another run",
    "protocol-violation",
    1,
    (after) => streamed((after === 0 ? event(1) : "") + event(2, { runId: "r2" })),
  ],
  ["envelopes of a seq alone", "protocol-violation", 0, () => streamed(`id: 1-${generation}\ndata: {"seq":1}\n\n`)],
  ...["eventId", "runId", "kind", "delivery", "emittedAt", "tags", "correlation", "schemaVersion", "event"].map(
    (field) =>
      [
        `envelopes without ${field}`,
        "protocol-violation",
        0,
        () => streamed(event(1, { [field]: undefined })),
      ] as const,
  ),
  ["a delivery class that isn't one", "protocol-violation", 0, () => streamed(event(1, { delivery: "express" }))],
  ["an ending that isn't one", "protocol-violation", 0, () => streamed(event(1, { endsRun: "bogus" }))],
  ["no ending where there is a field for it", "protocol-violation", 0, () => streamed(event(1, { endsRun: null }))],
  [
    "an event after the end",
    "protocol-violation",
    2,
    (after) => streamed((after === 0 ? events(1, 1) + event(2, { endsRun: "completed" }) : "") + event(3)),
  ],
  [
    "trimmed history after the end",
    "protocol-violation",
    1,
    (after) =>
      streamed((after === 0 ? event(1, { endsRun: "completed" }) : "") + control("truncated", { from: 2, to: 3 })),
  ],
  [
    "the end of another generation",
    "protocol-violation",
    1,
    (after) => streamed((after === 0 ? event(1, { endsRun: "completed" }) : "") + endFrame(1, other)),
  ],
  ["an end before any event", "protocol-violation", 0, () => streamed(endFrame(0))],
  [
    "an end that ends nothing",
    "protocol-violation",
    1,
    (after) =>
      streamed(
        (after === 0 ? event(1, { endsRun: "completed" }) : "") +
          control("end", { status: "running", cursor: `1-${generation}` }),
      ),
  ],
  [
    "an end after nothing but trimmed history",
    "protocol-violation",
    0,
    () => streamed(control("truncated", { from: 1, to: 4 }) + endFrame(4)),
  ],
  [
    "a head of another generation",
    "protocol-violation",
    1,
    (after) => streamed((after === 0 ? event(1) : "") + caughtUp(1, `1-${other}`)),
  ],
  [
    "a head whose cursor is elsewhere",
    "protocol-violation",
    1,
    (after) => streamed((after === 0 ? event(1) : "") + caughtUp(1, `2-${generation}`)),
  ],
  [
    "a head whose cursor is none",
    "protocol-violation",
    0,
    () => streamed(control("caught-up", { head: 0, cursor: 0 })),
  ],
  ["the same events again and again", "unreachable", 3, () => streamed(events(1, 3))],
  [
    "nonsense from a control frame",
    "protocol-violation",
    0,
    () => streamed(control("truncated", { from: -1, to: "x" })),
  ],
  ["an answer, and then nothing at all", "unreachable", 0, () => streamed("", "stays")],
  ["not even an answer", "unreachable", 0, () => "never answers"],
]

describe.each(readers)("$name of a server that sends", ({ read }) => {
  it.each(lies)("%s ends typed: %s", async (what, end, seqs, script) => {
    const { fetch, log } = serverOf(script)
    // Short only where silence is what is waited for, so that a busy machine is not taken for it.
    const idleTimeout = what.endsWith("at all") || what.startsWith("not even") ? 20 : undefined
    const seen = await read(fetch, { maxEventSize: 100_000, attempts: 4, idleTimeout })
    assert.deepStrictEqual([seen.end, seen.seqs], [end, range(1, seqs)])
    assert.isAtMost(log.requests.length, 6)
  })
})

describe.each(readers)("$name", ({ read }) => {
  /** After a bare seq and a connection that brought nothing but a head. */
  const asked = async (script: Script) => {
    const { fetch, log } = serverOf((after, request) =>
      request === 0 ? streamed(caughtUp(3, `3-${generation}`)) : script(after, request),
    )
    const seen = await read(fetch, { after: 3 })
    const places = log.requests.map(({ url }) => url.searchParams.get("after"))
    assert.deepStrictEqual(seen.items[0], { _tag: "CaughtUp", head: 3, cursor: `3-${generation}` })
    return { ...seen, places }
  }

  it("that came with a bare seq is bound to the run that it caught up with, though nothing has come", async () => {
    const same = await asked(() => streamed(caughtUp(3, `3-${generation}`) + ending(4)))
    assert.deepStrictEqual([same.seqs, same.end, same.places], [[4], "ended", ["3", `3-${generation}`]])
    const refused = await asked(() => problem(410, "cursor-stale"))
    assert.deepStrictEqual([refused.end, refused.places], ["cursor-stale", ["3", `3-${generation}`]])
    const spliced = await asked(() => streamed(caughtUp(3, `3-${other}`) + event(4, {}, other)))
    assert.deepStrictEqual([spliced.end, spliced.seqs], ["protocol-violation", []])
  })

  it("that asked for some events goes on from where it has caught up", async () => {
    const { fetch, log } = serverOf((_, request) =>
      request === 0 ? streamed(event(3) + caughtUp(9, `9-${generation}`)) : streamed(event(10) + ending(12)),
    )
    const seen = await read(fetch, { query: "filtered" })
    assert.deepStrictEqual([seen.seqs, seen.end], [[3, 10, 12], "ended"])
    assert.deepStrictEqual(
      log.requests.map(({ url }) => url.searchParams.get("after")),
      [null, `9-${generation}`],
    )
  })

  it("that asked for some events is told of no head after the end", async () => {
    const { fetch } = serverOf((after) =>
      streamed((after === 0 ? event(3, { endsRun: "completed" }) : "") + caughtUp(9, `9-${generation}`)),
    )
    const seen = await read(fetch, { query: "filtered" })
    assert.deepStrictEqual([seen.seqs, seen.end], [[3], "protocol-violation"])
  })

  it("forgives answers that break the protocol once one doesn't", async () => {
    const html = answer(200, "<html>", { "content-type": "text/html" })
    const quiet = streamed(caughtUp(1, `1-${generation}`))
    const { fetch, log } = serverOf((_, request) => {
      if (request === 0) return streamed(event(1) + caughtUp(1))
      if (request === 9) return streamed(ending(2))
      return request % 3 === 0 ? quiet : html.clone()
    })
    const seen = await read(fetch, { attempts: 5 })
    assert.deepStrictEqual([seen.seqs, seen.end, log.requests.length], [[1, 2], "ended", 10])
  })

  it("takes no connection that can't be made for an answer", async () => {
    const html = answer(200, "<html>", { "content-type": "text/html" })
    const { fetch, log } = serverOf((_, request) => {
      if (request === 0) return streamed(event(1))
      return request % 2 === 0 ? new TypeError("fetch failed") : html.clone()
    })
    assert.deepStrictEqual([(await read(fetch)).end, log.requests.length], ["protocol-violation", 6])
  })

  it("counts on where each answer has some sense, and then none", async () => {
    const { fetch, log } = serverOf(() => streamed(caughtUp(0) + endFrame(0)))
    assert.deepStrictEqual([(await read(fetch)).end, log.requests.length], ["protocol-violation", 3])
  })

  it("forgives after each event", async () => {
    const { fetch } = serverOf((after) => streamed(after === 6 ? ending(7) : `${event(after + 1)}data: {\n\n`))
    const seen = await read(fetch)
    assert.deepStrictEqual([seen.seqs, seen.end], [range(1, 7), "ended"])
  })

  it("asks again for an envelope that it can't read, and passes over none", async () => {
    const { fetch, log } = serverOf((after, request) =>
      request < 2 ? streamed((after === 0 ? event(1) : "") + event(2, { delivery: "express" })) : streamed(ending(2)),
    )
    const seen = await read(fetch)
    assert.deepStrictEqual([seen.seqs, seen.end, log.requests.length], [[1, 2], "ended", 3])
  })
})

describe("RunClient", () => {
  it("takes no event of a run that it didn't ask for", async () => {
    const { fetch } = serverOf(() => streamed(event(1, { runId: "r2" })))
    const seen = await readers.find(({ name }) => name === "RunClient")!.read(fetch)
    assert.deepStrictEqual([seen.end, seen.seqs], ["protocol-violation", []])
  })
})
