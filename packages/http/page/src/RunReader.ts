/** One run being read: its rows so far, and how the connection is. Closed, it leaves nothing behind. */
import { RunError, runEvents, type RunItem } from "@throughline/client"
import { eventsOf, type Place } from "./address.ts"
import { Changes } from "./Changes.ts"
import * as credential from "./credential.ts"
import type { Openable } from "./Row.ts"
import { clock } from "./time.ts"
import { Transcript } from "./Transcript.ts"

export type Phase =
  | { readonly _tag: "connecting" }
  /** What is stored is being read. */
  | { readonly _tag: "catching-up" }
  | { readonly _tag: "live" }
  /** The connection was lost; the next try is at `at`, by `performance.now()`. */
  | { readonly _tag: "lost"; readonly at: number }
  | { readonly _tag: "ended" }
  /** It can't be read, or read on. */
  | { readonly _tag: "failed"; readonly code: string; readonly message: string }

/** How long the page may be busy with events before it looks at the person in front of it, in ms. */
const slice = 8

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
  phase: Phase = { _tag: "connecting" }
  /** The seq of the run's last event, as far as it is known before it is read. */
  head = 0
  /** The run had ended before the page began to read it; undefined: not known. */
  hadEnded: boolean | undefined
  #cursor: string | undefined
  #lostAt: string | undefined
  #hasCaughtUp = false
  readonly #closing = new AbortController()
  #attempt = new AbortController()

  constructor(place: Place) {
    super()
    this.place = place
    addEventListener("online", this.retry, { signal: this.#closing.signal })
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

  async #run(): Promise<void> {
    await this.#look()
    while (!this.#closing.signal.aborted) {
      this.#attempt = new AbortController()
      const { signal } = this.#attempt
      try {
        await this.#read(signal)
        this.#become({ _tag: "ended" })
        return
      } catch (error) {
        // Asked to try again now.
        if (signal.aborted) continue
        this.#become({
          _tag: "failed",
          code: error instanceof RunError ? error.code : "page",
          message: error instanceof Error ? error.message : String(error),
        })
        return
      }
    }
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

  async #read(signal: AbortSignal): Promise<void> {
    const url = eventsOf(this.place)
    url.searchParams.set("wait", "")
    const items = runEvents(url, {
      after: this.#cursor,
      headers: credential.headers(),
      signal,
      attempts: Number.POSITIVE_INFINITY,
      backoff,
      onConnection: (connection) => {
        if (connection.state === "open") this.#opened()
        if (connection.state === "waiting") this.#lost(connection.delay)
      },
    })
    let begun = performance.now()
    for await (const item of items) {
      this.#take(item)
      if (performance.now() - begun > slice) {
        await nextTask()
        begun = performance.now()
      }
    }
  }

  #take(item: RunItem): void {
    if (item._tag === "Event") {
      this.transcript.push(item.envelope)
      this.#cursor = item.cursor
      this.changed()
    } else if (item._tag === "CaughtUp") {
      this.head = item.head
      this.#hasCaughtUp = true
      this.#become({ _tag: "live" })
    } else if (item._tag === "Truncated") {
      this.transcript.truncated(item.from, item.to)
      this.changed()
    }
  }

  #opened(): void {
    if (this.#lostAt !== undefined) {
      this.transcript.resumed(this.#lostAt, clock(new Date().toISOString()))
      this.#lostAt = undefined
    }
    // A reader says only once that it has caught up.
    this.#become({ _tag: this.#hasCaughtUp ? "live" : "catching-up" })
  }

  #lost(delay: number): void {
    if (this.phase._tag === "live" || this.phase._tag === "catching-up") this.#lostAt = clock(new Date().toISOString())
    this.#become({ _tag: "lost", at: performance.now() + delay })
  }

  #become(phase: Phase): void {
    this.phase = phase
    this.changed()
  }
}
