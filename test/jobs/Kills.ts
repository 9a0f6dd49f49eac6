/**
 * The kill suite of jobs: worker processes on one SQLite file are killed at random points, again and again; then every job that
 * was accepted must have come out as it was meant to, with no attempt charged for a kill.
 */
import * as JobPool from "@throughline/core/JobPool"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { layer, maxAttempts, Work } from "./Work.ts"

const script = fileURLToPath(new URL("worker.ts", import.meta.url))

export interface Settings {
  readonly kills: number
  /** Jobs in all, at least; workers enqueue some more. */
  readonly jobs: number
  readonly seed: number
  /** ms for what is left to be worked off, once nothing is killed any more. */
  readonly deadline: number
  readonly log: (line: string) => void
}

export interface Report {
  /** What is wrong, if anything. */
  readonly problems: ReadonlyArray<string>
  readonly accepted: number
  readonly kills: number
  /** Workers that were told to stop. */
  readonly stops: number
  /** Workers that stood still for longer than their leases before they were killed. */
  readonly stalls: number
  /** Runs that began, and those of them that were cut short by a kill. */
  readonly runs: number
  readonly cut: number
  /** Leases that ran out. */
  readonly crashes: number
  /** Runs that began while a living process, whose lease had run out, was still at the job. */
  readonly overlaps: number
}

class SuiteFailed extends Data.TaggedError("SuiteFailed")<{ readonly message: string }> {}

/** What is known of a job. */
interface Seen {
  /** How many attempts were to fail; absent until it is known to be accepted. */
  fails: number | undefined
  runs: number
  /** Runs that a kill cut short. */
  cut: number
  /** Processes that were killed in a run of it, or found at it by another: each lost its lease. */
  readonly losers: Set<number>
  overlaps: number
}

/** What the processes have said. */
const makeLedger = () => {
  const jobs = new Map<string, Seen>()
  const of = (id: string): Seen => {
    const known = jobs.get(id)
    if (known !== undefined) return known
    const made: Seen = { fails: undefined, runs: 0, cut: 0, losers: new Set(), overlaps: 0 }
    jobs.set(id, made)
    return made
  }
  return { jobs, of }
}
type Ledger = ReturnType<typeof makeLedger>

/**
 * How a worker ends: ms after it has said that it works, or after its start. One that stands still first is stopped for longer
 * than its lease, and then goes on as if nothing had been, for a moment.
 */
type End =
  | { readonly signal: "SIGKILL" | "SIGTERM"; readonly afterReady: number; readonly standsStill?: boolean }
  | { readonly signal: "SIGKILL"; readonly afterStart: number }

const standsStillFor = 1400
const goesOnFor = 150

/** A life of a worker. */
const life = (paths: Paths, ledger: Ledger, enqueued: number, end: End | undefined) =>
  Effect.callback<void, SuiteFailed>((resume) => {
    const child = spawn(process.execPath, [script, paths.filename, paths.running, String(enqueued)], {
      stdio: ["ignore", "pipe", "pipe"],
    })
    const running = new Set<string>()
    let errors = ""
    let timer: NodeJS.Timeout | undefined
    const signal = end?.signal ?? "SIGTERM"
    child.stderr.on("data", (data) => (errors += String(data)))
    if (end !== undefined && "afterStart" in end) timer = setTimeout(() => child.kill(signal), end.afterStart)
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [what, id = "", detail] = line.split(" ")
      if (what === "ready" && end !== undefined && "afterReady" in end) {
        const { afterReady, standsStill = false } = end
        timer = setTimeout(() => {
          if (!standsStill) return void child.kill(signal)
          child.kill("SIGSTOP")
          timer = setTimeout(() => {
            child.kill("SIGCONT")
            timer = setTimeout(() => child.kill(signal), goesOnFor)
          }, standsStillFor)
        }, afterReady)
      } else if (what === "accepted") ledger.of(id).fails = Number(detail)
      else if (what === "twice") {
        ledger.of(id).overlaps++
        ledger.of(id).losers.add(Number(detail))
      } else if (what === "end") running.delete(id)
      else if (what === "start") {
        ledger.of(id).runs++
        running.add(id)
      }
    })
    child.once("close", (code, by) => {
      clearTimeout(timer)
      if (by === "SIGKILL") {
        for (const id of running) {
          ledger.of(id).cut++
          ledger.of(id).losers.add(child.pid!)
        }
      }
      // Told to stop, a process says so by its exit code.
      const isWell = signal === "SIGKILL" ? by === signal : by === signal || code === 0 || code === 130
      resume(isWell ? Effect.void : Effect.fail(new SuiteFailed({ message: `a worker ended by itself: ${errors}` })))
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      child.kill("SIGKILL")
    })
  })

