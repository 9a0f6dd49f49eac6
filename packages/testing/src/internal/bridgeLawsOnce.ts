/** Promises 3, 5, 8 and 4 of the bridge: once and in order, stored before live, apart, cut at the end. */
import * as Envelope from "@throughline/core/Envelope"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as World from "./bridgeWorld.ts"

const isEnvelope = Schema.is(Envelope.EncodedEnvelope)

const runs = 3

/** Faults that a retry mends within its budget of a minute. */
const arbitraryTrouble = Arbitrary.all({
  store: FaultPlan.arbitraryStore({ within: 5_000, outages: [0, 2], hang: true }),
  adapter: FaultPlan.arbitraryAdapter({ within: 5_000, outages: [0, 2] }),
})

const arbitraryScript = Arbitrary.array(
  Arbitrary.all({ wait: Generator.int(0, 1_500), run: Generator.int(0, runs - 1), events: Generator.int(1, 9) }),
  { minLength: 1, maxLength: 12 },
)

const arbitraryBounds = Arbitrary.all({ maxBatchEvents: Generator.int(1, 6), maxPending: Generator.int(1, 20) })

interface History {
  readonly trouble: World.Trouble
  readonly bounds: { readonly maxBatchEvents: number; readonly maxPending: number }
  readonly script: ReadonlyArray<{ readonly wait: number; readonly run: number; readonly events: number }>
}

/** Runs of odd number belong to a session. */
const addressOf = (run: number) => ({
  runId: World.runIdOf(run),
  ...(run % 2 === 1 ? { sessionId: Envelope.SessionId.make("odd") } : undefined),
})

const steps = (run: number, from: number, count: number): ReadonlyArray<World.Input> =>
  Array.from({ length: count }, (_, index) => ({
    ...addressOf(run),
    event: { _tag: "Step", n: from + index, text: "" },
  }))

const doneOf = (run: number, n: number): World.Input => ({ ...addressOf(run), event: { _tag: "Done", n, text: "" } })

/** Gives a script to one bridge, ends every run it wrote to, and waits for the bridge to be done. */
const play = Effect.fnUntraced(function* ({ bounds, script, trouble }: History) {
  const process = yield* World.start(trouble, bounds)
  const feed = yield* World.feed<World.Input>()
  const { handle } = yield* World.open(process, feed.stream)
  const given = new Map<number, Array<number>>()
  let n = 0
  for (const { events, run, wait } of script) {
    yield* World.pass(wait)
    yield* feed.give(steps(run, n, events))
    given.set(run, [...(given.get(run) ?? []), ...Array.from({ length: events }, (_, index) => n + index)])
    n += events
  }
  for (const [run, names] of given) {
    yield* feed.give([doneOf(run, n)])
    names.push(n++)
  }
  yield* feed.end
  const status = yield* World.finished(handle)
  return { process, given, status }
})

const tell = Effect.fnUntraced(function* (process: World.Process, retried: number, reach: Law.Reach) {
  const counts = yield* process.storeFaults.counts
  if (retried > 0) reach("a retry")
  if (counts.failedAfter > 0) reach("an answer after the work was done")
  if (counts.hung > 0) reach("a call that hung")
  if (counts.late > 0) reach("a late answer")
  if (counts.refused > 0) reach("an outage of the store")
  if (process.probe.appends.some(({ request }) => request.events.length > 1)) reach("a batch of several")
})

/** Tries of one append carry the same events. */
const checkRetries = Effect.fnUntraced(function* (probe: World.Probe) {
  const first = new Map<string, World.AppendSeen>()
  for (const seen of probe.appends) {
    const { events, producer, runId, sessionId } = seen.request
    const key = `${runId} ${producer!.id} ${producer!.epoch} ${producer!.number}`
    const before = first.get(key)
    if (before === undefined) first.set(key, seen)
    else {
      yield* Law.holds(
        Equal.equals({ events, sessionId }, { events: before.request.events, sessionId: before.request.sessionId }),
        `a retry of append ${key} has other content`,
      )
    }
  }
})

