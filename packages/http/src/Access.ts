/**
 * Who may do what: asked for each request, and again while a stream is open.
 *
 * Nothing is served without this service. A caller without rights is told the same of a run that exists and of one that
 * doesn't, as the store isn't asked before it is known that the caller may.
 */
import type { RunId, SessionId } from "@throughline/core/Envelope"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Mac from "effect/crypto/Mac"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** What a request is about. */
export type Resource =
  | {
      readonly _tag: "Run"
      readonly runId: RunId
      /** The session an append puts the run in. */ readonly sessionId?: SessionId | undefined
    }
  | { readonly _tag: "Session"; readonly sessionId: SessionId }
  /** The list of all runs, or of a session's. */
  | { readonly _tag: "Runs"; readonly sessionId?: SessionId | undefined }
  | { readonly _tag: "Health" }
  | { readonly _tag: "Metrics" }

/** `append` is also the renewal of a lease. */
export type Action = "read" | "append" | "remove"

/** What there is to decide by. */
export interface AccessRequest {
  readonly action: Action
  readonly resource: Resource
  /** The credential of `Authorization: Bearer`. */
  readonly bearer: Redacted.Redacted | undefined
  /** The query's `token`, as signed links have it. */
  readonly token: Redacted.Redacted | undefined
  /** By lowercase name. */
  readonly headers: Readonly<Record<string, string | undefined>>
  /** The address at the other end of the connection, where it is known. */
  readonly remoteAddress: string | undefined
}

export type Decision =
  | {
      readonly _tag: "Allowed"
      /** Who it is, for the bounds per client; the address where absent. */
      readonly client?: string
    }
  /** No credential, or one that is no good: 401, whatever the request names. */
  | { readonly _tag: "Unauthorized" }
  /** A good credential that doesn't reach: the answer is that of a run that isn't there. */
  | { readonly _tag: "Denied" }

export const allowed: Decision = { _tag: "Allowed" }
export const unauthorized: Decision = { _tag: "Unauthorized" }
export const denied: Decision = { _tag: "Denied" }

const allow = Effect.succeed(allowed)
const deny = Effect.succeed(denied)

/** Allows or denies. */
export class Access extends Context.Service<
  Access,
  {
    /** Asked once for each request, and every few seconds while its stream is open; a defect denies, and so does no answer in time. */
    readonly decide: (request: AccessRequest) => Effect.Effect<Decision>
  }
>()("@throughline/http/Access") {}

/** Open access was asked for on an address that others can reach. */
export class OpenRefused extends Schema.TaggedError<OpenRefused>("@throughline/http/Access/OpenRefused")(
  "OpenRefused",
  {
    address: Schema.String,
  },
) {
  override get message() {
    return `open access is refused on ${this.address}, which others can reach: listen on a loopback address, ask for a credential, or say that it is open to anyone`
  }
}

/** The credential or secret is too short to keep anybody out. */
export class WeakSecret extends Schema.TaggedError<WeakSecret>("@throughline/http/Access/WeakSecret")("WeakSecret", {
  minimum: Schema.Int,
}) {
  override get message() {
    return `a secret has at least ${this.minimum} characters`
  }
}

/** The token is one that no client can send in a header, so that nobody would ever be let in. */
export class UnsendableToken extends Schema.TaggedError<UnsendableToken>("@throughline/http/Access/UnsendableToken")(
  "UnsendableToken",
  {},
) {
  override get message() {
    return "no browser can send this token in a header: use letters, digits and signs of Latin-1, without control characters or a space at either end"
  }
}

const loopbackHost = /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?$/i

/**
 * Anyone who reaches the server may do everything.
 *
 * Fails `OpenRefused` where the server listens on anything but loopback, unless `openToAnyone` says it a second time. On
 * loopback only requests to a loopback `Host` are allowed: a web page that points a name of its own at this machine
 * would otherwise be let in by the reader's browser.
 */
export const layerOpen = (options?: {
  readonly openToAnyone?: boolean | undefined
}): Layer.Layer<Access, OpenRefused, HttpServer.HttpServer> =>
  Layer.effect(
    Access,
    Effect.gen(function* () {
      if (options?.openToAnyone === true) return Access.of({ decide: () => allow })
      const { address } = yield* HttpServer.HttpServer
      // A Unix socket is guarded by its file's permissions.
      if (NetAddress.isInetAddress(address) && !NetAddress.isLoopback(address.address)) {
        return yield* new OpenRefused({ address: String(address) })
      }
      return Access.of({
        decide: ({ headers }) => (headers["host"] === undefined || loopbackHost.test(headers["host"]) ? allow : deny),
      })
    }),
  )

const encoder = new TextEncoder()

/** Characters that a token or a secret has at least. */
const minimumLength = 16

const keyOf = (secret: Redacted.Redacted) =>
  Redacted.value(secret).length < minimumLength
    ? Effect.fail(new WeakSecret({ minimum: minimumLength }))
    : Mac.key(Mac.hmacSha256, encoder.encode(Redacted.value(secret))).pipe(
        Effect.mapError(() => new WeakSecret({ minimum: minimumLength })),
      )

