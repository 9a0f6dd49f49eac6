/** Promises 3 and 9 of the bridge: one producer at a time, outcomes nobody knows, and nothing that vanishes. */
import type * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as StoreError from "@throughline/core/EventStoreError"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as FaultPlan from "../FaultPlan.ts"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import * as World from "./bridgeWorld.ts"

const step = (run: number, n: number, text = ""): World.Input => ({
  runId: World.runIdOf(run),
  event: { _tag: "Step", n, text },
})

/** Names of events in a row. */
const names = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index)

interface Rival {
  readonly process: World.Process
  readonly feed: World.Feed<World.Input>
  /** Events given, by run. */
  readonly given: Map<number, Array<number>>
}

const startRival = Effect.fnUntraced(function* (trouble: World.Trouble) {
  const process = yield* World.start(trouble)
  const feed = yield* World.feed<World.Input>()
  yield* World.open(process, feed.stream, { producerId: "shared" })
  return { process, feed, given: new Map() } satisfies Rival
})

const rivalRuns = 2

/** What must hold of each of several bridges that share a producer id, however they met. */
const checkRival = Effect.fnUntraced(function* (
  { given, process }: Rival,
  stored: ReadonlyArray<ReadonlyArray<unknown>>,
) {
  for (const [run, mine] of given) {
    const runId = World.runIdOf(run)
    const epochs = process.probe.appends
      .filter(({ request }) => request.runId === runId)
      .map(({ request }) => request.producer!.epoch)
    yield* Law.holds(
      new Set(epochs).size <= 1,
      () => `a bridge raised its epoch in ${runId} although every outcome was known: ${epochs.join(", ")}`,
    )
    const dead = process.letters.filter((letter) => letter.runId === runId)
    for (const { cause } of dead) {
      yield* Law.holds(
        cause._tag === "ProducerFenced" || cause._tag === "ProducerMismatch" || cause._tag === "ProducerStale",
        () => `events of a fenced producer are dead by ${cause._tag}`,
      )
    }
    const alive = stored[run]!.filter((name) => mine.includes(name as number))
    yield* Law.same(
      `stored, then dead, of a bridge's events in ${runId}`,
      [...alive, ...dead.flatMap(World.namesIn)],
      mine,
    )
  }
})

/** Promise 3. */
export const fenced: Law.Law<World.Below> = Law.make({
  promise: 3,
  name: "of bridges under one producer id the last to come to a run writes it; the others never take it back",
  history: Arbitrary.all({
    late: Generator.weighted([
      [1, 0],
      [2, 60],
    ]),
    seed: Generator.int(0, 1_000_000),
    pace: Generator.weighted([
      [1, "apart"],
      [1, "mixed"],
    ]),
    moves: Arbitrary.array(
      Arbitrary.all({
        rival: Generator.int(0, 2),
        run: Generator.int(0, rivalRuns - 1),
        events: Generator.int(1, 3),
        /** Whether the next move waits for what this one sets off, where not all of them do. */
        apart: Generator.boolean,
      }),
      { minLength: 1, maxLength: 20 },
    ),
  }),
  runs: 60,
  reaches: { "a fenced bridge": 0.25, "bridges at once": 0.2, "a known owner": 0.2 },
  property: Effect.fnUntraced(function* ({ late, moves, pace, seed }, reach) {
    const rivals: Array<Rival> = []
    for (let index = 0; index < 3; index++) {
      const store = { ...FaultPlan.calmStore, seed: seed + index, late, lateMillis: 200 }
      rivals.push(yield* startRival({ ...World.calm, store }))
    }
    // Where every move waits for the one before, who owns a run is known.
    const sequential = pace === "apart" || moves.every((move) => move.apart)
    const owners = new Map<number, number>()
    const expected = Array.from({ length: rivalRuns }, (): Array<number> => [])
    let n = 0
    for (const { apart, events, rival, run } of moves) {
      const { feed, given } = rivals[rival]!
      const next = names(n, events)
      n += events
      if (!given.has(run)) owners.set(run, rival)
      if (owners.get(run) === rival) expected[run]!.push(...next)
      given.set(run, [...(given.get(run) ?? []), ...next])
      yield* feed.give(next.map((name) => step(run, name)))
      if (apart || sequential) yield* World.pass(1_000)
    }
    yield* World.pass(5_000)
    yield* World.pass(5_000)
    const stored = yield* Effect.forEach([0, 1], (run) => World.storedNames(World.runIdOf(run)))
    for (const rival of rivals) yield* checkRival(rival, stored)
    if (sequential) yield* Law.same("what the owners of the runs wrote", stored, expected)
    reach(sequential ? "a known owner" : "bridges at once")
    if (rivals.some(({ process }) => process.letters.length > 0)) reach("a fenced bridge")
  }),
})

/** What becomes of the tries of one batch, and what the bridge is told. */
const unknownOutcomes = ["failed", "done", "unconfirmed", "late"] as const

