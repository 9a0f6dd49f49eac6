/**
 * The runs of the store, last started first, looked at again and again while somebody looks at the page. Each look takes the
 * newest page and, in turn, one of the older ones that were asked for.
 */
import { route } from "./address.ts"
import { Changes } from "./Changes.ts"
import * as credential from "./credential.ts"
import { fieldsOf } from "./fields.ts"
import { type Head, Heads, type Page } from "./Heads.ts"
import { patience } from "./noAnswer.ts"

const pageSize = 100
/** Of older ones: what is added when more is asked for, and looked at again in a turn. */
const olderSize = 500
const interval = 2000

/** A page begins after a run: that of a list, where it went on then. */
interface Place {
  readonly after: string
  readonly before: string
}

/** The server answered, but not with a page. */
class NoPage extends Error {
  readonly status: number

  constructor(status: number) {
    super(`the server answered ${status}`)
    this.status = status
  }
}

const ask = async (signal: AbortSignal, limit: number, before?: string): Promise<Page> => {
  const url = route("runs")
  url.searchParams.set("limit", String(limit))
  if (before !== undefined) url.searchParams.set("before", before)
  const response = await fetch(url, { headers: credential.headers(), signal })
  const { next, runs } = (response.ok ? fieldsOf(await response.json()) : undefined) ?? {}
  if (!Array.isArray(runs)) throw new NoPage(response.status)
  return { heads: runs as ReadonlyArray<Head>, next: typeof next === "string" ? next : undefined }
}

export class RunList extends Changes {
  readonly #heads = new Heads()
  state: "loading" | "here" | "unauthorized" | "unreachable" = "loading"
  /** The server has been asked and has not answered yet. */
  isAsking = false
  /** For so long that something is wrong. */
  isSlow = false
  /** More have been asked for. */
  isAdding = false
  /** The older page whose turn it is; absent: the first of them. */
  #turn: Place | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #request: AbortController | undefined

  get heads(): ReadonlyArray<Head> {
    return this.#heads.all
  }

  /** There are others, which started before these. */
  get hasMore(): boolean {
    return this.#heads.next !== undefined
  }

  /** Begins to look; the returned function ends it. */
  start(): () => void {
    document.addEventListener("visibilitychange", this.#seen)
    this.look()
    return () => {
      document.removeEventListener("visibilitychange", this.#seen)
      clearTimeout(this.#timer)
      this.#request?.abort()
    }
  }

  more(): void {
    this.isAdding = true
    this.look()
    this.changed()
  }

  /** Looks now. */
  readonly look = (): void => {
    clearTimeout(this.#timer)
    this.#request?.abort()
    this.#request = new AbortController()
    this.isAsking = true
    this.#timer = setTimeout(() => {
      this.isSlow = true
      this.changed()
    }, patience)
    void this.#look(this.#request.signal)
  }

  readonly #seen = (): void => {
    if (document.visibilityState === "visible") this.look()
  }

  async #look(signal: AbortSignal): Promise<void> {
    try {
      const newest = await ask(signal, pageSize)
      this.#heads.take(newest)
      if (this.isAdding) await this.#add(signal)
      else await this.#lookBack(signal, newest)
      this.state = "here"
    } catch (error) {
      if (signal.aborted) return
      this.state = error instanceof NoPage && error.status === 401 ? "unauthorized" : "unreachable"
    }
    clearTimeout(this.#timer)
    this.isAsking = this.isSlow = false
    this.changed()
    // Without a credential nothing changes by asking again; unseen, nobody is told.
    if (this.state !== "unauthorized" && document.visibilityState === "visible") {
      this.#timer = setTimeout(this.look, interval)
    }
  }

  async #add(signal: AbortSignal): Promise<void> {
    const { all, next } = this.#heads
    const last = all.at(-1)
    if (last !== undefined && next !== undefined) {
      this.#heads.take(await ask(signal, olderSize, next), last.runId)
    }
    this.isAdding = false
  }

  /** How older runs stand now, as they run on, end and are removed. */
  async #lookBack(signal: AbortSignal, newest: Page): Promise<void> {
    const { all } = this.#heads
    const place = this.#turn ?? placeAfter(newest)
    this.#turn = undefined
    // What follows the last run of the list was not asked for.
    const left = place === undefined ? 0 : all.length - 1 - all.findIndex(({ runId }) => runId === place.after)
    if (place === undefined || left === 0) return
    const page = await ask(signal, Math.min(left, olderSize), place.before)
    this.#heads.take(page, place.after)
    this.#turn = placeAfter(page)
  }
}

const placeAfter = ({ heads, next }: Page): Place | undefined => {
  const last = heads.at(-1)
  return last === undefined || next === undefined ? undefined : { after: last.runId, before: next }
}
