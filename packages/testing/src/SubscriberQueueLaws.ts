/**
 * What a subscriber's queue promises: the frames, notices and failures of a pure model, whatever the order of offers and
 * takes; nothing lost that is not told; terminals; and text that survives a slow reader.
 *
 * ```ts
 * import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
 * import * as SubscriberQueueLaws from "@throughline/testing/SubscriberQueueLaws"
 * import * as Layer from "effect/Layer"
 *
 * SubscriberQueueLaws.suite(
 *   "SubscriberQueue.make",
 *   Layer.succeed(SubscriberQueueLaws.QueueMaker, { make: SubscriberQueue.make }),
 * )
 * ```
 */
import type { Frame, Gap, OverflowNotice } from "@throughline/core/Envelope"
import type { QueueOptions, QueueRefused } from "@throughline/core/SubscriberQueue"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Generator from "./Generator.ts"
import * as Law from "./Law.ts"
import * as Model from "./SubscriberQueueModel.ts"
import * as QueueHistory from "./internal/queueHistory.ts"
import * as QueuePlayer from "./internal/queuePlayer.ts"

export { type QueueEvent } from "./internal/queueHistory.ts"
export { type QueueUnderTest, type SourceFailure } from "./internal/queuePlayer.ts"

/** Makes the queues under test. */
export class QueueMaker extends Context.Service<
  QueueMaker,
  {
    readonly make: (options: QueueOptions) => Effect.Effect<QueuePlayer.QueueUnderTest, QueueRefused, Scope.Scope>
  }
>()("@throughline/testing/SubscriberQueueLaws/QueueMaker") {}

export type QueueLaw = Law.Law<QueueMaker>

const { vocabulary } = QueueHistory

const makeQueue = (setup: QueueHistory.QueueSetup) =>
  Effect.flatMap(QueueMaker, ({ make }) => make({ ...setup, vocabulary }))

/** What became of a history: all that was offered until detaching, and all that arrived. */
interface Outcome {
  readonly offered: ReadonlyArray<Frame>
  /** What the source's own gaps counted. */
  readonly counted: number
  readonly items: ReadonlyArray<Frame | Gap>
  readonly last: QueuePlayer.Pulled | undefined
}

/** Plays a history, compared with the model step by step where asked. */
const play = Effect.fnUntraced(function* (
  history: QueueHistory.History,
  reach: Law.Reach,
  compared: boolean,
  gaps = false,
) {
  const options = { ...history.setup, vocabulary, gaps }
  const queue = yield* makeQueue(history.setup)
  let model = Model.empty
  let received: Frame | undefined
  let reported = false
  const offered: Array<Frame> = []
  let counted = 0
  const items: Array<Frame | Gap> = []
  let last: QueuePlayer.Pulled | undefined
  let ended = false

  /** What the model says the next pull gives; undefined: it waits. */
  const expected = (): QueuePlayer.Pulled | undefined => {
    if (Model.isWaiting(model, options)) return { _tag: "Chunk", items: Model.take(model, options).items }
    const failure = Model.failure(model, options, received)
    if (failure !== undefined) return { _tag: "Failed", error: failure as never }
    if (!ended) return undefined
    const notice = reported ? undefined : Model.rest(model, options)
    if (notice !== undefined) return { _tag: "Chunk", items: [{ _tag: "Gap", reason: "overflow", notice }] }
    return history.ending === "end" ? { _tag: "Done" } : { _tag: "Failed", error: QueuePlayer.sourceFailure }
  }

  const onPulled = Effect.fnUntraced(function* (pulled: QueuePlayer.Pulled) {
    const should = expected()!
    if (compared) yield* Law.same("the reader's next pull", plain(pulled), plain(should))
    last = pulled
    if (pulled._tag !== "Chunk") return
    items.push(...pulled.items)
    if (Model.isWaiting(model, options)) model = Model.take(model, options).model
    else reported = true
    const frame = pulled.items.findLast((item) => item._tag === "Frame")
    if (frame !== undefined) received = frame
    for (const item of pulled.items) {
      if (item.notice !== undefined) reach(`a notice: ${item.notice.reason}`)
      if (item._tag === "Gap") reach("a gap")
      if (item._tag === "Frame" && item.merged !== undefined) reach("a merge")
    }
  })

  yield* QueuePlayer.play(
    queue,
    {
      ...history,
      // The model knows of the end once the source has said it.
      get ending() {
        ended = history.ending !== "nothing"
        return history.ending
      },
    },
    {
      isReady: () => expected() !== undefined,
      offered: (frame) => {
        if (model.detached === undefined) offered.push(frame)
        model = Model.offer(model, frame, options)
      },
      gap: (reason, notice) => {
        if (model.detached === undefined) counted += notice?.frames ?? 0
        model = Model.gap(model, reason, notice)
      },
      pulled: onPulled,
    },
  )
  if (model.detached !== undefined) reach(model.detached)
  const outcome: Outcome = { offered, counted, items, last }
  return outcome
})

