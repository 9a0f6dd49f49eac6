import { describe, expect, it } from "@effect/vitest"
import * as Job from "@throughline/core/Job"
import { JobEngine } from "@throughline/core/JobEngine"
import * as JobPool from "@throughline/core/JobPool"
import { Redis } from "ioredis"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as RedisServer from "../../redis/test/RedisServer.ts"
import { enqueue, failed, layerOf, name, stateOf, succeeded, until, workOn } from "./jobs.ts"
import * as Engines from "./Engines.ts"

const { layer, test } = Engines.forFile()

/** Closes a scope in a fiber apart, as closing can't be interrupted, and waits for so long at most. */
const closed = Effect.fnUntraced(function* (scope: Scope.Closeable, millis: number) {
  const closing = yield* Effect.forkDetach(Scope.close(scope, Exit.void))
  yield* until(
    "the scope is closed",
    Effect.sync(() => closing.pollUnsafe() !== undefined),
    millis,
  )
})

describe("handlers that can't be interrupted", () => {
  test(
    "they hold up the end of their name for five seconds, keep their claim, and the name can be handled anew",
    Effect.gen(function* () {
      const engine = yield* JobEngine
      const end = yield* Deferred.make<void>()
      let isFirst = true
      const { settled, started, working } = yield* workOn(["first"], () => {
        if (!isFirst) return Effect.succeed(succeeded())
        isFirst = false
        return Effect.uninterruptible(Effect.as(Deferred.await(end), succeeded()))
      })
      yield* Effect.addFinalizer(() => Deferred.succeed(end, undefined))
      const scope = yield* Scope.make()
      yield* Scope.provide(working.handle(name("mail"), { concurrency: 1 }), scope)
      const stuck = yield* enqueue()
      yield* until(
        "it runs",
        Effect.sync(() => started.length === 1),
      )
      yield* closed(scope, 8000)
      expect(settled).toEqual([])

      yield* working.handle(name("mail"), { concurrency: 1 })
      const next = yield* enqueue()
      expect((yield* engine.awaitSettled(next.id)).state).toBe("succeeded")
      // Many times as long as a lock holds has passed.
      expect(yield* stateOf(stuck)).toBe("running")
      yield* Deferred.succeed(end, undefined)
      expect(yield* engine.awaitSettled(stuck.id)).toMatchObject({ state: "succeeded", crashes: 0, failures: [] })
      expect(settled.map(([{ id }, { _tag }]) => [id, _tag])).toContainEqual([stuck.id, "GivenBack"])
    }),
    { lockDuration: 600, stalledInterval: 150 },
  )

  const Mail = Job.make("mail", { payload: Schema.Int, success: Schema.Int })

  test(
    "a pool that left one running handles its name anew, and closes without waiting for it again",
    Effect.gen(function* () {
      const end = yield* Deferred.make<void>()
      yield* Effect.addFinalizer(() => Deferred.succeed(end, undefined))
      const poolScope = yield* Scope.make()
      const pool = yield* Scope.provide(JobPool.make({ grace: 0, abandonAfter: 100 }), poolScope)
      let started = 0
      const stuck = () =>
        Effect.uninterruptible(
          Effect.andThen(
            Effect.sync(() => started++),
            Effect.as(Deferred.await(end), 1),
          ),
        )
      const first = yield* Scope.make()
      yield* Scope.provide(pool.handle(Mail, stuck), first)
      yield* pool.enqueue(Mail, 1)
      yield* until(
        "it runs",
        Effect.sync(() => started === 1),
      )
      yield* closed(first, 2500)

      const second = yield* Scope.make()
      yield* Scope.provide(
        pool.handle(Mail, (n) => Effect.succeed(n)),
        second,
      )
      const { id } = yield* pool.enqueue(Mail, 2)
      expect(yield* pool.awaitResult(Mail, id)).toBe(2)
      yield* Scope.close(second, Exit.void)

      yield* Scope.provide(pool.handle(Mail, stuck), poolScope)
      yield* pool.enqueue(Mail, 3)
      yield* until(
        "it runs",
        Effect.sync(() => started === 2),
      )
      yield* closed(poolScope, 2500)
    }),
  )
})

describe("an engine that is closed", () => {
  test(
    "who waits is told, and who would wait afterwards",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Scope.provide(Layer.build(layer()), scope)
      const engine = Context.get(context, JobEngine)
      const job = yield* Effect.provide(enqueue(), context)
      const cursor = yield* engine.resultsEnd
      const settled = engine.awaitSettled(job.id)
      const results = engine.awaitResults(cursor)
      const waiting = yield* Effect.forEach([settled, settled, results], (each) =>
        Effect.forkChild(Effect.flip(each), { startImmediately: true }),
      )
      // They have asked, and wait for news.
      yield* Effect.sleep(100)
      expect(waiting.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined, undefined])
      yield* Scope.close(scope, Exit.void)
      const told = { _tag: "EngineFailed", reason: { _tag: "StoreUnavailable", detail: "the engine is closed" } }
      for (const fiber of waiting) expect(yield* Effect.timeout(Fiber.join(fiber), "2 seconds")).toMatchObject(told)
      expect(yield* Effect.timeout(failed(settled), "2 seconds")).toMatchObject(told)
      expect(yield* Effect.timeout(failed(results), "2 seconds")).toMatchObject(told)
    }),
  )
})

describe("claims that are never answered", () => {
  it.live("what one took of a name that was closed since is given back by the next claim, uncharged", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      yield* Effect.gen(function* () {
        const engine = yield* JobEngine
        const client = yield* Effect.acquireRelease(
          Effect.sync(() => new Redis(server.url)),
          (opened) => Effect.sync(() => opened.disconnect()),
        )
        const { started, working } = yield* workOn(["other"], () => Effect.succeed(succeeded()))
        // From here on Redis knows the script.
        yield* engine.awaitSettled((yield* enqueue({ name: name("other") })).id)
        yield* working.pause
        const scope = yield* Scope.make()
        yield* Scope.provide(working.handle(name("mail"), {}), scope)
        const job = yield* enqueue()
        yield* server.signal("SIGSTOP")
        yield* working.resume
        // The claim is sent, and closing waits until it is given up.
        yield* Effect.sleep(50)
        yield* Scope.close(scope, Exit.void)
        yield* server.signal("SIGCONT")
        const events = Effect.promise(() => client.xrange("{claims}:mail:events", "-", "+"))
        yield* until(
          "it was claimed",
          Effect.map(events, (all) => all.some(([, fields]) => fields.includes("active"))),
        )
        yield* until(
          "it is given back",
          Effect.map(
            Effect.option(engine.get(job.id)),
            (found) => Option.getOrUndefined(Option.flatten(found))?.state === "waiting",
          ),
          5000,
        )
        expect(Option.getOrThrow(yield* engine.get(job.id))).toMatchObject({ crashes: 0, failures: [] })
        expect(started).toHaveLength(1)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          layerOf(server.url, {
            prefix: "claims",
            commandTimeout: "300 millis",
            reconnect: Schedule.spaced("50 millis"),
          }),
        ),
      )
    }).pipe(Effect.scoped),
  )
})