const history = Arbitrary.all({ trouble: arbitraryTrouble, bounds: arbitraryBounds, script: arbitraryScript })

export const once: Law.Law<World.Below> = Law.make({
  promise: 3,
  name: "every event is stored exactly once, in the order of its source, whatever a retry can mend goes wrong",
  history,
  runs: 100,
  enough: 40,
  reaches: {
    "a retry": 0.5,
    "an answer after the work was done": 0.2,
    "a call that hung": 0.05,
    "a late answer": 0.2,
    "an outage of the store": 0.2,
    "a batch of several": 0.5,
  },
  property: Effect.fnUntraced(function* (case_: History, reach) {
    const { given, process, status } = yield* play(case_)
    yield* tell(process, status.retried, reach)
    let total = 0
    for (const [run, names] of given) {
      const { envelopes } = yield* World.stored(World.runIdOf(run))
      yield* Law.same(
        `the events of run ${run}`,
        envelopes.map(({ event }) => World.nameOf(event)),
        names,
      )
      yield* Law.holds(
        new Set(envelopes.map(({ eventId }) => eventId)).size === names.length,
        `two events of run ${run} share an event id`,
      )
      const strange = envelopes.find((envelope) => !isEnvelope(envelope))
      yield* Law.holds(strange === undefined, () => `what was stored is no envelope: ${JSON.stringify(strange)}`)
      total += names.length
    }
    yield* checkRetries(process.probe)
    const { dead, state, stored } = status
    yield* Law.same("the status", { dead, state, stored }, { dead: 0, state: "stopped", stored: total })
    const { maxBatchEvents } = case_.bounds
    yield* Law.holds(
      process.probe.appends.every(({ request }) => request.events.length <= maxBatchEvents),
      `an append has more than ${maxBatchEvents} events`,
    )
  }),
})

export const storedBeforeLive: Law.Law<World.Below> = Law.make({
  promise: 5,
  name: "an envelope is published once it is stored, in seq order, to its run's and session's rooms, and not before",
  history,
  runs: 60,
  enough: 30,
  reaches: { "a retry": 0.5, "an answer after the work was done": 0.2 },
  property: Effect.fnUntraced(function* (case_: History, reach) {
    const { given, process, status } = yield* play(case_)
    yield* tell(process, status.retried, reach)
    const { early, published } = process.probe
    yield* Law.same(
      "frames published before they were stored",
      early.map(({ cursor }) => cursor),
      [],
    )
    for (const [run, names] of given) {
      const seqs = names.map((_, index) => index + 1)
      const runId = World.runIdOf(run)
      const inRoom = (name: string) =>
        (published.get(name) ?? [])
          .filter(({ envelope }) => envelope.runId === runId)
          .map(({ envelope }) => envelope.seq)
      yield* Law.same(`the seqs published to the room of run ${run}`, inRoom(`run:${runId}`), seqs)
      yield* Law.same(`the seqs of run ${run} in the session's room`, inRoom("session:odd"), run % 2 === 1 ? seqs : [])
    }
  }),
})

