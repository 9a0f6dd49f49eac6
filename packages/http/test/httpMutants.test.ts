import { type EncodedEnvelope, EventJson } from "@throughline/core/Envelope"
import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { serve } from "./serving.ts"

/** An adapter whose subscribers get each event printed in another way than the store has it. */
const printsAgain = Layer.effect(
  StreamAdapter.StreamAdapter,
  Effect.map(StreamAdapter.StreamAdapter, (adapter) => ({
    ...adapter,
    publish: (rooms, frames) =>
      adapter.publish(
        rooms,
        frames.map((frame) => ({ ...frame, envelope: printedAgain(frame.envelope) })),
      ),
  })),
).pipe(Layer.provide(StreamAdapter.layerMemory))

const printedAgain = (envelope: EncodedEnvelope): EncodedEnvelope => ({
  ...envelope,
  event: EventJson.make(JSON.stringify(JSON.parse(envelope.event), null, 1)),
})

const served = (adapter: Layer.Layer<StreamAdapter.StreamAdapter>) =>
  HttpLaws.live(
    Layer.effect(
      HttpLaws.HttpUnderTest,
      Effect.map(
        serve({ backend: Throughline.layer(Layer.mergeAll(EventStore.layerMemory(), adapter)) }),
        ({ base }) => ({ url: base }),
      ),
    ),
  )

Mutant.suite("HTTP", HttpLaws.laws, [
  {
    bug: "sends live events in other words than it stores them",
    law: HttpLaws.oneText.name,
    says: "the JSON of live events",
    subject: served(printsAgain),
  },
])
