/** Promise 6 of sessions over HTTP: all their runs, in the order of the store. */
import * as Envelope from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Faults from "./httpFaults.ts"
import type { HttpLaw } from "./httpLawsReading.ts"
import { live } from "./httpLive.ts"
import * as Reader from "./httpReader.ts"
import * as SessionReader from "./httpSessionReader.ts"
import * as World from "./httpWorld.ts"

export const session: HttpLaw = Law.make({
  promise: 6,
  name: "over HTTP a reader of a session sees each event of its runs once, in the order of the store, however its connections fail",
  history: Arbitrary.all({
    writes: Arbitrary.array(
      Arbitrary.all({ run: Generator.int(0, 2), events: Generator.int(1, 4), ends: Generator.boolean }),
      { minLength: 1, maxLength: 6 },
    ),
    readers: Arbitrary.array(
      Arbitrary.all({
        kind: Reader.arbitraryKind,
        joins: Generator.int(0, 6),
        faults: Arbitrary.array(Faults.readFault, { maxLength: 4 }),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    /** Where readers come back to once all is stored. */
    place: Generator.int(0, 20),
  }),
  runs: 15,
  enough: 6,
  reaches: { "a cut connection": 0.2 },
  property: live(
    Effect.fnUntraced(function* ({ place, readers, writes }, reach) {
      const client = yield* World.client()
      const runs = [yield* World.newRun, yield* World.newRun, yield* World.newRun]
      const sessionId = Envelope.SessionId.make(`session-${runs[0]!}`)
      const seqs = new Map<Envelope.RunId, number>()
      const expected: Array<string> = []
      const joined: Array<SessionReader.Seen> = []
      const join = Effect.fnUntraced(function* (index: number) {
        for (const { faults, joins, kind } of readers) {
          if (Math.min(joins, writes.length) !== index) continue
          const fetch = Reader.through(kind, faults, reach)
          joined.push(yield* SessionReader.follow(kind, sessionId, { fetch }))
        }
      })
      for (const [index, { ends, events, run }] of writes.entries()) {
        yield* join(index)
        const runId = runs[run]!
        const steps = World.steps(events)
        yield* World.write(client, runId, ends ? [...steps, World.done] : steps, { sessionId })
        const before = seqs.get(runId) ?? 0
        const after = before + events + (ends ? 1 : 0)
        for (let seq = before + 1; seq <= after; seq++) expected.push(SessionReader.placeOf(runId, seq))
        seqs.set(runId, after)
        // A session outlasts its runs.
        if (ends) runs[run] = yield* World.newRun
      }
      yield* join(writes.length)
      // A server without an archive has no sessions.
      const first = joined[0]!
      yield* World.until("an answer", () => first.end !== "open" || first.events.length > 0)
      if (first.end === "no-archive") return
      for (const [index, seen] of joined.entries()) yield* SessionReader.sawAll(seen, expected, `(reader ${index})`)
      const from = place % expected.length
      for (const kind of Reader.kinds) {
        const seen = yield* SessionReader.follow(kind, sessionId, { after: first.cursors[from] })
        yield* SessionReader.sawAll(seen, expected.slice(from + 1), `after ${expected[from]}`)
      }
    }),
  ),
})