interface Paths {
  readonly filename: string
  /** Who runs which job. */
  readonly running: string
}

const lanes = 4

const enqueueSome = Effect.fnUntraced(function* (ledger: Ledger, count: number) {
  const pool = yield* JobPool.JobPool
  const wishes = yield* Effect.forEach(
    Array.from({ length: count }),
    Effect.fnUntraced(function* () {
      const kind = yield* Random.nextIntBetween(0, 20)
      // One in twenty dies, two in ten fail before they succeed.
      const fails = kind === 0 ? maxAttempts : kind < 5 ? (kind % 3) + 1 : 0
      const priority = (["critical", "high", "normal", "low"] as const)[yield* Random.nextIntBetween(0, 4)]
      const delay = kind % 4 === 3 ? yield* Random.nextIntBetween(1, 300) : 0
      return {
        fails,
        request: JobPool.request(Work, { ms: yield* Random.nextIntBetween(0, 15), fails }, { priority, delay }),
      }
    }),
  )
  const accepted = yield* pool.enqueueAll(wishes.map(({ request }) => request))
  accepted.forEach(({ id }, index) => {
    ledger.of(id).fails = wishes[index]!.fails
  })
})

/** Has the file itself note what must never be done to a lease, whoever does it. */
const watch = (paths: Paths) => {
  const database = new DatabaseSync(paths.filename)
  database.exec(`CREATE TABLE kill_suite_wrongs (id TEXT NOT NULL, what TEXT NOT NULL);
CREATE TRIGGER kill_suite_taken AFTER UPDATE ON throughline_jobs
WHEN NEW.crashes > OLD.crashes AND OLD.lease_until > unixepoch('subsec') * 1000
BEGIN INSERT INTO kill_suite_wrongs VALUES (NEW.id, 'was taken from a worker whose lease was not over'); END;
CREATE TRIGGER kill_suite_claimed AFTER UPDATE ON throughline_jobs
WHEN NEW.claim <> OLD.claim AND (OLD.state <> 'pending' OR NEW.claim <> OLD.claim + 1)
BEGIN INSERT INTO kill_suite_wrongs VALUES (NEW.id, 'was claimed while it was ' || OLD.state); END;
CREATE TRIGGER kill_suite_settled AFTER UPDATE ON throughline_jobs
WHEN NEW.state IN ('succeeded', 'dead') AND OLD.state <> 'running'
BEGIN INSERT INTO kill_suite_wrongs VALUES (NEW.id, 'became ' || NEW.state || ' while it was ' || OLD.state); END`)
  database.close()
}

/** Everything that the file says of its jobs, and what of it is wrong. */
const examine = (paths: Paths, ledger: Ledger) => {
  const database = new DatabaseSync(paths.filename)
  const problems: Array<string> = []
  const rows = database.prepare("SELECT id, state, failures, crashes, claim FROM throughline_jobs").all()
  const results = database.prepare("SELECT id, outcome FROM throughline_job_results").all()
  const wrongs = database.prepare("SELECT id, what FROM kill_suite_wrongs").all()
  const integrity = database.prepare("PRAGMA integrity_check").get()?.["integrity_check"]
  database.close()
  if (integrity !== "ok") problems.push(`the file is damaged: ${String(integrity)}`)

  for (const { id, what } of wrongs) problems.push(`job ${String(id)} ${String(what)}`)

  const settled = new Map<string, Array<string>>()
  for (const { id, outcome } of results) {
    const outcomes = settled.get(String(id))
    if (outcomes === undefined) settled.set(String(id), [String(outcome)])
    else outcomes.push(String(outcome))
  }
  const found = new Set<string>()
  let crashes = 0
  for (const row of rows) {
    const id = String(row["id"])
    found.add(id)
    // A job whose enqueuer was killed before it heard of it may be there: it is like any other.
    const { fails, losers, runs } = ledger.of(id)
    const failed = row["failures"] === null ? 0 : (JSON.parse(String(row["failures"])) as ReadonlyArray<unknown>).length
    const crashed = Number(row["crashes"])
    crashes += crashed
    const say = (problem: string) => problems.push(`job ${id}: ${problem}`)
    if (fails !== undefined) {
      const expected = fails >= maxAttempts ? "dead" : "succeeded"
      if (row["state"] !== expected) say(`is ${String(row["state"])}, not ${expected}`)
      if (failed !== fails) say(`has ${failed} failed attempts, not ${fails}`)
    }
    if (settled.get(id)?.length !== 1) say(`settled ${settled.get(id)?.length ?? 0} times`)
    if (runs > Number(row["claim"])) say(`ran ${runs} times under ${String(row["claim"])} leases`)
    // A process that was killed in a run, or that another found at it, has lost its lease, and each loss is a crash.
    if (losers.size > crashed) say(`ran twice at once under one lease`)
  }
  for (const [id, { fails }] of ledger.jobs)
    if (fails !== undefined && !found.has(id)) problems.push(`job ${id} is lost`)
  return { problems, crashes }
}

