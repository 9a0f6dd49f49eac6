/**
 * One run being read: its rows so far, and how the connection is. Closed, it leaves nothing behind; in a tab that is hidden
 * it holds no connection, and goes on where it was when the tab is shown again.
 */
import { RunError, runEvents, type RunItem } from "@throughline/client"
import { eventsOf, type Place } from "./address.ts"
import { Changes } from "./Changes.ts"
import * as credential from "./credential.ts"
import type { Openable } from "./Row.ts"
import { type Leave, takeSeat } from "./Seat.ts"
import { clock } from "./time.ts"
import { Transcript } from "./Transcript.ts"

export type Phase =
  /** Since then, by `performance.now()`. */
  | { readonly _tag: "connecting"; readonly since: number }
  /** What is stored is being read. */
  | { readonly _tag: "catching-up" }
  | { readonly _tag: "live" }
  /** Other windows have the connections that streams may hold: what is stored is read again and again. */
  | { readonly _tag: "aside" }
  /** The tab is hidden. */
  | { readonly _tag: "paused" }
  /** The connection was lost; the next try is at `at`, by `performance.now()`. `refused`: with what the server answered. */
  | { readonly _tag: "lost"; readonly at: number; readonly refused: string | undefined }
  | { readonly _tag: "ended" }
  /** It can't be read, or read on. */
  | { readonly _tag: "failed"; readonly code: string; readonly message: string }

/** How long the page may be busy with events before it looks at the person in front of it, in ms. */
const slice = 8

/** The wait between two looks at a run that isn't streamed, in ms. */
export const asideFor = 2000

const connecting = (): Phase => ({ _tag: "connecting", since: performance.now() })

const isHidden = (): boolean => document.visibilityState === "hidden"

const timeOfDay = (): string => clock(new Date().toISOString())

/** Waits as long as the signal allows. */
const wait = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener("abort", () => {
      clearTimeout(timer)
      resolve()
    })
  })

/** The code of what the server refused for now. */
const refusedIn = (cause: unknown): string | undefined =>
  cause instanceof Error && cause.cause instanceof RunError ? cause.cause.code : undefined

/** The next task: what was pressed or is to be drawn comes before it. */
const nextTask = (): Promise<void> =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel()
    port1.addEventListener("message", () => {
      port1.close()
      resolve()
    })
    port1.start()
    port2.postMessage(undefined)
  })

/** The wait before the next try, in ms: someone is watching, so it stays short. */
const backoff = (failures: number, asked: number | undefined): number =>
  Math.min(Math.max(1000 * 1.5 ** (failures - 1), asked ?? 0), 10_000) * (1 + Math.random() / 4)

export class RunReader extends Changes {
  readonly place: Place
  readonly transcript = new Transcript()
  phase: Phase = connecting()
  /** The seq of the run's last event, as far as it is known before it is read. */
  head = 0
  /** The run had ended before the page began to read it; undefined: not known. */
  hadEnded: boolean | undefined
  #cursor: string | undefined
  #lostAt: string | undefined
  #pausedAt: string | undefined
  #hasCaughtUp = false
  #isAside = false
  readonly #closing = new AbortController()
  #attempt = new AbortController()

  constructor(place: Place) {
    super()
    this.place = place
    const { signal } = this.#closing
    addEventListener("online", this.retry, { signal })
    document.addEventListener("visibilitychange", this.#seen, { signal })
    void this.#run()
  }

  close(): void {
    this.#closing.abort()
    this.#attempt.abort()
  }

  /** Opens or closes a row. */
  toggle(row: Openable): void {
    this.transcript.toggled(row)
    this.changed()
  }

  /** Tries again now, where it waits to. */
  readonly retry = (): void => {
    if (this.phase._tag === "lost") this.#attempt.abort()
  }

  /** A hidden tab leaves its connection to those that are looked at. */
  readonly #seen = (): void => {
    if (isHidden()) this.#attempt.abort()
  }

