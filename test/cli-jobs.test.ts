/** `throughline jobs` in processes of its own, on the jobs of programs on SQLite and on BullMQ. */
import { assert, describe, it } from "@effect/vitest"
import * as BullmqJobEngine from "@throughline/bullmq/BullmqJobEngine"
import { EventStore } from "@throughline/core/EventStore"
import { RunId } from "@throughline/core/Envelope"
import * as Job from "@throughline/core/Job"
import { JobId } from "@throughline/core/JobRecord"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteJobEngine from "@throughline/sqlite/SqliteJobEngine"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { join } from "node:path"
import * as RedisServer from "../packages/redis/test/RedisServer.ts"
import { directory, run, start } from "./cli-harness.ts"

const redis = RedisServer.forFile()

const Mail = Job.make("send-mail", {
  payload: Schema.Struct({ to: Schema.String }),
  success: Schema.String,
  error: Schema.String,
  giveUp: () => true,
})

const onSqlite = (filename: string) =>
  JobPool.layer().pipe(
    Layer.provide(SqliteJobEngine.layer()),
    Layer.provideMerge(SqliteThroughline.layerBackend({ filename })),
    Layer.provide(Throughline.layerCrypto),
  )

const onRedis = (url: string, prefix: string) =>
  JobPool.layer().pipe(
    Layer.provide(BullmqJobEngine.layer({ url, prefix: `${prefix}jobs` })),
    Layer.provide(Throughline.layerCrypto),
  )

/** A mailer that knows no `nobody`, and takes for ever for `slow` mailboxes. */
const handled = (seen: Deferred.Deferred<void>) =>
  Effect.flatMap(JobPool.JobPool, (pool) =>
    pool.handle(Mail, ({ to }) =>
      to === "nobody"
        ? Effect.fail("no such mailbox\u001b[2J")
        : to === "slow"
          ? Effect.andThen(Deferred.succeed(seen, undefined), Effect.never)
          : Effect.succeed(`sent to ${to}`),
    ),
  )

const parsed = (text: string) =>
  text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>)

const jobs = (store: string) => (args: ReadonlyArray<string>) =>
  Effect.promise(() => run(["jobs", ...args, "--store", store]))

/** What every store must show of the same jobs. */
const looksAndMends = Effect.fnUntraced(function* (store: string) {
  const pool = yield* JobPool.JobPool
  const command = jobs(store)
  const running = yield* Deferred.make<void>()
  yield* handled(running)
  const sent = yield* pool.enqueue(Mail, { to: "ana" })
  const dead = yield* pool.enqueue(Mail, { to: "nobody" }, { priority: "high" })
  yield* pool.drain()
  const slow = yield* pool.enqueue(Mail, { to: "slow" })
  yield* Deferred.await(running)
  const later = yield* pool.enqueue(Mail, { to: "later" }, { delay: "1 hour", uniqueKey: "one" })

  const counts = yield* command(["counts", "--json"])
  assert.deepStrictEqual(parsed(counts.stdout), [
    { name: "send-mail", delayed: 1, waiting: 0, running: 1, succeeded: 1, dead: 1, cancelled: 0 },
  ])
  const listed = yield* command(["list", "--json"])
  const states = parsed(listed.stdout).map(({ id, state }) => `${String(id)} ${String(state)}`)
  assert.sameMembers(states, [`${sent.id} succeeded`, `${dead.id} dead`, `${slow.id} running`, `${later.id} delayed`])
  assert.strictEqual(listed.stderr, "")
  const page = yield* command(["list", "--limit", "3"])
  assert.include(page.stderr, `--after ${String(parsed(listed.stdout)[2]!["id"])}`)
  const rest = yield* command(["list", "--after", String(parsed(listed.stdout)[2]!["id"])])
  assert.lengthOf(rest.stdout.split("\n").slice(1, -1), 1)

  const shown = yield* command(["show", dead.id])
  assert.match(shown.stdout, /state +dead/)
  assert.include(shown.stdout, '{"to":"nobody"}')
  // What a job holds does nothing to a terminal.
  assert.include(shown.stdout, "no such mailbox")
  assert.notInclude(shown.stdout, "\u001b[2J")
  const [asJson] = parsed((yield* command(["show", sent.id, "--json"])).stdout)
  assert.deepInclude(asJson, { state: "succeeded", result: "sent to ana", payload: { to: "ana" }, failures: [] })

  const unknown = yield* command(["show", "01890000-0000-7000-8000-000000000000"])
  assert.strictEqual(unknown.code, 3)
  const retried = yield* command(["retry", sent.id, dead.id])
  assert.strictEqual(retried.code, 5)
  assert.include(retried.stderr, `job ${sent.id} is succeeded, not dead`)
  assert.include(retried.stdout, `${dead.id} is ready again`)
  assert.strictEqual(yield* Effect.flip(pool.awaitResult(Mail, dead.id)), "no such mailbox\u001b[2J")

  const cancelled = yield* command(["cancel", later.id, slow.id, sent.id, "--json"])
  assert.deepStrictEqual(
    parsed(cancelled.stdout).map(({ did }) => did),
    ["cancelled", "requested", "settled"],
  )
  assert.strictEqual(cancelled.code, 0)
  // The worker of this process is told by another one.
  const stopped = yield* Effect.flip(pool.awaitResult(Mail, slow.id))
  assert.strictEqual((stopped as { readonly _tag: string })._tag, "JobWasCancelled")
}, Effect.scoped)

