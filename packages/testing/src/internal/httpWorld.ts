/** A server under test, what is written to it, and what it says is stored. */
import * as RunClient from "@throughline/client/RunClient"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Law from "../Law.ts"

/** The server that laws are put to. */
export class HttpUnderTest extends Context.Service<
  HttpUnderTest,
  {
    /** Where its routes are: no credential asked for, appends and removals allowed, `AgentEvents` among its vocabularies. */
    readonly url: string
    /** Live ms that anything may take; 15,000 by default, on a machine that does other things too. */
    readonly patience?: number | undefined
  }
>()("@throughline/testing/internal/httpWorld/HttpUnderTest") {}

/** Live ms without a byte after which a reader takes a connection for lost: short, as it only makes it ask again. */
export const idleTimeout = 500

/** Tries in a row: none is refused for so long by any history. */
export const attempts = 500

/** Live ms between tries. */
export const pause = 5

/** A client of the server whose requests go through `fetch`. */
export const client = Effect.fnUntraced(function* (fetch: typeof globalThis.fetch = globalThis.fetch) {
  const { url } = yield* HttpUnderTest
  const built = yield* Layer.build(
    RunClient.layer({ url, idleTimeout, retry: Schedule.upTo(Schedule.spaced(pause), { times: attempts }) }).pipe(
      Layer.provide(FetchHttpClient.layer),
      Layer.provide(Layer.succeed(FetchHttpClient.Fetch, fetch)),
      Layer.provide(Throughline.layerCrypto),
    ),
  )
  return Context.get(built, RunClient.RunClient)
})

export type Client = Effect.Success<ReturnType<typeof client>>

/** A run that no other case has, on a server that may keep the runs of all of them: so it isn't the case's to seed. */
export const newRun = Effect.sync(() => Envelope.RunId.make(`law-${globalThis.crypto.randomUUID()}`))

/** Text whose bytes are cut in all ways. */
export const step = (text: string): AgentEvents.AgentEvent => ({
  _tag: "TextDelta",
  messageId: "m",
  text: `é漢🚲 ${text}`,
})

export const steps = (count: number, from = 0): ReadonlyArray<AgentEvents.AgentEvent> =>
  Array.from({ length: count }, (_, index) => step(String(from + index)))

export const done: AgentEvents.AgentEvent = { _tag: "RunCompleted", finishReason: "stop", iterations: 1 }

/** Appends events to a run. */
export const write = (
  { append }: Client,
  runId: Envelope.RunId,
  events: ReadonlyArray<AgentEvents.AgentEvent>,
  request: Partial<RunClient.AppendRequest<AgentEvents.AgentEvent>> = {},
) => append({ runId, vocabulary: AgentEvents.vocabulary, events: events.map((event) => ({ event })), ...request })

const Page = Schema.Struct({
  head: Schema.Struct({ lastSeq: Schema.Int, status: Schema.String, cursor: Schema.optionalKey(Schema.String) }),
  next: Schema.String,
  events: Schema.Array(Envelope.schema(Schema.Unknown)),
})

/** A run as its pages have it. */
export const stored = Effect.fnUntraced(function* (runId: Envelope.RunId) {
  const { url } = yield* HttpUnderTest
  const events: Array<Envelope.Envelope<unknown>> = []
  for (let after = "0"; ;) {
    const response = yield* HttpClient.get(`${url.replace(/\/$/, "")}/runs/${runId}/events`, {
      urlParams: { after, limit: "1000" },
      headers: { accept: "application/json" },
    })
    const page = yield* HttpClientResponse.schemaBodyJson(Page)(response)
    events.push(...page.events)
    after = page.next
    if (page.events.length === 0 || events.at(-1)?.seq === page.head.lastSeq) {
      return { events, cursor: page.head.cursor ?? "0", status: page.head.status }
    }
  }
}, Effect.provide(FetchHttpClient.layer))

/** Removes a run. */
export const remove = (runId: Envelope.RunId) =>
  Effect.flatMap(HttpUnderTest, ({ url }) => HttpClient.del(`${url.replace(/\/$/, "")}/runs/${runId}`)).pipe(
    Effect.flatMap(({ status }) => Law.holds(status === 204, `a run was removed with status ${status}`)),
    Effect.provide(FetchHttpClient.layer),
  )

/** Waits until something holds; breaks the law after a patience that no working server needs. */
export const until = Effect.fnUntraced(function* (what: string, condition: () => boolean) {
  const { patience = 15_000 } = yield* HttpUnderTest
  const began = yield* Clock.currentTimeMillis
  while (!condition()) {
    if ((yield* Clock.currentTimeMillis) - began > patience) return yield* Law.broken(`no ${what} in ${patience} ms`)
    yield* Effect.sleep(2)
  }
})
