import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as BridgeLaws from "@throughline/testing/BridgeLaws"
import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
import * as HubLaws from "@throughline/testing/HubLaws"
import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
import { afterAll, beforeAll } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

// No law pulls the plug, so where there is a file system in memory, thousands of files needn't wait for a disk to close.
const memory = "/dev/shm"
const directory = mkdtempSync(join(existsSync(memory) ? memory : tmpdir(), "throughline-laws-"))
const empty = join(directory, "empty.db")

// Each history has a file of its own; a copy of an empty store costs a tenth of making one.
beforeAll(() =>
  Effect.runPromise(
    Effect.scoped(
      Layer.build(Layer.provide(SqliteThroughline.layerBackend({ filename: empty }), Throughline.layerCrypto)),
    ),
  ),
)
afterAll(() => rmSync(directory, { recursive: true }))

let files = 0
const copy = Effect.acquireRelease(
  Effect.sync(() => {
    const filename = join(directory, `${++files}.db`)
    copyFileSync(empty, filename)
    return filename
  }),
  (filename) => Effect.sync(() => rmSync(filename)),
)

const name = "sqlite in a file"
// Histories go through minutes of virtual time: looking at the file less often changes nothing but what that costs.
const live = { interval: 200 }
const layer = (store?: StoreOptions) =>
  Layer.unwrap(Effect.map(copy, (filename) => SqliteThroughline.layerBackend({ filename, store, live })))
const options = { timeout: 300_000, slow: true }

EventStoreLaws.suite(name, layer, options)
EventArchiveLaws.suite(name, layer, options)
StreamAdapterLaws.suite(name, layer, options)
BridgeLaws.suite(name, layer, options)
HubLaws.suite(name, layer, options)
