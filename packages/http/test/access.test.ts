import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Access from "../src/Access.ts"
import * as Server from "../src/Server.ts"
import { completed, delta, mac, problemOf, type RequestOptions, serve, started } from "./serving.ts"

const runId = RunId.make("r1")
const path = "/runs/r1/events"
const token = Redacted.make("a token of some length")
const secret = Redacted.make("a secret of some length")
const bearer = { authorization: `Bearer ${Redacted.value(token)}` }
const sse = { accept: "text/event-stream" }

/** Every request that reads, writes or removes, or tells of what is there. */
const requests: ReadonlyArray<readonly [string, RequestOptions]> = [
  ["/runs", {}],
  ["/runs?session=s1", {}],
  [path, {}],
  [path, { headers: sse }],
  [path, { method: "HEAD" }],
  [`${path}?after=1-aaaaaaaa`, {}],
  [path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ event: started }) }],
  ["/runs/r1/lease", { method: "PUT", headers: { "content-type": "application/json" }, body: '{"seconds":5}' }],
  ["/runs/r1", { method: "DELETE" }],
  ["/sessions/s1/events", { headers: sse }],
  ["/metrics", {}],
]

const sign = (runId_: string, expiresIn: "1 hour" | "200 millis" | "-1 hour" = "1 hour") =>
  Effect.provide(Access.sign({ secret, runId: RunId.make(runId_), expiresIn }), mac)

const buildOpen = (host: string, options?: Parameters<typeof Access.layerOpen>[0]) =>
  Effect.scoped(Layer.build(Layer.provide(Access.layerOpen(options), Server.layerListen({ port: 0, host }))))

describe("open access", () => {
  it.live("is refused on an address that others reach, unless said twice", () =>
    Effect.gen(function* () {
      for (const host of ["0.0.0.0", "::"]) {
        const error = yield* Effect.flip(buildOpen(host))
        assert.strictEqual(error._tag, "OpenRefused")
        yield* buildOpen(host, { openToAnyone: true })
      }
      yield* buildOpen("127.0.0.1")
      yield* buildOpen("localhost")
    }),
  )

  it.live("on loopback is for a loopback Host alone, so that no name of another's leads here", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      for (const host of ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"]) {
        const answer = yield* server.ask(path, { headers: { host } })
        assert.notStrictEqual(answer.status, 200, host)
      }
      for (const host of ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80"]) {
        assert.strictEqual((yield* server.ask(path, { headers: { host } })).status, 200, host)
      }
    }),
  )
})

describe("a bearer token", () => {
  it.live("lets its holder do everything, and anybody else nothing, whatever is there", () =>
    Effect.gen(function* () {
      const server = yield* serve({ access: Access.layerBearer({ token }) })
      for (const exists of [false, true]) {
        if (exists) yield* server.append(runId, [started])
        for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: "Basic eDp5" }]) {
          for (const [target, options] of requests) {
            const answer = yield* server.ask(target, { ...options, headers: { ...options.headers, ...headers } })
            assert.strictEqual(answer.status, 401, target)
            assert.strictEqual(answer.headers["www-authenticate"], 'Bearer realm="throughline"')
          }
        }
      }
      assert.strictEqual((yield* server.store.head(runId)).lastSeq, 1, "somebody wrote")
      assert.strictEqual((yield* server.ask(path, { headers: bearer })).status, 200)
      assert.strictEqual(
        (yield* server.ask(path, { headers: { authorization: `bearer  ${Redacted.value(token)}` } })).status,
        200,
      )
      assert.strictEqual((yield* server.ask(`${path}?token=${encodeURIComponent(Redacted.value(token))}`)).status, 401)
      assert.strictEqual((yield* server.ask("/health")).status, 200)
      assert.strictEqual((yield* server.ask("/openapi.json")).status, 200)
    }),
  )

  it.live("that is short is refused", () =>
    Effect.gen(function* () {
      const layer = Layer.provide(Access.layerBearer({ token: Redacted.make("short") }), mac)
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.strictEqual(error._tag, "WeakSecret")
    }),
  )

  it.live("that no client can send is refused; one that is taken lets in", () =>
    Effect.gen(function* () {
      const start = "0123456789abcdef"
      for (const text of ["ключ", "\u{1f511}", "a\nb", "a\tb", "\0", "\x7f", " "].map((odd) => start + odd)) {
        const layer = Layer.provide(Access.layerBearer({ token: Redacted.make(text) }), mac)
        const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
        assert.strictEqual(error._tag, "UnsendableToken", JSON.stringify(text))
        assert.notInclude(error.message, start)
      }
      for (const text of ["~!=", " und mehr", "\xfc\xdf", "\xa0"].map((odd) => start + odd)) {
        const server = yield* serve({ access: Access.layerBearer({ token: Redacted.make(text) }) })
        const answer = yield* server.ask("/runs", { headers: { authorization: `Bearer ${text}` } })
        assert.strictEqual(answer.status, 200, JSON.stringify(text))
      }
    }),
  )
})