/** Errors as the data they carry. */
const plain = (pulled: QueuePlayer.Pulled): unknown =>
  pulled._tag === "Failed"
    ? {
        _tag: pulled.error._tag,
        notice: "notice" in pulled.error ? pulled.error.notice : undefined,
        repair: "repair" in pulled.error ? pulled.error.repair : undefined,
      }
    : pulled

const noticesOf = ({ items, last }: Outcome): ReadonlyArray<OverflowNotice> => {
  const notices = items.flatMap(({ notice }) => (notice === undefined ? [] : [notice]))
  const inError = last?._tag === "Failed" && "notice" in last.error ? last.error.notice : undefined
  return inError === undefined ? notices : [...notices, inError]
}

const framesOf = ({ items }: Outcome) => items.filter((item) => item._tag === "Frame")

/** Promises 8 to 10. */
export const asTheModel: QueueLaw = Law.make({
  promise: 9,
  name: "frames, notices and failures are those of the model, however offers and takes interleave",
  history: QueueHistory.history,
  size: 60,
  runs: 2000,
  reaches: {
    "a merge": 0.1,
    "a gap": 0.2,
    "a notice: queueFull": 0.2,
    "a notice: summaryFull": 0.05,
    "a notice: notMergeable": 0.05,
    SubscriberOverflow: 0.1,
    TerminalOverflow: 0.05,
  },
  property: (history, reach) => Effect.asVoid(play(history, reach, true)),
})

/** Promise 9. */
export const conserved: QueueLaw = Law.make({
  promise: 9,
  name: "delivered, covered by merges and counted in notices is what was offered until detaching",
  history: Arbitrary.map(QueueHistory.history, (history) => ({ ...history, ending: "end" as const })),
  size: 60,
  runs: 500,
  reaches: { "a merge": 0.1, SubscriberOverflow: 0.1, TerminalOverflow: 0.05 },
  property: Effect.fnUntraced(function* (history, reach) {
    const outcome = yield* play(history, reach, false)
    const notices = noticesOf(outcome)
    const arrived = framesOf(outcome).reduce((total, { merged }) => total + (merged?.frames ?? 1), 0)
    const lost = notices.reduce((total, { frames }) => total + frames, 0)
    yield* Law.same(
      "frames that arrived, were merged or were counted as lost",
      arrived + lost,
      outcome.offered.length + outcome.counted,
    )
    for (const { frames, kinds } of notices) {
      const counted = Object.values(kinds).reduce((total, count) => total + count, 0)
      yield* Law.same("frames counted by kind", counted, frames)
    }
  }),
})

const cursorsOf = (frames: ReadonlyArray<Frame>) => frames.map(({ cursor }) => cursor)
const isTerminal = ({ envelope }: Frame) => envelope.delivery === "terminal"

/** Promise 10. */
export const terminalsSurvive: QueueLaw = Law.make({
  promise: 10,
  name: "the terminals a reader received are those offered, or its stream failed with where the rest can be read",
  history: QueueHistory.history,
  size: 60,
  runs: 500,
  reaches: { TerminalOverflow: 0.05 },
  property: Effect.fnUntraced(function* (history, reach) {
    const outcome = yield* play(history, reach, false)
    const sent = cursorsOf(outcome.offered.filter(isTerminal))
    const got = cursorsOf(framesOf(outcome).filter(isTerminal))
    const { last } = outcome
    if (last?._tag !== "Failed" || last.error._tag === "SourceFailed") {
      return yield* Law.same("terminals that arrived", got, sent)
    }
    yield* Law.same("terminals that arrived before the failure", got, sent.slice(0, got.length))
    // What is read after the repair place starts no later than the first frame that did not arrive.
    const { after, runId } = last.error.repair
    const from = Number(after.split("-")[0])
    const missing = outcome.offered.find(
      (frame) => frame.envelope.runId === runId && isTerminal(frame) && !got.includes(frame.cursor),
    )
    yield* Law.holds(missing === undefined || from < missing.envelope.seq, `a repair after ${after} misses a terminal`)
  }),
})

/** Promise 9. */
export const textSurvives: QueueLaw = Law.make({
  promise: 9,
  name: "under summarize within summaryBytes, the text a slow reader joins is the text that was sent",
  history: Arbitrary.map(
    Arbitrary.all({ history: QueueHistory.history, reserve: Generator.int(0, 2) }),
    ({ history, reserve }): QueueHistory.History => ({
      ...history,
      ending: "end",
      setup: { overflow: "summarize", capacity: 2 + reserve, terminalReserve: reserve, summaryBytes: 2 ** 24 },
      // Terminals would detach a reader that never takes; text is what this is about.
      commands: history.commands.map((command) =>
        command._tag === "Offer"
          ? { ...command, frames: command.frames.filter(({ what }) => what !== "done") }
          : command,
      ),
    }),
  ),
  size: 60,
  runs: 500,
  reaches: { "a merge": 0.3 },
  property: Effect.fnUntraced(function* (history, reach) {
    const outcome = yield* play(history, reach, false)
    yield* Law.same("the joined texts", textsOf(framesOf(outcome)), textsOf(outcome.offered))
  }),
})

