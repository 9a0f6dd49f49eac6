/** Plays a history on a queue, and keeps what its reader got. */
import type { Frame, Gap, OverflowNotice } from "@throughline/core/Envelope"
import type { Overflow, SubscriberQueue } from "@throughline/core/SubscriberQueue"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Law from "../Law.ts"
import * as QueueHistory from "./queueHistory.ts"

/** How a source that fails does. */
export const sourceFailure = { _tag: "SourceFailed" } as const
export type SourceFailure = typeof sourceFailure

export type QueueUnderTest = SubscriberQueue<SourceFailure>

/** What one pull of the stream gave. */
export type Pulled =
  | { readonly _tag: "Chunk"; readonly items: ReadonlyArray<Frame | Gap> }
  | { readonly _tag: "Failed"; readonly error: Overflow | SourceFailure }
  | { readonly _tag: "Done" }

type Puller = Pull.Pull<ReadonlyArray<Frame | Gap>, Overflow | SourceFailure>

const pulled = (pull: Puller): Effect.Effect<Pulled> =>
  Effect.map(Effect.exit(pull), (exit): Pulled => {
    if (Exit.isSuccess(exit)) return { _tag: "Chunk", items: exit.value }
    const reason = exit.cause.reasons[0]!
    if (reason._tag !== "Fail") throw Cause.squash(exit.cause)
    return Cause.isDone(reason.error) ? { _tag: "Done" } : { _tag: "Failed", error: reason.error }
  })

/** Turns of the scheduler within which a waiting reader has what was offered. */
const turnsToWake = 50

/** Sees a history as it is played. `isReady` says whether the next pull ends without another offer. */
export interface Watcher {
  readonly isReady: () => boolean
  readonly offered: (frame: Frame) => void
  readonly gap: (reason: Gap["reason"], notice: OverflowNotice | undefined) => void
  readonly pulled: (pulled: Pulled) => Effect.Effect<void, unknown>
}

/** Offers and takes as the history says; then the source ends, and the reader drains until it would wait. */
export const play = Effect.fnUntraced(function* (
  queue: QueueUnderTest,
  history: QueueHistory.History,
  watcher: Watcher,
): Effect.fn.Return<void, unknown, Scope.Scope> {
  const pull: Puller = yield* Stream.toPull(queue.stream)
  const frameOf = QueueHistory.frameMaker(history.positioned)
  let waiting: Fiber.Fiber<Pulled> | undefined
  let over = false

  const take = Effect.gen(function* () {
    if (over || !watcher.isReady()) return false
    waiting ??= yield* Effect.forkScoped(pulled(pull), { startImmediately: true })
    for (let turn = 0; turn < turnsToWake && waiting.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
    if (waiting.pollUnsafe() === undefined) return yield* Law.broken("the reader waits although it should not have to")
    const result = yield* Fiber.join(waiting)
    waiting = undefined
    if (result._tag !== "Chunk") over = true
    yield* watcher.pulled(result)
    return true
  })

  for (const command of history.commands) {
    switch (command._tag) {
      case "Offer": {
        const frames = command.frames.map(frameOf)
        for (const frame of frames) watcher.offered(frame)
        if (frames.length === 1) queue.offer(frames[0]!)
        else queue.offerAll(frames)
        // A reader that waits takes what the offers left, before the next ones.
        if (waiting !== undefined) yield* take
        break
      }
      case "Gap": {
        const notice = QueueHistory.countedNotice(command.counted)
        watcher.gap(command.reason, notice)
        queue.gap(command.reason, notice)
        if (waiting !== undefined) yield* take
        break
      }
      case "Take":
        yield* take
        break
      case "Wait":
        if (!over && waiting === undefined && !watcher.isReady()) {
          waiting = yield* Effect.forkScoped(pulled(pull), { startImmediately: true })
        }
    }
  }
  if (history.ending === "end") queue.end()
  else if (history.ending === "fail") queue.fail(sourceFailure)
  while (yield* take) {}
})
