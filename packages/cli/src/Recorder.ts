/**
 * The way of a source's output into the store, which must never get in the way of the source.
 *
 * ```text
 * bytes ─▶ lines ─▶ events ─▶ buffer (bounded by bytes) ─▶ bridge ─▶ store
 * ```
 *
 * Output is recorded without loss as long as the store keeps up: while the buffer is full the source waits, as a writer
 * waits for a pipe. A store that gives no room for `patience` (2 s) is no longer waited for: until half of the buffer
 * has drained, lines are left out, counted, and their number takes their place in the run (a `Custom` named
 * `throughline.lost`). So a dead store holds up its source for 2 seconds, once.
 *
 * What the store refuses (a full disk) is counted likewise: the number goes in front of the lines that follow, until
 * the store takes it, at the latest in front of the run's end.
 */
import type { AgentEvent } from "@throughline/core/AgentEvents"
import { vocabulary } from "@throughline/core/AgentEvents"
import type { AgentId, EncodedEvent, RunId, SessionId } from "@throughline/core/Envelope"
import { type BridgeHandle, type BridgeInput, type DeadLetter, EventBridge } from "@throughline/core/EventBridge"
import { defaultBounds } from "@throughline/core/StoreOptions"
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as LineFormat from "./LineFormat.ts"
import * as LineSplitter from "./LineSplitter.ts"

/** The name of the `Custom` event that stands for lines left out; its data is `{ "lines": n }`. */
export const lostEvent = "throughline.lost"

export interface RecorderOptions {
  readonly runId: RunId
  readonly sessionId?: SessionId | undefined
  readonly agentId?: AgentId | undefined
  readonly format: LineFormat.Format
  /** Called for each line that isn't what its format says. */
  readonly onMalformed: (stream: LineFormat.OutputStream, problem: string) => Effect.Effect<void>
  /** Bytes that wait for the bridge; 16 MiB by default. */
  readonly bufferBytes?: number | undefined
  /** How long a full buffer holds up the source; 2 s by default. */
  readonly patience?: Duration.Input | undefined
  /** How long the end waits for a store that makes no progress; 10 s by default. */
  readonly endPatience?: Duration.Input | undefined
}

/** What became of the run's events. */
export interface Report {
  /** Events that the run should hold. */
  readonly events: number
  readonly stored: number
}

/** The lines of one stream, and how its end is read. */
export interface OutputRecorder {
  /** Records what these bytes complete; returns at once unless the buffer is full. */
  readonly take: (bytes: Uint8Array) => Effect.Effect<void>
  /** Records what is left. */
  readonly end: Effect.Effect<void>
}

export interface Recorder {
  /** Records an event of our own. */
  readonly note: (event: AgentEvent) => void
  readonly output: (stream: LineFormat.OutputStream) => OutputRecorder
  /** The event with which the source itself ended the run (`agent` format), held back until the source is done. */
  readonly ending: () => AgentEvent | undefined
  /** Hears what the bridge gave up: the run will say that it is missing. To be called from its dead-letter handler. */
  readonly lost: (letter: Pick<DeadLetter, "events" | "unencoded">) => void
  /** Ends the run and waits until everything is stored, given up, or {@link Recorder.abandon} was called. */
  readonly finish: (ending: AgentEvent) => Effect.Effect<Report>
  /** Stop waiting for the store. */
  readonly abandon: () => void
}

interface Pending {
  readonly event: AgentEvent
  readonly bytes: number
}

const maxLineBytes = defaultBounds.maxEventBytes - LineFormat.outputLineOverhead
const batch = 500

/** The lines a lost-lines event stands for; `undefined`: it is another event. */
const linesLost = ({ event, kind }: EncodedEvent): number | undefined => {
  if (kind !== "Custom") return undefined
  const decoded = vocabulary.decode(event)
  if (Result.isFailure(decoded) || decoded.success._tag !== "Custom") return undefined
  const { data, name } = decoded.success
  return name === lostEvent && Predicate.hasProperty(data, "lines") && typeof data.lines === "number"
    ? data.lines
    : undefined
}

/** Waits until the bridge is done, or has made no progress for a while; `true`: done. */
const settled = Effect.fnUntraced(function* (handle: BridgeHandle, patience: Duration.Duration) {
  let last = -1
  const stalled = handle.status.pipe(
    Effect.map(({ dead, stored }) => {
      const stands = stored + dead === last
      last = stored + dead
      return stands
    }),
    Effect.repeat({ schedule: Schedule.spaced(patience), until: (stands) => stands }),
  )
  return yield* Effect.raceFirst(Effect.as(handle.await, true), Effect.as(stalled, false))
})

