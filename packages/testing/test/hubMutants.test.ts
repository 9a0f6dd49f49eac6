import { assert, describe, it } from "@effect/vitest"
import * as EventStore from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as SubscriptionHub from "@throughline/core/SubscriptionHub"
import * as HubLaws from "@throughline/testing/HubLaws"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ReferenceHub from "./referenceHub.ts"

const over =
  (hub: (options?: SubscriptionHub.HubOptions) => Layer.Layer<SubscriptionHub.SubscriptionHub, never, HubLaws.Below>) =>
  (options?: StoreOptions) =>
    Layer.mergeAll(EventStore.layerMemory(options), StreamAdapter.layerMemory, Layer.succeed(HubLaws.HubUnderTest, hub))

const bug = (name: ReferenceHub.Bug, law: HubLaws.HubLaw) => ({
  bug: name,
  law: law.name,
  subject: over(ReferenceHub.layer(name)),
})

const mutants = [
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
]

describe("The plainest hub, without its bugs", () => {
  // It shares nothing between readers: that is the bug of one of the mutants.
  const caught = new Set(mutants.map(({ law }) => law))
  for (const law of HubLaws.laws.filter((candidate) => caught.has(candidate.name) && candidate !== HubLaws.shared)) {
    it.live(
      law.name,
      () =>
        Effect.gen(function* () {
          const checked = law === HubLaws.whole ? HubLaws.wholeOf(100) : law
          const verdict = yield* checked.check(over(ReferenceHub.layer()))
          assert.strictEqual(verdict._tag === "Broken" ? verdict.report : undefined, undefined)
        }),
      60_000,
    )
  }
})

Mutant.suite("SubscriptionHub", HubLaws.laws, mutants)
