import { assert, describe, it } from "@effect/vitest"
import { RunId, SessionId } from "@throughline/core/Envelope"
import * as Generator from "@throughline/testing/Generator"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { connect } from "node:net"
import * as Access from "../src/Access.ts"
import { delta, serve, started } from "./serving.ts"

/** What nobody but its owner may ever see. */
const secret = "the-secret-of-another"
const hidden = RunId.make("theirs")

/** Lets callers at runs that begin with `mine`, at the session `ours` and the list of it, and at nothing else. */
const access = Layer.succeed(Access.Access, {
  decide: ({ resource }) => {
    switch (resource._tag) {
      case "Run":
        return Effect.succeed(resource.runId.startsWith("mine") ? Access.allowed : Access.denied)
      case "Session":
        return Effect.succeed(resource.sessionId === "ours" ? Access.allowed : Access.denied)
      case "Runs":
        return Effect.succeed(resource.sessionId === "ours" ? Access.allowed : Access.denied)
      default:
        return Effect.succeed(Access.allowed)
    }
  },
})

const anything = Arbitrary.schema(Schema.String.check(Schema.isMaxLength(30)))

const text = Arbitrary.map(anything, (given) => given.toWellFormed())

const oneOf = <const A extends string>(...values: ReadonlyArray<A>) =>
  Generator.weighted(values.map((value) => [1, value] as const))

const mostly = (common: Arbitrary.Arbitrary<string>, rare: Arbitrary.Arbitrary<string>) =>
  Generator.frequency([
    [4, common],
    [1, rare],
  ])

const method = mostly(
  oneOf("GET", "POST", "PUT", "DELETE", "HEAD"),
  oneOf("OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get", "QUERY", "X", "BREW"),
)

const id = mostly(
  oneOf("mine-1", "mine-2", "mine", "theirs", "ours"),
  Generator.frequency([
    [
      2,
      oneOf(
        "..",
        ".",
        "%2e%2e",
        "%2f",
        "..%2ftheirs",
        "mine%2f..%2ftheirs",
        "mine\\..\\theirs",
        "%00",
        "%zz",
        "mine%",
        "__proto__",
        "x".repeat(200),
      ),
    ],
    [1, Arbitrary.map(text, encodeURIComponent)],
  ]),
)

const path = Arbitrary.map(
  Arbitrary.all([
    mostly(
      oneOf("/runs/ID/events", "/runs/ID", "/runs/ID/lease", "/runs", "/sessions/ID/events"),
      oneOf(
        "/",
        "//",
        "/health",
        "/openapi.json",
        "/runs/ID/events/..",
        "/runs//ID//events",
        "/RUNS/ID/EVENTS",
        "/sessions/ID",
        "*",
        "/metrics/..",
        "http://127.0.0.1/runs/theirs/events",
        "/runs;x=1/ID/events",
        "/%72uns/ID/events",
        "/../../etc/passwd",
      ),
    ),
    id,
  ]),
  ([shape, runId]) => shape.replace("ID", () => runId),
)

const value = Generator.frequency([
  [
    2,
    oneOf(
      "",
      "0",
      "1",
      "-1",
      "1000",
      "99999999999999999999",
      "1-aaaaaaaa",
      "0x1",
      "1e3",
      "NaN",
      "progress",
      "terminal,normal",
      "TextDelta",
      "ours",
      "theirs",
      "running",
      "summarize",
      "failSubscriber",
      "agent",
      "true",
    ),
  ],
  [1, Arbitrary.map(text, encodeURIComponent)],
  [1, oneOf("%", "%00", "%E0%A4%A", "a+b", "a;b", "%ed%a0%80")],
])

const parameter = Arbitrary.map(
  Arbitrary.all([
    mostly(
      oneOf(
        "after",
        "limit",
        "kinds",
        "delivery",
        "overflow",
        "capacity",
        "session",
        "status",
        "before",
        "vocabulary",
        "lease",
        "sessionId",
        "token",
      ),
      oneOf("x", "__proto__", "constructor", "", "%00", "after[]", "AFTER"),
    ),
    value,
  ]),
  ([name, given]) => `${name}=${given}`,
)

const query = Arbitrary.map(Arbitrary.array(parameter, { maxLength: 3 }), (parameters) =>
  parameters.length === 0 ? "" : `?${parameters.join("&")}`,
)

