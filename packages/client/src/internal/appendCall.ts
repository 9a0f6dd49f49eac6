/** An append that is tried until it is known to be done. */
import { EventId, type EncodedEvent } from "@throughline/core/Envelope"
import * as Vocabulary from "@throughline/core/Vocabulary"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AppendRequest } from "../RunClient.ts"
import * as RunClientError from "../RunClientError.ts"
import { mostOfAppended } from "./answer.ts"
import { Lost, Violation } from "./failure.ts"
import { violationsAllowed } from "./patience.ts"
import { refusalOf, respond, scheduleOf, type Settings, textOf } from "./retrying.ts"

export const Appended = Schema.Struct({
  events: Schema.Array(Schema.Struct({ seq: Schema.Int, eventId: EventId, cursor: Schema.String })),
  cursor: Schema.String,
})

const decodeAppended = Schema.decodeUnknownOption(Schema.fromJsonString(Appended))

/** The event as it is posted: what the vocabulary says of it is the server's to say. */
const posted = (event: EncodedEvent): string => {
  const given = { ...event, kind: undefined, delivery: undefined, endsRun: undefined, event: undefined }
  return `${JSON.stringify(given).slice(0, -1)},"event":${event.event}}`
}

export const append = Effect.fnUntraced(function* <E>(settings: Settings, request: AppendRequest<E>) {
  const { expected, lease, runId, sessionId, vocabulary } = request
  const events = yield* Effect.forEach(request.events, (event) => Vocabulary.encode(vocabulary, event))
  const random = yield* SecureRandom
  const producer = request.producer ?? { id: yield* random.uuidV7(), epoch: 1, number: 1 }

  const url = settings.urlOf(`/runs/${runId}/events`)
  url.searchParams.set("vocabulary", vocabulary.id.name)
  if (sessionId !== undefined) url.searchParams.set("sessionId", sessionId)
  if (lease !== undefined) url.searchParams.set("lease", String(Math.ceil(Duration.toSeconds(lease))))
  const post = HttpClientRequest.post(url, {
    headers: {
      ...settings.headers,
      "producer-id": producer.id,
      "producer-epoch": String(producer.epoch),
      "producer-seq": String(producer.number),
      ...(expected === undefined ? undefined : { "if-match": `"${expected}"` }),
    },
  }).pipe(HttpClientRequest.bodyText(`[${events.map(posted).join(",")}]`, "application/json"))

  const { appendTimeout } = settings
  let asked: number | undefined
  let violations = 0

  const once = Effect.gen(function* () {
    const response = yield* respond(settings, post, appendTimeout)
    if (response.status >= 400) return yield* Effect.fail(yield* refusalOf(response, appendTimeout))
    const text = yield* textOf(response, mostOfAppended(events.length), appendTimeout)
    const appended = response.status === 200 ? decodeAppended(text) : Option.none()
    const ids = Option.map(appended, (answer) => answer.events.map(({ eventId }) => eventId).join())
    if (Option.isSome(appended) && ids.pipe(Option.contains(events.map(({ eventId }) => eventId).join()))) {
      return appended.value
    }
    return yield* Effect.fail(
      new Violation(`an append was answered with ${response.status} and ${text.slice(0, 80)}`, response.status),
    )
  })

  return yield* once.pipe(
    Effect.tapError((error) =>
      Effect.sync(() => {
        if (error instanceof Lost) asked = error.after
        if (error instanceof Violation) violations++
      }),
    ),
    Effect.retry({
      schedule: scheduleOf(settings.retry, () => asked),
      while: (error) => error instanceof Lost || (error instanceof Violation && violations < violationsAllowed),
    }),
    Effect.mapError((error) =>
      error instanceof Lost || error instanceof Violation
        ? RunClientError.givenUp({ runId }, error)
        : RunClientError.ofAppend(runId, error, { expected, producer }),
    ),
  )
})
