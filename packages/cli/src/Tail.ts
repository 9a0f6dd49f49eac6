/** `throughline tail`: a run's events, replayed and followed. */
import type { RunCursor } from "@throughline/core/Cursor"
import { type EncodedEnvelope, type RunId, toJson } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import type { RunItem } from "@throughline/core/RunItem"
import { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Exit from "./Exit.ts"
import { Output, tell } from "./Output.ts"
import * as Render from "./Render.ts"

export interface TailRequest {
  readonly run: RunId
  readonly after: RunCursor | undefined
  readonly follow: boolean
  readonly wait: boolean
  readonly json: boolean
}

export const unknownRun = (run: RunId) =>
  new Exit.CommandFailed({ code: Exit.unknown, message: `no run ${run} in this store` })

/** Prints a run, up to its head or its end. */
export const tail = Effect.fnUntraced(
  function* (request: TailRequest) {
    const store = yield* EventStore
    const hub = yield* SubscriptionHub
    const output = yield* Output
    const { canAnimate, canColor } = yield* TerminalCapabilities.TerminalCapabilities
    const { after, follow, json, run, wait } = request
    if (!wait && (yield* store.head(run)).status === "unknown") return yield* unknownRun(run)

    const style = Render.paint(canColor)
    const line = (envelope: EncodedEnvelope): string => {
      if (!json) return Render.event(envelope, style)
      return canAnimate ? Render.safeJson(toJson(envelope)) : toJson(envelope)
    }
    const print = Effect.fnUntraced(function* (items: ReadonlyArray<RunItem<EncodedEnvelope>>) {
      let text = ""
      for (const item of items) {
        if (item._tag === "Event") text += `${line(item.envelope)}\n`
        else if (item._tag === "Truncated") {
          yield* output.write("stdout", text)
          text = ""
          yield* tell(`events ${item.from} to ${item.to} are past their retention and gone; going on after them`)
        }
      }
      if (text !== "") yield* output.write("stdout", text)
    })
    const items = hub.run(run, { after, truncated: "skip" })
    yield* (follow ? items : Stream.takeUntil(items, (item) => item._tag === "CaughtUp")).pipe(
      Stream.runForEachArray(print),
    )
  },
  // `tail … | head`: whoever has read enough goes, and so do we.
  Effect.catchIf(
    (error) => error._tag === "OutputClosed" && error.isReaderGone,
    () => Effect.void,
  ),
)
