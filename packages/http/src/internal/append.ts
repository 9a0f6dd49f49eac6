/** What changes runs: appends, leases, removal. */
import type * as Cursor from "@throughline/core/Cursor"
import {
  AgentId,
  type EncodedEvent,
  EventId,
  type EventInput,
  fieldProblem,
  type RunId,
  type SessionId,
  Timestamp,
} from "@throughline/core/Envelope"
import type { AppendRequest, AppendResult, LeaseRequest, Producer } from "@throughline/core/EventStore"
import { AppendFailed, StoreUnavailable } from "@throughline/core/EventStoreError"
import { publishAppended } from "@throughline/core/StreamAdapter"
import * as Vocabulary from "@throughline/core/Vocabulary"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Problem from "../Problem.ts"
import * as Body from "./body.ts"
import { cursorOf, type Query } from "./request.ts"
import type { AnyVocabulary, Services } from "./services.ts"
import * as storeCall from "./storeCall.ts"

/** An event as it is posted: `event` is read by the vocabulary. */
export const PostedEvent = Schema.Struct({
  event: Schema.Unknown,
  eventId: Schema.optionalKey(EventId),
  agentId: Schema.optionalKey(AgentId),
  provider: Schema.optionalKey(Schema.String),
  turnId: Schema.optionalKey(Schema.String),
  tags: Schema.optionalKey(Schema.Array(Schema.String)),
  correlation: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  emittedAt: Schema.optionalKey(Timestamp),
})

/** The body of a renewal. */
export const Renewal = Schema.Struct({
  seconds: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3600 })),
})

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

/** Where a value doesn't fit its schema, and why. */
const problemOf = ({ issue }: Schema.SchemaError): string => {
  const first = issuesOf(issue).issues[0]
  const path = (first?.path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".")
  return `${path === "" ? "" : `${path.slice(0, 200)}: `}${(first?.message ?? "it doesn't fit").slice(0, 500)}`
}

const decodePosted = Schema.decodeUnknownResult(PostedEvent, { onExcessProperty: "error" })
const decodeRenewal = Schema.decodeUnknownResult(Renewal, { onExcessProperty: "error" })

const invalidBody = (detail: string) => Problem.refuse("invalid-body", detail)
const invalidHeader = (detail: string) => Problem.refuse("invalid-header", detail)

const vocabularyOf = ({ vocabularies }: Services, name: string | undefined) => {
  const vocabulary = name === undefined ? vocabularies[0] : vocabularies.find(({ id }) => id.name === name)
  return vocabulary === undefined
    ? Effect.fail(
        Problem.refuse(
          "invalid-query",
          `vocabulary is not valid: expected ${vocabularies.map(({ id }) => id.name).join(", ") || "none, as this server takes no events"}`,
        ),
      )
    : Effect.succeed(vocabulary)
}

/** Text that is no Unicode can't be given back by any store. */
const isWellFormed = ({ correlation, tags }: typeof PostedEvent.Type): boolean =>
  (tags ?? []).every((tag) => tag.isWellFormed()) &&
  Object.entries(correlation ?? {}).every(([key, value]) => key.isWellFormed() && value.isWellFormed())

/** The moment in a UUIDv7: an event that is posted again under its id is the same to the millisecond. */
const mintedAt = (eventId: EventId): string =>
  Vocabulary.timestamp(Number.parseInt(eventId.slice(0, 8) + eventId.slice(9, 13), 16))

/** Reads a posted event by its schema and the vocabulary. */
const inputOf = (vocabulary: AnyVocabulary, value: unknown): Result.Result<EventInput<unknown>, string> => {
  const posted = decodePosted(value)
  if (Result.isFailure(posted)) return Result.fail(problemOf(posted.failure))
  if (posted.success.event === undefined) return Result.fail("event: it is missing")
  const problem = fieldProblem(posted.success)
  if (problem !== undefined) return Result.fail(problem)
  if (!isWellFormed(posted.success)) return Result.fail("tags or correlation has a lone surrogate")
  const event = vocabulary.decode(JSON.stringify(posted.success.event))
  if (Result.isFailure(event)) return Result.fail(`event: ${event.failure.slice(0, 500)}`)
  const { emittedAt, eventId } = posted.success
  return Result.succeed({
    ...posted.success,
    emittedAt: emittedAt ?? (eventId === undefined ? undefined : mintedAt(eventId)),
    event: event.success,
  })
}

