/**
 * The plainest hub: subscribe, read pages up to the head, then take the frames that fit and read again when one doesn't.
 * Nothing is shared between readers. Each of its parts can be left out or done wrong, to see which law tells.
 */
import * as Cursor from "@throughline/core/Cursor"
import * as Envelope from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import { EventStore } from "@throughline/core/EventStore"
import { ReadFailed, StoreUnavailable } from "@throughline/core/EventStoreError"
import { type RunError, type RunItem, RunRemoved, type SessionError, type SessionItem } from "@throughline/core/RunItem"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import { defaultRetry, type HubOptions, type RunOptions, SubscriptionHub } from "@throughline/core/SubscriptionHub"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** What the hub may be without, or do wrong. */
export type Bug =
  | "delivers doubled messages again"
  | "ignores holes"
  | "has no watchdog"
  | "says CaughtUp twice"
  | "says CaughtUp before the replay"
  | "resumes one event late"
  | "never subscribes again"
  | "takes events of any generation"
  | "leaves wills alone"
  | "ends a run as soon as its lease expires"
  | "reads the whole run at once"
  | "keeps its watchdog after the reader left"
  | "skips trimmed history in silence"
  | "gives up on the first failed read"
  | "waits for the live path"
  | "never reads a session again"

type Item = RunItem<Envelope.EncodedEnvelope>

const isRetryable = (error: unknown) => (error as { readonly isRetryable?: boolean }).isRetryable === true

/** A stream of what `next` gives until it fails `Done`; empty answers are asked again. */
const streamOf = <A, E, R, R2>(
  make: Effect.Effect<Effect.Effect<ReadonlyArray<A>, E | Cause.Done, R2>, E, R | Scope.Scope>,
): Stream.Stream<A, E, Exclude<R, Scope.Scope> | R2> =>
  Stream.unwrap(
    Effect.map(make, (next) => {
      const some: Effect.Effect<Arr.NonEmptyReadonlyArray<A>, E | Cause.Done, R2> = Effect.flatMap(next, (items) =>
        Arr.isReadonlyArrayNonEmpty(items) ? Effect.succeed(items) : some,
      )
      // `Done` is the end of the pull, no error of the stream.
      return Stream.fromPull(Effect.succeed(some)) as Stream.Stream<A, E, R2>
    }),
  ) as Stream.Stream<A, E, Exclude<R, Scope.Scope> | R2>