/** Kills workers, lets the rest be worked off, and says what is wrong. */
export const run = Effect.fnUntraced(function* (settings: Settings) {
  const { log } = settings
  const root = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-jobs-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
  )
  const paths: Paths = { filename: join(root, "jobs.db"), running: join(root, "running") }
  mkdirSync(paths.running)
  const ledger = makeLedger()
  let kills = 0
  let stops = 0
  let stalls = 0

  const round = Effect.gen(function* () {
    const kind = yield* Random.nextIntBetween(0, 10)
    const after = yield* Random.nextIntBetween(0, 250)
    // Some die while they start, when they may be about to open the file, or to enqueue.
    const end: End =
      kind === 0
        ? { signal: "SIGKILL", afterStart: 50 + after * 2 }
        : { signal: kind === 1 ? "SIGTERM" : "SIGKILL", afterReady: after, standsStill: kind > 1 && kind < 5 }
    yield* life(paths, ledger, yield* Random.nextIntBetween(0, 4), end)
    if (end.signal === "SIGTERM") return void stops++
    kills++
    if ("standsStill" in end && end.standsStill) stalls++
    if (kills % 50 === 0) log(`${kills} kills, ${ledger.jobs.size} jobs`)
  })
  const lane = (index: number) =>
    Effect.whileLoop({ while: () => kills < settings.kills, body: () => round, step: () => {} }).pipe(
      Random.withSeed(settings.seed + index),
    )

  const pool = Effect.provide(
    Effect.gen(function* () {
      watch(paths)
      // Jobs come all the time that workers are killed.
      const batch = 20
      const batches = Math.ceil(settings.jobs / batch)
      const enqueuing = Effect.gen(function* () {
        for (let index = 0; index < batches; index++) {
          yield* enqueueSome(ledger, batch)
          while (kills < settings.kills && kills / settings.kills < index / batches) yield* Effect.sleep(20)
        }
      }).pipe(Random.withSeed(settings.seed + lanes))
      yield* Effect.all([...Array.from({ length: lanes }, (_, index) => lane(index)), enqueuing], {
        concurrency: "unbounded",
        discard: true,
      })
      const live = (yield* JobPool.JobPool).size
      log(`${kills} kills are done, ${yield* live} jobs are left`)
      const untilNone = Effect.gen(function* () {
        while ((yield* live) > 0) yield* Effect.sleep(50)
      })
      const finishing = Effect.all([life(paths, ledger, 0, undefined), life(paths, ledger, 0, undefined)], {
        concurrency: 2,
      })
      yield* Effect.raceFirst(untilNone, finishing).pipe(
        Effect.timeoutOrElse({
          duration: settings.deadline,
          orElse: () =>
            Effect.flatMap(live, (left) => Effect.fail(new SuiteFailed({ message: `${left} jobs never settle` }))),
        }),
      )
    }),
    layer(paths.filename),
  )
  yield* pool

  const seen = [...ledger.jobs.values()]
  const sum = (of: (job: Seen) => number) => seen.reduce((total, job) => total + of(job), 0)
  const { crashes, problems } = examine(paths, ledger)
  const report: Report = {
    problems,
    kills,
    stops,
    stalls,
    crashes,
    accepted: seen.filter(({ fails }) => fails !== undefined).length,
    runs: sum(({ runs }) => runs),
    cut: sum(({ cut }) => cut),
    overlaps: sum(({ overlaps }) => overlaps),
  }
  return report
})