const encodeAll = Effect.fnUntraced(function* (
  services: Services,
  vocabulary: AnyVocabulary,
  values: ReadonlyArray<unknown>,
) {
  const { batchEvents } = services.bounds
  if (values.length === 0) return yield* invalidBody("an append needs at least one event")
  if (values.length > batchEvents) {
    return yield* Problem.refuse("too-large", `${values.length} events, more than the ${batchEvents} allowed`, {
      limit: batchEvents,
    })
  }
  const events: Array<EncodedEvent> = []
  for (const [index, value] of values.entries()) {
    const input = inputOf(vocabulary, value)
    const where = values.length === 1 ? "" : `event ${index + 1}: `
    if (Result.isFailure(input)) return yield* invalidBody(`${where}${input.failure}`)
    events.push(
      yield* Vocabulary.encode(vocabulary, input.success).pipe(
        Effect.provideService(SecureRandom, services.random),
        Effect.mapError(({ problem }) => invalidBody(`${where}${problem}`)),
      ),
    )
  }
  return events
})

const countPattern = /^[1-9]\d{0,14}$/

/** The producer in the headers: all three, or none. */
const producerOf = ({ headers }: HttpServerRequest): Effect.Effect<Producer | undefined, Problem.Refused> => {
  const id = headers["producer-id"]
  const epoch = headers["producer-epoch"]
  const number = headers["producer-seq"]
  if (id === undefined && epoch === undefined && number === undefined) return Effect.undefined
  if (id === undefined || epoch === undefined || number === undefined) {
    return Effect.fail(invalidHeader("Producer-Id, Producer-Epoch and Producer-Seq go together"))
  }
  if (!/^[\x21-\x7e]{1,128}$/.test(id)) {
    return Effect.fail(invalidHeader("Producer-Id is not valid: expected 1 to 128 printable ASCII characters"))
  }
  if (!countPattern.test(epoch) || !countPattern.test(number)) {
    return Effect.fail(invalidHeader("Producer-Epoch and Producer-Seq are integers from 1"))
  }
  return Effect.succeed({ id, epoch: Number(epoch), number: Number(number) })
}

const expectedOf = (text: string | undefined): Effect.Effect<Cursor.RunPlace | undefined, Problem.Refused> => {
  if (text === undefined) return Effect.undefined
  const match = /^"([^"]{1,64})"$/.exec(text.trim())
  const refused = invalidHeader('If-Match is not valid: expected a quoted run cursor, or "0" for a new run')
  return match === null ? Effect.fail(refused) : Effect.mapError(cursorOf(match[1]!), () => refused)
}

/** The lease of a run: its will is what the vocabulary says of an abandoned one. */
const leaseOf = Effect.fnUntraced(function* (
  services: Services,
  vocabulary: AnyVocabulary | undefined,
  seconds: number,
): Effect.fn.Return<LeaseRequest, Problem.Refused> {
  const ttl = Duration.seconds(seconds)
  if (vocabulary === undefined) return { ttl }
  const will = yield* Vocabulary.encode(vocabulary, { event: vocabulary.abandoned() }).pipe(
    Effect.provideService(SecureRandom, services.random),
    Effect.mapError(
      (cause) => new Problem.Refused({ name: "store-broken", detail: "the run's will can't be made", cause }),
    ),
  )
  return { ttl, will }
})

const patience = "10 seconds"

/**
 * Does work that must be brought to its end, whether or not the client waits for it: what is stored is published. In
 * time, or the client is told that the outcome is unknown.
 */