export const apart: Law.Law<World.Below> = Law.make({
  promise: 8,
  name: "a run whose appends or dead letters get stuck holds up no other run, and goes on in order afterwards",
  history: Arbitrary.all({
    how: Generator.weighted([
      [1, "refuse"],
      [1, "hang"],
      [1, "handler"],
    ]),
    maxBatchEvents: Generator.int(1, 6),
    script: arbitraryScript,
  }),
  runs: 40,
  property: Effect.fnUntraced(function* ({ how, maxBatchEvents, script }) {
    const free = yield* Latch.make(false)
    let stuck = true
    const victim = World.runIdOf(0)
    const process = yield* World.start(
      World.calm,
      {
        maxBatchEvents,
        onDeadLetter: () => free.await,
      },
      (request, append) => {
        if (!stuck || how === "handler" || request.runId !== victim) return append
        return how === "hang" ? Effect.andThen(free.await, append) : World.unavailable(victim)
      },
    )
    const feed = yield* World.feed<World.Input>()
    const { handle } = yield* World.open(process, feed.stream)
    const given = new Map<number, Array<number>>([[0, []]])
    let n = 1
    const first = how === "handler" ? World.refusedStep(0) : ({ _tag: "Step", n: 0, text: "" } as const)
    yield* feed.give([{ ...addressOf(0), event: first }])
    if (how !== "handler") given.get(0)!.push(0)
    yield* World.settle
    for (const { events, run, wait } of script) {
      yield* World.pass(Math.min(wait, 100))
      yield* feed.give(steps(run, n, events))
      given.set(run, [...(given.get(run) ?? []), ...Array.from({ length: events }, (_, index) => n + index)])
      n += events
      yield* World.settle
      for (const [other, names] of given) {
        yield* Law.same(
          `run ${other} while run 0 is stuck`,
          yield* World.storedNames(World.runIdOf(other)),
          other === 0 ? [] : names,
        )
      }
    }
    stuck = false
    yield* free.open
    yield* feed.end
    const status = yield* World.finished(handle)
    yield* Law.same("run 0 afterwards", yield* World.storedNames(victim), given.get(0)!)
    yield* Law.holds(status.dead === (how === "handler" ? 1 : 0), "events of run 0 are dead")
  }),
})

export const cutAtTheEnd: Law.Law<World.Below> = Law.make({
  promise: 4,
  name: "a batch never goes past its run's end, and what follows the end is a dead letter that says so",
  history: Arbitrary.all({
    trouble: arbitraryTrouble,
    bounds: arbitraryBounds,
    script: Arbitrary.array(
      Arbitrary.all({
        wait: Generator.weighted([
          [3, 0],
          [1, 500],
        ]),
        run: Generator.int(0, runs - 1),
        before: Generator.int(0, 5),
        after: Generator.int(0, 5),
      }),
      { minLength: 1, maxLength: 6 },
    ),
  }),
  runs: 60,
  enough: 30,
  reaches: { "events after an end": 0.5 },
  property: Effect.fnUntraced(function* ({ bounds, script, trouble }, reach) {
    const process = yield* World.start(trouble, bounds)
    const feed = yield* World.feed<World.Input>()
    const { handle } = yield* World.open(process, feed.stream)
    const alive = new Map<number, Array<number>>()
    const late = new Map<number, Array<number>>()
    let n = 0
    for (const { after, before, run, wait } of script) {
      yield* World.pass(wait)
      const inputs = [...steps(run, n, before), doneOf(run, n + before), ...steps(run, n + before + 1, after)]
      yield* feed.give(inputs)
      const names = inputs.map((_, index) => n + index)
      n += names.length
      const cut = alive.has(run) ? 0 : before + 1
      if (cut > 0) alive.set(run, names.slice(0, cut))
      late.set(run, [...(late.get(run) ?? []), ...names.slice(cut)])
      if (cut < names.length) reach("events after an end")
    }
    yield* feed.end
    yield* World.finished(handle)
    for (const { request } of process.probe.appends) {
      yield* Law.holds(
        request.events.slice(0, -1).every(({ endsRun }) => endsRun === undefined),
        "an append goes past an end",
      )
    }
    for (const [run, names] of alive) {
      const runId = World.runIdOf(run)
      yield* Law.same(`run ${run}`, yield* World.storedNames(runId), names)
      const letters = process.letters.filter((letter) => letter.runId === runId)
      yield* Law.same(`the dead letters of run ${run}`, letters.flatMap(World.namesIn), late.get(run)!)
      for (const { cause } of letters) {
        yield* Law.holds(
          cause._tag === "RunEnded" && cause.endSeq === names.length,
          `events after the end of run ${run} are dead by ${cause.message}`,
        )
      }
    }
  }),
})