  async #run(): Promise<void> {
    await this.#look()
    for (;;) {
      await this.#whileHidden()
      if (this.#closing.signal.aborted) return
      this.#attempt = new AbortController()
      const { signal } = this.#attempt
      let leave: Leave | undefined
      try {
        leave = await takeSeat()
        this.#isAside = leave === undefined
        if (await this.#read(signal)) {
          this.#become({ _tag: "ended" })
          return
        }
      } catch (error) {
        // Hidden, closed, or asked to try again now.
        if (signal.aborted) continue
        if (!this.#isYetToCome(error)) {
          this.#become({
            _tag: "failed",
            code: error instanceof RunError ? error.code : "page",
            message: error instanceof Error ? error.message : String(error),
          })
          return
        }
      } finally {
        leave?.()
      }
      this.#become({ _tag: "aside" })
      await wait(asideFor, signal)
    }
  }

  async #whileHidden(): Promise<void> {
    if (!isHidden()) return
    const { signal } = this.#closing
    this.#pausedAt = timeOfDay()
    this.#become({ _tag: "paused" })
    while (isHidden() && !signal.aborted) {
      await new Promise((resolve) => {
        document.addEventListener("visibilitychange", resolve, { once: true, signal })
        signal.addEventListener("abort", resolve, { once: true })
      })
    }
    this.#become(connecting())
  }

  /** Without a stream there is nothing to wait in for a run that isn't there. */
  #isYetToCome(error: unknown): boolean {
    return this.#isAside && this.transcript.events === 0 && error instanceof RunError && error.code === "run-unknown"
  }

  /** How long the run is, so that catching up has a measure; where that can't be had, it has none. */
  async #look(): Promise<void> {
    try {
      const { headers } = await fetch(eventsOf(this.place), {
        method: "HEAD",
        headers: { ...credential.headers(), accept: "application/json" },
        signal: this.#closing.signal,
      })
      const status = headers.get("run-status")
      this.hadEnded = status === null ? undefined : status !== "running"
      this.head = Number.parseInt(headers.get("run-head") ?? "0", 10) || 0
    } catch {
      // Reading will tell.
    }
  }

  /** Whether the run is over; no further than what is stored where another window has the connection to wait in. */
  async #read(signal: AbortSignal): Promise<boolean> {
    const url = eventsOf(this.place)
    if (!this.#isAside) url.searchParams.set("wait", "")
    this.#hasCaughtUp = false
    const items = runEvents(url, {
      after: this.#cursor,
      headers: credential.headers(),
      signal,
      attempts: Number.POSITIVE_INFINITY,
      backoff,
      onConnection: (connection) => {
        if (connection.state === "open") this.#opened()
        if (connection.state === "waiting") this.#lost(connection.delay, refusedIn(connection.cause))
      },
    })
    let begun = performance.now()
    for await (const item of items) {
      this.#take(item)
      if (this.#isAside && this.#hasCaughtUp && this.transcript.ending === undefined) return false
      if (performance.now() - begun > slice) {
        await nextTask()
        begun = performance.now()
      }
    }
    return true
  }

  #take(item: RunItem): void {
    if (item._tag === "Event") {
      if (this.#pausedAt !== undefined) this.transcript.paused(this.#pausedAt, timeOfDay())
      this.#pausedAt = undefined
      this.transcript.push(item.envelope)
      this.#cursor = item.cursor
      this.changed()
    } else if (item._tag === "CaughtUp") {
      this.head = item.head
      this.#hasCaughtUp = true
      // Nothing came meanwhile.
      this.#pausedAt = undefined
      this.#become({ _tag: this.#isAside ? "aside" : "live" })
    } else if (item._tag === "Truncated") {
      this.transcript.truncated(item.from, item.to)
      this.changed()
    }
  }

  #opened(): void {
    if (this.#lostAt !== undefined) {
      this.transcript.resumed(this.#lostAt, timeOfDay())
      this.#lostAt = this.#pausedAt = undefined
    }
    if (this.#isAside && this.phase._tag === "aside") return
    // A reader says only once that it has caught up.
    this.#become({ _tag: this.#hasCaughtUp ? "live" : "catching-up" })
  }

  #lost(delay: number, refused: string | undefined): void {
    const { _tag } = this.phase
    if (_tag === "live" || _tag === "catching-up" || _tag === "aside") this.#lostAt = timeOfDay()
    this.#become({ _tag: "lost", at: performance.now() + delay, refused })
  }

  #become(phase: Phase): void {
    this.phase = phase
    this.changed()
  }
}
