import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as BridgeLaws from "@throughline/testing/BridgeLaws"
import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
import * as HubLaws from "@throughline/testing/HubLaws"
import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const inMemory = (store?: StoreOptions) => SqliteThroughline.layerBackend({ filename: ":memory:", store })

/** A file in a directory of its own, which goes with the layer. */
const inFile = (store?: StoreOptions) =>
  Layer.unwrap(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-laws-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
    ).pipe(Effect.map((directory) => SqliteThroughline.layerBackend({ filename: join(directory, "runs.db"), store }))),
  )

for (const [name, layer] of [
  ["sqlite in memory", inMemory],
  ["sqlite in a file", inFile],
] as const) {
  EventStoreLaws.suite(name, layer)
  EventArchiveLaws.suite(name, layer)
  StreamAdapterLaws.suite(name, layer)
  BridgeLaws.suite(name, layer)
  HubLaws.suite(name, layer)
}
