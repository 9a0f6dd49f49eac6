/** Readers that come, go, fall behind and come back, and check each item as it arrives. */
import * as Cursor from "@throughline/core/Cursor"
import type * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import type { RunError, RunItem } from "@throughline/core/RunItem"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Generator from "../Generator.ts"
import * as Law from "../Law.ts"
import type { Process } from "./hubWorld.ts"

/** A reader's connection is cut after some events or some time, whichever is first; it is away, then resumes. */
export interface Cut {
  readonly events: number
  readonly millis: number
  readonly away: number
}

/** What a reader does. Times are virtual milliseconds. */
export interface ReaderPlan {
  readonly joins: number
  /** Where it begins, in percent of what is stored when it joins; 0 is the start. */
  readonly from: number
  /** Whether it gives cursors with the generation, or bare seqs. */
  readonly guarded: boolean
  /** Time it spends on each event. */
  readonly pace: number
  readonly cuts: ReadonlyArray<Cut>
}

export const arbitraryReader: Arbitrary.Arbitrary<ReaderPlan> = Arbitrary.all({
  joins: Generator.frequency([
    [1, Generator.int(0, 500)],
    [1, Generator.int(0, 8_000)],
  ]),
  from: Arbitrary.map(Generator.int(0, 150), (percent) => (percent > 100 ? 0 : percent)),
  guarded: Generator.boolean,
  pace: Arbitrary.map(Generator.int(0, 200), (millis) => (millis > 100 ? 0 : millis)),
  cuts: Arbitrary.array(
    Arbitrary.all({ events: Generator.int(0, 12), millis: Generator.int(0, 8_000), away: Generator.int(0, 4_000) }),
    {
      maxLength: 3,
    },
  ),
})

/** What a reader saw, over all its connections. */
export interface Seen {
  /** The seq it began after. */
  from: number
  readonly envelopes: Array<Envelope.EncodedEnvelope>
  /** Heads of `CaughtUp` items, with what was stored when the reader had connected, and when the item came. */
  readonly caughtUp: Array<{ readonly head: number; readonly stored: number; readonly at: number }>
  visits: number
  /** Virtual time at which it finished. */
  finishedAt: number | undefined
  /** How the last connection ended. */
  end: "open" | "completed" | RunError
  /** A promise that was broken in its sight. */
  broken: string | undefined
}

const nothing = (): Seen => ({
  from: 0,
  envelopes: [],
  caughtUp: [],
  visits: 0,
  finishedAt: undefined,
  end: "open",
  broken: undefined,
})

class Stop {
  readonly _tag = "Stop"
}

/** One connection: takes items until the stream ends, or the reader has had enough. `true`: the stream ended. */
const visit = Effect.fnUntraced(function* (
  stream: Stream.Stream<RunItem<Envelope.EncodedEnvelope>, RunError>,
  seen: Seen,
  place: { seq: number; cursor: Cursor.RunCursor | undefined },
  plan: Pick<ReaderPlan, "guarded" | "pace">,
  options: { readonly stored: number; readonly cut: Cut | undefined },
) {
  const { cut, stored } = options
  let events = 0
  let caughtUp = 0
  const wrong = (what: string) => {
    seen.broken ??= what
    return Effect.fail(new Stop())
  }
  const take = (item: RunItem<Envelope.EncodedEnvelope>): Effect.Effect<void, Stop> => {
    switch (item._tag) {
      case "CaughtUp":
        caughtUp++
        if (caughtUp > 1) return wrong(`CaughtUp came ${caughtUp} times on one connection`)
        if (item.head !== place.seq) return wrong(`CaughtUp says head ${item.head} after seq ${place.seq}`)
        return Effect.map(Clock.currentTimeMillis, (at) => {
          seen.caughtUp.push({ head: item.head, stored, at })
        })
      case "Truncated":
        return wrong(`Truncated ${item.from} to ${item.to}, but nothing was trimmed`)
      case "Dropped":
        return wrong(`${item.notice.frames} events were dropped by a reader that chose no policy`)
      case "Event": {
        const { envelope } = item
        if (envelope.seq !== place.seq + 1) return wrong(`seq ${envelope.seq} came after seq ${place.seq}`)
        if (!item.cursor.startsWith(`${envelope.seq}-`)) return wrong(`seq ${envelope.seq} has cursor ${item.cursor}`)
        place.seq = envelope.seq
        place.cursor = plan.guarded ? item.cursor : envelope.seq
        seen.envelopes.push(envelope)
        events++
        const enough = cut !== undefined && events >= cut.events ? Effect.fail(new Stop()) : Effect.void
        return plan.pace === 0 ? enough : Effect.andThen(Effect.sleep(plan.pace), enough)
      }
    }
  }
  seen.visits++
  const exit = yield* Stream.runForEach(stream, take).pipe(
    cut === undefined
      ? (self) => self
      : Effect.timeoutOrElse({ duration: cut.millis, orElse: () => Effect.fail(new Stop()) }),
    Effect.exit,
  )
  if (Exit.isSuccess(exit)) {
    seen.end = "completed"
    if (caughtUp !== 1) seen.broken ??= `the stream completed with ${caughtUp} CaughtUp`
    return true
  }
  const error = Exit.findErrorOption(exit)
  if (Option.isNone(error)) return yield* Effect.die(exit.cause)
  if (error.value._tag === "Stop") return seen.broken !== undefined
  seen.end = error.value
  return true
})

