import { assert, it } from "@effect/vitest"
import { type EncodedEnvelope, EventJson } from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as MutantServer from "./mutantServer.ts"
import { serve } from "./serving.ts"

type HttpMutant = Mutant.Mutant<HttpLaws.HttpUnderTest>

/** An adapter whose subscribers get each event printed in another way than the store has it. */
const printsAgain = Layer.effect(
  StreamAdapter.StreamAdapter,
  Effect.map(StreamAdapter.StreamAdapter, (adapter) => ({
    ...adapter,
    publish: (rooms, frames) =>
      adapter.publish(
        rooms,
        frames.map((frame) => ({ ...frame, envelope: printedAgain(frame.envelope) })),
      ),
  })),
).pipe(Layer.provide(StreamAdapter.layerMemory))

const printedAgain = (envelope: EncodedEnvelope): EncodedEnvelope => ({
  ...envelope,
  event: EventJson.make(JSON.stringify(JSON.parse(envelope.event), null, 1)),
})

/** A server of a case's own, and what comes between it and its clients. */
const served = (changes: MutantServer.Changes, patience?: number, adapter = StreamAdapter.layerMemory) =>
  HttpLaws.live(
    Layer.effect(
      HttpLaws.HttpUnderTest,
      Effect.gen(function* () {
        const backend = Throughline.layer(Layer.mergeAll(EventStore.layerMemory(), adapter), { hub: { watchdog: 50 } })
        const { base } = yield* serve({ backend })
        const { url } = yield* MutantServer.before(base, changes)
        return { url, patience }
      }),
    ),
  )

const mutant = (bug: string, law: HttpLaws.HttpLaw, says: string, changes: MutantServer.Changes): HttpMutant => ({
  bug,
  law: law.name,
  says,
  subject: served(changes),
})

/** A mutant whose readers may wait for ever. */
const hanging = (bug: string, law: HttpLaws.HttpLaw, says: string, changes: MutantServer.Changes): HttpMutant => ({
  ...mutant(bug, law, says, changes),
  subject: served(changes, 1_000),
})

const isEnvelope = (frame: string): boolean => frame.startsWith("id:")
const isNamed = (frame: string, name: string): boolean => frame.startsWith(`event: ${name}\n`)
const seqOf = (frame: string): number => Number.parseInt(frame.slice("id: ".length), 10)

/** The request with another query. */
const asking = (asked: MutantServer.Asked, change: (query: URLSearchParams) => void): MutantServer.Asked => {
  const url = new URL(asked.url)
  change(url.searchParams)
  return { ...asked, url }
}

/** The request without some headers. */
const without = (asked: MutantServer.Asked, ...names: ReadonlyArray<string>): MutantServer.Asked => ({
  ...asked,
  headers: Object.fromEntries(Object.entries(asked.headers).filter(([name]) => !names.includes(name))),
})

const isSession = ({ url }: MutantServer.Asked): boolean => url.pathname.startsWith("/sessions/")

const unguarded = (cursor: string): string => cursor.replace(/-[a-z0-9]{8}/, "")

/** What a law says of a reader of a stream. */
const inStream = "(reader "

const stream = { status: 200, type: "text/event-stream", body: "" }

it.live("what stands between a mutant and its readers breaks no law by itself", () =>
  Effect.gen(function* () {
    for (const law of [HttpLaws.anyPlace, HttpLaws.filtered, HttpLaws.checked]) {
      const verdict = yield* law.check(served({}), { slow: true })
      assert.strictEqual(verdict._tag, "Holds", verdict._tag === "Broken" ? verdict.report : law.name)
    }
  }),
)

