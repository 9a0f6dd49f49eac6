/** Promise 2, to the letter: an event has one text, from its append on. */
import type { EncodedEnvelope, EncodedEvent, EventJson } from "@throughline/core/Envelope"
import { toJson } from "@throughline/core/Envelope"
import { type AppendRequest, type AppendResult, EventStore } from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as StoreHistory from "./storeHistory.ts"
import * as StorePlayer from "./storePlayer.ts"

/** JSON of one value that differs once it was parsed and printed again, or not at all. */
const json = Generator.weighted([
  [2, '{"n":1,"text":"é漢🚲"}'],
  [1, '{ "n" : 1.0, "text":\t"\\u0041" }'],
  [1, '{\n  "b": 1e2,\n  "a": [ ]\n}'],
  [1, '"\\/"'],
])

const correlation = Generator.weighted<Readonly<Record<string, string>>>([
  [1, {}],
  [1, { trace: "t 1" }],
  [2, { z: '"', é: "\u2028", a: "1", 10: "x", 9: "y" }],
])

const tags = Generator.weighted<ReadonlyArray<string>>([
  [2, []],
  [1, ["b", 'a"', "b"]],
])

const shape = Arbitrary.all({ correlation, json, routed: Generator.boolean, tags })

/** The same content with the keys of its objects in another order. */
const turned = <A extends object>(value: A): A => Object.fromEntries(Object.entries(value).toReversed()) as A

const turnedEvent = (event: EncodedEvent): EncodedEvent => turned({ ...event, correlation: turned(event.correlation) })

const textsOf = (envelopes: ReadonlyArray<EncodedEnvelope>): ReadonlyArray<string> => envelopes.map(toJson)

const answered = ({ frames }: AppendResult): ReadonlyArray<string> => textsOf(frames.map(({ envelope }) => envelope))

/** Promise 2. */
export const oneText: Law.Law<EventStore, StoreOptions> = Law.make({
  promise: 2,
  name: "an event is the same JSON, byte for byte, in the answers to its append and to a repeat and in every page; that of a will too",
  history: Arbitrary.all({
    shapes: Arbitrary.array(shape, { minLength: 1, maxLength: 5 }),
    session: Generator.boolean,
    turns: Generator.boolean,
    ends: Generator.weighted([
      [1, "by a will"],
      [1, "as abandoned"],
    ]),
    limit: Generator.int(1, 4),
  }),
  runs: 30,
  property: Effect.fnUntraced(function* ({ ends, limit, session, shapes, turns }) {
    const store = yield* EventStore
    const runId = StorePlayer.runIdOf(0)
    const eventOf = (n: number, { json: text, ...rest }: (typeof shapes)[number], endsRun?: "failed"): EncodedEvent => {
      const given = { ...StoreHistory.event(n, { ...StoreHistory.plain, ...rest }, endsRun), event: text as EventJson }
      return turns ? turnedEvent(given) : given
    }
    const events = shapes.map((one, index) => eventOf(index + 1, one))
    const will = eventOf(shapes.length + 1, shapes[0]!, "failed")
    const request: AppendRequest = {
      runId,
      vocabulary: { name: "law", version: 3 },
      events,
      producer: { id: "p", epoch: 1, number: 1 },
      ...(session ? { sessionId: StorePlayer.sessionIds[0]! } : undefined),
      ...(ends === "by a will" ? { lease: { ttl: "10 seconds", will } } : undefined),
    }
    const texts = answered(yield* store.append(request))
    const again = yield* store.append({ ...request, events: events.map(turnedEvent) })
    yield* Law.same("the JSON in the answer to a repeat", answered(again), texts)
    yield* TestClock.adjust("11 seconds")
    const { lease, lastSeq } = yield* store.head(runId)
    const ended =
      ends === "by a will"
        ? [yield* store.appendWill(runId, { leaseVersion: lease?.version ?? 0, expectedSeq: lastSeq })]
        : yield* store.endAbandoned({ idleFor: "10 seconds", event: will })
    const all = [...texts, ...ended.flatMap(answered)]
    const read: Array<string> = []
    for (let after = 0; after < all.length;) {
      const { envelopes } = yield* store.read({ runId, after, limit })
      read.push(...textsOf(envelopes))
      after += Math.max(1, envelopes.length)
    }
    yield* Law.same("the JSON of the events read", read, all)
  }),
})
