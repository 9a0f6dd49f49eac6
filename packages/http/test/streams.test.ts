import { assert, describe, it } from "@effect/vitest"
import { RunId, SessionId, toJson } from "@throughline/core/Envelope"
import type { AgentEvent } from "@throughline/core/AgentEvents"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { completed, delta, problemOf, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"

const deltas = (count: number, from = 0) => Array.from({ length: count }, (_, index) => delta(`text ${from + index}`))

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

describe("a stream", () => {
  it.live("replays, says that it has caught up, follows, and closes after the end", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const before = yield* server.append(runId, [started, delta("a")])
      const client = yield* server.follow(path)
      yield* client.untilText("caught-up")
      const after = yield* server.append(runId, [delta("b")])
      yield* client.untilText("id: 3-")
      const end = yield* server.append(runId, [completed])
      yield* client.closed
      assert.strictEqual(client.status, 200)
      assert.strictEqual(client.headers["content-type"], "text/event-stream")
      assert.strictEqual(client.headers["cache-control"], "private, no-store")
      assert.strictEqual(client.headers["x-accel-buffering"], "no")
      const frames = [...before.frames, ...after.frames, ...end.frames].map(
        ({ cursor, envelope }) => `id: ${cursor}\ndata: ${toJson(envelope)}\n\n`,
      )
      assert.strictEqual(
        client.text,
        `retry: 2000\n\n${frames[0]}${frames[1]}event: caught-up\ndata: {"head":2,"cursor":"${before.frames[1]!.cursor}"}\n\n${frames[2]}${frames[3]}event: end\ndata: {"status":"completed","cursor":"${end.frames[0]!.cursor}"}\n\n`,
      )
    }),
  )

  it.live("resumed at any place gives what follows it, by Last-Event-ID and by after, and 204 at the end", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, [started, ...deltas(6), completed])
      for (const { cursor, envelope } of frames.slice(0, -1)) {
        const byHeader = yield* server.follow(path, { "last-event-id": cursor })
        const byQuery = yield* server.follow(`${path}?after=${cursor}`)
        const bySeq = yield* server.follow(`${path}?after=${envelope.seq}`)
        for (const client of [byHeader, byQuery, bySeq]) {
          yield* client.closed
          assert.deepStrictEqual(client.seqs, range(envelope.seq + 1, 8))
          assert.deepStrictEqual(client.control("end"), [{ status: "completed", cursor: frames[7]!.cursor }])
        }
      }
      const end = frames[7]!.cursor
      const both = yield* server.follow(`${path}?after=${end}`, { "last-event-id": frames[0]!.cursor })
      yield* both.closed
      assert.deepStrictEqual(both.seqs, range(2, 8), "Last-Event-ID did not win")
      for (const [target, headers] of [
        [`${path}?after=${end}`, {}],
        [path, { "last-event-id": end }],
        [`${path}?after=8`, {}],
      ] as const) {
        const answer = yield* server.ask(target, { headers: { accept: "text/event-stream", ...headers } })
        assert.deepStrictEqual([answer.status, answer.body], [204, ""])
      }
      assert.strictEqual(
        (yield* server.ask(path, { headers: { accept: "text/event-stream", "last-event-id": "" } })).status,
        200,
        "an empty Last-Event-ID is none",
      )
    }),
  )

  it.live("cut off at any place and resumed is whole", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      let last = ""
      const seen: Array<number> = []
      for (let round = 0; round < 8; round++) {
        const client = yield* server.follow(path, { "last-event-id": last })
        yield* server.append(runId, deltas(5, round * 5))
        yield* client.until(({ frames }) => frames.filter(({ id }) => id !== undefined).length >= 3)
        client.request.destroy()
        yield* client.closed
        seen.push(...client.seqs)
        last = client.frames.findLast(({ id }) => id !== undefined)!.id!
      }
      yield* server.append(runId, [completed])
      const client = yield* server.follow(path, { "last-event-id": last })
      yield* client.closed
      assert.deepStrictEqual([...seen, ...client.seqs], range(1, 42))
    }),
  )

  it.live("of a cursor that can't be served is refused before it begins", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const refused = Effect.fnUntraced(function* (after: string) {
        const answer = yield* server.ask(`${path}?after=${after}`, { headers: { accept: "text/event-stream" } })
        return [answer.status, problemOf(answer)]
      })
      assert.deepStrictEqual(yield* refused("1-aaaaaaaa"), [410, "cursor-stale"])
      assert.deepStrictEqual(yield* refused("7"), [409, "cursor-ahead"])
      assert.deepStrictEqual(yield* refused("x"), [400, "invalid-cursor"])
      assert.deepStrictEqual(yield* refused("0&capacity=5"), [400, "invalid-query"])
      assert.deepStrictEqual(yield* refused("0&overflow=backpressure"), [400, "invalid-query"])
      assert.deepStrictEqual(yield* refused("0&overflow=summarize&capacity=0"), [400, "invalid-query"])
    }),
  )

  it.live("is filtered, but for the end", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const stored = yield* server.append(runId, [started, ...deltas(3)])
      const client = yield* server.follow(`${path}?kinds=RunStarted`)
      yield* client.untilText("caught-up")
      yield* server.append(runId, deltas(3))
      yield* server.append(runId, [completed])
      yield* client.closed
      assert.deepStrictEqual(client.seqs, [1, 8])
      assert.deepStrictEqual(client.control("caught-up"), [{ head: 4, cursor: stored.frames[3]!.cursor }])
    }),
  )

  it.live("of an unknown run is 404, or waits for it", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const refused = yield* server.ask(path, { headers: { accept: "text/event-stream" } })
      assert.deepStrictEqual([refused.status, problemOf(refused)], [404, "run-unknown"])
      const patient = yield* server.follow(`${path}?wait`)
      const bounded = yield* server.follow(`${path}?wait=30`)
      yield* patient.untilText("caught-up")
      yield* server.append(runId, [started])
      yield* server.append(runId, [completed])
      for (const client of [patient, bounded]) {
        yield* client.closed
        assert.deepStrictEqual(client.seqs, [1, 2])
      }
      const late = yield* server.ask("/runs/never/events?wait=1", { headers: { accept: "text/event-stream" } })
      assert.strictEqual(late.status, 404)
      const wrong = yield* server.ask("/runs/never/events?wait=31", { headers: { accept: "text/event-stream" } })
      assert.strictEqual(problemOf(wrong), "invalid-query")
    }),
  )

  it.live("says what retention took, and goes on after it", () =>
    Effect.gen(function* () {
      const server = yield* serve({ throughline: { store: { retention: { eventsPerRun: 3 } } } })
      yield* server.append(runId, [started, ...deltas(8), completed])
      const client = yield* server.follow(`${path}?after=2`)
      yield* client.closed
      assert.deepStrictEqual(client.control("truncated"), [{ from: 3, to: 7 }])
      assert.deepStrictEqual(client.seqs, [8, 9, 10])
    }),
  )

  it.live("of a run that is removed fails with a problem, at once", () =>
    Effect.gen(function* () {
      // Longer than any test: it must not be the watchdog that finds out.
      const server = yield* serve({ throughline: { hub: { watchdog: "1 hour" } } })
      yield* server.append(runId, [started])
      const client = yield* server.follow(path)
      yield* client.untilText("caught-up")
      assert.strictEqual((yield* server.ask("/runs/r1", { method: "DELETE" })).status, 204)
      yield* client.closed
      const [failed] = client.control("failed")
      assert.deepInclude(failed, { type: "urn:throughline:problem:run-removed", status: 410 })
      assert.deepStrictEqual(client.control("end"), [])
    }),
  )

  it.live("sends a comment when nothing else was sent for a while, and control frames have no id", () =>
    Effect.gen(function* () {
      const server = yield* serve({ routes: { heartbeat: "40 millis", retry: "1500 millis" } })
      yield* server.append(runId, [started])
      const client = yield* server.follow(path)
      yield* client.until(({ text }) => text.split(": keep-alive\n\n").length > 3)
      assert.isTrue(client.text.startsWith("retry: 1500\n\n"))
      for (const { event, id } of client.frames) if (event !== undefined) assert.isUndefined(id)
    }),
  )

  it.live("embeds JSON that was stored with line breaks so that SSE gives it back", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, [started])
      const event = frames[0]!.envelope.event.replace("{", "{\r\n \n ") as (typeof frames)[0]["envelope"]["event"]
      yield* server.store.append({
        runId: RunId.make("r2"),
        vocabulary: { name: "agent", version: 1 },
        events: [{ ...frames[0]!.envelope, event }],
      })
      const client = yield* server.follow("/runs/r2/events")
      yield* client.untilText("caught-up")
      const [envelope] = client.frames.filter(({ id }) => id !== undefined)
      assert.deepStrictEqual(JSON.parse(envelope!.data!).event, { _tag: "RunStarted", name: "test" })
      const lines = yield* server.ask("/runs/r2/events", { headers: { accept: "application/x-ndjson" } })
      assert.deepStrictEqual(JSON.parse(lines.body.trimEnd()).event, { _tag: "RunStarted", name: "test" })
      assert.strictEqual(lines.body.trimEnd().split("\n").length, 1)
    }),
  )

  it.live("under an overflow policy tells what it lost, and never loses the end", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const clients = yield* Effect.forEach(["dropNonTerminal", "dropProgress", "summarize"], (overflow) =>
        server.follow(`${path}?overflow=${overflow}&capacity=4`),
      )
      for (const client of clients) yield* client.untilText("caught-up")
      yield* server.append(runId, deltas(200))
      yield* server.append(runId, [completed])
      for (const client of clients) {
        yield* client.closed
        assert.strictEqual(client.seqs.at(-1), 202)
        assert.strictEqual(client.control("end").length, 1)
        const merged = client.frames.flatMap(({ data, id }) => (id === undefined ? [] : [JSON.parse(data!).merged]))
        const covered = merged.reduce((sum, one) => sum + (one?.frames ?? 1), 0)
        const dropped = client.control("dropped").reduce((sum, { frames }) => sum + (frames as number), 0)
        assert.strictEqual(covered + dropped, 202, "a frame was lost without a word")
        assert.isBelow(client.seqs.length, 202)
        for (const notice of client.control("dropped")) assert.isTrue(notice["terminalsSurvived"])
      }
    }),
  )

  it.live("under an overflow policy and a filter is crowded out by nothing that it doesn't receive", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const error: AgentEvent = { _tag: "Custom", name: "seldom", data: 1 }
      for (const overflow of ["dropNonTerminal", "summarize", "failSubscriber"]) {
        const client = yield* server.follow(`${path}?overflow=${overflow}&capacity=8&kinds=Custom`)
        yield* client.untilText("caught-up")
        const seen = client.seqs.length
        for (let round = 0; round < 5; round++) yield* server.append(runId, [...deltas(50), error])
        yield* client.until(({ seqs, isClosed }) => isClosed || seqs.length === seen + 5)
        assert.deepStrictEqual(client.control("dropped"), [])
        assert.deepStrictEqual(client.control("closing"), [])
        assert.strictEqual(client.control("caught-up").length, 1)
      }
      const slow = yield* server.follow(`${path}?overflow=dropProgress&capacity=2&kinds=TextDelta`)
      yield* slow.untilText("caught-up")
      yield* server.append(runId, [...deltas(300), completed])
      yield* slow.closed
      const dropped = slow.control("dropped").reduce((sum, { frames }) => sum + (frames as number), 0)
      assert.strictEqual(slow.seqs.length + dropped, 750 + 300 + 1)
      assert.isAbove(dropped, 0)
      assert.strictEqual(slow.control("end").length, 1)
    }),
  )

  it.live("under failSubscriber is closed as slow, and the last id resumes it whole", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const client = yield* server.follow(`${path}?overflow=failSubscriber&capacity=4`)
      yield* client.untilText("caught-up")
      yield* server.append(runId, deltas(200))
      yield* client.closed
      assert.deepStrictEqual(client.control("closing"), [{ reason: "slow" }])
      yield* server.append(runId, [completed])
      const last = client.frames.findLast(({ id }) => id !== undefined)!.id!
      const again = yield* server.follow(path, { "last-event-id": last })
      yield* again.closed
      assert.deepStrictEqual([...client.seqs, ...again.seqs], range(1, 202))
    }),
  )

  it.live("costs nothing once its client is gone", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      for (let round = 0; round < 20; round++) {
        const client = yield* server.follow(path)
        yield* client.untilText("caught-up")
        client.request.destroy()
      }
      while ((yield* server.streams.open) > 0) yield* Effect.sleep(Duration.millis(5))
    }),
  )
})