const textsOf = (frames: ReadonlyArray<Frame>): Readonly<Record<string, string>> => {
  const texts: Record<string, string> = {}
  for (const { envelope } of frames) {
    const event = Result.getOrThrow(vocabulary.decode(envelope.event))
    const name = `${envelope.runId} ${event._tag === "Text" ? event.of : ""}`
    if (event._tag === "Text") texts[name] = (texts[name] ?? "") + event.text
  }
  return texts
}

/** Promise 8. */
export const bounded: QueueLaw = Law.make({
  promise: 8,
  name: "a reader that never takes has no more waiting than its capacity and the summary's bytes allow",
  history: Arbitrary.all({
    setup: QueueHistory.setup,
    shapes: Arbitrary.array(QueueHistory.frameShape, { minLength: 1 }),
  }),
  runs: 50,
  property: Effect.fnUntraced(function* ({ setup, shapes }, reach) {
    const frames = Array.from({ length: Math.ceil(600 / shapes.length) }, () => shapes).flat()
    const commands = frames.flatMap((shape): Array<QueueHistory.Command> => [
      { _tag: "Offer", frames: [shape] },
      { _tag: "Gap", reason: "reconnected", counted: 0 },
    ])
    const outcome = yield* play({ setup, positioned: false, commands, ending: "end" }, reach, false)
    const most = setup.capacity + Math.floor(setup.summaryBytes / 1024)
    const gaps = outcome.items.length - framesOf(outcome).length
    // One before each frame, one after the last.
    yield* Law.holds(gaps <= most + 1, `${gaps} gaps were waiting, over ${most + 1}`)
    yield* Law.holds(framesOf(outcome).length <= most, `${framesOf(outcome).length} frames were waiting, over ${most}`)
  }),
})

/** Promise 9. */
export const refused: QueueLaw = Law.make({
  promise: 9,
  name: "backpressure and options that make no sense are refused as the subscriber subscribes",
  history: Arbitrary.all({
    capacity: Generator.int(-2, 8),
    terminalReserve: Generator.int(-2, 10),
    overflow: Generator.weighted([
      [1, "dropProgress"],
      [1, "backpressure"],
    ]),
  }),
  reaches: { InvalidOverflowPolicy: 0.2, InvalidQueueOptions: 0.2 },
  property: Effect.fnUntraced(function* (options, reach) {
    const { make } = yield* QueueMaker
    const made = yield* Effect.result(make(options))
    const { capacity, overflow, terminalReserve } = options
    const should =
      overflow === "backpressure"
        ? "InvalidOverflowPolicy"
        : capacity < 1 || terminalReserve < 0 || terminalReserve > capacity
          ? "InvalidQueueOptions"
          : "made"
    reach(should)
    yield* Law.same("the subscription", Result.isSuccess(made) ? "made" : made.failure._tag, should)
  }),
})

/** Promises 8 and 9, for the queue of an adapter. */
export const toldByGaps: QueueLaw = Law.make({
  promise: 9,
  name: "a queue of an adapter delivers the model's frames, and one gap in the place of each loss",
  history: Arbitrary.map(QueueHistory.history, (history): QueueHistory.History => ({
    ...history,
    setup:
      history.setup.overflow === "failSubscriber" ? { ...history.setup, overflow: "dropNonTerminal" } : history.setup,
  })),
  size: 60,
  runs: 1000,
  reaches: { "a merge": 0.1, "a gap": 0.4, "a notice: queueFull": 0.2 },
  property: Effect.fnUntraced(function* (history, reach) {
    const outcome = yield* play(history, reach, true, true)
    const arrived = framesOf(outcome).reduce((total, { merged }) => total + (merged?.frames ?? 1), 0)
    const lost = noticesOf(outcome).reduce((total, { frames }) => total + frames, 0)
    yield* Law.same("frames that arrived or were told", arrived + lost, outcome.offered.length + outcome.counted)
    yield* Law.same("how many frames carry a notice", framesOf(outcome).filter(({ notice }) => notice).length, 0)
  }),
})

/** All laws of a queue of an adapter. */
export const adapterLaws: ReadonlyArray<QueueLaw> = [toldByGaps]

/** Registers the laws of a queue of an adapter, as `SubscriberQueue.makeForAdapter` makes it. */
export const adapterSuite = (name: string, subject: Law.Subject<QueueMaker, never>, options?: Law.SuiteOptions): void =>
  Law.suite("SubscriberQueue of an adapter", name, adapterLaws, subject, options)

/** All laws of a subscriber's queue. */
export const laws: ReadonlyArray<QueueLaw> = [asTheModel, conserved, terminalsSurvive, textSurvives, bounded, refused]

/** Registers the laws of a subscriber's queue. */
export const suite = (name: string, subject: Law.Subject<QueueMaker, never>, options?: Law.SuiteOptions): void =>
  Law.suite("SubscriberQueue", name, laws, subject, options)
