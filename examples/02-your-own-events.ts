/**
 * Events of your own, here those of a build pipeline: a schema and a few functions over it make a vocabulary, and every
 * layer takes it as it is. The same program runs in memory and on SQLite.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Envelope, EventBridge, SubscriptionHub, Throughline, Vocabulary } from "@throughline/core"
import { SqliteThroughline } from "@throughline/sqlite"
import { Console, Effect, Schema, Stream } from "effect"

const BuildEvent = Schema.Union([
  Schema.TaggedStruct("StepStarted", { step: Schema.String }),
  /** `percent`: 0 to 100. */
  Schema.TaggedStruct("StepProgressed", { step: Schema.String, percent: Schema.Finite }),
  Schema.TaggedStruct("ArtifactBuilt", { path: Schema.String, builtAt: Schema.DateFromString }),
  Schema.TaggedStruct("BuildFinished", { ok: Schema.Boolean }),
  Schema.TaggedStruct("BuildLost", {}),
])
type BuildEvent = typeof BuildEvent.Type

const BuildEvents = Vocabulary.make<BuildEvent>({
  name: "build",
  version: 1,
  schema: BuildEvent,
  delivery: (event) => (event._tag === "StepProgressed" ? "progress" : "normal"),
  endsRun: (event) => {
    if (event._tag === "BuildFinished") return event.ok ? "completed" : "failed"
    return event._tag === "BuildLost" ? "failed" : undefined
  },
  // What ends the run if the process that builds is killed.
  abandoned: () => ({ _tag: "BuildLost" }),
})

const build = Stream.fromIterable<BuildEvent>([
  { _tag: "StepStarted", step: "compile" },
  { _tag: "StepProgressed", step: "compile", percent: 50 },
  { _tag: "ArtifactBuilt", path: "dist/app.js", builtAt: new Date("2026-01-31T09:30:00Z") },
  { _tag: "BuildFinished", ok: true },
])

const describe = (event: BuildEvent): string => {
  switch (event._tag) {
    case "StepStarted":
      return `${event.step} started`
    case "StepProgressed":
      return `${event.step} is at ${event.percent} %`
    case "ArtifactBuilt":
      // A date again: events are decoded by the vocabulary's schema.
      return `${event.path} built in ${event.builtAt.getUTCFullYear()}`
    case "BuildFinished":
      return event.ok ? "the build is done" : "the build failed"
    case "BuildLost":
      return "the build was lost"
  }
}

const program = Effect.gen(function* () {
  const bridge = yield* EventBridge.EventBridge
  const hub = yield* SubscriptionHub.SubscriptionHub
  const runId = Envelope.RunId.make("build-2041")
  yield* bridge.record(
    BuildEvents,
    { runId },
    Stream.map(build, (event) => ({ event, tags: ["ci"] })),
  )
  yield* Stream.runForEach(hub.run(runId, { vocabulary: BuildEvents }), (item) =>
    item._tag === "Event" ? Console.log(`  ${item.envelope.seq} ${describe(item.envelope.event)}`) : Effect.void,
  )
})

const main = Effect.gen(function* () {
  yield* Console.log("in memory")
  yield* Effect.provide(program, Throughline.layerMemory())
  yield* Console.log("on SQLite")
  yield* Effect.provide(program, SqliteThroughline.layer({ filename: ":memory:" }))
})

NodeRuntime.runMain(main)
