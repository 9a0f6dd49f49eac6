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
import { call } from "./calling.ts"
import { Lost, Violation } from "./failure.ts"
import type { Settings } from "./retrying.ts"

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

  const ids = events.map(({ eventId }) => eventId).join()
  return yield* call(settings, post, {
    what: "an append",
    most: mostOfAppended(events.length),
    read: (text, { status }) =>
      Option.getOrUndefined(
        Option.filter(
          status === 200 ? decodeAppended(text) : Option.none(),
          (answer) => answer.events.map(({ eventId }) => eventId).join() === ids,
        ),
      ),
  }).pipe(
    Effect.mapError((error) =>
      error instanceof Lost || error instanceof Violation
        ? RunClientError.givenUp({ runId }, error)
        : RunClientError.ofAppend(runId, error, { expected, producer }),
    ),
  )
})
