import { assert, describe, it } from "@effect/vitest"
import { EventJson, type RunId, type SessionId } from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as HubLaws from "@throughline/testing/HubLaws"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as ReferenceHub from "./referenceHub.ts"

const lost = {
  kind: "Lost",
  delivery: "terminal",
  endsRun: "failed",
  emittedAt: "1970-01-01T00:00:00.000Z",
  tags: [],
  correlation: {},
  event: EventJson.make("{}"),
} as const

const over =
  (hub: (options?: SubscriptionHub.HubOptions) => Layer.Layer<SubscriptionHub.SubscriptionHub, never, HubLaws.Below>) =>
  (options?: StoreOptions) =>
    Layer.mergeAll(EventStore.layerMemory(options), StreamAdapter.layerMemory, Layer.succeed(HubLaws.HubUnderTest, hub))

const bug = (name: ReferenceHub.Bug, law: HubLaws.HubLaw) => ({
  bug: name,
  law: law.name,
  subject: over(ReferenceHub.layer(name)),
})

type Hub = SubscriptionHub.SubscriptionHub["Service"]

/** The library's own hub with a part of it done wrong. */
const wrapped =
  (wrong: (hub: Hub, store: EventStore.EventStore["Service"]) => Partial<Hub>) =>
  (options?: SubscriptionHub.HubOptions) =>
    Layer.effect(
      SubscriptionHub.SubscriptionHub,
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const hub = yield* SubscriptionHub.make(options)
        return { ...hub, ...wrong(hub, store) }
      }),
    )

/** The library's own hub over an adapter with a part of it done wrong. */
const overAdapter =
  (wrong: (adapter: StreamAdapter.StreamAdapter["Service"]) => Partial<StreamAdapter.StreamAdapter["Service"]>) =>
  (options?: SubscriptionHub.HubOptions) =>
    SubscriptionHub.layer(options).pipe(
      Layer.provide(
        Layer.effect(
          StreamAdapter.StreamAdapter,
          StreamAdapter.StreamAdapter.useSync((adapter) => ({ ...adapter, ...wrong(adapter) })),
        ),
      ),
    )

/** Every reader's item must be done with before any reader gets its next one. */
const inStep = (hub: Hub): Partial<Hub> => {
  const turn = Semaphore.makeUnsafe(1)
  return {
    run: (runId: RunId, options?: SubscriptionHub.RunOptions) =>
      Stream.transformPull(hub.run(runId, options), (pull) =>
        Effect.sync(() => {
          let holds = false
          return Effect.suspend(() => {
            const done = holds ? turn.release(1) : Effect.void
            holds = false
            return Effect.andThen(done, pull).pipe(
              Effect.tap(() => turn.take(1)),
              Effect.tap(() =>
                Effect.sync(() => {
                  holds = true
                }),
              ),
            )
          })
        }),
      ),
  }
}

const ofReference = [
  bug("delivers doubled messages again", HubLaws.whole),
  bug("ignores holes", HubLaws.whole),
  bug("says CaughtUp twice", HubLaws.whole),
  bug("gives up on the first failed read", HubLaws.whole),
  bug("says CaughtUp before the replay", HubLaws.caughtUp),
  bug("resumes one event late", HubLaws.anyPlace),
  bug("takes events of any generation", HubLaws.removed),
  bug("skips trimmed history in silence", HubLaws.trimmed),
  bug("has no watchdog", HubLaws.endArrives),
  bug("waits for the live path", HubLaws.endArrives),
  bug("never subscribes again", HubLaws.takenUp),
  bug("leaves wills alone", HubLaws.willOnce),
  bug("ends a run as soon as its lease expires", HubLaws.willOnce),
  bug("reads the whole run at once", HubLaws.bounded),
  bug("keeps its watchdog after the reader left", HubLaws.nothingLeft),
  bug("never reads a session again", HubLaws.session),
]

