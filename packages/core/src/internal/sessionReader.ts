/** One reader of one session: the archive by position, woken by the session's room. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { EncodedEnvelope, Envelope, SessionId } from "../Envelope.ts"
import type { ArchiveItem, EventArchive } from "../EventArchive.ts"
import { CorruptRecord, ReadFailed, VocabularyMismatch } from "../EventStoreError.ts"
import type { SessionError, SessionItem } from "../RunItem.ts"
import type { StreamAdapter } from "../StreamAdapter.ts"
import type { Vocabulary } from "../Vocabulary.ts"
import { Signal } from "./signal.ts"
import type { StoreAccess } from "./storeAccess.ts"

type Item = SessionItem<EncodedEnvelope | Envelope<unknown>>

/** The shared side of watching a session in one process: it only tells when to look. */
export interface SessionFeed {
  readonly signal: Signal
  live: boolean
}

const pollWhileDown = Duration.millis(500)

/** Makes the feed of a session; it works until the scope closes. */
export const makeFeed = Effect.fnUntraced(function* (sessionId: SessionId, adapter: StreamAdapter["Service"]) {
  const feed: SessionFeed = { signal: new Signal(), live: false }
  const setLive = (live: boolean) => {
    feed.live = live
    feed.signal.notify()
  }
  const subscription = Effect.gen(function* () {
    const stream = yield* adapter.subscribe({ _tag: "Session", sessionId }, { capacity: 1 })
    setLive(true)
    yield* Stream.runForEachArray(stream, () => Effect.sync(() => feed.signal.notify()))
  }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => setLive(false))))
  yield* Effect.forkScoped(
    subscription.pipe(Effect.ignore, Effect.repeat(Schedule.jittered(Schedule.spaced(pollWhileDown)))),
    { startImmediately: true },
  )
  return feed
})

/** The session's stream; it never ends. */
export const stream = (
  options: {
    readonly sessionId: SessionId
    readonly after: string | undefined
    readonly vocabulary: Vocabulary<unknown> | undefined
    readonly watchdog: Duration.Duration
    readonly retry: Schedule.Schedule<unknown>
  },
  services: { readonly archive: EventArchive["Service"]; readonly access: StoreAccess; readonly feed: SessionFeed },
): Stream.Stream<Item, SessionError> => {
  const { feed } = services
  let after = options.after
  let seen = -1
  let caughtUp = false
  const open = makeOpen(options.vocabulary, services.access)

  const deliver = Effect.fnUntraced(function* (item: ArchiveItem) {
    if (item._tag === "Truncated") return item satisfies Item
    if (item._tag === "Event") {
      const envelope = yield* open(item.envelope)
      after = item.cursor
      return { ...item, envelope } satisfies Item
    }
    after = item.cursor
    if (caughtUp) return undefined
    caughtUp = true
    return { _tag: "CaughtUp", position: item.position, cursor: item.cursor } satisfies Item
  })

  const retry = Schedule.passthrough(options.retry).pipe(
    Schedule.tap(({ input }) => (isRetryable(input) ? Effect.void : Effect.fail(input as SessionError))),
  )
  const round = Stream.suspend(() => {
    seen = feed.signal.version
    return services.archive.replay({ filter: { sessionIds: [options.sessionId] }, after })
  }).pipe(
    // A session's id always makes a filter.
    Stream.catchTag("InvalidFilter", Stream.die),
    Stream.mapEffect(deliver),
    Stream.filter((item) => item !== undefined),
    // A retry resumes after the last item that was delivered.
    Stream.retry(retry),
  )
  const woken = Stream.fromEffectDrain(
    Effect.suspend(() =>
      seen === -1
        ? Effect.void
        : Effect.timeoutOption(feed.signal.changed(seen), feed.live ? options.watchdog : pollWhileDown),
    ),
  )
  return Stream.forever(Stream.concat(woken, round))
}

const isRetryable = (error: unknown): boolean => error instanceof ReadFailed && error.isRetryable

/** Runs whose vocabulary is remembered as checked; past it they are checked anew, as a session has no bound. */
const rememberedRuns = 1000

/** Decodes envelopes where there is a vocabulary, after checking that their run speaks it. */
const makeOpen = (vocabulary: Vocabulary<unknown> | undefined, access: StoreAccess) => {
  const checked = new Set<string>()
  return Effect.fnUntraced(function* (envelope: EncodedEnvelope) {
    if (vocabulary === undefined) return envelope
    const { runId, seq } = envelope
    if (!checked.has(runId)) {
      const { vocabulary: stored } = yield* access.head(runId)
      if (stored !== undefined && (stored.name !== vocabulary.id.name || stored.version !== vocabulary.id.version)) {
        return yield* new VocabularyMismatch({ runId, stored, given: vocabulary.id })
      }
      if (checked.size >= rememberedRuns) checked.clear()
      checked.add(runId)
    }
    const event = vocabulary.decode(envelope.event)
    if (Result.isFailure(event)) return yield* new CorruptRecord({ runId, seq, problem: event.failure })
    return { ...envelope, event: event.success } satisfies Envelope<unknown>
  })
}