describe("a signed link", () => {
  it.live("reads one run, and nothing else", () =>
    Effect.gen(function* () {
      const server = yield* serve({ access: Access.layerSignedLinks({ secret }) })
      yield* server.append(runId, [started, completed])
      yield* server.append(RunId.make("r2"), [started])
      const link = yield* sign("r1")
      const withLink = (target: string) => `${target}${target.includes("?") ? "&" : "?"}token=${link}`
      for (const accept of ["application/json", "application/x-ndjson", "text/event-stream"]) {
        assert.strictEqual((yield* server.ask(withLink(path), { headers: { accept } })).status, 200)
      }
      assert.strictEqual((yield* server.ask(withLink(path), { method: "HEAD" })).status, 200)
      for (const target of ["/runs/r2/events", "/runs/unknown/events", "/runs", "/sessions/s1/events", "/metrics"]) {
        assert.strictEqual((yield* server.ask(withLink(target), { headers: sse })).status, 401, target)
      }
      for (const [target, options] of requests.filter(([, { method }]) => method !== undefined && method !== "HEAD")) {
        assert.strictEqual((yield* server.ask(withLink(target), options)).status, 401, `${options.method} ${target}`)
      }
      const [expiry, signature] = link.split(".")
      const later = (Number.parseInt(expiry!, 36) + 1).toString(36)
      const flipped = `${signature!.startsWith("A") ? "B" : "A"}${signature!.slice(1)}`
      // The last character of 32 bytes has two bits that stand for nothing.
      const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      const last = alphabet.indexOf(link.at(-1)!)
      for (const unused of [1, 2, 3]) {
        const spelled = `${link.slice(0, -1)}${alphabet[last + unused]}`
        assert.strictEqual((yield* server.ask(`${path}?token=${spelled}`)).status, 401, spelled)
      }
      for (const forged of [
        `${later}.${signature}`,
        `${expiry}.${flipped}`,
        signature!,
        `${link}A`,
        "",
        ".",
        yield* sign("r1", "-1 hour"),
      ]) {
        assert.strictEqual((yield* server.ask(`${path}?token=${forged}`)).status, 401, forged)
      }
    }),
  )

  it.live("that expires closes the stream it opened", () =>
    Effect.gen(function* () {
      const server = yield* serve({ access: Access.layerSignedLinks({ secret }), routes: { recheck: "20 millis" } })
      yield* server.append(runId, [started])
      // Signed until it has been let in, however slow the machine is.
      const link = yield* sign("r1", "200 millis")
      const client = yield* server.follow(`${path}?token=${link}`)
      yield* client.closed
      if (client.status === 200) assert.deepStrictEqual(client.control("closing"), [{ reason: "revoked" }])
      else assert.strictEqual(client.status, 401)
      assert.strictEqual((yield* server.ask(`${path}?token=${link}`)).status, 401)
    }),
  )
})