/** Promise 3. */
export const unknownOutcome: Law.Law<World.Below> = Law.make({
  promise: 3,
  name: "after giving up on a batch whose outcome is unknown a higher epoch goes on, and nothing is stored twice or late",
  history: Arbitrary.all({
    outcome: Generator.weighted(unknownOutcomes.map((outcome) => [1, outcome] as const)),
    named: Generator.boolean,
    before: Generator.int(0, 4),
    doomed: Generator.int(1, 3),
    after: Generator.int(1, 6),
    ends: Generator.boolean,
  }),
  runs: 40,
  property: Effect.fnUntraced(function* ({ after, before, doomed, ends, named, outcome }) {
    const runId = World.runIdOf(0)
    const late: Array<Exit.Exit<unknown, { readonly _tag: string }>> = []
    const caseScope = yield* Effect.scope
    const process = yield* World.start(
      World.calm,
      { retry: Schedule.upTo(Schedule.spaced("100 millis"), { times: 3 }), maxBatchEvents: 3 },
      (request, append) => {
        if (!request.events.some(({ event }) => event.includes("doomed"))) return append
        const lost = World.unavailable(runId)
        if (outcome === "failed") return lost
        if (outcome === "done") return Effect.andThen(append, lost)
        if (outcome === "unconfirmed") {
          return Effect.andThen(append, Effect.fail(new StoreError.DurabilityUnconfirmed({ runId, detail: "by hand" })))
        }
        const arrival = Effect.map(Effect.exit(Effect.delay(append, "10 seconds")), (exit) => late.push(exit))
        return Effect.andThen(Effect.forkIn(arrival, caseScope), lost)
      },
    )
    const feed = yield* World.feed<World.Input>()
    const { handle } = yield* World.open(process, feed.stream, named ? { producerId: "mine" } : {})
    for (const name of names(0, before)) yield* feed.give([step(0, name)])
    yield* World.settle
    yield* feed.give(names(before, doomed).map((name) => step(0, name, "doomed")))
    yield* World.pass(1_000)
    for (const name of names(before + doomed, after)) {
      yield* feed.give([step(0, name)])
      yield* World.settle
    }
    const last = before + doomed + after
    if (ends) yield* feed.give([{ runId, event: { _tag: "Done", n: last, text: "" } }])
    yield* World.pass(20_000)
    const status = yield* World.within(60_000, "drain", handle.drain)

    const written = outcome === "done" || outcome === "unconfirmed" ? names(before, doomed) : []
    const follows = [...names(before + doomed, after), ...(ends ? [last] : [])]
    yield* Law.same("the run", yield* World.storedNames(runId), [...names(0, before), ...written, ...follows])
    yield* Law.same("the dead letters", process.letters.flatMap(World.namesIn), names(before, doomed))
    yield* Law.holds(
      Exit.isSuccess(status) && status.value.stored === before + follows.length && status.value.dead === doomed,
      "the counts are those of what was acknowledged and what was given up",
    )
    const producers = process.probe.appends.map(({ request }) => request.producer!)
    const epochs = [...new Set(producers.map(({ epoch }) => epoch))]
    yield* Law.same("the epochs used", epochs, [1, 2])
    yield* Law.same(
      "the numbers of the raised epoch",
      producers.filter(({ epoch }) => epoch === 2).map(({ number }) => number),
      names(1, producers.filter(({ epoch }) => epoch === 2).length),
    )
    yield* Law.holds(
      late.every((exit) => Exit.isFailure(exit)),
      "a try that arrived late was taken",
    )
  }),
})

const finishes = ["end", "fail", "drain", "stop", "close"] as const

const arbitraryGiven = Generator.frequency([
  [6, Arbitrary.Constant("good" as const)],
  [1, Arbitrary.Constant("large" as const)],
  [1, Arbitrary.Constant("refused" as const)],
  [1, Arbitrary.Constant("foreign" as const)],
  [1, Arbitrary.Constant("done" as const)],
])

const inputOf = (kind: "good" | "large" | "refused" | "foreign" | "done", run: number, n: number): World.Input => {
  const runId = World.runIdOf(run)
  switch (kind) {
    case "good":
      return { runId, event: { _tag: "Step", n, text: "" } }
    case "large":
      return { runId, event: { _tag: "Step", n, text: World.tooLarge } }
    case "refused":
      return { runId, event: World.refusedStep(n) }
    case "foreign":
      return { runId, sessionId: `chat-${n}` as Envelope.SessionId, event: { _tag: "Step", n, text: "" } }
    case "done":
      return { runId, event: { _tag: "Done", n, text: "" } }
  }
}

/** Somebody else writes to a run: its end, or an event of another vocabulary. */
const intrude = Effect.fnUntraced(function* (run: number, how: "ends" | "foreign") {
  const store = yield* EventStore
  const input =
    how === "ends" ? ({ event: { _tag: "Lost" } } as const) : { event: { _tag: "Step", n: 0, text: "" } as const }
  const encoded = yield* Effect.orDie(Vocabulary.encode(World.vocabulary, input))
  yield* Effect.ignore(
    store.append({
      runId: World.runIdOf(run),
      vocabulary: how === "ends" ? World.vocabulary.id : { name: "another", version: 1 },
      events: [{ ...encoded, kind: "Intruder" }],
    }),
  )
})