const header = Generator.frequency([
  [
    3,
    oneOf(
      "Accept: text/event-stream",
      "Accept: application/x-ndjson",
      "Accept: */*",
      "Accept: ,;q=x,*/*;q=2",
      "Accept: text/html",
    ),
  ],
  [
    3,
    oneOf(
      "Content-Type: application/json",
      "Content-Type: application/x-ndjson",
      "Content-Type: text/plain",
      "Content-Type: application/json; charset=utf-16",
    ),
  ],
  [
    2,
    oneOf(
      "Producer-Id: p",
      "Producer-Epoch: 1",
      "Producer-Seq: 1",
      "Producer-Epoch: -1",
      "Producer-Seq: 1e9",
      "Producer-Id: \u00ff",
    ),
  ],
  [
    2,
    oneOf(
      'If-Match: "0"',
      "If-Match: *",
      'If-Match: "1-aaaaaaaa"',
      "If-None-Match: *",
      'If-None-Match: "x", W/"y"',
      "Last-Event-ID: 1",
      "Last-Event-ID: x",
      "Last-Event-ID: 1-aaaaaaaa",
    ),
  ],
  [
    1,
    oneOf(
      "Authorization: Bearer",
      "Authorization: Bearer x",
      "Origin: null",
      "Expect: 100-continue",
      "Upgrade: websocket",
      "Connection: upgrade",
      "Range: bytes=0-1",
      "X-Forwarded-For: 1.2.3.4",
      "X-HTTP-Method-Override: DELETE",
      "Content-Encoding: gzip",
      "Cookie: a=b",
      "Host: other",
    ),
  ],
])

const body = Generator.frequency([
  [
    2,
    oneOf(
      JSON.stringify({ event: started }),
      JSON.stringify([{ event: started }, { event: delta("x") }]),
      JSON.stringify({ seconds: 5 }),
      `${JSON.stringify({ event: started })}\n${JSON.stringify({ event: delta("y") })}`,
      '{"event":{"_tag":"RunCompleted","finishReason":"stop","iterations":1}}',
    ),
  ],
  [
    2,
    oneOf(
      "",
      "{",
      "null",
      "[]",
      "[[[[",
      "1e999",
      '"\\ud800"',
      "[".repeat(5000),
      '{"__proto__":{"event":1}}',
      '{"event":{"_tag":"RunStarted","name":"x"},"correlation":{"__proto__":"x"}}',
      '{"event":{"_tag":"RunStarted","name":"\\ud800"}}',
      '{"event":{"_tag":"RunStarted","name":"x"},"tags":["\\u0000"]}',
      '{"event":{"_tag":"Custom","name":"x","data":{"__proto__":null,"a":[1e308,-0]}}}',
      '{"event":{"_tag":"RunStarted","name":"x"},"eventId":"01a1fdbd-d295-723e-933e-4dccc359df56","emittedAt":"9999-99-99T99:99:99.999Z"}',
    ),
  ],
  [1, text],
])

const framing = mostly(oneOf("length"), oneOf("none", "chunked", "short", "long", "both"))

interface Sensible {
  readonly method: string
  readonly path: string
  readonly headers: ReadonlyArray<string>
  readonly body: string
}

const json = "Content-Type: application/json"

/** Requests that make sense, of which each part may be replaced by one that doesn't. */
const sensible: ReadonlyArray<Sensible> = [
  { method: "GET", path: "/runs/mine-1/events", headers: [], body: "" },
  { method: "GET", path: "/runs/mine-2/events", headers: ["Accept: text/event-stream"], body: "" },
  { method: "GET", path: "/runs/mine-1/events", headers: ["Accept: application/x-ndjson"], body: "" },
  { method: "HEAD", path: "/runs/mine-1/events", headers: [], body: "" },
  { method: "POST", path: "/runs/mine-1/events", headers: [json], body: JSON.stringify({ event: started }) },
  {
    method: "POST",
    path: "/runs/mine-3/events",
    headers: [json, "Producer-Id: p", "Producer-Epoch: 1", "Producer-Seq: 1"],
    body: JSON.stringify({ event: delta("x") }),
  },
  { method: "PUT", path: "/runs/mine-1/lease", headers: [json], body: JSON.stringify({ seconds: 5 }) },
  { method: "POST", path: "/runs/mine-4/events", headers: [json], body: JSON.stringify({ event: started }) },
  { method: "DELETE", path: "/runs/mine-4", headers: [], body: "" },
  { method: "GET", path: "/runs?session=ours", headers: [], body: "" },
  { method: "GET", path: "/sessions/ours/events", headers: ["Accept: text/event-stream"], body: "" },
]

const maybe = <A>(arbitrary: Arbitrary.Arbitrary<A>): Arbitrary.Arbitrary<A | undefined> =>
  Generator.frequency<A | undefined>([
    [4, Arbitrary.Constant(undefined)],
    [1, arbitrary],
  ])