/** Lets `bearer` values read the runs whose ids they begin. */
const byPrefix = (revoked: Set<string>) =>
  Layer.succeed(Access.Access, {
    decide: ({ bearer: given, resource }) =>
      Effect.succeed(
        given === undefined
          ? Access.unauthorized
          : resource._tag === "Run" &&
              resource.runId.startsWith(Redacted.value(given)) &&
              !revoked.has(Redacted.value(given))
            ? Access.allowed
            : Access.denied,
      ),
  })

describe("a right of the app's own", () => {
  it.live("denied and unknown look the same", () =>
    Effect.gen(function* () {
      const server = yield* serve({ access: byPrefix(new Set()) })
      yield* server.append(RunId.make("bob-1"), [started])
      const alice = { authorization: "Bearer alice" }
      for (const [target, options] of requests.filter(([target_]) => target_.startsWith("/runs/"))) {
        const at = (run: string) =>
          Effect.map(
            server.ask(target.replace("r1", run), { ...options, headers: { ...options.headers, ...alice } }),
            ({ body, headers, status }) => {
              const { date: _, ...rest } = headers
              return [status, body.replaceAll(run, "RUN"), rest]
            },
          )
        assert.deepStrictEqual(yield* at("bob-1"), yield* at("bob-2"), `${options.method} ${target}`)
      }
      assert.strictEqual((yield* server.store.head(RunId.make("bob-1"))).lastSeq, 1)
      const own = yield* server.ask("/runs/alice-1/events", { headers: alice })
      const others = yield* server.ask("/runs/bob-1/events", { headers: alice })
      assert.deepStrictEqual([own.status, problemOf(own)], [others.status, problemOf(others)])
      assert.strictEqual(problemOf(own), "run-unknown")
    }),
  )

  it.live("that ends while a stream is open ends that stream, and no other", () =>
    Effect.gen(function* () {
      const revoked = new Set<string>()
      const server = yield* serve({ access: byPrefix(revoked), routes: { recheck: "20 millis" } })
      yield* server.append(RunId.make("bob-1"), [started])
      yield* server.append(RunId.make("alice-1"), [started])
      const bob = yield* server.follow("/runs/bob-1/events", { authorization: "Bearer bob" })
      const alice = yield* server.follow("/runs/alice-1/events", { authorization: "Bearer alice" })
      yield* bob.untilText("caught-up")
      yield* alice.untilText("caught-up")
      revoked.add("bob")
      yield* bob.closed
      assert.deepStrictEqual(bob.control("closing"), [{ reason: "revoked" }])
      yield* server.append(RunId.make("alice-1"), [delta("a"), completed])
      yield* alice.closed
      assert.deepStrictEqual(alice.seqs, [1, 2, 3])
      const again = yield* server.ask("/runs/bob-1/events", { headers: { authorization: "Bearer bob", ...sse } })
      assert.strictEqual(again.status, 404)
    }),
  )

  it.live("that can't be decided is denied", () =>
    Effect.gen(function* () {
      const server = yield* serve({
        access: Layer.succeed(Access.Access, { decide: () => Effect.die("the rights are down") }),
      })
      yield* server.append(runId, [started])
      assert.strictEqual((yield* server.ask(path)).status, 404)
    }),
  )

  /** Rights that can be taken, and those of `bob`, which can get stuck. */
  const serveStuck = Effect.fnUntraced(function* (decideWithin: Duration.Input) {
    const revoked = new Set<string>()
    const rights = Context.get(yield* Layer.build(byPrefix(revoked)), Access.Access)
    const stuck = { is: false }
    const server = yield* serve({
      access: Layer.succeed(Access.Access, {
        decide: (request) =>
          stuck.is && Redacted.value(request.bearer!) === "bob" ? Effect.never : rights.decide(request),
      }),
      routes: { recheck: "20 millis", decideWithin },
    })
    for (const name of ["bob", "carol"]) yield* server.append(RunId.make(`${name}-1`), [started])
    const follow = (name: string) =>
      Effect.tap(server.follow(`/runs/${name}-1/events`, { authorization: `Bearer ${name}` }), (client) =>
        client.untilText("caught-up"),
      )
    // More than are asked about at once.
    const bobs = yield* Effect.forEach(Array.from({ length: 40 }), () => follow("bob"))
    const carol = yield* follow("carol")
    stuck.is = true
    return { server, bobs, carol, revoked }
  })

  it.live("that isn't decided in time is denied, to who asks and to who has a stream", () =>
    Effect.gen(function* () {
      const { bobs, carol, server } = yield* serveStuck("1 second")
      const asked = yield* server.ask("/runs/bob-1/events", { headers: { authorization: "Bearer bob" } })
      assert.deepStrictEqual([asked.status, problemOf(asked)], [404, "run-unknown"])
      for (const bob of bobs) {
        yield* bob.closed
        assert.deepStrictEqual(bob.control("closing"), [{ reason: "revoked" }])
      }
      assert.isFalse(carol.isClosed)
    }),
  )

  it.live("of others ends their streams while one isn't decided", () =>
    Effect.gen(function* () {
      const { bobs, carol, revoked } = yield* serveStuck("1 hour")
      revoked.add("carol")
      yield* carol.closed
      assert.deepStrictEqual(carol.control("closing"), [{ reason: "revoked" }])
      for (const bob of bobs) assert.isFalse(bob.isClosed)
    }),
  )

  it.live("and another let in whom either lets in", () =>
    Effect.gen(function* () {
      const server = yield* serve({
        access: Access.layerEither(Access.layerBearer({ token }), Access.layerSignedLinks({ secret })),
      })
      yield* server.append(runId, [started])
      assert.strictEqual((yield* server.ask(path, { headers: bearer })).status, 200)
      assert.strictEqual((yield* server.ask(`${path}?token=${yield* sign("r1")}`)).status, 200)
      assert.strictEqual((yield* server.ask(path)).status, 401)
    }),
  )
})

