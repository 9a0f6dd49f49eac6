/** What every process of the suite begins with: its parameters, its journal, and the way to Redis. */
import type { EventArchive } from "@throughline/core/EventArchive"
import type { EventStore } from "@throughline/core/EventStore"
import type { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Journal from "./Journal.ts"
import { Told } from "./Plan.ts"

/** What a process is started with: `node PROGRAM DIRECTORY INDEX INCARNATION URL`. */
export interface Parameters {
  readonly directory: string
  readonly index: number
  /** The how manieth process of this index it is, from 1. */
  readonly incarnation: number
  readonly url: string
}

export const argumentsOf = ({ directory, incarnation, index, url }: Parameters): ReadonlyArray<string> => [
  directory,
  String(index),
  String(incarnation),
  url,
]

const parameters = (): Parameters => {
  const [directory, index, incarnation, url] = process.argv.slice(2) as [string, string, string, string]
  return { directory, index: Number(index), incarnation: Number(incarnation), url }
}

export const planPath = (directory: string): string => join(directory, "plan.json")

export const journalPath = (directory: string, role: "producer" | "reader", index: number): string =>
  join(directory, `${role}-${index}.log`)

/** The parameters, the plan and the journal of this process. */
export const begin = (role: "producer" | "reader") => {
  const given = parameters()
  const told = Schema.decodeUnknownSync(Schema.fromJsonString(Told))(readFileSync(planPath(given.directory), "utf8"))
  const path = journalPath(given.directory, role, given.index)
  return { ...given, told, path, journal: Journal.open(path) }
}

/** The store, the archive and the live path over a link that may be bad, also while they are opened. */
export const layerRedis = (url: string): Layer.Layer<EventStore | EventArchive | StreamAdapter> =>
  RedisThroughline.layerBackend({ live: { heartbeat: "2 seconds" } }).pipe(
    Layer.provide(
      Layer.effectContext(
        IoRedis.make({
          url,
          connectTimeout: "2 seconds",
          commandTimeout: "2 seconds",
          reconnect: Schedule.spaced("50 millis"),
        }).pipe(Effect.retry(Schedule.spaced("100 millis")), Effect.orDie),
      ),
    ),
    Layer.provide(Throughline.layerCrypto),
  )
