/** Promises 6, 7, 9 and 11 over HTTP: what readers receive. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Faults from "./httpFaults.ts"
import * as Reader from "./httpReader.ts"
import * as World from "./httpWorld.ts"
import { live } from "./httpLive.ts"

export type HttpLaw = Law.Law<World.HttpUnderTest>

const arbitraryReader = Arbitrary.all({
  kind: Reader.arbitraryKind,
  /** After which write it comes; before the first, the run is not there yet. */
  joins: Generator.int(0, 4),
  /** Whether it begins after what is stored then, and by a cursor or a bare seq. */
  begins: Generator.weighted([
    [2, "at the start"],
    [1, "at a cursor"],
    [1, "at a seq"],
  ]),
  faults: Arbitrary.array(Faults.readFault, { maxLength: 5 }),
})

export const whole: HttpLaw = Law.make({
  promise: 6,
  name: "over HTTP a reader sees each seq after its place once, in order, to the end, however its connections fail",
  history: Arbitrary.all({
    writes: Arbitrary.array(Arbitrary.all({ events: Generator.int(1, 6), wait: Generator.int(0, 10) }), {
      minLength: 1,
      maxLength: 5,
    }),
    readers: Arbitrary.array(arbitraryReader, { minLength: 1, maxLength: 4 }),
  }),
  runs: 40,
  enough: 30,
  reaches: {
    "a refused connection": 0.2,
    "a cut connection": 0.2,
    "a connection that falls silent": 0.05,
    "a reader that came before the run": 0.2,
  },
  property: live(
    Effect.fnUntraced(function* ({ readers, writes }, reach) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      const joined: Array<{ readonly seen: Reader.Seen; readonly from: number }> = []
      let seq = 0
      let cursor: string | undefined
      const join = Effect.fnUntraced(function* (index: number) {
        for (const { begins, faults, joins, kind } of readers) {
          if (Math.min(joins, writes.length) !== index) continue
          if (index === 0) reach("a reader that came before the run")
          const after = begins === "at the start" ? undefined : begins === "at a cursor" ? cursor : seq
          const fetch = Reader.through(kind, faults, reach)
          joined.push({
            seen: yield* Reader.follow(kind, runId, { after, fetch }),
            from: after === undefined ? 0 : seq,
          })
        }
      })
      for (const [index, { events, wait }] of writes.entries()) {
        yield* join(index)
        yield* Effect.sleep(wait)
        const appended = yield* World.write(client, runId, World.steps(events, seq))
        seq += events
        cursor = appended.cursor
      }
      yield* join(writes.length)
      yield* World.write(client, runId, [World.done])
      const { events } = yield* World.stored(runId)
      yield* Law.holds(events.length === seq + 1, `${events.length} events are stored of ${seq + 1}`)
      for (const [index, { from, seen }] of joined.entries()) {
        yield* Reader.sawAll(seen, events.slice(from), `(reader ${index}, after seq ${from})`)
      }
    }),
  ),
})

export const anyPlace: HttpLaw = Law.make({
  promise: 6,
  name: "over HTTP, for every k, what a reader had up to k plus what resuming at k gives is the run",
  history: Arbitrary.all({ events: Generator.int(0, 6), guarded: Generator.boolean }),
  runs: 8,
  enough: 4,
  property: live(
    Effect.fnUntraced(function* ({ events: count, guarded }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      if (count > 0) yield* World.write(client, runId, World.steps(count))
      const { cursor } = yield* World.write(client, runId, [World.done])
      const { events } = yield* World.stored(runId)
      const generation = cursor.slice(cursor.indexOf("-"))
      for (const kind of Reader.kinds) {
        for (let k = 0; k <= events.length; k++) {
          const seen = yield* Reader.follow(kind, runId, { after: guarded && k > 0 ? `${k}${generation}` : k })
          yield* Reader.sawAll(seen, events.slice(k), `after seq ${k}`)
        }
      }
    }),
  ),
})

export const caughtUp: HttpLaw = Law.make({
  promise: 6,
  name: "over HTTP a reader is told once that it caught up, with no less than what was stored when it came",
  history: Arbitrary.all({ kind: Reader.arbitraryKind, before: Generator.int(0, 5), after: Generator.int(0, 5) }),
  runs: 15,
  enough: 5,
  property: live(
    Effect.fnUntraced(function* ({ after, before, kind }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      if (before > 0) yield* World.write(client, runId, World.steps(before))
      const seen = yield* Reader.follow(kind, runId)
      yield* World.until("word that the reader caught up", () => seen.caughtUp.length > 0 || seen.end !== "open")
      yield* Law.same("the head it caught up with", seen.caughtUp, [before])
      yield* Law.same("the events it had then", seen.envelopes.length, before)
      if (after > 0) yield* World.write(client, runId, World.steps(after))
      yield* World.write(client, runId, [World.done])
      yield* Reader.sawAll(seen, (yield* World.stored(runId)).events, "after it caught up")
    }),
  ),
})

