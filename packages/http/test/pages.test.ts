import { assert, describe, it } from "@effect/vitest"
import * as Cursor from "@throughline/core/Cursor"
import { RunId, SessionId, toJson } from "@throughline/core/Envelope"
import * as Effect from "effect/Effect"
import { completed, delta, problemOf, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const ndjson = { accept: "application/x-ndjson" }

const ten = [started, ...Array.from({ length: 8 }, (_, index) => delta(`text ${index}`)), completed]

describe("a page", () => {
  it.live("holds the envelopes exactly as they are stored, the head and where to read on", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, ten)
      const lines = frames.map(({ envelope }) => toJson(envelope))
      const answer = yield* server.ask(`${path}?limit=4`)
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(answer.headers["content-type"], "application/json")
      assert.strictEqual(answer.headers["cache-control"], "private, no-cache")
      assert.include(answer.body, `"events":[${lines.slice(0, 4).join(",")}]}`)
      const body = JSON.parse(answer.body)
      assert.deepInclude(body.head, {
        runId: "r1",
        status: "completed",
        firstSeq: 1,
        lastSeq: 10,
        cursor: frames[9]!.cursor,
        vocabulary: { name: "agent", version: 1 },
      })
      assert.strictEqual(body.next, frames[3]!.cursor)
      assert.strictEqual(answer.headers["run-next"], frames[3]!.cursor)
      assert.strictEqual(answer.headers["run-status"], "completed")
      assert.strictEqual(answer.headers["run-head"], frames[9]!.cursor)
      assert.strictEqual(answer.headers["run-first"], "1")
    }),
  )

  it.live("after page gives the whole run once, in order, as JSON and as lines", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, ten)
      const lines = frames.map(({ envelope }) => toJson(envelope))
      for (const limit of [1, 3, 10, 1000]) {
        const read: Array<string> = []
        let after = "0"
        do {
          const answer = yield* server.ask(`${path}?limit=${limit}&after=${after}`, { headers: ndjson })
          assert.strictEqual(answer.headers["content-type"], "application/x-ndjson")
          read.push(...answer.body.split("\n").filter((line) => line !== ""))
          after = answer.headers["run-next"] as string
        } while (after !== frames[9]!.cursor)
        assert.deepStrictEqual(read, lines)
      }
      const past = JSON.parse((yield* server.ask(`${path}?after=${frames[9]!.cursor}`)).body)
      assert.deepStrictEqual([past.events, past.next], [[], frames[9]!.cursor])
    }),
  )

  it.live("is filtered by delivery and kind, but for the end; next moves past what was left out", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, ten)
      const seqs = Effect.fnUntraced(function* (query: string) {
        const { body } = yield* server.ask(`${path}?${query}`)
        return JSON.parse(body).events.map(({ seq }: { seq: number }) => seq)
      })
      assert.deepStrictEqual(yield* seqs("kinds=RunStarted"), [1, 10])
      assert.deepStrictEqual(yield* seqs("kinds=Nothing"), [10])
      assert.deepStrictEqual(yield* seqs("delivery=normal"), [1, 10])
      assert.deepStrictEqual(yield* seqs("delivery=progress,terminal&after=7"), [8, 9, 10])
      assert.deepStrictEqual(yield* seqs("delivery=progress&kinds=RunStarted,TextDelta&limit=3"), [2, 3])
      const none = yield* server.ask(`${path}?kinds=Nothing&limit=3`)
      assert.strictEqual(none.headers["run-next"], frames[2]!.cursor)
    }),
  )

  it.live("that has not changed is 304, in each representation by a tag of its own", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const json = (yield* server.ask(path)).headers.etag!
      const lines = (yield* server.ask(path, { headers: ndjson })).headers.etag!
      assert.notStrictEqual(json, lines)
      assert.match(json, /^"[^"]+"$/)
      const same = yield* server.ask(path, { headers: { "if-none-match": `"other", ${json}` } })
      assert.deepStrictEqual([same.status, same.body, same.headers.etag], [304, "", json])
      assert.strictEqual((yield* server.ask(path, { headers: { "if-none-match": lines } })).status, 200)
      yield* server.append(runId, [delta("more")])
      assert.strictEqual((yield* server.ask(path, { headers: { "if-none-match": json } })).status, 200)
      // Removed and written again, a run of the same length is another.
      const before = (yield* server.ask(path)).headers.etag!
      yield* server.store.remove(runId)
      yield* server.append(runId, [started, delta("more")])
      assert.strictEqual((yield* server.ask(path, { headers: { "if-none-match": before } })).status, 200)
    }),
  )

  it.live("starting in trimmed history is 410 and says where to go on", () =>
    Effect.gen(function* () {
      const server = yield* serve({ throughline: { store: { retention: { eventsPerRun: 3 } } } })
      const { frames } = yield* server.append(runId, ten)
      const answer = yield* server.ask(`${path}?after=2`)
      assert.deepStrictEqual([answer.status, problemOf(answer)], [410, "history-truncated"])
      const { next, oldestSeq } = JSON.parse(answer.body)
      assert.deepStrictEqual([oldestSeq, next], [8, frames[6]!.cursor])
      assert.strictEqual(JSON.parse((yield* server.ask(`${path}?after=${next}`)).body).events.length, 3)
    }),
  )

  it.live("cursor that can't be served is a problem of its own", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, [started])
      const generation = frames[0]!.cursor.split("-")[1]!
      const refused = Effect.fnUntraced(function* (after: string) {
        const answer = yield* server.ask(`${path}?after=${after}`)
        return [answer.status, problemOf(answer)]
      })
      assert.deepStrictEqual(yield* refused(Cursor.run(1, "aaaaaaaa")), [410, "cursor-stale"])
      assert.deepStrictEqual(yield* refused(Cursor.run(2, generation)), [409, "cursor-ahead"])
      assert.deepStrictEqual(yield* refused("2"), [409, "cursor-ahead"])
      for (const text of ["", "-1", "1.5", "01", "1-short", "%00", "1-aaaaaaaa-", "99999999999999999999"]) {
        assert.deepStrictEqual(yield* refused(text), [400, "invalid-cursor"], text)
      }
    }),
  )

  it.live("query, id, method, media type and path are checked, each with its problem", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const refused = Effect.fnUntraced(function* (target: string, method = "GET", accept = "*/*") {
        const answer = yield* server.ask(target, { method, headers: { accept } })
        assert.strictEqual(answer.headers["content-type"], "application/problem+json")
        assert.strictEqual(JSON.parse(answer.body).status, answer.status)
        return [answer.status, problemOf(answer)]
      })
      for (const query of ["x=1", "after=0&after=0", "limit=0", "limit=1001", "limit=x", "delivery=loud", "kinds="]) {
        assert.deepStrictEqual(yield* refused(`${path}?${query}`), [400, "invalid-query"], query)
      }
      for (const id of ["a%2Fb", "a%20b", "%00", "é", "x".repeat(129), "..%2f..%2fetc"]) {
        assert.deepStrictEqual(yield* refused(`/runs/${encodeURI(decodeURI(id))}/events`), [400, "invalid-id"], id)
      }
      assert.deepStrictEqual(yield* refused("/runs/%zz/events"), [404, "not-found"])
      assert.deepStrictEqual(yield* refused("/runs/other/events"), [404, "run-unknown"])
      assert.deepStrictEqual(yield* refused(path, "GET", "text/html"), [406, "not-acceptable"])
      assert.deepStrictEqual(yield* refused(path, "PATCH"), [405, "method-not-allowed"])
      assert.deepStrictEqual(yield* refused(path, "OPTIONS"), [405, "method-not-allowed"])
      assert.strictEqual((yield* server.ask(path, { method: "DELETE" })).headers.allow, "GET, HEAD, POST")
      for (const target of ["/", "/x", "/runs/r1/events/", "/RUNS", "/runs/r1/events/1", "/sessions/s"]) {
        assert.deepStrictEqual(yield* refused(target), [404, "not-found"], target)
      }
    }),
  )
})