const mutants = [
  ...ofReference,
  {
    bug: "watches and reads for each reader apart",
    law: HubLaws.shared.name,
    subject: over(ReferenceHub.layer()),
  },
  {
    bug: "looks at the store once a day",
    law: HubLaws.endArrives.name,
    subject: over((options) => SubscriptionHub.layer({ ...options, watchdog: "1 day" })),
  },
  {
    bug: "looks at the store ten times a second",
    law: HubLaws.notHoles.name,
    subject: over((options) => SubscriptionHub.layer({ ...options, watchdog: "100 millis" })),
  },
  {
    bug: "tries a failed read for ever",
    law: HubLaws.outlasts.name,
    subject: over((options) => SubscriptionHub.layer({ ...options, retry: Schedule.spaced("1 second") })),
  },
  {
    bug: "gives the last event of the page again",
    law: HubLaws.twoParts.name,
    subject: over(
      wrapped((hub) => ({
        subscribeRun: Effect.fnUntraced(function* (runId, options) {
          const { replay } = yield* hub.subscribeRun(runId, options)
          const last = replay.envelopes.at(-1)?.seq ?? 1
          return { replay, live: hub.run(runId, { after: last - 1 }) }
        }),
      })),
    ),
  },
  {
    bug: "never listens to the live path",
    law: HubLaws.atOnce.name,
    subject: over(overAdapter(() => ({ subscribe: () => Effect.succeed(Stream.never) }))),
  },
  {
    bug: "leaves what it is asked to look at to its watchdog",
    law: HubLaws.askedToLook.name,
    subject: over(wrapped(() => ({ look: () => Effect.void }))),
  },
  {
    bug: "takes a gap for nothing",
    law: HubLaws.burst.name,
    subject: over(
      overAdapter((adapter) => ({
        subscribe: (room, queue) =>
          Effect.map(adapter.subscribe(room, queue), (stream) =>
            Stream.filter(stream, (item) => item._tag === "Frame"),
          ),
      })),
    ),
  },
  {
    bug: "waits for a cursor beyond the head",
    law: HubLaws.refused.name,
    subject: over(
      wrapped((hub) => ({
        run: (runId: RunId, options?: SubscriptionHub.RunOptions) =>
          Stream.catchTag(hub.run(runId, options), "CursorAhead", () => Stream.never),
      })),
    ),
  },
  {
    bug: "ends its readers in silence where a record can't be decoded",
    law: HubLaws.typed.name,
    subject: over(
      wrapped((hub) => ({
        run: (runId: RunId, options?: SubscriptionHub.RunOptions) =>
          Stream.catchTag(hub.run(runId, options), "CorruptRecord", () => Stream.empty),
      })),
    ),
  },
  {
    bug: "lets its readers take turns",
    law: HubLaws.notHeldUp.name,
    subject: over(wrapped(inStep)),
  },
  {
    bug: "ends silent runs that have no lease",
    law: HubLaws.leftAlone.name,
    subject: over(
      wrapped((hub, store) => ({
        run: (runId: RunId, options?: SubscriptionHub.RunOptions) =>
          Stream.merge(
            hub.run(runId, options),
            Stream.drain(
              Stream.fromEffect(
                Effect.ignore(Effect.delay(store.endAbandoned({ idleFor: "1 minute", event: lost }), "2 minutes")),
              ),
            ),
            { haltStrategy: "left" },
          ),
      })),
    ),
  },
  {
    bug: "starts a session over where it doesn't know the cursor",
    law: HubLaws.ownCursor.name,
    subject: over(
      wrapped((hub) => ({
        session: (sessionId: SessionId, options?: { readonly after?: string | undefined }) =>
          Stream.catchTag(hub.session(sessionId, options), "InvalidCursor", () => hub.session(sessionId)),
      })),
    ),
  },
  {
    bug: "tells a session nothing of trimmed history",
    law: HubLaws.leavesOut.name,
    subject: over(
      wrapped((hub) => ({
        session: (sessionId: SessionId, options?: { readonly after?: string | undefined }) =>
          Stream.filter(hub.session(sessionId, options), (item) => item._tag !== "Truncated"),
      })),
    ),
  },
]

describe("The plainest hub, without its bugs", () => {
  // It shares nothing between readers: that is the bug of one of the mutants.
  const caught = new Set(ofReference.map(({ law }) => law))
  for (const law of HubLaws.laws.filter(({ name }) => caught.has(name))) {
    it.live(
      law.name,
      () =>
        Effect.gen(function* () {
          const verdict = yield* law.check(over(ReferenceHub.layer()), { slow: true })
          assert.strictEqual(verdict._tag === "Broken" ? verdict.report : undefined, undefined)
        }),
      300_000,
    )
  }
})

Mutant.suite("SubscriptionHub", HubLaws.laws, mutants)
