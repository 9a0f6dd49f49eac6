/**
 * An event store that keeps a journal of what was acknowledged, before whoever appended hears of it.
 *
 * So a producer that is killed at any moment has written down every acknowledgement that it could have acted on.
 */
import type { DeadLetter } from "@throughline/core/EventBridge"
import { type AppendResult, EventStore } from "@throughline/core/EventStore"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Journal from "./Journal.ts"

/** What became of an event: stored, or given up for this reason. */
export type Outcome = "stored" | DeadLetter["cause"]["_tag"]

export class Ledger extends Context.Service<
  Ledger,
  {
    /** Waits for an event that is about to be handed to the bridge. Ask before handing it over. */
    readonly expect: (eventId: string) => Deferred.Deferred<Outcome>
    readonly buried: (letter: DeadLetter) => Effect.Effect<void>
  }
>()("throughline-test/chaos/Ledger") {}

/** The line of an acknowledged append. */
export const acknowledgement = (runId: string, firstSeq: number, eventIds: ReadonlyArray<string>): string =>
  `acknowledged ${runId} ${firstSeq} ${eventIds.join()}`

const pattern = /^acknowledged (\S+) (\d+) (\S+)$/

/** Reads a line of a producer's journal; `undefined`: it tells of something else. */
export const parse = (line: string) => {
  const match = pattern.exec(line)
  return match === null ? undefined : { runId: match[1]!, firstSeq: Number(match[2]), eventIds: match[3]!.split(",") }
}

/** Puts the ledger in front of the store. */
export const layer = (journal: Journal.Writer): Layer.Layer<EventStore | Ledger, never, EventStore> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const inner = yield* EventStore
      const waiting = new Map<string, Deferred.Deferred<Outcome>>()

      const settle = (eventId: string, outcome: Outcome): void => {
        const deferred = waiting.get(eventId)
        if (deferred === undefined) return
        waiting.delete(eventId)
        Deferred.doneUnsafe(deferred, Effect.succeed(outcome))
      }

      const acknowledged = ({ frames }: AppendResult): void => {
        const { runId, seq } = frames[0]!.envelope
        const eventIds = frames.map(({ envelope }) => envelope.eventId)
        journal.write([acknowledgement(runId, seq, eventIds)])
        for (const eventId of eventIds) settle(eventId, "stored")
      }

      const ledger = Ledger.of({
        expect: (eventId) => {
          const deferred = Deferred.makeUnsafe<Outcome>()
          waiting.set(eventId, deferred)
          return deferred
        },
        buried: ({ cause, events, runId, unencoded }) =>
          Effect.sync(() => {
            const count = events.length + unencoded.length
            journal.write([`buried ${runId} ${cause._tag} ${count} ${JSON.stringify(cause.message)}`])
            for (const { eventId } of events) settle(eventId, cause._tag)
          }),
      })
      const decorated = EventStore.of({
        ...inner,
        append: (request) => Effect.tap(inner.append(request), (result) => Effect.sync(() => acknowledged(result))),
      })
      return Context.make(EventStore, decorated).pipe(Context.add(Ledger, ledger))
    }),
  )
