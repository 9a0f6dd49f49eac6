/** Promise 2 over HTTP, to the letter: an event has one text in every answer that holds it. */
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import type { HttpLaw } from "./httpLawsReading.ts"
import { live } from "./httpLive.ts"
import * as World from "./httpWorld.ts"

/** A stream as its bytes came. */
interface Raw {
  status: number
  text: string
}

const isOpen = ({ status }: Raw): boolean => status === 200

/** Reads a stream until it closes or the scope does. */
const listen = Effect.fnUntraced(function* (path: string) {
  const { url } = yield* World.HttpUnderTest
  const raw: Raw = { status: 0, text: "" }
  const reading = Effect.promise(async (signal) => {
    try {
      const headers = { accept: "text/event-stream" }
      const { body, status } = await fetch(`${url.replace(/\/$/, "")}${path}`, { headers, signal })
      raw.status = status
      if (!isOpen(raw) || body === null) return
      const decoder = new TextDecoder()
      for await (const chunk of body) raw.text += decoder.decode(chunk, { stream: true })
    } catch (error) {
      if (!signal.aborted) throw error
    }
  })
  yield* Effect.forkScoped(reading, { startImmediately: true })
  return raw
})

/** What a stream has of envelopes, by their cursors: the text after `data:`. */
const textsOf = ({ text }: Raw): ReadonlyArray<string> =>
  text.split("\n\n").flatMap((frame) => /^id: .*\ndata: (.*)$/s.exec(frame)?.[1]?.replaceAll("\ndata: ", "\n") ?? [])

/** The body of an answer. */
const get = Effect.fnUntraced(function* (path: string, accept: string) {
  const { url } = yield* World.HttpUnderTest
  return yield* Effect.promise(async (signal) => {
    const answer = await fetch(`${url.replace(/\/$/, "")}${path}`, { headers: { accept }, signal })
    return answer.text()
  })
})

const orders = Generator.weighted<Readonly<Record<string, string>> | undefined>([
  [1, undefined],
  [2, { z: "1", a: "é", 10: "x", 9: "y" }],
])

const input = Arbitrary.all({
  correlation: orders,
  routed: Generator.boolean,
  text: Generator.weighted([
    [1, "plain"],
    [1, 'é漢🚲 "\u2028\n'],
  ]),
})

export const oneText: HttpLaw = Law.make({
  promise: 2,
  name: "over HTTP an event is the same JSON, byte for byte, live, replayed, in a page, as a line and in its session",
  history: Arbitrary.all({
    inputs: Arbitrary.array(input, { minLength: 1, maxLength: 5 }),
    stored: Generator.int(0, 3),
  }),
  runs: 10,
  enough: 6,
  property: live(
    Effect.fnUntraced(function* ({ inputs, stored }) {
      const runId = yield* World.newRun
      const sessionId = Envelope.SessionId.make(`session-${runId}`)
      const client = yield* World.client()
      const write = (from: number, to: number, last: ReadonlyArray<AgentEvents.AgentEvent> = []) => {
        const events = inputs.slice(from, to).map(({ correlation, routed, text }) => ({
          event: World.step(text),
          ...(correlation === undefined ? undefined : { correlation, tags: ["b", "a"] }),
          ...(routed ? { agentId: Envelope.AgentId.make("a:1"), provider: "pro vider", turnId: '"t"' } : undefined),
        }))
        const all = [...events, ...last.map((event) => ({ event }))]
        return all.length === 0
          ? Effect.void
          : client.append({ runId, sessionId, vocabulary: AgentEvents.vocabulary, events: all })
      }
      yield* write(0, stored)
      const run = `/runs/${runId}/events`
      const followed = yield* listen(`${run}?wait`)
      const session = yield* listen(`/sessions/${sessionId}/events`)
      yield* World.until("readers that caught up", () =>
        [followed, session].every((raw) => raw.status > 200 || raw.text.includes("event: caught-up")),
      )
      yield* write(stored, inputs.length, [World.done])
      const count = inputs.length + 1
      const came = (raw: Raw) => World.until(`${count} events of a stream`, () => textsOf(raw).length >= count)
      yield* came(followed)
      const replayed = yield* listen(run)
      yield* came(replayed)
      const texts = textsOf(replayed)
      yield* Law.same("the JSON of live events", textsOf(followed), texts)
      yield* Law.same("the lines", yield* get(run, "application/x-ndjson"), `${texts.join("\n")}\n`)
      const page = yield* get(run, "application/json")
      yield* Law.holds(
        page.includes(`[${texts.join(",")}]`),
        () => `the page is ${page}, and its events ${texts.join()}`,
      )
      // A server without an archive has no sessions.
      if (!isOpen(session)) return
      yield* came(session)
      yield* Law.same("the JSON of a session's live events", textsOf(session), texts)
      const again = yield* listen(`/sessions/${sessionId}/events`)
      yield* came(again)
      yield* Law.same("the JSON of a session's events", textsOf(again), texts)
    }),
  ),
})