export const removed: HttpLaw = Law.make({
  promise: 6,
  name: "over HTTP a run removed under its readers ends them, and written again it refuses old cursors",
  history: Arbitrary.all({ events: Generator.int(1, 5), again: Generator.int(1, 8) }),
  runs: 8,
  enough: 3,
  property: live(
    Effect.fnUntraced(function* ({ again, events }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      const { cursor } = yield* World.write(client, runId, World.steps(events))
      const readers = yield* Effect.forEach(Reader.kinds, (kind) => Reader.follow(kind, runId))
      yield* World.until("readers that caught up", () => readers.every((seen) => seen.caughtUp.length > 0))
      yield* World.remove(runId)
      yield* World.until("end of the readers of a removed run", () => readers.every(({ end }) => end !== "open"))
      for (const { end, kind } of readers) {
        yield* Law.holds(end === "run-removed" || end === "run-unknown", `${kind} ended with ${end}`)
      }
      yield* World.write(client, runId, World.steps(again))
      for (const kind of Reader.kinds) {
        const old = yield* Reader.follow(kind, runId, { after: cursor })
        yield* World.until("refusal of an old cursor", () => old.end !== "open")
        yield* Law.same(`what ${kind} got at an old cursor`, [old.end, old.envelopes.length], ["cursor-stale", 0])
      }
    }),
  ),
})

export const endArrives: HttpLaw = Law.make({
  promise: 7,
  name: "over HTTP every reader that waits gets the end, and its stream closes",
  history: Arbitrary.all({ readers: Generator.int(1, 20), events: Generator.int(0, 3), isKept: Generator.boolean }),
  runs: 15,
  enough: 6,
  property: live(
    Effect.fnUntraced(function* ({ events, isKept, readers }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      if (events > 0) yield* World.write(client, runId, World.steps(events))
      const seen = yield* Effect.forEach(Array(readers).keys(), (index) =>
        Reader.follow(Reader.kinds[index % Reader.kinds.length]!, runId, {
          after: isKept && events > 0 ? events : undefined,
        }),
      )
      yield* World.until("readers that caught up", () => seen.every((reader) => reader.caughtUp.length > 0))
      yield* World.write(client, runId, [World.done])
      const { events: all } = yield* World.stored(runId)
      for (const reader of seen) {
        yield* Reader.sawAll(reader, isKept ? all.slice(events) : all, "that waited")
      }
    }),
  ),
})

export const filtered: HttpLaw = Law.make({
  promise: 9,
  name: "over HTTP a filter takes what it says, in order, and never the end",
  history: Arbitrary.all({
    kind: Reader.arbitraryKind,
    events: Arbitrary.array(Generator.boolean, { minLength: 1, maxLength: 10 }),
    stored: Generator.int(0, 10),
    faults: Arbitrary.array(Faults.readFault, { maxLength: 2 }),
  }),
  runs: 15,
  enough: 5,
  property: live(
    Effect.fnUntraced(function* ({ events, faults, kind, stored }, reach) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      const all = events.map((isText, index) =>
        isText ? World.step(String(index)) : ({ _tag: "Custom", name: "other", data: index } as const),
      )
      const first = all.slice(0, stored)
      const rest = all.slice(stored)
      if (first.length > 0) yield* World.write(client, runId, first)
      const seen = yield* Reader.follow(kind, runId, { kinds: ["Custom"], fetch: Reader.through(kind, faults, reach) })
      yield* World.until("a reader that caught up", () => seen.caughtUp.length > 0)
      yield* World.write(client, runId, [...rest, World.done])
      const expected = (yield* World.stored(runId)).events.filter(
        (envelope) => envelope.kind === "Custom" || envelope.endsRun !== undefined,
      )
      yield* Reader.sawAll(seen, expected, "with a filter")
    }),
  ),
})

export const refused: HttpLaw = Law.make({
  promise: 11,
  name: "over HTTP a cursor of another generation, one beyond the end, and text that is none are refused, and never waited on",
  history: Arbitrary.all({ events: Generator.int(1, 5), beyond: Generator.int(1, 1_000), ended: Generator.boolean }),
  runs: 8,
  enough: 3,
  property: live(
    Effect.fnUntraced(function* ({ beyond, ended, events }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      const { cursor } = yield* World.write(client, runId, [...World.steps(events), ...(ended ? [World.done] : [])])
      const seq = events + (ended ? 1 : 0)
      const generation = cursor.slice(cursor.indexOf("-") + 1)
      const other = generation === "aaaaaaaa" ? "bbbbbbbb" : "aaaaaaaa"
      for (const kind of Reader.kinds) {
        for (const [after, name] of [
          [`${seq}-${other}`, "cursor-stale"],
          [`${seq + beyond}-${generation}`, "cursor-ahead"],
          [seq + beyond, "cursor-ahead"],
          [`${seq}-`, "invalid-cursor"],
          ["one", "invalid-cursor"],
        ] as const) {
          const seen = yield* Reader.follow(kind, runId, { after })
          yield* World.until(`refusal of ${after}`, () => seen.end !== "open")
          yield* Law.same(`what ${kind} got after ${after}`, [seen.end, seen.envelopes.length], [name, 0])
        }
      }
    }),
  ),
})
