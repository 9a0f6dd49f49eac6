import { assert, it } from "@effect/vitest"
import type { RunId } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { build } from "rolldown"

const source = fileURLToPath(new URL("sqlite/writer.ts", import.meta.url))

interface Ack {
  readonly batch: string
  readonly first: number
  readonly last: number
}

class WriterEnded extends Data.TaggedError("WriterEnded")<{ readonly errors: string }> {}

/** What is known of a lane's run: everything up to `checked` was read and found right. */
interface Lane {
  /** The writer's script. */
  readonly writer: string
  readonly filename: string
  readonly runId: RunId
  readonly acks: Array<Ack>
  epoch: number
  checked: number
  /** Kills that came after a first append was acknowledged. */
  midway: number
}

const parseAck = (line: string): Ack => {
  const [, batch, first, last] = line.split(" ")
  return { batch: batch!, first: Number(first), last: Number(last) }
}

/** Starts a writer and kills it: `after` ms after it has started to append, or `early` ms after its start. */
const killedWriter = (lane: Lane, plan: { readonly after: number } | { readonly early: number }) =>
  Effect.callback<void, WriterEnded>((resume) => {
    const child = spawn(process.execPath, [lane.writer, lane.filename, lane.runId, String(++lane.epoch)], {
      stdio: ["ignore", "pipe", "pipe"],
    })
    let errors = ""
    let timer: NodeJS.Timeout | undefined
    const kill = () => child.kill("SIGKILL")
    child.stderr.on("data", (data) => (errors += String(data)))
    if ("early" in plan) timer = setTimeout(kill, plan.early)
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (!line.startsWith("ack ")) return
      lane.acks.push(parseAck(line))
      if ("after" in plan) timer ??= setTimeout(kill, plan.after)
    })
    child.once("close", (_code, signal) => {
      clearTimeout(timer)
      resume(signal === "SIGKILL" ? Effect.void : Effect.fail(new WriterEnded({ errors })))
    })
    return Effect.sync(kill)
  })

/** Reads what is new in a lane's run and fails on a hole, a torn batch, or a missing acknowledged one. */
const check = Effect.fnUntraced(function* (lane: Lane) {
  const store = yield* EventStore
  const { runId } = lane
  let batch: { readonly batch: string; readonly index: number; readonly size: number } | undefined
  const starts = new Map<number, string>()
  let after = lane.checked
  while (true) {
    // The store itself fails on a seq that is missing or not readable.
    const { envelopes, head } = yield* store.read({ runId, after, limit: 1000 })
    for (const envelope of envelopes) {
      assert.strictEqual(envelope.seq, ++after)
      const event = JSON.parse(envelope.event) as NonNullable<typeof batch>
      if (batch === undefined) {
        assert.strictEqual(event.index, 0, `seq ${envelope.seq} begins in the middle of append ${event.batch}`)
        starts.set(envelope.seq, event.batch)
      } else {
        assert.strictEqual(event.batch, batch.batch, `append ${batch.batch} is torn before seq ${envelope.seq}`)
        assert.strictEqual(event.index, batch.index + 1)
      }
      batch = event.index === event.size - 1 ? undefined : event
    }
    if (after === head.lastSeq) break
  }
  assert.isUndefined(batch, "the last append is torn")
  for (const ack of lane.acks.splice(0)) {
    assert.strictEqual(starts.get(ack.first), ack.batch, `acknowledged append ${ack.batch} is not at seq ${ack.first}`)
    assert.isAtMost(ack.last, after, `acknowledged append ${ack.batch} is not there`)
  }
  const producer = yield* store.producer(runId, "writer")
  assert.strictEqual(Option.getOrUndefined(producer)?.lastSeq ?? 0, after)
  const progress = after - lane.checked
  lane.checked = after
  return progress
})

const killAndCheck = Effect.fnUntraced(function* (lane: Lane) {
  const isEarly = (yield* Random.nextIntBetween(0, 10)) === 0
  const plan = isEarly
    ? { early: yield* Random.nextIntBetween(20, 200) }
    : { after: yield* Random.nextIntBetween(0, 12) }
  yield* killedWriter(lane, plan)
  if (lane.acks.length > 0) lane.midway++
  yield* check(lane).pipe(
    Effect.provide(Layer.provide(SqliteThroughline.layerBackend({ filename: lane.filename }), Throughline.layerCrypto)),
  )
})

const integrity = (filename: string) => {
  const database = new DatabaseSync(filename)
  const answer = database.prepare("PRAGMA integrity_check").get()?.["integrity_check"]
  database.close()
  return answer
}

it.live(
  "a writer killed at any moment leaves no hole and no torn append, and what was acknowledged is there",
  () =>
    Effect.gen(function* () {
      const kills = yield* Config.Int("THROUGHLINE_KILLS").pipe(Config.withDefault(200))
      const seed = yield* Config.Int("THROUGHLINE_SEED").pipe(Config.orElse(() => Config.succeed(Date.now() % 1e9)))
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-kill-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true })),
      )
      // In one file the writer starts in a third of the time that its two hundred modules take.
      const writer = join(directory, "writer.mjs")
      yield* Effect.promise(() => build({ input: source, platform: "node", output: { file: writer } }))
      // Two lanes recover their file alone; the others share one, so that a writer is killed while another goes on.
      const lanes = ["alone-1", "alone-2", "shared", "shared"].map((name, index): Lane => ({
        writer,
        filename: join(directory, `${name}.db`),
        runId: `run-${index}` as RunId,
        acks: [],
        epoch: 0,
        checked: 0,
        midway: 0,
      }))
      yield* Effect.forEach(
        lanes,
        (lane, index) =>
          Effect.replicateEffect(killAndCheck(lane), Math.ceil(kills / lanes.length), { discard: true }).pipe(
            Random.withSeed(seed + index),
          ),
        { concurrency: "unbounded", discard: true },
      ).pipe(Effect.tapCause(() => Effect.logError(`run it again: THROUGHLINE_SEED=${seed}`)))
      for (const { filename } of lanes) assert.strictEqual(integrity(filename), "ok")
      const midway = lanes.reduce((sum, lane) => sum + lane.midway, 0)
      assert.isAtLeast(midway, kills * 0.7, "too few writers were killed while they appended")
    }),
  600_000,
)