describe("HEAD", () => {
  it.live("gives the head as headers, and no body", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, [started, delta("a")])
      const answer = yield* server.ask(path, { method: "HEAD" })
      const page = yield* server.ask(path)
      assert.deepStrictEqual([answer.status, answer.body], [200, ""])
      assert.strictEqual(answer.headers["run-head"], frames[1]!.cursor)
      assert.strictEqual(answer.headers["run-status"], "running")
      assert.strictEqual(answer.headers.etag, page.headers.etag)
      assert.isUndefined(answer.headers["run-next"])
      assert.strictEqual((yield* server.ask("/runs/other/events", { method: "HEAD" })).status, 404)
      for (const target of ["/runs", "/health", "/metrics", "/openapi.json", "/sessions/s/events"]) {
        const head = yield* server.ask(target, { method: "HEAD" })
        assert.deepStrictEqual([head.status, head.body], [200, ""], target)
      }
    }),
  )
})

describe("what is answered", () => {
  it.live("is chosen by Accept, the better quality first, then the more exact, then JSON", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started, completed])
      const chosen = Effect.fnUntraced(function* (accept: string | undefined) {
        const { headers } = yield* server.ask(path, accept === undefined ? {} : { headers: { accept } })
        return headers["content-type"]
      })
      assert.strictEqual(yield* chosen(undefined), "application/json")
      assert.strictEqual(yield* chosen("*/*"), "application/json")
      assert.strictEqual(yield* chosen("application/*"), "application/json")
      assert.strictEqual(yield* chosen("text/*"), "text/event-stream")
      assert.strictEqual(yield* chosen("text/event-stream, */*"), "text/event-stream")
      assert.strictEqual(yield* chosen("application/json;q=0.5, application/x-ndjson"), "application/x-ndjson")
      assert.strictEqual(yield* chosen("APPLICATION/X-NDJSON ; Q=1"), "application/x-ndjson")
      assert.strictEqual(yield* chosen("application/json;q=0, */*;q=0.1"), "application/x-ndjson")
    }),
  )

  it.live("to GET /runs is the heads of runs, last started first, by session and status, page by page", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const sessionId = SessionId.make("s1")
      for (const [index, id] of ["a", "b", "c", "d", "e"].entries()) {
        const events = index === 2 ? [started, completed] : [started]
        yield* server.append(RunId.make(id), events, index % 2 === 0 ? { sessionId } : {})
      }
      const list = Effect.fnUntraced(function* (query: string) {
        const answer = yield* server.ask(`/runs${query}`)
        assert.strictEqual(answer.status, 200)
        const body = JSON.parse(answer.body)
        return { ids: body.runs.map((head: { runId: string }) => head.runId) as Array<string>, next: body.next }
      })
      const all = yield* list("")
      assert.sameMembers(all.ids, ["a", "b", "c", "d", "e"])
      assert.isUndefined(all.next)
      const paged: Array<string> = []
      let query = "?limit=2"
      while (true) {
        const { ids, next } = yield* list(query)
        paged.push(...ids)
        if (next === undefined) break
        query = `?limit=2&before=${encodeURIComponent(next)}`
      }
      assert.deepStrictEqual(paged, all.ids)
      assert.sameMembers((yield* list("?session=s1")).ids, ["a", "c", "e"])
      assert.deepStrictEqual((yield* list("?status=completed")).ids, ["c"])
      for (const bad of ["?limit=0", "?before=x", "?status=gone", "?session=a%20b", "?before=zz~%00"]) {
        assert.strictEqual(problemOf(yield* server.ask(`/runs${bad}`)), "invalid-query", bad)
      }
    }),
  )
})
