/** What the SQLite benches share: files of their own, events as the bridge would encode them, the store over a file. */
import * as AgentEvents from "@throughline/core/AgentEvents"
import type * as Envelope from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Vocabulary from "@throughline/core/Vocabulary"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"

/** A file that is gone when the scope closes. */
export const temporaryFile = Effect.gen(function* () {
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  return path.join(yield* fileSystem.makeTempDirectoryScoped({ prefix: "throughline-bench-" }), "bench.db")
})

export const layerStore = (filename: string) =>
  SqlEventStore.layer().pipe(
    Layer.provideMerge(SqliteClient.layer({ filename })),
    Layer.provideMerge(Throughline.layerCrypto),
  )

/** `count` output lines, encoded. */
export const encodedLines = (count: number): Effect.Effect<ReadonlyArray<Envelope.EncodedEvent>, unknown> =>
  Effect.forEach(Array.from({ length: count }), (_, index) =>
    Vocabulary.encode(AgentEvents.vocabulary, {
      event: { _tag: "OutputLine", stream: "stdout", line: `line ${index} of a recorded process, about this long` },
    }),
  ).pipe(Effect.provide(Throughline.layerCrypto))
