import { afterAll } from "@effect/vitest"
import type { EngineOptions } from "@throughline/core/JobEngine"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as JobPoolLaws from "@throughline/testing/JobPoolLaws"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

// Histories go through minutes of virtual time: looking for other processes less often changes nothing but what that costs.
const layer = (filename: string, options?: EngineOptions) =>
  SqliteJobEngine.layer({ ...options, interval: 1000 }).pipe(Layer.provide(SqliteClient.layer({ filename })))

const directory = mkdtempSync(join(tmpdir(), "throughline-job-laws-"))
afterAll(() => rmSync(directory, { recursive: true }))
let files = 0

const options = { timeout: 300_000, slow: true }
JobPoolLaws.suite("sqlite in memory", (given) => layer(":memory:", given), options)
JobPoolLaws.suite(
  "sqlite in a file",
  (given) => Layer.unwrap(Effect.sync(() => layer(join(directory, `${++files}.db`), given))),
  options,
)