Mutant.suite("HTTP", HttpLaws.laws, [
  {
    bug: "sends live events in other words than it stores them",
    law: HttpLaws.oneText.name,
    says: "the JSON of live events",
    subject: served({}, undefined, printsAgain),
  },
  mutant("leaves an event out of a stream", HttpLaws.whole, inStream, {
    frames: () => (frame) => (isEnvelope(frame) && seqOf(frame) === 2 ? [] : [frame]),
  }),
  mutant("sends an event twice", HttpLaws.whole, inStream, {
    frames: () => (frame) => (isEnvelope(frame) ? [frame, frame] : [frame]),
  }),
  mutant("sends an event before the one it follows", HttpLaws.whole, inStream, {
    frames: () => {
      let held: string | undefined
      return (frame) => {
        if (isEnvelope(frame) && seqOf(frame) === 2) {
          held = frame
          return []
        }
        const first = held
        held = undefined
        return first === undefined ? [frame] : [frame, first]
      }
    },
  }),
  hanging("gives its control frames an id", HttpLaws.whole, inStream, {
    frames: () => {
      let frames = 0
      return (frame) => [isNamed(frame, "caught-up") ? `id: frame-${++frames}\n${frame}` : frame]
    },
  }),
  mutant("sends events under a name", HttpLaws.whole, inStream, {
    frames: () => (frame) => [isEnvelope(frame) ? `event: envelope\n${frame}` : frame],
  }),
  hanging("begins anew for whoever comes back", HttpLaws.whole, inStream, {
    asked: (asked) => [without(asked, "last-event-id")],
  }),
  mutant("doesn't know where a reader begins", HttpLaws.anyPlace, "received", {
    asked: (asked) => [asking(asked, (query) => asked.method === "GET" && query.has("wait") && query.delete("after"))],
  }),
  mutant("tells whoever has a part that nothing follows", HttpLaws.whole, inStream, {
    instead: ({ headers, url }) =>
      headers["last-event-id"] !== undefined || (url.searchParams.has("wait") && url.searchParams.has("after"))
        ? { status: 204, type: "", body: "" }
        : undefined,
  }),
  mutant("closes a stream as if the run had ended", HttpLaws.whole, inStream, {
    frames: () => (frame) => {
      const cursor = /^id: (.*)/.exec(frame)?.[1]
      return cursor === undefined || frame.includes('"endsRun"')
        ? [frame]
        : [frame, `event: end\ndata: ${JSON.stringify({ status: "completed", cursor })}`, null]
    },
  }),
  hanging("keeps a stream open after the end", HttpLaws.endArrives, "in 1000 ms", { staysOpen: true }),
  hanging("lets whoever has the end come back for ever", HttpLaws.endArrives, "in 1000 ms", {
    answer: (answer) => (answer.status === 204 ? stream : answer),
  }),
  mutant("says that a reader has caught up before it has", HttpLaws.caughtUp, "", {
    frames: () => {
      let isFirst = true
      return (frame) => {
        if (isNamed(frame, "caught-up")) return []
        const said = isFirst ? ['event: caught-up\ndata: {"head":0}'] : []
        isFirst = false
        return [...said, frame]
      }
    },
  }),
  mutant("loses the end where a filter leaves it out", HttpLaws.filtered, "", {
    frames: ({ url }) => {
      const kinds = url.searchParams.get("kinds")?.split(",")
      return (frame) =>
        kinds !== undefined && isEnvelope(frame) && !kinds.some((kind) => frame.includes(`"kind":"${kind}"`))
          ? []
          : [frame]
    },
  }),
  hanging("takes a cursor of a run that was removed", HttpLaws.removed, "old cursor", {
    asked: (asked) => [
      asking(asked, (query) => query.has("after") && query.set("after", unguarded(query.get("after")!))),
    ],
  }),
  hanging("waits on a cursor beyond the end", HttpLaws.refused, "in 1000 ms", {
    answer: (answer) => (answer.body.includes("cursor-ahead") ? stream : answer),
  }),
  mutant("begins a session anew for whoever comes back", HttpLaws.session, "", {
    asked: (asked) => [
      isSession(asked)
        ? asking(without(asked, "last-event-id"), (query) => {
            query.delete("after")
          })
        : asked,
    ],
  }),
  hanging("leaves the first event of each run out of its session", HttpLaws.session, "in 1000 ms", {
    frames: (asked) => (frame) => (isSession(asked) && frame.includes('"seq":1,') ? [] : [frame]),
  }),
  hanging("never says that a session has caught up", HttpLaws.session, "caught up", {
    frames: (asked) => (frame) => (isSession(asked) && isNamed(frame, "caught-up") ? [] : [frame]),
  }),
  mutant("stores an append again that is sent again", HttpLaws.once, "", {
    asked: (asked) => [without(asked, "producer-id", "producer-epoch", "producer-seq")],
  }),
  mutant("stores a batch event by event", HttpLaws.order, "", {
    asked: (asked) => {
      if (asked.method !== "POST") return [asked]
      const events = JSON.parse(asked.body) as ReadonlyArray<unknown>
      return events.map((event) => ({
        ...without(asked, "producer-id", "producer-epoch", "producer-seq"),
        body: JSON.stringify(event),
      }))
    },
  }),
  mutant("appends whatever the head is", HttpLaws.checked, "a head that moved on", {
    asked: (asked) => [without(asked, "if-match")],
  }),
  mutant("takes a run begun anew for the one that was removed", HttpLaws.checked, "a run begun anew", {
    asked: (asked) => [{ ...asked, headers: { ...asked.headers, ...unguardedMatch(asked.headers["if-match"]) } }],
  }),
  mutant("says that an append after the end is done", HttpLaws.oneEnd, "an append after the end", {
    answer: (answer, asked) => (answer.body.includes("run-ended") ? done(asked) : answer),
  }),
])

/** What an append is answered that was done. */
function done({ body }: MutantServer.Asked): MutantServer.Answer {
  const events = (JSON.parse(body) as ReadonlyArray<{ readonly eventId: string }>).map(({ eventId }, index) => ({
    seq: index + 1,
    eventId,
    cursor: `${index + 1}-aaaaaaaa`,
  }))
  return { status: 200, type: "application/json", body: JSON.stringify({ events, cursor: events.at(-1)!.cursor }) }
}

const unguardedMatch = (expected: string | undefined) =>
  expected === undefined ? undefined : { "if-match": unguarded(expected) }
