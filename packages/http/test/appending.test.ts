import { assert, describe, it } from "@effect/vitest"
import * as EventBus from "@throughline/core/EventBus"
import { AgentId, EventId, RunId, SessionId } from "@throughline/core/Envelope"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { completed, delta, problemOf, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const producer = (number: number, epoch = 1) => ({
  "producer-id": "p",
  "producer-epoch": String(epoch),
  "producer-seq": String(number),
})
const eventId = "01a1fdbd-d295-723e-933e-4dccc359df56"

const ifHead = (cursor: string) => ({ "if-match": `"${cursor}"` })

describe("an append", () => {
  it.live("stores one event, a batch, and lines, and says where each is", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const one = yield* server.post(path, {
        event: started,
        eventId,
        agentId: "a1",
        provider: "p1",
        turnId: "t1",
        tags: ["x"],
        correlation: { trace: "1" },
        emittedAt: "2026-01-31T09:30:00.000Z",
      })
      assert.strictEqual(one.status, 200)
      const first = JSON.parse(one.body)
      assert.deepInclude(first.events[0], { seq: 1, eventId })
      assert.strictEqual(first.cursor, first.events[0].cursor)
      const batch = yield* server.post(path, [{ event: delta("a") }, { event: delta("b") }])
      assert.deepStrictEqual(
        JSON.parse(batch.body).events.map(({ seq }: { seq: number }) => seq),
        [2, 3],
      )
      const lines = yield* server.ask(path, {
        method: "POST",
        headers: { "content-type": "application/x-ndjson; charset=UTF-8" },
        body: `${JSON.stringify({ event: delta("ü") })}\n\n${JSON.stringify({ event: completed })}\n`,
      })
      const { cursor } = JSON.parse(lines.body)
      const { envelopes, head } = yield* server.store.read({ runId, limit: 10 })
      assert.strictEqual(head.status, "completed")
      assert.strictEqual(cursor, `5-${head.generation}`)
      assert.deepInclude(envelopes[0]!, {
        eventId: EventId.make(eventId),
        agentId: AgentId.make("a1"),
        provider: "p1",
        turnId: "t1",
        tags: ["x"],
        correlation: { trace: "1" },
        emittedAt: "2026-01-31T09:30:00.000Z",
        kind: "RunStarted",
        delivery: "normal",
      })
      assert.deepStrictEqual(JSON.parse(envelopes[3]!.event), delta("ü"))
    }),
  )

  it.live("reaches whoever follows the run, and the bus", () =>
    Effect.gen(function* () {
      const server = yield* serve({ throughline: { hub: { watchdog: "1 hour" } } })
      const bus = Context.get(server.context, EventBus.EventBus)
      const heard = yield* Effect.forkChild(Stream.runHead(yield* bus.subscribeAll()), { startImmediately: true })
      const client = yield* server.follow(`${path}?wait`)
      yield* client.untilText("caught-up")
      yield* server.post(path, [{ event: started }, { event: completed }])
      yield* client.closed
      assert.deepStrictEqual(client.seqs, [1, 2])
      assert.isTrue((yield* Fiber.join(heard))._tag === "Some")
    }),
  )

  it.live("repeated with its producer's headers writes nothing and is answered the same", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const body = { event: started, eventId }
      const first = yield* server.post(path, body, producer(1))
      const again = yield* server.post(path, body, producer(1))
      assert.deepStrictEqual([again.status, again.body], [200, first.body])
      assert.strictEqual((yield* server.store.head(runId)).lastSeq, 1)
      const refused = Effect.fnUntraced(function* (headers: Readonly<Record<string, string>>, event = delta("x")) {
        const answer = yield* server.post(path, { event }, headers)
        return [answer.status, problemOf(answer), JSON.parse(answer.body)] as const
      })
      assert.deepStrictEqual((yield* refused(producer(1))).slice(0, 2), [409, "producer-mismatch"])
      const gap = yield* refused(producer(3))
      assert.deepStrictEqual([gap[1], gap[2].expectedNumber], ["producer-gap", 2])
      assert.strictEqual((yield* server.post(path, { event: delta("y") }, producer(2))).status, 200)
      const stale = yield* refused(producer(1))
      assert.deepStrictEqual([stale[1], stale[2].lastNumber], ["producer-stale", 2])
      assert.strictEqual((yield* server.post(path, { event: delta("z") }, producer(1, 2))).status, 200)
      const fenced = yield* refused(producer(3))
      assert.deepStrictEqual([fenced[1], fenced[2].currentEpoch], ["producer-fenced", 2])
      assert.strictEqual((yield* server.post(path, { event: completed }, producer(2, 2))).status, 200)
      const ended = yield* refused(producer(3, 2))
      assert.deepStrictEqual([ended[0], ended[1], ended[2].endSeq, ended[2].ending], [409, "run-ended", 4, "completed"])
    }),
  )

  it.live("with half a producer, or one that can't be, is refused", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      for (const headers of [
        { "producer-id": "p" },
        { "producer-epoch": "1", "producer-seq": "1" },
        { ...producer(1), "producer-seq": "0" },
        { ...producer(1), "producer-epoch": "1.5" },
        { ...producer(1), "producer-seq": "99999999999999999999" },
        { ...producer(1), "producer-id": "" },
        { ...producer(1), "producer-id": "x".repeat(129) },
      ]) {
        assert.strictEqual(problemOf(yield* server.post(path, { event: started }, headers)), "invalid-header")
      }
      assert.strictEqual((yield* server.store.head(runId)).status, "unknown")
    }),
  )

  it.live("only onto the head that If-Match names", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const early = yield* server.post(path, { event: started }, ifHead("3-aaaaaaaa"))
      assert.deepStrictEqual([early.status, JSON.parse(early.body).cursor], [412, "0"])
      const first = yield* server.post(path, { event: started }, ifHead("0"))
      const { cursor } = JSON.parse(first.body)
      const moved = yield* server.post(path, { event: started }, ifHead("0"))
      assert.deepStrictEqual(
        [moved.status, problemOf(moved), JSON.parse(moved.body).cursor],
        [412, "head-moved", cursor],
      )
      const other = yield* server.post(path, { event: delta("a") }, ifHead("1-aaaaaaaa"))
      assert.deepStrictEqual([other.status, JSON.parse(other.body).cursor], [412, cursor])
      assert.strictEqual((yield* server.post(path, { event: delta("a") }, ifHead(cursor))).status, 200)
      assert.strictEqual((yield* server.post(path, { event: delta("a") }, ifHead("2"))).status, 200)
      for (const text of ["*", "1", 'W/"1"', '"x"', '"1", "2"']) {
        const answer = yield* server.post(path, { event: delta("a") }, { "if-match": text })
        assert.strictEqual(problemOf(answer), "invalid-header", text)
      }
    }),
  )

  it.live("of a body that doesn't fit says which part, and stores nothing of the batch", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const detail = Effect.fnUntraced(function* (body: unknown) {
        const answer = yield* server.post(path, body)
        assert.deepStrictEqual([answer.status, problemOf(answer)], [400, "invalid-body"], JSON.stringify(body))
        return JSON.parse(answer.body).detail as string
      })
      assert.match(yield* detail([{ event: started }, { event: { _tag: "Nothing" } }]), /^event 2: event: /)
      assert.match(yield* detail({ event: started, eventId: "x" }), /eventId/)
      assert.match(yield* detail({ event: started, tag: ["x"] }), /tag/)
      assert.match(yield* detail({ event: started, emittedAt: "yesterday" }), /emittedAt/)
      assert.match(yield* detail({ event: started, correlation: { a: 1 } }), /correlation/)
      assert.match(yield* detail([{ event: completed }, { event: delta("late") }]), /ends the run/)
      for (const body of [[], {}, null, 1, "x", [[]], { event: null }, { event: started, tags: ["\ud800"] }]) {
        yield* detail(body)
      }
      assert.strictEqual((yield* server.store.head(runId)).status, "unknown")
    }),
  )

  it.live(
    "of a number that JSON's readers would change is refused, and nothing that is no number is taken for one",
    () =>
      Effect.gen(function* () {
        const server = yield* serve()
        const post = (data: string, type = "application/json") =>
          server.ask(path, {
            method: "POST",
            headers: { "content-type": type },
            body: `{"event":{"_tag":"Custom","name":"n","data":${data}}}`,
          })
        for (const type of ["application/json", "application/x-ndjson"]) {
          for (const data of [
            "1e999",
            "-1e999",
            '[1,{"a":1E+400}]',
            "1e-400",
            "9007199254740993",
            "-12345678901234567890",
            "12345678901234567890e0",
            "12345678901234567.0",
            "123456789012345678.9e1",
            "-1.2345678901234567891E+23",
            // A double is this, and the shortest text of it is another.
            "18446744073709551616",
            "1".repeat(300),
          ]) {
            const answer = yield* post(data, type)
            assert.deepStrictEqual([answer.status, problemOf(answer)], [400, "invalid-body"], data)
          }
        }
        const kept = [
          "9007199254740992",
          "1e308",
          "0.1",
          "-0.5e-3",
          '"1e999"',
          '"\\" 1e999"',
          "100000000000000000000",
          "1e23",
          "1.7976931348623157e+308",
          "5e-324",
          "0.1000000000000000055511151231257827",
          "123456789012345.0e-2",
          "18446744073709552000",
          "1000000000000000000.000e-3",
          "0e999",
          "0.00000000000000000000000000100e27",
          `0.${"0".repeat(100_000)}1e100001`,
        ]
        for (const data of kept) assert.strictEqual((yield* post(data)).status, 200, data)
        const { envelopes } = yield* server.store.read({ runId, limit: 100 })
        assert.deepStrictEqual(
          envelopes.map(({ event }) => JSON.parse(event).data),
          kept.map((data) => JSON.parse(data)),
        )
        // JSON's printers don't tell it from 0.
        yield* post("-0")
        const [last] = (yield* server.store.read({ runId, after: kept.length, limit: 1 })).envelopes
        assert.match(last?.event ?? "", /"data":0}/)
      }),
  )

  it.live("of a body that is no JSON in UTF-8, or says it isn't, is refused", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const refused = Effect.fnUntraced(function* (type: string, body: string | Uint8Array, extra = {}) {
        const answer = yield* server.ask(path, { method: "POST", headers: { "content-type": type, ...extra }, body })
        return [answer.status, problemOf(answer)]
      })
      const json = JSON.stringify({ event: started })
      assert.deepStrictEqual(yield* refused("application/json", "{"), [400, "invalid-body"])
      assert.deepStrictEqual(yield* refused("application/json", ""), [400, "invalid-body"])
      assert.deepStrictEqual(yield* refused("application/json", Buffer.from([0xff, 0xfe])), [400, "invalid-body"])
      assert.deepStrictEqual(yield* refused("application/x-ndjson", `${json}\nx`), [400, "invalid-body"])
      assert.deepStrictEqual(yield* refused("application/x-ndjson", "\n"), [400, "invalid-body"])
      assert.deepStrictEqual(yield* refused("application/json", "[".repeat(100_000)), [400, "invalid-body"])
      assert.deepStrictEqual(yield* refused("text/plain", json), [415, "unsupported-media-type"])
      assert.deepStrictEqual(yield* refused("", json), [415, "unsupported-media-type"])
      assert.deepStrictEqual(yield* refused("application/json; charset=latin1", json), [415, "unsupported-media-type"])
      assert.deepStrictEqual(yield* refused("application/json", json, { "content-encoding": "gzip" }), [
        415,
        "unsupported-media-type",
      ])
    }),
  )

  it.live("sets the run's session once", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      assert.strictEqual((yield* server.post(`${path}?sessionId=s1`, { event: started })).status, 200)
      assert.strictEqual((yield* server.store.head(runId)).sessionId, "s1")
      assert.strictEqual((yield* server.post(path, { event: delta("a") })).status, 200)
      const other = yield* server.post(`${path}?sessionId=s2`, { event: delta("a") })
      assert.deepStrictEqual([other.status, problemOf(other)], [409, "session-conflict"])
      assert.notInclude(other.body, "s1", "the run's session was told")
      assert.strictEqual(problemOf(yield* server.post(`${path}?sessionId=a%20b`, { event: started })), "invalid-query")
    }),
  )

  it.live("is read by the vocabulary that it names, the server's first by default", () =>
    Effect.gen(function* () {
      const Build = Vocabulary.make({
        name: "build",
        version: 3,
        schema: Schema.TaggedStruct("Step", { step: Schema.String }),
        endsRun: () => undefined,
        abandoned: () => ({ _tag: "Step", step: "lost" }) as const,
      })
      const { vocabulary: agent } = yield* Effect.promise(() => import("@throughline/core/AgentEvents"))
      const server = yield* serve({ routes: { vocabularies: [agent, Build] } })
      const step = { event: { _tag: "Step", step: "one" } }
      assert.strictEqual(problemOf(yield* server.post(path, step)), "invalid-body")
      assert.strictEqual((yield* server.post(`${path}?vocabulary=build`, step)).status, 200)
      const mixed = yield* server.post(path, { event: started })
      assert.deepStrictEqual([mixed.status, problemOf(mixed)], [409, "vocabulary-mismatch"])
      assert.strictEqual(problemOf(yield* server.post(`${path}?vocabulary=x`, step)), "invalid-query")
      const readOnly = yield* serve({ routes: { vocabularies: [] } })
      assert.strictEqual(problemOf(yield* readOnly.post(path, step)), "invalid-query")
    }),
  )
})

