import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { append, type AppendOptions, type Producer, RunError } from "../src/index.ts"
import * as RunClient from "../src/RunClient.ts"
import { answer, base, generation, layerOf, problem, runId, type Script, serverOf, streamed } from "./scripted.ts"

const event: AgentEvents.AgentEvent = { _tag: "RunStarted", name: "test" }

interface Outcome {
  /** `done`, or the code or tag of the failure. */
  readonly end: string
  readonly seqs: ReadonlyArray<number>
  readonly error: unknown
}

interface Request {
  readonly timeout?: number
  readonly count?: number
  readonly producer?: Producer
  readonly expected?: string
  readonly attempts?: number
}

const appenders: ReadonlyArray<{
  readonly name: string
  readonly append: (fetch: typeof globalThis.fetch, request?: Request) => Promise<Outcome>
}> = [
  {
    name: "append",
    append: async (fetch, { attempts = 8, count = 2, ...request } = {}) => {
      const options: AppendOptions = { fetch, attempts, backoff: () => 0, ...request }
      const events = Array.from({ length: count }, () => ({ event }))
      const url = `${base}/runs/${runId}/events`
      return append(url, events, options).then(
        (appended) => ({ end: "done", seqs: appended.events.map(({ seq }) => seq), error: undefined }),
        (error: unknown) => ({ end: error instanceof RunError ? error.code : String(error), seqs: [], error }),
      )
    },
  },
  {
    name: "RunClient",
    append: (fetch, { attempts = 8, count = 2, timeout, ...request } = {}) =>
      Effect.gen(function* () {
        const client = yield* RunClient.RunClient
        const events = Array.from({ length: count }, () => ({ event }))
        const exit = yield* Effect.exit(
          client.append({ runId, vocabulary: AgentEvents.vocabulary, events, ...request }),
        )
        if (Exit.isSuccess(exit)) {
          return { end: "done", seqs: exit.value.events.map(({ seq }) => seq), error: undefined }
        }
        const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
        return { end: error?._tag ?? Cause.pretty(exit.cause), seqs: [], error }
      }).pipe(
        Effect.provide(layerOf(fetch, { retry: Schedule.recurs(attempts - 1), callTimeout: timeout })),
        Effect.runPromise,
      ),
  },
]

interface Posted {
  readonly eventId: string
  readonly emittedAt: string
  readonly event: unknown
}

/** A server that stores what is posted, and answers as it should. */
const storing = (first: Script = () => new TypeError("fetch failed"), times = 0) => {
  const bodies: Array<string> = []
  const server = serverOf(first)
  const fetch = (async (input: string | URL, init: RequestInit) => {
    const body = await new Response(init.body).text()
    const answered = await server.fetch(input, init).catch((error: unknown) => error as Error)
    bodies.push(body)
    if (bodies.length <= times) {
      if (answered instanceof Error) throw answered
      return answered
    }
    const events = (JSON.parse(body) as ReadonlyArray<Posted>).map(({ eventId }, index) => ({
      seq: index + 1,
      eventId,
      cursor: `${index + 1}-${generation}`,
    }))
    return answer(200, { events, cursor: events.at(-1)!.cursor })
  }) as typeof globalThis.fetch
  return { fetch, bodies, requests: server.log.requests }
}

