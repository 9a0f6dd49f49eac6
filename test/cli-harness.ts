/** The command in real processes: started on a store of its own, observed by conditions with a deadline, never left behind. */
import { RunId, toJson } from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { onTestFinished } from "vitest"

/** The command's script. */
export const main = fileURLToPath(new URL("../packages/cli/src/main.ts", import.meta.url))

/** How long a condition may take; a slow machine needs a part of it. */
const deadline = 60_000

export interface Result {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  readonly stdout: () => string
  readonly stderr: () => string
  /** The bytes of standard output so far. */
  readonly bytes: () => Buffer
  /** Completes once the condition holds; fails with what was printed when the process ends first, or after the deadline. */
  readonly until: (what: string, condition: () => boolean) => Promise<void>
  readonly ended: Promise<Result>
}

/** A directory that is gone after the test. */
export const directory = async (): Promise<string> => {
  const path = await mkdtemp(join(tmpdir(), "throughline-test-"))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>
  /** What standard input holds; empty where absent. */
  readonly input?: string | Uint8Array
  /** Standard input goes on after that. */
  readonly isOpenEnded?: boolean
}

/** Starts `throughline` with `args`. */
export const start = (args: ReadonlyArray<string>, options: StartOptions = {}): Running =>
  startNode([main, ...args], options)

/** Starts a script with Node. */
export const startNode = (
  args: ReadonlyArray<string>,
  { env = {}, input = "", isOpenEnded = false }: StartOptions = {},
): Running => {
  const inherited = { ...process.env }
  for (const name of ["NO_COLOR", "FORCE_COLOR", "THROUGHLINE_STORE"]) delete inherited[name]
  const child = spawn(process.execPath, args, { env: { ...inherited, ...env } })
  const out: Array<Buffer> = []
  const err: Array<Buffer> = []
  const listeners = new Set<() => void>()
  const changed = () => {
    for (const listener of listeners) listener()
  }
  child.stdout.on("data", (chunk: Buffer) => {
    out.push(chunk)
    changed()
  })
  child.stderr.on("data", (chunk: Buffer) => {
    err.push(chunk)
    changed()
  })
  child.stdin.on("error", () => {})
  child.stdin.write(input)
  if (!isOpenEnded) child.stdin.end()
  const stdout = () => Buffer.concat(out).toString()
  const stderr = () => Buffer.concat(err).toString()
  let hasEnded = false
  const ended = once(child, "close").then(([code, signal]): Result => {
    hasEnded = true
    changed()
    return { code: code as number | null, signal: signal as NodeJS.Signals | null, stdout: stdout(), stderr: stderr() }
  })
  onTestFinished(async () => {
    if (!hasEnded) child.kill("SIGKILL")
    await ended
  })
  const until = (what: string, condition: () => boolean) =>
    new Promise<void>((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer)
        listeners.delete(check)
        act()
      }
      const check = () => {
        if (condition()) settle(resolve)
        else if (hasEnded) settle(() => reject(new Error(`ended before ${what}\n${stdout()}\n${stderr()}`)))
      }
      const timer = setTimeout(
        () => settle(() => reject(new Error(`no ${what} in time\n${stdout()}\n${stderr()}`))),
        deadline,
      )
      listeners.add(check)
      check()
    })
  return { child, stdout, stderr, bytes: () => Buffer.concat(out), until, ended }
}

/** Runs `throughline` to its end. */
export const run = (args: ReadonlyArray<string>, options?: StartOptions): Promise<Result> => start(args, options).ended

/** The command line of a recorded script. */
export const script = (source: string): ReadonlyArray<string> => ["--", process.execPath, "-e", source]

/** An envelope as `tail --json` prints it, as far as these tests look. */
export interface Envelope {
  readonly seq: number
  readonly runId: string
  readonly kind: string
  readonly endsRun?: string
  readonly sessionId?: string
  readonly agentId?: string
  readonly event: Readonly<Record<string, unknown>>
}

/** The complete lines that were printed, as envelopes. */
export const envelopes = (text: string): ReadonlyArray<Envelope> =>
  text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Envelope)

/** All events of a run, read without the command. */
export const events = (store: string, run_: string): Promise<ReadonlyArray<Envelope>> =>
  Effect.gen(function* () {
    const eventStore = yield* EventStore
    const found: Array<Envelope> = []
    for (;;) {
      const page = yield* eventStore.read({ runId: RunId.make(run_), after: found.length, limit: 1000 })
      if (page.envelopes.length === 0) return found
      found.push(...page.envelopes.map((envelope) => JSON.parse(toJson(envelope)) as Envelope))
    }
  }).pipe(Effect.provide(SqliteThroughline.layer({ filename: store.slice("sqlite:".length) })), Effect.runPromise)