describe("a lease over HTTP", () => {
  it.live("is held by appends and renewals, and ends the run when they stop", () =>
    Effect.gen(function* () {
      const server = yield* serve({ throughline: { hub: { watchdog: "20 millis", grace: "20 millis" } } })
      assert.strictEqual((yield* server.post(`${path}?lease=1`, { event: started })).status, 200)
      const renew = (body: unknown, id = "r1") =>
        server.ask(`/runs/${id}/lease`, {
          method: "PUT",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        })
      const { lease } = yield* server.store.head(runId)
      assert.strictEqual((yield* renew({ seconds: 2 })).status, 204)
      const renewed = yield* server.store.head(runId)
      assert.isAbove(renewed.lease!.version, lease!.version)
      assert.isTrue(renewed.lease!.hasWill)
      for (const body of [{}, { seconds: 0 }, { seconds: 3601 }, { seconds: "1" }, { seconds: 1, x: 1 }]) {
        assert.strictEqual(problemOf(yield* renew(body)), "invalid-body")
      }
      assert.strictEqual(problemOf(yield* server.post(`${path}?lease=0`, { event: started })), "invalid-query")
      const unknown = yield* renew({ seconds: 1 }, "other")
      assert.deepStrictEqual([unknown.status, problemOf(unknown)], [404, "run-unknown"])
      const client = yield* server.follow(path)
      yield* client.closed
      assert.strictEqual(client.control("end")[0]!["status"], "failed")
      const late = yield* renew({ seconds: 1 })
      assert.deepStrictEqual([late.status, problemOf(late)], [409, "run-ended"])
      const after = yield* server.post(path, { event: delta("late") })
      assert.strictEqual(problemOf(after), "run-ended")
    }),
  )
})

describe("DELETE", () => {
  it.live("removes a run; written again it is another", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, [started], { sessionId: SessionId.make("s1") })
      assert.strictEqual((yield* server.ask("/runs/r1", { method: "DELETE" })).status, 204)
      const again = yield* server.ask("/runs/r1", { method: "DELETE" })
      assert.deepStrictEqual([again.status, problemOf(again)], [404, "run-unknown"])
      yield* server.append(runId, [started])
      const stale = yield* server.ask(`${path}?after=${frames[0]!.cursor}`)
      assert.strictEqual(problemOf(stale), "cursor-stale")
    }),
  )
})