describe.each(appenders)("$name", ({ append: appends }) => {
  it("mints what makes a repeat the same once, before its first try", async () => {
    const scripts: ReadonlyArray<Script> = [
      () => new TypeError("fetch failed"),
      () => problem(503, "store-unavailable"),
      () => problem(503, "durability-unconfirmed"),
      () => answer(502, "<html>"),
      () => answer(429, "", { "retry-after": "0" }),
      (_, request) => answer(200, request === 0 ? "{" : { events: [], cursor: "1" }),
    ]
    for (const [index, script] of scripts.entries()) {
      const times = index === scripts.length - 1 ? 2 : 3
      const { bodies, fetch, requests } = storing(script, times)
      const outcome = await appends(fetch)
      assert.deepStrictEqual([outcome.end, outcome.seqs], ["done", [1, 2]])
      assert.strictEqual(bodies.length, times + 1)
      assert.strictEqual(new Set(bodies).size, 1, "a repeat had other content")
      const posted = JSON.parse(bodies[0]!) as ReadonlyArray<Posted>
      for (const { emittedAt, event: sent, eventId } of posted) {
        assert.match(eventId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
        assert.match(emittedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
        assert.deepStrictEqual(sent, event)
      }
      assert.strictEqual(new Set(posted.map(({ eventId }) => eventId)).size, 2)
      const identities = requests.map(({ init }) => {
        const headers = new Headers(init.headers)
        return ["producer-id", "producer-epoch", "producer-seq"].map((name) => headers.get(name)).join()
      })
      assert.strictEqual(new Set(identities).size, 1, "a repeat had another identity")
      assert.match(identities[0]!, /^[0-9a-f-]{36},1,1$/)
    }
  })

  it("sends the producer and the head that it is given", async () => {
    const { fetch, requests } = storing()
    await appends(fetch, { producer: { id: "p", epoch: 3, number: 7 }, expected: `4-${generation}` })
    const headers = new Headers(requests[0]!.init.headers)
    assert.deepStrictEqual(
      ["producer-id", "producer-epoch", "producer-seq", "if-match", "content-type"].map((name) => headers.get(name)),
      ["p", "3", "7", `"4-${generation}"`, "application/json"],
    )
    assert.strictEqual(requests[0]!.init.method, "POST")
  })

  it("fails with the reason that the server gives, at once", async () => {
    const refusals: ReadonlyArray<readonly [response: () => Response, code: string, tag: string, fields: object]> = [
      [() => problem(409, "run-ended", { endSeq: 9, ending: "failed" }), "run-ended", "RunEnded", { endSeq: 9 }],
      [
        () => problem(409, "producer-fenced", { currentEpoch: 5 }),
        "producer-fenced",
        "ProducerFenced",
        { currentEpoch: 5 },
      ],
      [() => problem(409, "producer-gap", { expectedNumber: 2 }), "producer-gap", "ProducerGap", { expectedNumber: 2 }],
      [() => problem(409, "producer-stale", { lastNumber: 8 }), "producer-stale", "ProducerStale", { lastNumber: 8 }],
      [() => problem(409, "producer-mismatch"), "producer-mismatch", "ProducerMismatch", { number: 7 }],
      [
        () => problem(412, "head-moved", { cursor: `6-${generation}` }),
        "head-moved",
        "SeqConflict",
        { expectedSeq: 4, expectedGeneration: generation, headSeq: 6, generation },
      ],
      [() => problem(400, "invalid-body"), "invalid-body", "Refused", { status: 400 }],
      [() => problem(409, "run-ended", { endSeq: "nine" }), "run-ended", "Refused", { status: 409 }],
      [() => problem(507, "store-full"), "store-full", "Refused", { status: 507 }],
      [() => answer(403, "<html>"), "refused", "Refused", { status: 403 }],
    ]
    for (const [response, code, tag, fields] of refusals) {
      const { bodies, fetch } = storing(response, 1)
      const { end, error } = await appends(fetch, {
        producer: { id: "p", epoch: 3, number: 7 },
        expected: `4-${generation}`,
      })
      assert.strictEqual(bodies.length, 1)
      if (error instanceof RunError) assert.strictEqual(end, code)
      else {
        assert.strictEqual(end, tag)
        assert.deepInclude(error as object, fields)
      }
    }
  })

  it("reads no more of an answer than it can have, and waits no longer for it than it may take", async () => {
    const endless = Array<string>(1_000).fill("x".repeat(65_536))
    for (const [status, end, requests] of [
      [403, ["refused", "Refused"], 1],
      [200, ["protocol-violation", "ProtocolViolation"], 3],
    ] as const) {
      const { fetch, log } = serverOf(() => streamed(endless, "stays", status))
      assert.include(end, (await appends(fetch, { timeout: 600_000 })).end)
      assert.deepStrictEqual([log.requests.length, log.open], [requests, 0])
      assert.isBelow(log.chunks, 8 * requests)
    }
    for (const [status, end, requests] of [
      [403, ["refused", "Refused"], 1],
      [200, ["unreachable", "Unreachable"], 2],
    ] as const) {
      const { fetch, log } = serverOf(() => streamed("{", "stays", status))
      assert.include(end, (await appends(fetch, { timeout: 20, attempts: 2 })).end)
      assert.deepStrictEqual([log.requests.length, log.open], [requests, 0])
    }
  })

  it("takes the answer to as many events as one append may have", async () => {
    const server = storing()
    const fetch = async (input: string | URL | globalThis.Request, init?: RequestInit) => {
      const bytes = new Uint8Array(await (await server.fetch(input, init)).arrayBuffer())
      const size = 10_000
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
        bytes.slice(index * size, (index + 1) * size),
      )
      return serverOf(() => streamed(chunks)).fetch(base)
    }
    assert.strictEqual((await appends(fetch, { count: 5_000 })).seqs.length, 5_000)
  })

  it("gives up typed on a server that is never there, and on one that answers something else", async () => {
    const gone = storing(() => new TypeError("fetch failed"), 100)
    assert.include(["unreachable", "Unreachable"], (await appends(gone.fetch, { attempts: 4 })).end)
    assert.strictEqual(gone.bodies.length, 4)
    for (const lie of [
      () => answer(200, "<html>"),
      () => answer(204),
      () => answer(201, { events: [], cursor: "0" }),
      () => answer(200, { events: [{ seq: 1, eventId: "x", cursor: "1" }], cursor: "1" }),
    ]) {
      const { bodies, fetch } = storing(lie, 100)
      assert.include(["protocol-violation", "ProtocolViolation"], (await appends(fetch)).end)
      assert.strictEqual(bodies.length, 3)
    }
  })
})
