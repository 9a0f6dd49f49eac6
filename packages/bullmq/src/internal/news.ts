/**
 * What other processes tell: which jobs settled, which are to stop.
 *
 * Told by Pub/Sub, which loses what is said while the connection is away; so what is waited for is looked at every few
 * seconds, and at once when the connection is back.
 */
import type { Commands, Connection } from "@throughline/redis/IoRedis"
import type { RedisFailed } from "@throughline/redis/RedisFailed"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { redisFailed } from "./failures.ts"
import type { Scripts } from "./scripts.ts"
import { onRealTime } from "./realTime.ts"
import { Signal } from "./signal.ts"

/** Ids asked for in one script. */
const chunk = 500

export class News {
  /** Something settled, or may have. */
  readonly results = new Signal()
  /** Told the id of a running job that is to stop. */
  onCancel: (id: string) => void = () => {}
  /** Nothing is told any more. */
  isClosed = false
  readonly #waited = new Map<string, { readonly signal: Signal; count: number }>()

  get ids(): ReadonlyArray<string> {
    return [...this.#waited.keys()]
  }

  settled(id: string): void {
    this.#waited.get(id)?.signal.notify()
  }

  /** Everything may have changed. */
  missed(): void {
    for (const { signal } of this.#waited.values()) signal.notify()
    this.results.notify()
  }

  close(): void {
    this.isClosed = true
    this.missed()
  }

  /** Runs with a signal that changes when the job has settled or gone, or may have. */
  waitingFor<A, E, R>(id: string, use: (signal: Signal) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        let entry = this.#waited.get(id)
        if (entry === undefined) this.#waited.set(id, (entry = { signal: new Signal(), count: 0 }))
        entry.count++
        return entry
      }),
      ({ signal }) => use(signal),
      (entry) =>
        Effect.sync(() => {
          if (--entry.count === 0) this.#waited.delete(id)
        }),
    )
  }
}

/** Listens until the scope closes. */
export const make = Effect.fnUntraced(function* (
  subscriber: Connection,
  commands: Commands,
  scripts: Scripts,
  root: string,
  clock: Clock.Clock,
): Effect.fn.Return<News, RedisFailed, Scope.Scope> {
  const news = new News()
  const { client } = subscriber
  const onMessage = (channel: string, message: string): void => {
    if (channel === `${root}::cancel`) {
      news.onCancel(message)
      return
    }
    for (const id of message.split(" ")) news.settled(id)
    news.results.notify()
  }
  const onReady = (): void => news.missed()
  client.on("message", onMessage).on("ready", onReady)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      client.off("message", onMessage).off("ready", onReady)
      // Who waits would wait for ever.
      news.close()
    }),
  )
  yield* Effect.tryPromise({
    try: () => client.subscribe(`${root}::settled`, `${root}::cancel`),
    catch: redisFailed("subscribe"),
  })

  const look = Effect.gen(function* () {
    news.results.notify()
    const { ids } = news
    for (let from = 0; from < ids.length; from += chunk) {
      const now = yield* clock.currentTimeMillis
      const settled = yield* commands.run(scripts.settledOf, { now, ids: ids.slice(from, from + chunk) })
      for (const id of settled) news.settled(id)
    }
  })
  // While Redis is away there is nothing to look at; the next look comes.
  yield* Effect.forkScoped(
    onRealTime(Effect.repeat(Effect.ignore(look), Schedule.jittered(Schedule.spaced("5 seconds")))),
  )
  return news
})