/** What a header's value keeps (RFC 9110, section 5.5), as a browser sends it: a byte for each character. */
const sendable = /^[!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?$/

/** A platform that can't compute an HMAC lets nobody in. */
const verified = <E>(check: Effect.Effect<boolean, E>): Effect.Effect<boolean> =>
  check.pipe(Effect.catch((cause) => Effect.as(Effect.logError("a credential could not be checked", cause), false)))

/**
 * Whoever has the token may do everything, and says so in `Authorization: Bearer`. Health is answered to anyone, as it
 * says nothing of any run. Compared in constant time, by HMAC. Fails `WeakSecret` for a token of under 16 characters, and
 * `UnsendableToken` for one with characters beyond Latin-1, control characters, or a space at either end.
 */
export const layerBearer = (options: {
  readonly token: Redacted.Redacted
}): Layer.Layer<Access, WeakSecret | UnsendableToken, Mac.Mac> =>
  Layer.effect(
    Access,
    Effect.gen(function* () {
      const mac = yield* Mac.Mac
      const key = yield* keyOf(options.token)
      if (!sendable.test(Redacted.value(options.token))) return yield* new UnsendableToken()
      const expected = yield* Effect.mapError(
        mac.sign(key, encoder.encode(Redacted.value(options.token))),
        () => new WeakSecret({ minimum: minimumLength }),
      )
      return Access.of({
        decide: ({ bearer, resource }) => {
          if (resource._tag === "Health") return Effect.succeed(allowed)
          if (bearer === undefined) return Effect.succeed(unauthorized)
          return Effect.map(verified(mac.verify(key, expected, encoder.encode(Redacted.value(bearer)))), (isGood) =>
            isGood ? allowed : unauthorized,
          )
        },
      })
    }),
  )

/** What a link's signature covers: one run, to be read, until a moment. */
const signedText = (runId: string, expiresAt: string) => encoder.encode(`throughline link 1\n${runId}\n${expiresAt}`)

const linkPattern = /^([0-9a-z]{1,11})\.([A-Za-z0-9_-]{43})$/

/** The `token` that lets whoever has it read one run, until it expires. */
export const sign = Effect.fnUntraced(function* (options: {
  readonly secret: Redacted.Redacted
  readonly runId: RunId
  /** How long the link works from now. */
  readonly expiresIn: Duration.Input
}): Effect.fn.Return<string, WeakSecret, Mac.Mac> {
  const mac = yield* Mac.Mac
  const key = yield* keyOf(options.secret)
  const now = yield* Clock.currentTimeMillis
  const expiresAt = Math.ceil(now + Duration.toMillis(options.expiresIn)).toString(36)
  const tag = yield* Effect.mapError(
    mac.sign(key, signedText(options.runId, expiresAt)),
    () => new WeakSecret({ minimum: minimumLength }),
  )
  return `${expiresAt}.${Base64Url.encode(tag)}`
})

/**
 * Links that were signed with {@link sign}: each lets its holder read one run, and nothing else, until it expires; a
 * stream that is open then is closed. Compared in constant time. Fails `WeakSecret` for a secret of under 16 characters.
 */
export const layerSignedLinks = (options: {
  readonly secret: Redacted.Redacted
}): Layer.Layer<Access, WeakSecret, Mac.Mac> =>
  Layer.effect(
    Access,
    Effect.gen(function* () {
      const mac = yield* Mac.Mac
      const key = yield* keyOf(options.secret)
      const decide = Effect.fnUntraced(function* ({ action, resource, token }: AccessRequest) {
        const match = token === undefined ? null : linkPattern.exec(Redacted.value(token))
        if (match === null || action !== "read" || resource._tag !== "Run") return unauthorized
        const tag = Base64Url.decode(match[2]!)
        // One token has one spelling: its last character has bits that stand for nothing.
        if (Result.isFailure(tag) || Base64Url.encode(tag.success) !== match[2]) return unauthorized
        const isSigned = yield* verified(mac.verify(key, tag.success, signedText(resource.runId, match[1]!)))
        const now = yield* Clock.currentTimeMillis
        return isSigned && now < Number.parseInt(match[1]!, 36) ? allowed : unauthorized
      })
      return Access.of({ decide })
    }),
  )

/** Lets in whom either lets in. A caller whose credential is good for one of them is denied, not asked for another. */
export const either =
  (other: Access["Service"]) =>
  (self: Access["Service"]): Access["Service"] =>
    Access.of({
      decide: (request) =>
        Effect.flatMap(self.decide(request), (first) =>
          first._tag === "Allowed"
            ? Effect.succeed(first)
            : Effect.map(other.decide(request), (second) => (second._tag === "Unauthorized" ? first : second)),
        ),
    })

/** Two layers as one: lets in whom either lets in. */
export const layerEither = <E, R, E2, R2>(
  self: Layer.Layer<Access, E, R>,
  other: Layer.Layer<Access, E2, R2>,
): Layer.Layer<Access, E | E2, R | R2> =>
  Layer.effect(
    Access,
    Effect.gen(function* () {
      // Both are built apart: each is an `Access` of its own.
      const first = Context.get(yield* Layer.build(Layer.fresh(self)), Access)
      const second = Context.get(yield* Layer.build(Layer.fresh(other)), Access)
      return either(second)(first)
    }),
  )
