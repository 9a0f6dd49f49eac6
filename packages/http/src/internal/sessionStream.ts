/** All runs of a session as Server-Sent Events; it never ends. */
import type { EncodedEnvelope, SessionId } from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import type { SessionItem } from "@throughline/core/RunItem"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Stream from "effect/Stream"
import * as Problem from "../Problem.ts"
import { type StreamOptions, Streaming } from "../Streams.ts"
import * as EventFilter from "./eventFilter.ts"
import type { Query } from "./request.ts"
import { headers } from "./runStream.ts"
import type { Services } from "./services.ts"
import * as sseFrame from "./sseFrame.ts"

type Item = SessionItem<EncodedEnvelope>

const frameOf = (item: Item): string => {
  switch (item._tag) {
    case "Event":
      return sseFrame.envelopeFrame(item.cursor, item.envelope)
    case "Truncated":
      return sseFrame.controlFrame("truncated", { runId: item.runId, from: item.from, to: item.to })
    case "CaughtUp":
      return sseFrame.controlFrame("caught-up", { cursor: item.cursor })
  }
}

/** Made apart from the request, so that a stream holds nothing else of it. */
const sourceOf =
  (
    { hub }: Services,
    archive: EventArchive["Service"],
    options: {
      readonly sessionId: SessionId
      readonly after: string | undefined
      readonly passes: EventFilter.Passes | undefined
    },
  ): StreamOptions["source"] =>
  (sink) => {
    const { after, passes, sessionId } = options
    return hub.session(sessionId, { after }).pipe(
      Stream.runForEachArray((items: ReadonlyArray<Item>) => {
        const passing =
          passes === undefined ? items : items.filter((item) => item._tag !== "Event" || passes(item.envelope))
        return passing.length === 0 ? Effect.void : sink.write(sseFrame.piecesOf(passing, frameOf))
      }),
      Effect.provideService(EventArchive, archive),
      Effect.mapError(Problem.ofError),
    )
  }

/** What a request asks of a stream. */
const askedOf = Effect.fnUntraced(function* ({ archive }: Services, query: Query) {
  if (archive === undefined) return yield* Problem.refuse("no-archive", "the store of this server keeps no sessions")
  return { archive, passes: yield* Effect.fromResult(EventFilter.fromQuery(query)) }
})

/** The headers of the stream of a session. */
export const answerHead = (services: Services, query: Query) =>
  Effect.as(askedOf(services, query), HttpServerResponse.empty({ status: 200, headers }))

/** Answers with the stream of a session. */
export const serve = Effect.fnUntraced(function* (
  services: Services,
  request: HttpServerRequest,
  sessionId: SessionId,
  query: Query,
  stream: Pick<StreamOptions, "client" | "headers" | "stillAllowed">,
) {
  const { archive, passes } = yield* askedOf(services, query)
  const after = request.headers["last-event-id"] || query.get("after") || undefined
  return new Streaming({
    client: stream.client,
    stillAllowed: stream.stillAllowed,
    headers: { ...stream.headers, ...headers },
    source: sourceOf(services, archive, { sessionId, after, passes }),
  })
})
