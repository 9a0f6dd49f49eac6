/** The runs of the store, looked at again and again while somebody looks at the page. */
import { route } from "./address.ts"
import { Changes } from "./Changes.ts"
import * as credential from "./credential.ts"
import { fieldsOf } from "./fields.ts"
import { patience } from "./noAnswer.ts"

export interface Head {
  readonly runId: string
  readonly status: "running" | "completed" | "failed" | "cancelled"
  readonly lastSeq: number
  readonly sessionId?: string
  readonly startedAt?: string
  readonly lastActivityAt?: string
}

const pageSize = 100
/** The most that a server gives at once. */
const mostRuns = 1000
const interval = 2000

export class RunList extends Changes {
  heads: ReadonlyArray<Head> = []
  hasMore = false
  /** The server has been asked and has not answered yet. */
  isAsking = false
  /** For so long that something is wrong. */
  isSlow = false
  state: "loading" | "here" | "unauthorized" | "unreachable" = "loading"
  #wanted = pageSize
  #timer: ReturnType<typeof setTimeout> | undefined
  #request: AbortController | undefined

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
    this.#wanted = Math.min(this.#wanted + pageSize, mostRuns)
    this.look()
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
    void this.#ask(this.#request.signal)
  }

  readonly #seen = (): void => {
    if (document.visibilityState === "visible") this.look()
  }

  async #ask(signal: AbortSignal): Promise<void> {
    try {
      const url = route("runs")
      url.searchParams.set("limit", String(this.#wanted))
      const response = await fetch(url, { headers: credential.headers(), signal })
      if (signal.aborted) return
      const body = response.ok ? fieldsOf(await response.json()) : undefined
      if (response.status === 401) this.state = "unauthorized"
      else if (body === undefined || !Array.isArray(body["runs"])) this.state = "unreachable"
      else {
        this.state = "here"
        this.heads = body["runs"] as ReadonlyArray<Head>
        this.hasMore = body["next"] !== undefined && this.#wanted < mostRuns
      }
    } catch {
      if (signal.aborted) return
      this.state = "unreachable"
    }
    clearTimeout(this.#timer)
    this.isAsking = this.isSlow = false
    this.changed()
    // Without a credential nothing changes by asking again; unseen, nobody is told.
    if (this.state !== "unauthorized" && document.visibilityState === "visible") {
      this.#timer = setTimeout(this.look, interval)
    }
  }
}