describe("the stream of a session", () => {
  const sessionId = SessionId.make("s1")

  it.live("gives the events of all its runs, present and future, and resumes by its cursor", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(RunId.make("a"), [started, delta("1")], { sessionId })
      yield* server.append(RunId.make("other"), [started])
      const client = yield* server.follow("/sessions/s1/events")
      yield* client.untilText("caught-up")
      yield* server.append(RunId.make("b"), [started, completed], { sessionId })
      const ids = () => client.frames.filter(({ id }) => id !== undefined)
      yield* client.until(() => ids().length === 4)
      const runs = ids().map(({ data }) => {
        const { runId: of, seq } = JSON.parse(data!)
        return `${of}${seq}`
      })
      assert.deepStrictEqual(runs, ["a1", "a2", "b1", "b2"])
      for (const [index, { id }] of ids().entries()) {
        const again = yield* server.follow("/sessions/s1/events", { "last-event-id": id! })
        yield* again.untilText("caught-up")
        const rest = again.frames.filter((frame) => frame.id !== undefined)
        assert.deepStrictEqual(
          rest.map((frame) => frame.data),
          ids()
            .slice(index + 1)
            .map((frame) => frame.data),
        )
      }
      const filtered = yield* server.follow("/sessions/s1/events?kinds=RunStarted")
      yield* filtered.untilText("caught-up")
      assert.strictEqual(filtered.frames.filter(({ id }) => id !== undefined).length, 3)
    }),
  )

  it.live("refuses a cursor of something else", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(RunId.make("a"), [started], { sessionId })
      const headers = { accept: "text/event-stream" }
      const refused = yield* server.ask(`/sessions/s1/events?after=${frames[0]!.cursor}`, { headers })
      assert.deepStrictEqual([refused.status, problemOf(refused)], [400, "invalid-cursor"])
      const client = yield* server.follow("/sessions/s1/events")
      yield* client.untilText("caught-up")
      const { id } = client.frames.find((frame) => frame.id !== undefined)!
      const foreign = yield* server.ask(`/sessions/s2/events?after=${id}`, { headers })
      assert.deepStrictEqual([foreign.status, problemOf(foreign)], [400, "invalid-cursor"])
      assert.strictEqual(
        (yield* server.ask("/sessions/s1/events", { headers: { accept: "application/json" } })).status,
        406,
      )
    }),
  )
})
