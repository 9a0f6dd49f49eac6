import { EventArchive } from "@throughline/core/EventArchive"
import { EventStore } from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as SqlEventArchive from "@throughline/sql/SqlEventArchive"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
import type { Services } from "@throughline/testing/Law"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** A file in a directory of its own, which goes with the scope. */
const temporaryFile = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-laws-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
).pipe(Effect.map((directory) => join(directory, "events.db")))

const inFile = Layer.unwrap(Effect.map(temporaryFile, (filename) => SqliteClient.layer({ filename })))
const inMemory = SqliteClient.layer({ filename: ":memory:" })

const over =
  (client: typeof inMemory) =>
  (options?: StoreOptions): Layer.Layer<EventStore | EventArchive, unknown, Services> =>
    Layer.mergeAll(SqlEventStore.layer(options), SqlEventArchive.layer(options)).pipe(Layer.provide(client))

EventStoreLaws.suite("sqlite in memory", over(inMemory))
EventStoreLaws.suite("sqlite in a file", over(inFile))
