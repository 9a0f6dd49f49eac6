import { assert, it } from "@effect/vitest"
import type { Frame, Gap, RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import { StreamAdapter } from "@throughline/core/StreamAdapter"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"

const appender = fileURLToPath(new URL("sqlite/appender.ts", import.meta.url))
const runId = "shared" as RunId

interface Tick {
  readonly name: string
  readonly n: number
  /** When it was sent, in ms since 1970. */
  readonly at: number
}

const newFile = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-processes-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
).pipe(Effect.map((directory) => join(directory, "runs.db")))

/** A process that appends to the run; its answer is the longest time its event loop stood still, in ms. */
const append = (filename: string, name: string, options: { readonly count: number; readonly pause: number }) =>
  Effect.scoped(
    Effect.gen(function* () {
      const parameters = [appender, filename, runId, name, String(options.count), String(options.pause)]
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, parameters, { stdio: ["ignore", "pipe", "pipe"] })),
        (started) => Effect.sync(() => started.kill("SIGKILL")),
      )
      const [output, errors, [code]] = yield* Effect.promise(() =>
        Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]),
      )
      assert.strictEqual(code, 0, errors)
      return Number(output)
    }),
  )

/** The longest time so far, in ms, that the event loop of this process stood still, which waits for nobody: a busy machine. */
const ownPause = Effect.gen(function* () {
  let last = performance.now()
  let longest = 0
  const look = Effect.sync(() => {
    const now = performance.now()
    longest = Math.max(longest, now - last - 5)
    last = now
    return longest
  })
  yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced("5 millis")), { startImmediately: true })
  return look
})

const open = (filename: string) => Layer.provide(SqliteThroughline.layerBackend({ filename }), Throughline.layerCrypto)

const tickOf = (event: string): Tick => JSON.parse(event)

it.live(
  "eight processes append to one run: each event once, in the order each process sent them",
  () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const own = yield* ownPause
      const names = Array.from({ length: 8 }, (_, index) => `process-${index}`)
      const pauses = yield* Effect.all(
        names.map((name) => append(filename, name, { count: 50, pause: 1 })),
        { concurrency: "unbounded" },
      )
      const [longest, busy] = [Math.max(...pauses), yield* own]
      console.log(`longest pause of an event loop, 8 processes on one file: ${longest.toFixed(0)} ms`)
      const { envelopes } = yield* Effect.flatMap(EventStore, (store) => store.read({ runId, limit: 1000 })).pipe(
        Effect.provide(open(filename)),
      )
      const ticks = envelopes.map((envelope) => tickOf(envelope.event))
      for (const name of names) {
        const sent = ticks.filter((tick) => tick.name === name).map((tick) => tick.n)
        assert.deepStrictEqual(
          sent,
          Array.from({ length: 50 }, (_, index) => index + 1),
        )
      }
      // A busy timeout of SQLite's own stops the loop for seconds here.
      assert.isBelow(longest, 1000 + 5 * busy)
    }),
  300_000,
)

it.live(
  "a process sees live what another appends to the file: each event, in order, soon",
  () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const own = yield* ownPause
      const count = 100
      const delays: Array<number> = []
      const seqs: Array<number> = []
      const see = (item: Frame | Gap) =>
        Effect.sync(() => {
          assert.strictEqual(item._tag, "Frame")
          if (item._tag !== "Frame") return
          seqs.push(item.envelope.seq)
          delays.push(performance.timeOrigin + performance.now() - tickOf(item.envelope.event).at)
        })
      yield* Effect.gen(function* () {
        const adapter = yield* StreamAdapter
        const frames = yield* adapter.subscribe({ _tag: "Run", runId })
        yield* Effect.all(
          [Stream.runForEach(Stream.take(frames, count), see), append(filename, "other", { count, pause: 20 })],
          { concurrency: "unbounded" },
        )
      }).pipe(Effect.scoped, Effect.provide(open(filename)), Effect.timeout("100 seconds"))
      assert.deepStrictEqual(
        seqs,
        Array.from({ length: count }, (_, index) => index + 1),
      )
      delays.sort((left, right) => left - right)
      const [median, p99] = [delays[count / 2]!, delays[count - 2]!]
      console.log(`from append to another process: median ${median.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`)
      assert.isBelow(median, 1000 + 5 * (yield* own))
    }),
  300_000,
)
