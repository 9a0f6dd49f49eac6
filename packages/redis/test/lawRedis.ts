/**
 * Redis as the laws need it: a prefix of its own for each case on connections that all cases share, and no turn passes
 * while Redis is asked.
 *
 * Laws run on virtual time and say what must be true after some turns of the scheduler. A backend that answers in real
 * time would answer many turns and virtual minutes late, which no law is about. So the scheduler of a case stands still
 * while a command is under way, and a command that may publish is under way until the subscriber connection has told all
 * that it published.
 */
import type { EventArchive } from "@throughline/core/EventArchive"
import type { EventStore } from "@throughline/core/EventStore"
import type { StreamAdapter } from "@throughline/core/StreamAdapter"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as IoRedis from "@throughline/redis/IoRedis"
import type { RedisFailed } from "@throughline/redis/RedisFailed"
import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import type { Services } from "@throughline/testing/Law"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { afterAll } from "vitest"
import * as RedisServer from "./RedisServer.ts"

/** What is under way, and who waits for its end. */
class Stillness {
  #underWay = 0
  #waiting: Array<() => void> = []

  get isStill(): boolean {
    return this.#underWay === 0
  }

  readonly wait = (then: () => void): void => void this.#waiting.push(then)

  readonly during = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      this.#underWay++
      return Effect.ensuring(
        effect,
        Effect.sync(() => {
          this.#underWay--
          if (!this.isStill) return
          const waiting = this.#waiting
          this.#waiting = []
          for (const then of waiting) then()
        }),
      )
    })

  /** A scheduler whose tasks wait until nothing is under way. */
  scheduler(inner: Scheduler.Scheduler): Scheduler.Scheduler {
    return {
      executionMode: inner.executionMode,
      // Whoever is under way would wait for itself.
      shouldYield: (fiber) => this.isStill && inner.shouldYield(fiber),
      makeDispatcher: () => {
        const dispatcher = inner.makeDispatcher()
        const schedule = (task: () => void, priority: number): void =>
          dispatcher.scheduleTask(() => {
            if (this.isStill) task()
            else this.wait(() => schedule(task, priority))
          }, priority)
        return { scheduleTask: schedule, flush: () => dispatcher.flush() }
      },
    }
  }
}

/** The connections that all cases of a file share. */
interface Shared {
  readonly redis: IoRedis.IoRedis["Service"]
  readonly subscriber: IoRedis.Connection
}

const connect = (scope: Scope.Scope): Effect.Effect<Shared, RedisServer.ServerFailed | RedisFailed> =>
  Effect.gen(function* () {
    const redis = Context.get(yield* Layer.build(IoRedis.layer({ url: yield* url })), IoRedis.IoRedis)
    return { redis, subscriber: yield* redis.connect }
  }).pipe(Scope.provide(scope))

const url = RedisServer.forFile()
const prefix = `throughline-laws-${randomUUID()}:`
const scope = Scope.makeUnsafe()
let cases = 0
let opened: Promise<Shared> | undefined

const shared = Effect.promise(() => (opened ??= Effect.runPromise(connect(scope))))

afterAll(async () => {
  const connections = await opened
  if (connections === undefined) return
  const { client } = connections.redis
  for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1000 })) {
    if ((keys as Array<string>).length > 0) await client.unlink(keys as Array<string>)
  }
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

/** The `IoRedis` of a case, and the scheduler that stands still while it is asked. */
const layer: Layer.Layer<IoRedis.IoRedis> = Layer.effectContext(
  Effect.gen(function* () {
    const { redis, subscriber } = yield* shared
    const stillness = new Stillness()
    const { during } = stillness
    // Redis tells a connection in order, so what was published before the answer came before this one's.
    const told = Effect.ignore(subscriber.send("ping", []))
    const commands = ({ run, send }: IoRedis.Commands): IoRedis.Commands => ({
      send: (command, args) =>
        during(command === "PUBLISH" ? Effect.ensuring(send(command, args), told) : send(command, args)),
      run: (script, params) =>
        during(script.readOnly ? run(script, params) : Effect.ensuring(run(script, params), told)),
    })
    const ioRedis: IoRedis.IoRedis["Service"] = {
      ...commands(redis),
      client: redis.client,
      keyPrefix: `${prefix}${++cases}:`,
      connect: Effect.succeed({ ...commands(subscriber), client: subscriber.client }),
      reserve: Effect.map(redis.reserve, commands),
    }
    return Context.make(IoRedis.IoRedis, ioRedis).pipe(
      Context.add(Scheduler.Scheduler, stillness.scheduler(yield* Scheduler.Scheduler)),
    )
  }),
)

/**
 * The backend of a case. Cases share a connection, which need not be looked after; `idle` is how long the adapter keeps
 * it for whoever comes next.
 */
export const backendOf =
  (live: { readonly idle: Duration.Input }) =>
  (store?: StoreOptions): Layer.Layer<EventStore | EventArchive | StreamAdapter, never, Services> =>
    RedisThroughline.layerBackend({
      store: { ...store, clock: "client" },
      live: { ...live, heartbeat: "1000 days" },
    }).pipe(Layer.provideMerge(layer))

export const backend = backendOf({ idle: "1000 days" })
