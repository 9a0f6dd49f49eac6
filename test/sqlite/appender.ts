/**
 * Appends single events to a run: `node appender.ts FILE RUN NAME COUNT PAUSE`, with PAUSE ms between them.
 *
 * Each event says who appended it, the how manieth it is, and when it was sent (ms since 1970). At the end it says the
 * longest time, in ms, that its event loop stood still.
 */
import type { EncodedEvent, EventId, RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { writeSync } from "node:fs"

const [filename, run, name, count, pause] = process.argv.slice(2) as [string, string, string, string, string]

const now = () => performance.timeOrigin + performance.now()

let longest = 0
const watch = () => {
  let last = now()
  setInterval(() => {
    const at = now()
    longest = Math.max(longest, at - last - 5)
    last = at
  }, 5).unref()
}

const appends = Effect.gen(function* () {
  const store = yield* EventStore
  const random = yield* SecureRandom.SecureRandom
  watch()
  for (let n = 1; n <= Number(count); n++) {
    yield* Effect.sleep(Number(pause))
    const event: EncodedEvent = {
      eventId: (yield* random.uuidV7()) as EventId,
      kind: "Tick",
      delivery: "normal",
      emittedAt: "2026-01-01T00:00:00.000Z",
      tags: [],
      correlation: {},
      event: JSON.stringify({ name, n, at: now() }) as EncodedEvent["event"],
    }
    yield* store.append({ runId: run as RunId, vocabulary: { name: "ticks", version: 1 }, events: [event] })
  }
  yield* Effect.sync(() => writeSync(1, `${longest}\n`))
})

const layer = SqlEventStore.layer().pipe(
  // However long the other processes need on a busy machine.
  Layer.provide(SqliteClient.layer({ filename, busyRetry: Schedule.jittered(Schedule.spaced("10 millis")) })),
  Layer.provideMerge(SecureRandom.layerWebCrypto),
)

await Effect.runPromise(Effect.provide(appends, layer))