describe("pages of other origins", () => {
  const origin = { origin: "https://app.example" }
  const allowOrigin = "access-control-allow-origin"

  it.live("are told nothing unless they are configured", () =>
    Effect.gen(function* () {
      const server = yield* serve()
      yield* server.append(runId, [started])
      const answer = yield* server.ask(path, { headers: origin })
      assert.isUndefined(answer.headers[allowOrigin])
      assert.strictEqual((yield* server.ask(path, { method: "OPTIONS", headers: origin })).status, 405)
    }),
  )

  it.live("that are configured may ask and read, streams and problems too", () =>
    Effect.gen(function* () {
      const server = yield* serve({ routes: { cors: { origins: ["https://app.example"] } } })
      yield* server.append(runId, [started, completed])
      for (const [target, headers] of [
        [path, {}],
        [path, sse],
        ["/runs/other/events", {}],
        ["/health", {}],
      ] as const) {
        const answer = yield* server.ask(target, { headers: { ...origin, ...headers } })
        assert.strictEqual(answer.headers[allowOrigin], "https://app.example", target)
        const foreign = yield* server.ask(target, { headers: { origin: "https://evil.example", ...headers } })
        assert.isUndefined(foreign.headers[allowOrigin], target)
        // A cache must not give one origin what another was answered.
        const none = yield* server.ask(target, { headers })
        for (const each of [answer, foreign, none]) assert.match(each.headers.vary ?? "", /\bOrigin\b/, target)
      }
      const preflight = yield* server.ask(path, { method: "OPTIONS", headers: origin })
      assert.strictEqual(preflight.status, 204)
      assert.strictEqual(preflight.headers["access-control-allow-methods"], "GET, HEAD, POST")
      assert.include(preflight.headers["access-control-allow-headers"], "Producer-Seq")
      const any = yield* serve({ routes: { cors: { origins: "*" } } })
      assert.strictEqual((yield* any.ask("/runs", { headers: origin })).headers[allowOrigin], "*")
    }),
  )
})
