/**
 * Prints `RUN SEQ` of each event, to the end: of one run (`node reader.ts run RUN`), or of a session until so many of its
 * runs have ended (`node reader.ts session SESSION RUNS`).
 */
import { NodeRuntime } from "@effect/platform-node"
import { Envelope, SubscriptionHub } from "@throughline/core"
import { Console, Effect, Stream } from "effect"
import { layer } from "./services.ts"

const [scope, id = "", runs = "1"] = process.argv.slice(2)

const print = ({ runId, seq }: Envelope.EncodedEnvelope) => Console.log(`${runId} ${seq}`)

const program = Effect.gen(function* () {
  const hub = yield* SubscriptionHub.SubscriptionHub
  if (scope === "run") {
    const items = hub.run(Envelope.RunId.make(id))
    return yield* Stream.runForEach(items, (item) => (item._tag === "Event" ? print(item.envelope) : Effect.void))
  }
  // A session never ends by itself: more runs may join it.
  let open = Number(runs)
  yield* hub.session(Envelope.SessionId.make(id)).pipe(
    Stream.filter((item) => item._tag === "Event"),
    Stream.tap(({ envelope }) => print(envelope)),
    Stream.takeUntil(({ envelope }) => envelope.endsRun !== undefined && --open === 0),
    Stream.runDrain,
  )
})

NodeRuntime.runMain(Effect.provide(program, layer))