/** Starts recording a run; with its scope the bridge's lane goes too. */
export const make = Effect.fnUntraced(function* (options: RecorderOptions) {
  const bridge = yield* EventBridge
  const bufferBytes = options.bufferBytes ?? 16 * 1024 * 1024
  const patience = options.patience ?? "2 seconds"
  const { agentId, format, runId, sessionId } = options

  let queue = yield* Queue.make<Pending, Cause.Done>()
  const room = yield* Latch.make(true)
  const abandoned = yield* Deferred.make<void>()
  let waiting = 0
  let events = 0
  let leftOut = 0
  let isLeavingOut = false
  let ownEnding: AgentEvent | undefined

  const put = (event: AgentEvent, bytes: number) => {
    waiting += bytes
    if (waiting >= bufferBytes) room.closeUnsafe()
    Queue.offerUnsafe(queue, { event, bytes })
  }

  const taken = (items: ReadonlyArray<Pending>) => {
    for (const { bytes } of items) waiting -= bytes
    if (waiting <= bufferBytes / 2) room.openUnsafe()
  }

  /** Puts the number of lines left out where they are missing, once there is room. */
  const resume = () => {
    isLeavingOut = false
    if (leftOut === 0) return
    put({ _tag: "Custom", name: lostEvent, data: { lines: leftOut } }, 100)
    events += 1
    leftOut = 0
  }

  const waitForRoom = Effect.suspend(() => {
    if (room.isOpen() || isLeavingOut) return Effect.void
    return room.await.pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () =>
          Effect.sync(() => {
            isLeavingOut = true
          }),
      }),
    )
  })

  const add = (event: AgentEvent, bytes: number) => {
    events += 1
    if (isLeavingOut && !room.isOpen()) {
      leftOut += 1
      return
    }
    resume()
    put(event, bytes)
  }

  const inputs = (items: ReadonlyArray<Pending>) => {
    taken(items)
    // A queue gives at least the one that was asked for.
    return items.map(({ event }): BridgeInput<AgentEvent> => ({
      runId,
      sessionId,
      agentId,
      event,
    })) as unknown as Arr.NonEmptyReadonlyArray<BridgeInput<AgentEvent>>
  }
  const sourceOf = (from: Queue.Dequeue<Pending, Cause.Done>) =>
    Stream.fromPull(Effect.succeed(Effect.map(Queue.takeBetween(from, 1, batch), inputs)))
  const handle = yield* bridge.start(vocabulary, sourceOf(queue))

  const output = (stream: LineFormat.OutputStream): OutputRecorder => {
    const splitter = LineSplitter.make(maxLineBytes)
    const read = LineFormat.reader(format, stream, defaultBounds.maxEventBytes)
    const record = Effect.fnUntraced(function* (lines: ReadonlyArray<LineSplitter.Line>) {
      const problems: Array<string> = []
      for (const line of lines) {
        const { event, problem } = read(line)
        if (problem !== undefined) problems.push(problem)
        if (vocabulary.endsRun(event) !== undefined && ownEnding === undefined) ownEnding = event
        else if (vocabulary.endsRun(event) === undefined) add(event, line.text.length * 2 + 200)
        else {
          problems.push("a second event that ends the run")
          add({ _tag: "OutputLine", stream, line: line.text }, line.text.length * 2 + 200)
        }
      }
      for (const problem of problems) yield* options.onMalformed(stream, problem)
      yield* waitForRoom
    })
    return {
      take: (bytes) => record(splitter.push(bytes)),
      end: Effect.suspend(() => record(splitter.end())),
    }
  }

  const lost: Recorder["lost"] = ({ events: given, unencoded }) => {
    leftOut += unencoded.length
    for (const event of given) {
      const lines = linesLost(event)
      leftOut += lines ?? 1
      // The number will be put in again.
      if (lines !== undefined) events -= 1
    }
  }

  const finish = Effect.fnUntraced(function* (ending: AgentEvent) {
    const endPatience = Duration.fromInputUnsafe(options.endPatience ?? "10 seconds")
    const finished = (waitedFor: BridgeHandle) =>
      Effect.raceFirst(settled(waitedFor, endPatience), Effect.as(Deferred.await(abandoned), false))
    yield* Queue.end(queue)
    const isDone = yield* finished(handle)
    const { stored } = yield* handle.stop
    events += 1
    if (!isDone) return { events, stored }

    // Only now it is known what is missing, and the end comes after everything: it goes through a bridge of its own.
    const last = yield* Queue.make<Pending, Cause.Done>()
    queue = last
    resume()
    put(ending, 200)
    yield* Queue.end(last)
    const end = yield* bridge.start(vocabulary, sourceOf(last))
    yield* finished(end)
    return { events, stored: stored + (yield* end.stop).stored }
  }, Effect.scoped)

  return {
    note: (event) => add(event, 500),
    output,
    ending: () => ownEnding,
    lost,
    finish,
    abandon: () => {
      Deferred.doneUnsafe(abandoned, Effect.void)
    },
  } satisfies Recorder
})