/**
 * Follows a run as the plan says until the stream ends; what it saw fills in as it goes. `place` is where it begins
 * instead of where the plan says.
 */
export const follow = Effect.fnUntraced(function* (
  process: Pick<Process, "hub">,
  runId: Envelope.RunId,
  plan: ReaderPlan,
  begin?: { readonly seq: number; readonly cursor: Cursor.RunCursor },
) {
  const truth = yield* EventStore
  const seen = nothing()
  const life = Effect.gen(function* () {
    yield* Effect.sleep(plan.joins)
    const { generation, lastSeq } = yield* Effect.orDie(truth.head(runId))
    const seq = begin?.seq ?? Math.floor((lastSeq * plan.from) / 100)
    seen.from = seq
    const guarded = plan.guarded && generation !== undefined
    const place: { seq: number; cursor: Cursor.RunCursor | undefined } = {
      seq,
      cursor: begin?.cursor ?? (guarded ? Cursor.run(seq, generation) : seq === 0 ? undefined : seq),
    }
    for (const cut of [...plan.cuts, undefined]) {
      const stored = (yield* Effect.orDie(truth.head(runId))).lastSeq
      const stream = process.hub.run(runId, { after: place.cursor })
      if (yield* visit(stream, seen, place, plan, { stored, cut })) break
      yield* Effect.sleep(cut?.away ?? 0)
    }
  })
  yield* Effect.forkScoped(
    Effect.ensuring(
      life,
      Effect.map(Clock.currentTimeMillis, (at) => {
        seen.finishedAt = at
      }),
    ),
    { startImmediately: true },
  )
  return seen
})

/** What came of a stream so far, and how it ended if it did. */
export interface Collected<A, E> {
  readonly items: Array<A>
  end: "open" | "completed" | E
}

/** Runs a stream in the background and takes all it gives. */
export const collect = Effect.fnUntraced(function* <A, E, R>(stream: Stream.Stream<A, E, R>) {
  const collected: Collected<A, E> = { items: [], end: "open" }
  yield* Stream.runForEach(stream, (item) => Effect.sync(() => collected.items.push(item))).pipe(
    Effect.matchEffect({
      onSuccess: () =>
        Effect.sync(() => {
          collected.end = "completed"
        }),
      onFailure: (error) =>
        Effect.sync(() => {
          collected.end = error
        }),
    }),
    Effect.forkScoped({ startImmediately: true }),
  )
  return collected
})

/** A stream whose reader spends time, in ms, on each item. */
export const paced = <A, E, R>(stream: Stream.Stream<A, E, R>, millis: number): Stream.Stream<A, E, R> =>
  millis === 0 ? stream : Stream.tap(stream, () => Effect.sleep(millis))

/** A reader that joins at once, at the start, and stays. */
export const plain: ReaderPlan = { joins: 0, from: 0, guarded: true, pace: 0, cuts: [] }

/** Breaks the law unless the reader saw the whole of a run after its place, and its stream then completed. */
export const sawWhole = Effect.fnUntraced(function* (
  who: string,
  seen: Seen,
  envelopes: ReadonlyArray<Envelope.EncodedEnvelope>,
) {
  if (seen.broken !== undefined) return yield* Law.broken(`${who}: ${seen.broken}`)
  if (typeof seen.end !== "string") return yield* Law.broken(`${who} failed: ${seen.end._tag}: ${seen.end.message}`)
  const last = seen.from + seen.envelopes.length
  if (seen.end === "open") {
    return yield* Law.broken(
      `${who} began after seq ${seen.from}, is at seq ${last} of ${envelopes.length} on connection ${seen.visits}, and nothing more comes`,
    )
  }
  yield* Law.holds(last === envelopes.length, `${who}: the stream completed at seq ${last} of ${envelopes.length}`)
  yield* Law.same(`what ${who} saw`, seen.envelopes, envelopes.slice(seen.from))
})
