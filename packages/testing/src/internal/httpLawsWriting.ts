/** Promises 1, 3 and 4 over HTTP: what writers may rely on. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as Faults from "./httpFaults.ts"
import type { HttpLaw } from "./httpLawsReading.ts"
import { live } from "./httpLive.ts"
import * as Reader from "./httpReader.ts"
import * as World from "./httpWorld.ts"

const textOf = ({ event }: { readonly event: unknown }): string =>
  ((event ?? {}) as { readonly text?: string }).text ?? ""

export const order: HttpLaw = Law.make({
  promise: 1,
  name: "over HTTP concurrent appends get contiguous seqs, whole or not at all",
  history: Arbitrary.array(Arbitrary.array(Generator.int(1, 4), { minLength: 1, maxLength: 4 }), {
    minLength: 2,
    maxLength: 4,
  }),
  runs: 15,
  enough: 5,
  property: live(
    Effect.fnUntraced(function* (writers) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      const answers = yield* Effect.forEach(
        writers,
        (batches, writer) =>
          Effect.forEach(batches, (events, batch) =>
            World.write(
              client,
              runId,
              Array.from({ length: events }, (_, index) => World.step(`${writer}.${batch}.${index}`)),
            ),
          ),
        { concurrency: "unbounded" },
      )
      const { events } = yield* World.stored(runId)
      yield* Law.same(
        "the seqs of the run",
        events.map(({ seq }) => seq),
        events.map((_, index) => index + 1),
      )
      yield* Law.holds(events.length === writers.flat().reduce((sum, count) => sum + count, 0), "events are missing")
      for (const [writer, batches] of answers.entries()) {
        for (const [batch, answer] of batches.entries()) {
          const first = answer.events[0]!.seq
          for (const [index, { eventId, seq }] of answer.events.entries()) {
            yield* Law.holds(
              seq === first + index,
              `an append got the seqs ${answer.events.map((event) => event.seq).join()}`,
            )
            const there = events[seq - 1]!
            yield* Law.same(
              "the event at an answer's seq",
              [there.eventId, textOf(there)],
              [eventId, textOf({ event: World.step(`${writer}.${batch}.${index}`) })],
            )
          }
        }
      }
    }),
  ),
})

export const once: HttpLaw = Law.make({
  promise: 3,
  name: "over HTTP an append whose requests and answers are lost is stored once, in the order of the appends",
  history: Arbitrary.all({
    batches: Arbitrary.array(Generator.int(1, 3), { minLength: 1, maxLength: 6 }),
    faults: Arbitrary.array(Faults.writeFault, { maxLength: 12 }),
    named: Generator.boolean,
  }),
  runs: 25,
  enough: 16,
  reaches: { "a lost request": 0.2, "a lost answer": 0.2 },
  property: live(
    Effect.fnUntraced(function* ({ batches, faults, named }, reach) {
      const runId = yield* World.newRun
      const client = yield* World.client(Faults.writing(faults, reach))
      const texts: Array<string> = []
      for (const [index, count] of batches.entries()) {
        const producer = named ? { id: "p", epoch: 1, number: index + 1 } : undefined
        const events = World.steps(count, texts.length)
        texts.push(...events.map((event) => textOf({ event })))
        const { cursor, events: answered } = yield* World.write(client, runId, events, { producer })
        yield* Law.same(
          "the seqs of an append",
          answered.map(({ seq }) => seq),
          events.map((_, at) => texts.length - count + at + 1),
        )
        yield* Law.holds(cursor.startsWith(`${texts.length}-`), `the head after seq ${texts.length} is ${cursor}`)
      }
      yield* Law.same("what is stored", (yield* World.stored(runId)).events.map(textOf), texts)
    }),
  ),
})

const tagOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.match(effect, { onFailure: ({ _tag }) => _tag, onSuccess: (): string => "done" })

export const checked: HttpLaw = Law.make({
  promise: 3,
  name: "over HTTP an append is refused by its producer's epoch and number, by the run's end and by its head, each by name",
  history: Arbitrary.all({ epoch: Generator.int(2, 5), events: Generator.int(1, 3), skipped: Generator.int(2, 9) }),
  runs: 8,
  enough: 4,
  property: live(
    Effect.fnUntraced(function* ({ epoch, events, skipped }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      const by = (number: number, of = epoch) => ({ producer: { id: "p", epoch: of, number } })
      const append = (request: Parameters<typeof World.write>[3], count = events) =>
        tagOf(World.write(client, runId, World.steps(count), request))
      const { cursor } = yield* World.write(client, runId, World.steps(events), by(1))
      yield* Law.same("an append of an older epoch", yield* append(by(1, epoch - 1)), "ProducerFenced")
      yield* Law.same("other content under the last number", yield* append(by(1)), "ProducerMismatch")
      yield* Law.same("a skipped number", yield* append(by(1 + skipped)), "ProducerGap")
      yield* Law.same("the next number", yield* append(by(2)), "done")
      yield* Law.same("a number before the last", yield* append(by(1)), "ProducerStale")
      yield* Law.same("a head that moved on", yield* append({ expected: cursor }), "SeqConflict")
      yield* Law.same("a run that is not new", yield* append({ expected: "0" }), "SeqConflict")
      const { cursor: head } = yield* World.stored(runId)
      yield* Law.same("the head as it is", yield* append({ expected: head }), "done")
      const { cursor: last, events: stored } = yield* World.stored(runId)
      yield* Law.same("what is stored", stored.length, events * 3)
      yield* World.remove(runId)
      yield* Law.same("a run that is gone", yield* append({ expected: last }), "SeqConflict")
      yield* Law.same("a new run", yield* append({ expected: "0" }, stored.length), "done")
      yield* Law.same("a run begun anew", yield* append({ expected: last }), "SeqConflict")
    }),
  ),
})

export const oneEnd: HttpLaw = Law.make({
  promise: 4,
  name: "over HTTP a run takes nothing after its end, and reading goes on",
  history: Arbitrary.all({ events: Generator.int(0, 4), tries: Generator.int(1, 3) }),
  runs: 8,
  enough: 4,
  property: live(
    Effect.fnUntraced(function* ({ events, tries }) {
      const runId = yield* World.newRun
      const client = yield* World.client()
      yield* World.write(client, runId, [...World.steps(events), World.done])
      for (let index = 0; index < tries; index++) {
        yield* Law.same("an append after the end", yield* tagOf(World.write(client, runId, World.steps(1))), "RunEnded")
        yield* Law.same("a second end", yield* tagOf(World.write(client, runId, [World.done])), "RunEnded")
      }
      const stored = yield* World.stored(runId)
      yield* Law.same("what is stored", [stored.events.length, stored.status], [events + 1, "completed"])
      for (const kind of Reader.kinds)
        yield* Reader.sawAll(yield* Reader.follow(kind, runId), stored.events, "of an ended run")
    }),
  ),
})
