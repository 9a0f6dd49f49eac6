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

  it.live("that is refused is refused whatever tag the client has", () =>
    Effect.gen(function* () {
      const server = yield* serve({ throughline: { store: { retention: { eventsPerRun: 3 } } } })
      yield* server.append(runId, ten)
      const tag = (yield* server.ask(`${path}?after=8`)).headers.etag!
      for (const method of ["GET", "HEAD"]) {
        const asked = Effect.fnUntraced(function* (query: string, ifNoneMatch: string) {
          const headers = { "if-none-match": ifNoneMatch }
          const { body, status } = yield* server.ask(`${path}?${query}`, { method, headers })
          if (method === "HEAD") assert.strictEqual(body, "")
          return status
        })
        for (const ifNoneMatch of [tag, "*"]) {
          assert.strictEqual(yield* asked("after=8", ifNoneMatch), 304)
          // The head of a run is told wherever a page of it would begin.
          assert.strictEqual(yield* asked("after=99", ifNoneMatch), method === "HEAD" ? 200 : 409)
          assert.strictEqual(yield* asked("after=8-zzzzzzzz", ifNoneMatch), method === "HEAD" ? 200 : 410)
          assert.strictEqual(yield* asked("after=2", ifNoneMatch), method === "HEAD" ? 200 : 410)
          assert.strictEqual(yield* asked("", ifNoneMatch), method === "HEAD" ? 200 : 410)
          assert.strictEqual(yield* asked("after=zz", ifNoneMatch), 400)
          assert.strictEqual(yield* asked("after=8&limit=0", ifNoneMatch), 400)
        }
        assert.strictEqual(yield* asked("after=8", '"another"'), 200)
        const unknown = { method, headers: { "if-none-match": "*" } }
        assert.strictEqual((yield* server.ask("/runs/other/events", unknown)).status, 404)
      }
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

  it.live("checks its query as GET does, for each representation, and tells the head wherever a page would begin", () =>
    Effect.gen(function* () {
      const server = yield* serve({ throughline: { store: { retention: { eventsPerRun: 1 } } } })
      const { frames } = yield* server.append(runId, [started, delta("a")])
      const asked = (accept: string, query: string, method: string) =>
        server.ask(`${path}?${query}`, { method, headers: { accept } })
      for (const accept of ["application/json", "application/x-ndjson", "text/event-stream"]) {
        for (const query of ["after=zz", "after=zz&limit=abc", "kinds=", "delivery=loud", "after=", "x=1"]) {
          assert.strictEqual((yield* asked(accept, query, "GET")).status, 400, query)
          assert.strictEqual((yield* asked(accept, query, "HEAD")).status, 400, `HEAD ${accept} ${query}`)
        }
        for (const query of ["", "after=0", "after=1", "after=99", "after=1-zzzzzzzz", "kinds=RunStarted"]) {
          const { headers, status } = yield* asked(accept, query, "HEAD")
          assert.deepStrictEqual(
            [status, headers["run-head"], headers["run-first"]],
            [200, frames[1]!.cursor, "2"],
            query,
          )
        }
      }
      assert.strictEqual((yield* asked("application/json", "limit=0", "HEAD")).status, 400)
      for (const query of ["capacity=0", "capacity=3", "overflow=none", "wait=x", "wait=31"]) {
        assert.strictEqual((yield* asked("text/event-stream", query, "GET")).status, 400, query)
        assert.strictEqual((yield* asked("text/event-stream", query, "HEAD")).status, 400, query)
      }
      for (const query of ["kinds=", "delivery=loud"]) {
        const { status } = yield* server.ask(`/sessions/s/events?${query}`, { method: "HEAD" })
        assert.strictEqual(status, 400, query)
      }
    }),
  )

  it.live("of a stream has its headers, and no tag of a page", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      const { frames } = yield* server.append(runId, [started])
      const headers = { accept: "text/event-stream", "if-none-match": "*" }
      const answer = yield* server.ask(path, { method: "HEAD", headers })
      assert.strictEqual(answer.status, 200)
      assert.deepInclude(answer.headers, {
        "content-type": "text/event-stream",
        "cache-control": "private, no-store",
        "run-head": frames[0]!.cursor,
        "run-status": "running",
      })
      assert.isUndefined(answer.headers.etag)
      assert.strictEqual((yield* server.ask("/runs/other/events", { method: "HEAD", headers })).status, 404)
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