/** Causes of which a batch may be stored although it is dead. */
const leavesDoubt = ({ _tag }: { readonly _tag: string }): boolean =>
  _tag === "AppendFailed" || _tag === "DurabilityUnconfirmed" || _tag === "BridgeStopped"

/** Promise 9. */
export const conserved: Law.Law<World.Below> = Law.make({
  promise: 9,
  name: "what was taken from the source is stored or a dead letter, once, and the grace time is kept",
  history: Arbitrary.all({
    store: FaultPlan.arbitraryStore({ within: 4_000, longest: 8_000, outages: [0, 2], hang: true }),
    bounds: Arbitrary.all({ maxBatchEvents: Generator.int(1, 6), maxPending: Generator.int(1, 30) }),
    patience: Generator.int(0, 5),
    grace: Generator.int(0, 2_000),
    finish: Generator.weighted(finishes.map((finish) => [1, finish] as const)),
    script: Arbitrary.array(
      Arbitrary.all({
        wait: Generator.int(0, 800),
        run: Generator.int(0, 3),
        events: Arbitrary.array(arbitraryGiven, { minLength: 1, maxLength: 8 }),
        intruder: Generator.weighted([
          [10, undefined],
          [1, "ends"],
          [2, "foreign"],
        ]),
      }),
      { minLength: 1, maxLength: 12 },
    ),
  }),
  size: 120,
  runs: 120,
  enough: 40,
  reaches: {
    AppendFailed: 0.1,
    EventTooLarge: 0.3,
    EventRefused: 0.3,
    SessionConflict: 0.2,
    VocabularyMismatch: 0.05,
    RunEnded: 0.2,
    BridgeStopped: 0.03,
    "a batch both stored and dead": 0.02,
  },
  property: Effect.fnUntraced(function* ({ bounds, finish, grace, patience, script, store }, reach) {
    const process = yield* World.start(
      { ...World.calm, store },
      { ...bounds, grace, retry: Schedule.upTo(Schedule.spaced("200 millis"), { times: patience }) },
    )
    const feed = yield* World.feed<World.Input>()
    const { close, handle } = yield* World.open(process, feed.stream)
    let n = 1
    for (const { events, intruder, run, wait } of script) {
      yield* World.pass(wait)
      if (intruder !== undefined) yield* intrude(run, intruder)
      yield* feed.give(events.map((kind) => inputOf(kind, run, n++)))
    }
    yield* World.settle
    const stopAt = yield* Clock.currentTimeMillis
    let doneAt = stopAt
    const noted = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.andThen(
        Effect.exit(effect),
        Effect.map(Clock.currentTimeMillis, (now) => {
          doneAt = now
        }),
      )
    if (finish === "end") yield* Effect.andThen(feed.end, World.within(600_000, "await", noted(handle.await)))
    if (finish === "fail") yield* Effect.andThen(feed.fail, World.within(600_000, "await", noted(handle.await)))
    if (finish === "drain") yield* World.within(600_000, "drain", noted(handle.drain))
    if (finish === "stop") yield* World.within(60_000, "stop", noted(handle.stop))
    if (finish === "close") yield* World.within(60_000, "closing", noted(close))
    if (finish === "stop" || finish === "close") {
      yield* Law.holds(doneAt - stopAt <= grace, `${finish} took ${doneAt - stopAt} ms, more than ${grace} ms of grace`)
    }
    const status = yield* handle.status
    yield* close

    const dead = new Map<number, string>()
    for (const letter of process.letters) {
      reach(letter.cause._tag)
      for (const name of World.namesIn(letter) as ReadonlyArray<number>) {
        const plain = name < 0 ? -1 - name : name
        yield* Law.holds(!dead.has(plain), `event ${plain} is in two dead letters`)
        dead.set(plain, letter.cause._tag)
      }
    }
    const stored = new Set<unknown>()
    for (const run of [0, 1, 2, 3]) {
      const { envelopes } = yield* World.stored(World.runIdOf(run))
      for (const { event, kind } of envelopes) {
        if (kind === "Intruder") continue
        const name = World.nameOf(event)
        yield* Law.holds(!stored.has(name), `event ${name} is stored twice`)
        stored.add(name)
      }
    }
    for (const input of feed.taken) {
      const name = World.nameOfInput(input) as number
      const plain = name < 0 ? -1 - name : name
      const cause = dead.get(plain)
      yield* Law.holds(stored.has(plain) || cause !== undefined, `event ${plain} was taken and has vanished`)
      if (stored.has(plain) && cause !== undefined) {
        reach("a batch both stored and dead")
        yield* Law.holds(leavesDoubt({ _tag: cause }), `event ${plain} is stored, and dead by ${cause}`)
      }
    }
    yield* Law.same(
      "stored and dead, by the status",
      { state: status.state, sum: status.stored + status.dead, dead: status.dead },
      { state: "stopped", sum: feed.taken.length, dead: dead.size },
    )
  }),
})
