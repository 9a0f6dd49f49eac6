/**
 * Writes its runs of the plan, some through the bridge and some with appends of its own, and may be killed at any moment.
 *
 * Started again, it goes on with each open run under the same producer id and a higher epoch, or leaves it to its lease.
 * To go on it first appends a mark, which fences off whatever the process before it still has on its way, and only then
 * looks which line was the last: so no line is lost or doubled.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { type EventId, RunId, SessionId } from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import { type AppendRequest, EventStore } from "@throughline/core/EventStore"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as Throughline from "@throughline/core/Throughline"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Ledger from "./Ledger.ts"
import * as Lines from "./Lines.ts"
import { type Run, sessionOf } from "./Plan.ts"
import * as Process from "./Process.ts"

const { incarnation, index, journal, told, url } = Process.begin("producer")
const producerId = `producer-${index}`
const lease = { ttl: told.leaseMillis, renewEvery: told.leaseMillis / 4 }

/** Redis is away for a while, again and again; what can't be mended ends the process, and with it the suite. */
const patient = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(effect, {
    schedule: Schedule.spaced("100 millis"),
    while: (error) => "isRetryable" in error && error.isRetryable === true,
  })

const mint = Effect.flatMap(SecureRandom.SecureRandom, (random) => random.uuidV7() as Effect.Effect<EventId>)

/** The number of the last line in the store, and the seq of the last event. */
const lastOf = Effect.fnUntraced(function* (runId: RunId) {
  const store = yield* EventStore
  let line = 0
  let seq = 0
  for (;;) {
    const { envelopes } = yield* patient(store.read({ runId, after: seq, limit: 1000 }))
    if (envelopes.length === 0) return { line, seq }
    for (const envelope of envelopes) {
      seq = envelope.seq
      const event = JSON.parse(envelope.event) as Lines.Event
      if (event._tag === "Line") line = event.number
    }
  }
})

const pause = Effect.flatMap(Random.nextBetween(0, 2 * told.pause), (millis) => Effect.sleep(millis))

/** Lines in pieces of different sizes, up to the last of the run. */
const pieces = Effect.fnUntraced(function* (from: number, to: number) {
  const size = yield* Random.nextIntBetween(1, 16)
  return Array.from({ length: Math.min(size, to - from + 1) }, (_, at) => Lines.line(from + at))
})

const throughBridge = (queue: Queue.Queue<EventBridge.BridgeInput<Lines.Event>>) =>
  Effect.fnUntraced(function* (run: Run) {
    const ledger = yield* Ledger.Ledger
    const runId = RunId.make(run.runId)
    const session = sessionOf(run)
    /** Hands an event to the bridge and waits until it is stored or given up. */
    const send = Effect.fnUntraced(function* (event: Lines.Event) {
      const eventId = yield* mint
      const outcome = ledger.expect(eventId)
      yield* Queue.offer(queue, { runId, ...(session && { sessionId: SessionId.make(session) }), eventId, event })
      return yield* Deferred.await(outcome)
    })
    if ((yield* send({ _tag: "Began", incarnation })) !== "stored") return
    let next = (yield* lastOf(runId)).line + 1
    while (next <= run.lines) {
      const events = yield* pieces(next, run.lines)
      next += events.length
      const last = events.pop()!
      for (const event of events) yield* Queue.offer(queue, { runId, event })
      if ((yield* send(last)) !== "stored") return
      yield* pause
    }
    yield* send({ _tag: "Finished", lines: run.lines })
  })

const throughStore = Effect.fnUntraced(
  function* (run: Run) {
    const store = yield* EventStore
    const runId = RunId.make(run.runId)
    const state = yield* patient(store.producer(runId, producerId))
    const epoch = Option.match(state, { onNone: () => 1, onSome: (known) => known.epoch + 1 })
    const will = yield* Vocabulary.encode(Lines.vocabulary, { event: Lines.vocabulary.abandoned() })
    let number = 1
    const append = Effect.fnUntraced(function* (events: ReadonlyArray<Lines.Event>, expectedSeq?: number) {
      const request: AppendRequest = {
        runId,
        vocabulary: Lines.vocabulary.id,
        events: yield* Effect.forEach(events, (event) => Vocabulary.encode(Lines.vocabulary, { event })),
        producer: { id: producerId, epoch, number },
        lease: { ttl: lease.ttl, will },
        ...(expectedSeq === undefined ? undefined : { expectedSeq }),
      }
      yield* patient(store.append(request))
      number++
    })
    const begin = Effect.gen(function* () {
      const { line, seq } = yield* lastOf(runId)
      yield* append([{ _tag: "Began", incarnation }], seq)
      return line + 1
    })
    let next = yield* Effect.retry(begin, { while: ({ _tag }) => _tag === "SeqConflict" })
    while (next <= run.lines) {
      const events = yield* pieces(next, run.lines)
      next += events.length
      // Half of the ends come in the append of the last lines.
      if (next > run.lines && run.lines % 2 === 0) events.push({ _tag: "Finished", lines: run.lines })
      yield* append(events)
      yield* pause
    }
    if (run.lines % 2 === 1) yield* append([{ _tag: "Finished", lines: run.lines }])
  },
  // It was taken for dead, and the will has ended its run.
  Effect.catchTag("RunEnded", () => Effect.void),
)

const program = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const store = yield* EventStore
  const queue = yield* Queue.unbounded<EventBridge.BridgeInput<Lines.Event>>()
  const handle = yield* bridge.start(Lines.vocabulary, Stream.fromQueue(queue), { producerId })
  const write = Effect.fnUntraced(function* (run: Run) {
    const head = yield* patient(store.head(RunId.make(run.runId)))
    if (head.status !== "unknown" && head.status !== "running") return
    if (head.status === "running" && run.isLeft) return
    yield* run.by === "bridge" ? throughBridge(queue)(run) : throughStore(run)
  })
  const mine = told.runs.filter(({ producer }) => producer === index)
  yield* Effect.forEach(mine, write, { concurrency: told.openRuns, discard: true })
  yield* handle.drain
}).pipe(Effect.scoped, Random.withSeed(told.seed + 1000 * incarnation + index))

const layer = Layer.unwrap(
  Effect.gen(function* () {
    const ledger = yield* Ledger.Ledger
    return EventBridge.layer({
      lease,
      onDeadLetter: ledger.buried,
      appendTimeout: "5 seconds",
      retry: Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: "5 minutes" })),
    })
  }),
).pipe(
  Layer.provideMerge(Ledger.layer(journal)),
  Layer.provideMerge(Process.layerRedis(url)),
  Layer.provideMerge(Throughline.layerCrypto),
)

NodeRuntime.runMain(Effect.provide(program, layer))