describe("throughline jobs", { timeout: 120_000 }, () => {
  it.live("looks at the jobs of a program on SQLite and mends them while it runs", () =>
    Effect.gen(function* () {
      const filename = join(yield* Effect.promise(directory), "app.db")
      yield* Effect.provide(looksAndMends(`sqlite:${filename}`), onSqlite(filename))
    }),
  )

  it.live("looks at the jobs of a program on BullMQ and mends them while it runs", () =>
    Effect.gen(function* () {
      const url = yield* redis
      yield* Effect.provide(looksAndMends(`${url}?prefix=cli-test:`), onRedis(url, "cli-test:"))
    }).pipe(Effect.scoped),
  )

  it.live("a cancelled job that reports to a run ends that run", () =>
    Effect.gen(function* () {
      const filename = join(yield* Effect.promise(directory), "app.db")
      const runId = RunId.make("mail-1")
      const layer = onSqlite(filename)
      const { id } = yield* Effect.flatMap(JobPool.JobPool, (pool) =>
        pool.enqueue(Mail, { to: "ana" }, { delay: "1 hour", report: { runId } }),
      ).pipe(Effect.provide(layer))
      assert.strictEqual((yield* jobs(`sqlite:${filename}`)(["cancel", id])).code, 0)
      const head = yield* Effect.flatMap(EventStore, (store) => store.head(runId)).pipe(Effect.provide(layer))
      assert.strictEqual(head.status, "cancelled")
    }),
  )

  it.live("a file that isn't there is not made, and has no jobs", () =>
    Effect.gen(function* () {
      const store = `sqlite:${join(yield* Effect.promise(directory), "none.db")}`
      const id = JobId.make("01890000-0000-7000-8000-000000000000")
      const [listed, shown, cancelled] = yield* Effect.forEach(
        [["list"], ["show", id], ["cancel", id]],
        (args) => jobs(store)(args),
        { concurrency: 3 },
      )
      assert.deepStrictEqual([listed!.code, listed!.stdout, listed!.stderr], [0, "", "throughline: no jobs\n"])
      assert.deepStrictEqual([shown!.code, cancelled!.code], [3, 3])
      assert.strictEqual((yield* jobs(store)(["counts"])).stderr, "throughline: no jobs\n")
    }),
  )

  it.live("a reader that has seen enough is no error", () =>
    Effect.gen(function* () {
      const filename = join(yield* Effect.promise(directory), "app.db")
      yield* Effect.flatMap(JobPool.JobPool, (pool) =>
        pool.enqueueAll(Array.from({ length: 1000 }, () => JobPool.request(Mail, { to: "x".repeat(500) }))),
      ).pipe(Effect.provide(onSqlite(filename)))
      const listing = start(["jobs", "list", "--limit", "1000", "--json", "--store", `sqlite:${filename}`])
      listing.child.stdout!.once("data", () => listing.child.stdout!.destroy())
      const { code, stderr } = yield* Effect.promise(() => listing.ended)
      assert.deepStrictEqual([code, stderr.replace(/throughline: there may be more.*\n/, "")], [0, ""])
    }),
  )
})