const make = Effect.fnUntraced(function* (has: (bug: Bug) => boolean, options: HubOptions) {
  const store = yield* EventStore
  const adapter = yield* StreamAdapter.StreamAdapter
  const hubScope = yield* Effect.scope
  const watchdog = options.watchdog ?? "5 seconds"
  const grace = has("ends a run as soon as its lease expires")
    ? 0
    : Duration.toMillis(Duration.fromInputUnsafe(options.grace ?? "15 seconds"))
  const limit = has("reads the whole run at once") ? 1_000_000 : (options.pageEvents ?? 1000)

  const retried = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E | ReadFailed, R> =>
    has("gives up on the first failed read")
      ? call
      : call.pipe(
          Effect.timeoutOrElse({
            duration: "10 seconds",
            orElse: () =>
              Effect.fail(new ReadFailed({ reason: new StoreUnavailable({ detail: "no answer in time" }) })),
          }),
          Effect.retry({ schedule: options.retry ?? defaultRetry, while: isRetryable }),
        )

  /** Puts a frame or a word to look at the store into the queue, until the scope closes. */
  const wake = Effect.fnUntraced(function* (room: Envelope.Room, queue: Queue.Queue<Envelope.Frame | "look">) {
    const look = Queue.offer(queue, "look")
    const listen = adapter
      .subscribe(room, { capacity: options.bufferEvents })
      .pipe(
        Effect.tap(look),
        Effect.flatMap(
          Stream.runForEach((item): Effect.Effect<boolean> => (item._tag === "Gap" ? look : Queue.offer(queue, item))),
        ),
        Effect.scoped,
        Effect.ignore,
      )
    const again = has("never subscribes again") ? Schedule.recurs(0) : Schedule.spaced("1 second")
    yield* Effect.forkScoped(Effect.repeat(listen, again), { startImmediately: true })
    if (has("has no watchdog")) return
    const tick = Effect.forever(Effect.delay(look, watchdog))
    if (has("keeps its watchdog after the reader left")) yield* Effect.forkIn(tick, hubScope)
    else yield* Effect.forkScoped(tick)
  })

  const expired = Effect.fnUntraced(function* (runId: Envelope.RunId) {
    const { lastSeq, lease, status } = yield* store.head(runId)
    if (status !== "running" || lease === undefined || !lease.hasWill) return undefined
    if (lease.expiresAt > (yield* Clock.currentTimeMillis)) return undefined
    return { leaseVersion: lease.version, expectedSeq: lastSeq }
  })

  /** Ends the run with its will if its producer is gone, until the scope closes. */
  const watchWill = Effect.fnUntraced(function* (runId: Envelope.RunId) {
    let first: { readonly leaseVersion: number; readonly at: number } | undefined
    const look = Effect.gen(function* () {
      const lost = yield* expired(runId)
      const now = yield* Clock.currentTimeMillis
      if (lost === undefined) return
      if (first?.leaseVersion !== lost.leaseVersion) first = { leaseVersion: lost.leaseVersion, at: now }
      if (now < first.at + grace) return
      yield* StreamAdapter.publishAppended(adapter, yield* store.appendWill(runId, lost), Envelope.defaultRooms)
    })
    yield* look.pipe(
      Effect.timeout("1 minute"),
      Effect.ignore,
      Effect.andThen(Effect.sleep(watchdog)),
      Effect.forever,
      Effect.forkScoped,
    )
  })

  const run = Effect.fnUntraced(function* (runId: Envelope.RunId, { after, truncated }: RunOptions) {
    const place = yield* Cursor.runPlace(after)
    let seq = place.seq > 0 && has("resumes one event late") ? place.seq + 1 : place.seq
    let { generation } = place
    let bound = false
    let caughtUp = 0
    let reading = true
    let ended = false
    const queue = yield* Queue.unbounded<Envelope.Frame | "look">()
    const room: Envelope.Room = { _tag: "Run", runId }
    if (has("waits for the live path")) {
      yield* Effect.retry(Effect.scoped(Effect.asVoid(adapter.subscribe(room))), Schedule.spaced("1 second")).pipe(
        Effect.orDie,
      )
    }
    yield* wake(room, queue)
    if (!has("leaves wills alone")) yield* watchWill(runId)

    const event = (envelope: Envelope.EncodedEnvelope, cursor: string): Item => {
      seq = envelope.seq
      ended = envelope.endsRun !== undefined
      return { _tag: "Event", envelope, cursor }
    }

    const read = Effect.gen(function* () {
      const guarded = generation !== undefined && !has("takes events of any generation")
      const { envelopes, head } = yield* retried(
        store.read({ runId, after: guarded ? Cursor.run(seq, generation!) : seq, limit }),
      )
      const items = envelopes.map((envelope) => event(envelope, Cursor.run(envelope.seq, head.generation!)))
      generation ??= head.generation
      bound = generation !== undefined
      if (seq < head.lastSeq) return items
      reading = false
      ended = head.status !== "running" && head.status !== "unknown"
      caughtUp++
      if (caughtUp === 1 || (caughtUp === 2 && has("says CaughtUp twice"))) items.push({ _tag: "CaughtUp", head: seq })
      return items
    }).pipe(
      Effect.catchTag("HistoryTruncated", (error): Effect.Effect<ReadonlyArray<Item>, RunError> => {
        const silent = has("skips trimmed history in silence")
        if (truncated !== "skip" && !silent) return Effect.fail(error)
        const item: Item = { _tag: "Truncated", from: seq + 1, to: error.oldestSeq - 1 }
        seq = item.to
        return Effect.succeed(silent ? [] : [item])
      }),
      Effect.mapError((error) =>
        bound && error._tag === "CursorStale" ? new RunRemoved({ runId, generation: generation! }) : error,
      ),
    )

    const takeFrame = Effect.map(Queue.take(queue), (frame): ReadonlyArray<Item> => {
      const known = frame !== "look" && generation !== undefined && frame.cursor.endsWith(generation)
      if (frame === "look" || !(known || has("takes events of any generation"))) {
        reading = true
        return []
      }
      const { envelope } = frame
      if (envelope.seq <= seq) return has("delivers doubled messages again") ? [event(envelope, frame.cursor)] : []
      if (envelope.seq === seq + 1 || has("ignores holes")) return [event(envelope, frame.cursor)]
      reading = true
      return []
    })

    let before: ReadonlyArray<Item> = []
    if (has("says CaughtUp before the replay")) {
      before = [{ _tag: "CaughtUp", head: seq }]
      caughtUp = 1
    }
    return Effect.suspend((): Effect.Effect<ReadonlyArray<Item>, RunError | Cause.Done> => {
      if (before.length > 0) {
        const items = before
        before = []
        return Effect.succeed(items)
      }
      if (reading) return read
      return ended ? Effect.fail(Cause.Done()) : takeFrame
    })
  })

  const session = Effect.fnUntraced(function* (sessionId: Envelope.SessionId, after: string | undefined) {
    const archive = yield* EventArchive
    const queue = yield* Queue.unbounded<Envelope.Frame | "look">()
    yield* wake({ _tag: "Session", sessionId }, queue)
    let cursor = after
    let caughtUp = false
    return Effect.gen(function* () {
      if (caughtUp) {
        if (has("never reads a session again")) return yield* Effect.never
        yield* Queue.takeAll(queue)
      }
      const items: Array<SessionItem<Envelope.EncodedEnvelope>> = []
      const seen = yield* retried(
        Effect.suspend(() => Stream.runCollect(archive.replay({ filter: { sessionIds: [sessionId] }, after: cursor }))),
      )
      for (const item of seen) {
        if (item._tag === "Truncated") items.push(item)
        else {
          cursor = item.cursor
          if (item._tag === "Event") items.push(item)
          else if (!caughtUp) {
            caughtUp = true
            items.push({ _tag: "CaughtUp", position: item.position, cursor: item.cursor })
          }
        }
      }
      return items
    }) as Effect.Effect<ReadonlyArray<SessionItem<Envelope.EncodedEnvelope>>, SessionError>
  })

  const runStream = (runId: Envelope.RunId, runOptions: RunOptions = {}): Stream.Stream<Item, RunError> =>
    streamOf(run(runId, runOptions))

  return SubscriptionHub.of({
    run: runStream,
    subscribeRun: Effect.fnUntraced(function* (runId, request) {
      const replay = yield* retried(store.read({ runId, ...request }))
      const last = replay.envelopes.at(-1)?.seq ?? (yield* Cursor.runPlace(request.after)).seq
      const { generation } = replay.head
      return {
        replay,
        live: runStream(runId, { after: generation === undefined ? last : Cursor.run(last, generation) }),
      }
    }),
    session: (sessionId: Envelope.SessionId, sessionOptions?: { readonly after?: string | undefined }) =>
      streamOf(session(sessionId, sessionOptions?.after)),
    look: () => Effect.void,
  })
})

/** A hub with these bugs; with none it keeps every promise but those on what readers share. */
export const layer =
  (...bugs: ReadonlyArray<Bug>) =>
  (options: HubOptions = {}) =>
    Layer.effect(
      SubscriptionHub,
      make((bug) => bugs.includes(bug), options),
    )