const toItsEnd = <A, E>(services: Services, work: Effect.Effect<A, E>) =>
  Effect.flatMap(Effect.forkIn(work, services.scope, { startImmediately: true }), Fiber.join).pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.fail(new AppendFailed({ reason: new StoreUnavailable({ detail: "no answer in time" }) })),
    }),
  )

/** Tells whoever follows the run now; readers find what is missed here in the store. */
const publish = ({ adapter, bus, rooms }: Services, appended: AppendResult) =>
  Effect.andThen(
    bus === undefined ? Effect.void : bus.publish(appended.frames),
    publishAppended(adapter, appended, rooms).pipe(Effect.timeout(patience), Effect.ignore),
  )

/** What a request asks of the store. */
const requestOf = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  options: { readonly runId: RunId; readonly sessionId: SessionId | undefined; readonly query: Query },
): Effect.fn.Return<AppendRequest, Problem.Refused> {
  const { query, runId, sessionId } = options
  const vocabulary = yield* vocabularyOf(services, query.get("vocabulary"))
  const seconds = yield* Effect.fromResult(query.integer("lease", { from: 1, to: 3600 }))
  const producer = yield* producerOf(request)
  const expected = yield* expectedOf(request.headers["if-match"])
  const events = yield* encodeAll(services, vocabulary, yield* Body.valuesOf(request, services.bounds))
  return {
    runId,
    sessionId,
    vocabulary: vocabulary.id,
    events,
    producer,
    expectedSeq: expected?.seq,
    expectedGeneration: expected?.generation,
    lease: seconds === undefined ? undefined : yield* leaseOf(services, vocabulary, seconds),
  }
})

/** Appends what was posted. */
export const append = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  options: { readonly runId: RunId; readonly sessionId: SessionId | undefined; readonly query: Query },
) {
  const asked = yield* requestOf(services, request, options)
  const appended = yield* toItsEnd(
    services,
    Effect.tap(services.store.append(asked), (result) => publish(services, result)),
  ).pipe(Effect.mapError(Problem.ofError))
  const events = appended.frames.map(({ cursor, envelope }) => ({
    seq: envelope.seq,
    eventId: envelope.eventId,
    cursor,
  }))
  return HttpServerResponse.jsonUnsafe({ events, cursor: events[events.length - 1]!.cursor })
})

/** Renews a run's lease. */
export const renew = Effect.fnUntraced(function* (services: Services, request: HttpServerRequest, runId: RunId) {
  yield* Body.typeOf(request, ["application/json"])
  const value = yield* Effect.flatMap(Body.textOf(request, services.bounds), (text) =>
    Body.parse(text, services.bounds),
  )
  const { seconds } = yield* Effect.mapError(Effect.fromResult(decodeRenewal(value)), (error) =>
    invalidBody(problemOf(error)),
  )
  const head = yield* storeCall.read(services.store.head(runId))
  if (head.status === "unknown") return yield* Problem.unknownRun(runId)
  const vocabulary = services.vocabularies.find(
    ({ id }) => id.name === head.vocabulary?.name && id.version === head.vocabulary.version,
  )
  const lease = yield* leaseOf(services, vocabulary, seconds)
  const { renewed } = yield* Effect.mapError(toItsEnd(services, services.store.renew([runId], lease)), Problem.ofError)
  if (renewed.length > 0) return HttpServerResponse.empty({ status: 204 })
  const now = yield* storeCall.read(services.store.head(runId))
  if (now.status === "unknown") return yield* Problem.unknownRun(runId)
  return yield* Problem.refuse("run-ended", `run ${runId} has ended`, { endSeq: now.lastSeq, ending: now.status })
})

/** Removes a run. */
export const remove = Effect.fnUntraced(function* (services: Services, runId: RunId) {
  const removed = yield* Effect.mapError(
    toItsEnd(services, Effect.ensuring(services.store.remove(runId), services.hub.look(runId))),
    Problem.ofError,
  )
  return removed ? HttpServerResponse.empty({ status: 204 }) : yield* Problem.unknownRun(runId)
})
