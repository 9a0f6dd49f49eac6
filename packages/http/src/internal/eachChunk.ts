/** Reads a stream to its end as `Stream.runForEachArray` does, and holds half as much while it waits: as many clients do. */
import type * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

/** The end of a stream is a failure of its pull. */
const ended = <E>(cause: Cause.Cause<E>): Effect.Effect<void, Pull.ExcludeDone<E>> => {
  const failed = Pull.filterNoDone(cause)
  return Result.isSuccess(failed) ? Effect.failCause(failed.success) : Effect.void
}

export const run = <A, E, E2>(
  stream: Stream.Stream<A, E>,
  take: (items: ReadonlyArray<A>) => Effect.Effect<void, E2>,
): Effect.Effect<void, E | E2> =>
  Effect.scopedWith((scope) =>
    // Suspended, so that what the stream was made of is gone once it is read.
    Effect.suspend(() =>
      Effect.flatMap(Channel.toPullScoped(Stream.toChannel(stream), scope), (pull) => {
        const rest: Pull.Pull<never, E | E2> = Effect.flatMap(pull, (items) =>
          Effect.flatMapEager(take(items), () => rest),
        )
        return Effect.catchCause(rest, ended)
      }),
    ),
  )