const request = Arbitrary.map(
  Arbitrary.all({
    base: Generator.weighted(sensible.map((one) => [1, one] as const)),
    method: maybe(method),
    path: maybe(path),
    query: maybe(query),
    headers: maybe(Arbitrary.array(header, { maxLength: 5 })),
    body: maybe(body),
    framing: maybe(framing),
  }),
  ({ base, ...replaced }) => {
    const bytes = Buffer.from(replaced.body ?? base.body)
    const length = (difference: number) => `Content-Length: ${Math.max(0, bytes.length + difference)}\r\n`
    const chunked = `${bytes.length.toString(16)}\r\n${bytes.toString("latin1")}\r\n0\r\n\r\n`
    const [frame, sent] = {
      length: [length(0), bytes.toString("latin1")],
      none: ["", ""],
      chunked: ["Transfer-Encoding: chunked\r\n", bytes.length === 0 ? "0\r\n\r\n" : chunked],
      short: [length(5), bytes.toString("latin1")],
      long: [length(-3), bytes.toString("latin1")],
      both: [`${length(0)}Transfer-Encoding: chunked\r\n`, chunked],
    }[(replaced.framing ?? "length") as "length"] as [string, string]
    const headers = [...base.headers, ...(replaced.headers ?? [])].map((line) => `${line}\r\n`).join("")
    const target = `${replaced.path ?? base.path}${replaced.query ?? ""}`
    return `${replaced.method ?? base.method} ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}${frame}\r\n${sent}`
  },
)

/** What the server says to some bytes: all of it, or a stream's beginning. */
const sayTo = (port: number, bytes: string) =>
  Effect.callback<string>((resume) => {
    let answer = ""
    const socket = connect(port, "127.0.0.1", () => socket.end(Buffer.from(bytes, "latin1")))
    const done = () => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString("latin1")
      // A stream goes on; a server that keeps the connection has said what it had to.
      if (/\r\ncontent-type: text\/event-stream/i.test(answer) ? answer.includes("caught-up") : isWhole(answer)) done()
    })
    socket.on("error", done)
    socket.on("close", done)
  })

const isWhole = (answer: string): boolean => {
  const end = answer.indexOf("\r\n\r\n")
  if (end === -1) return false
  if (answer.startsWith("HTTP/1.1 100 ")) return isWhole(answer.slice(end + 4))
  const length = /\r\ncontent-length: (\d+)/i.exec(answer)
  return length === null || answer.length >= end + 4 + Number(length[1])
}

/** What may be answered to anything: an answer, or a refusal that says what to do. */
const statuses = new Set([
  100, 200, 204, 304, 400, 401, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 417, 429, 431, 501,
])

describe("whatever is asked", () => {
  it.live(
    "the server answers with no error of its own, no crash, and nothing of a run that isn't the caller's",
    () =>
      Effect.gen(function* () {
        const server = yield* serve({ access, routes: { bounds: { rate: { limit: 1_000_000, window: "1 second" } } } })
        const theirs = { sessionId: SessionId.make("theirs") }
        yield* server.append(hidden, [started, delta(secret)], theirs)
        yield* server.append(RunId.make("mine-1"), [started, delta("mine")], { sessionId: SessionId.make("ours") })
        yield* server.append(RunId.make("mine-2"), [started, delta("mine")])
        const before = yield* server.store.head(hidden)
        const seen = new Map<string, number>()
        const checked = yield* Arbitrary.checkEffect(
          Arbitrary.array(request, { minLength: 10, maxLength: 20 }),
          Effect.fnUntraced(function* (requests) {
            const answers = yield* Effect.forEach(requests, (bytes) => sayTo(server.port, bytes), { concurrency: 5 })
            for (const [index, answer] of answers.entries()) {
              const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1] ?? "0")
              const told = `${JSON.stringify(requests[index])}\n${answer}`
              assert.isTrue(status === 0 || statuses.has(status), told)
              assert.notInclude(answer, secret, told)
              assert.notInclude(answer, before.generation!, told)
              seen.set(String(status), (seen.get(String(status)) ?? 0) + 1)
            }
            return true
          }),
          { runs: 60 },
        )
        assert.strictEqual(checked._tag, "Passed", Arbitrary.formatCheckFailure(checked))
        assert.deepStrictEqual(yield* server.store.head(hidden), before, "the run of another was written")
        assert.strictEqual((yield* server.ask("/health")).status, 200)
        // The requests reach what they are for.
        for (const status of ["200", "204", "400", "404", "405", "409"]) assert.isTrue(seen.has(status), status)
      }),
    60_000,
  )
})
