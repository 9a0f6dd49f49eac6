/**
 * Live fan-out between the processes that share a file, with no server.
 *
 * What this process publishes reaches its own subscribers at once. What others commit is found by looking at the file's
 * `data_version`, which costs some microseconds, and read by position where it changed. One poller serves all
 * subscribers of a process; without subscribers there is none.
 */
import { defaultRooms, type RoomKind } from "@throughline/core/Envelope"
import { AdapterUnavailable, StreamAdapter } from "@throughline/core/StreamAdapter"
import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as SqlFrames from "@throughline/sql/SqlFrames"
import type * as SqlMigrations from "@throughline/sql/SqlMigrations"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcRef from "effect/RcRef"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as rooms from "./internal/rooms.ts"
import { SqliteClient } from "./SqliteClient.ts"

/** How events of other processes are found. */
export interface Options {
  /**
   * The time from one look at the file to the next, 20 ms by default: an event of another process arrives after half of
   * it on average.
   */
  readonly interval?: Duration.Input | undefined
  /** The kinds of room that other processes' events are handed to: those they feed, `Run` and `Session` by default. */
  readonly rooms?: ReadonlyArray<RoomKind> | undefined
}

/** What a look at the file can fail with. */
type LookError = SqlFrames.FramesError | SqlError

const unavailable = (error: LookError): AdapterUnavailable =>
  new AdapterUnavailable({ detail: error.message, isRetryable: error.isRetryable, cause: error })

const died = (cause: unknown): AdapterUnavailable =>
  new AdapterUnavailable({ detail: "a defect while the file was read", isRetryable: false, cause })

/** A file that can't be read is tried again after 50, 100, 200 … ms, every second at the latest. */
const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")]).pipe(Schedule.jittered)

/**
 * Makes the adapter of a file.
 *
 * Between processes, an event counts as published when it is committed. Where more than a page of events (1,000, 4 MiB)
 * came in between two looks, or the file couldn't be read for a while, subscribers get a `Gap`. A file that can't be
 * read any more (damaged, not a database) fails them with `AdapterUnavailable`; subscribing again looks again.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {},
): Effect.fn.Return<StreamAdapter["Service"], SqlMigrations.OpenFailed, SqliteClient | SqlClient | Scope.Scope> {
  const client = yield* SqliteClient
  const frames = yield* SqlFrames.make
  const interval = Duration.fromInputUnsafe(options.interval ?? "20 millis")
  const kinds = options.rooms ?? defaultRooms

  /** The rooms of the running poller. */
  let current: rooms.Rooms | undefined

  const startPoller = Effect.gen(function* () {
    // Before the head: what is committed in between changes the version.
    let version = yield* client.dataVersion
    const fed = rooms.make(kinds, yield* frames.head)

    const look: Effect.Effect<void, LookError> = Effect.gen(function* () {
      const now = yield* client.dataVersion
      if (now === version) return
      const range = fed.begin(yield* frames.head)
      if (range !== undefined) {
        // A record that can't be decoded is told by the store, where a reader asks for it.
        const found = yield* Effect.catchTag(frames.read(range), "CorruptRecord", () => Effect.succeed(undefined))
        fed.end(found?.frames ?? [])
        if (found?.complete !== true) fed.gap("overflow")
      }
      version = now
    })

    const lookAgain = (error: LookError): Effect.Effect<void, LookError> =>
      error.isRetryable
        ? Effect.andThen(
            Effect.retry(look, { schedule: backoff, while: (again) => again.isRetryable }),
            Effect.sync(() => fed.gap("reconnected")),
          )
        : Effect.fail(error)

    const follow = Effect.gen(function* () {
      // An idle process pays for this loop alone: a schedule would double its price.
      while (true) {
        yield* Effect.sleep(interval)
        yield* look.pipe(Effect.catch(lookAgain))
      }
    })
    const giveUp = (error: AdapterUnavailable) =>
      Effect.andThen(
        RcRef.invalidate(poller),
        Effect.sync(() => fed.fail(error)),
      )
    yield* follow.pipe(
      Effect.catch((error) => giveUp(unavailable(error))),
      // Subscribers would wait for ever for a poller that died.
      Effect.catchDefect((cause) => giveUp(died(cause))),
      Effect.forkScoped,
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        current = fed
      }),
      () =>
        Effect.sync(() => {
          if (current === fed) current = undefined
        }),
    )
    return fed
  })

  const poller: RcRef.RcRef<rooms.Rooms, LookError> = yield* RcRef.make({ acquire: startPoller })

  return StreamAdapter.of({
    publish: (targets, published) => Effect.sync(() => current?.publish(targets, published)),
    subscribe: Effect.fnUntraced(function* (room, queueOptions) {
      const queue = yield* SubscriberQueue.makeForAdapter<AdapterUnavailable>(queueOptions)
      const fed = yield* Effect.mapError(RcRef.get(poller), unavailable)
      yield* Effect.acquireRelease(
        Effect.sync(() => fed.add(room, queue)),
        (subscriber) => Effect.sync(() => fed.remove(room, subscriber)),
      )
      return queue.stream
    }),
  })
})

/** The adapter of the file of the `SqliteClient`. */
export const layer = (
  options?: Options,
): Layer.Layer<StreamAdapter, SqlMigrations.OpenFailed, SqliteClient | SqlClient> =>
  Layer.effect(StreamAdapter, make(options))
