import { assert, describe, it } from "@effect/vitest"
import * as Job from "@throughline/core/Job"
import * as JobPool from "@throughline/core/JobPool"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { name, Note, noting, pool, record, Refused, settle } from "./jobPoolWorld.ts"

describe("enqueueing", () => {
  it.effect("a job runs and its result has the type that was declared", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Sum = Job.make("sum", { payload: Schema.Array(Schema.Number), success: Schema.Date })
      yield* jobs.handle(Sum, (numbers) => Effect.succeed(new Date(numbers.reduce((a, b) => a + b, 0))))
      const { created, id } = yield* jobs.enqueue(Sum, [1, 2, 3])
      assert.deepStrictEqual(yield* jobs.awaitResult(Sum, id), new Date(6))
      assert.isTrue(created)
      assert.strictEqual((yield* record(id)).state, "succeeded")
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a handler is a layer with its own requirements", () => {
    class Greeting extends Context.Service<Greeting, string>()("Greeting") {}
    const Greet = Job.make("greet", { payload: Schema.String, success: Schema.String })
    const handler = Job.toLayer(Greet, (who) => Effect.map(Greeting, (greeting) => `${greeting}, ${who}`))
    return Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { id } = yield* jobs.enqueue(Greet, "world")
      assert.strictEqual(yield* jobs.awaitResult(Greet, id), "Hello, world")
    }).pipe(Effect.provide(handler.pipe(Layer.provide(Layer.succeed(Greeting, "Hello")), Layer.provideMerge(pool()))))
  })

  it.effect("what a handler acquires goes with its run", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const log: Array<string> = []
      yield* jobs.handle(Note, (note) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            log.push(`open ${note}`)
            return note
          }),
          () => Effect.sync(() => log.push(`close ${note}`)),
        ),
      )
      const first = yield* jobs.enqueue(Note, "a")
      yield* jobs.awaitResult(Note, first.id)
      assert.deepStrictEqual(log, ["open a", "close a"])
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a batch is accepted whole or not at all", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Small = Job.make("small", { payload: Schema.Struct({ text: Schema.String.check(Schema.isMaxLength(3)) }) })
      const refused = yield* Effect.flip(
        jobs.enqueueAll([JobPool.request(Small, { text: "ok" }), JobPool.request(Small, { text: "too long" })]),
      )
      assert.strictEqual(refused._tag, "PayloadInvalid")
      assert.strictEqual(yield* jobs.size, 0)
      assert.strictEqual((yield* jobs.enqueueAll([JobPool.request(Small, { text: "a" })])).length, 1)
      assert.deepStrictEqual(yield* jobs.enqueueAll([]), [])
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a payload over the bound is refused with a type, whatever its text; the rest comes back as it was", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const over = yield* Effect.flip(jobs.enqueue(Note, "äöü".repeat(10)))
      assert.deepInclude(over, { _tag: "PayloadTooLarge", bytes: 62, maxBytes: 50 })
      assert.strictEqual(yield* jobs.size, 0)
      yield* jobs.handle(Note, Effect.succeed)
      const { id } = yield* jobs.enqueue(Note, "\ud800 ö\u0000")
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "\ud800 ö\u0000")
    }).pipe(Effect.provide(pool({ maxPayloadBytes: 50 }))),
  )

  it.effect("at the bound on waiting jobs a batch fails whole, and fits again when jobs were worked off", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      yield* jobs.enqueueAll([JobPool.request(Note, "a"), JobPool.request(Note, "b", { delay: "1 hour" })])
      const batch = [JobPool.request(Note, "c"), JobPool.request(Note, "d")]
      const full = yield* Effect.flip(jobs.enqueueAll(batch))
      assert.deepInclude(full, { _tag: "PoolFull", waiting: 2, maxWaiting: 3 })
      assert.strictEqual(yield* jobs.size, 2)
      yield* jobs.handle(Note, Effect.succeed)
      yield* jobs.drain()
      yield* jobs.enqueueAll(batch)
    }).pipe(Effect.provide(pool({ maxWaiting: 3 }))),
  )

  it.effect("whoever would rather wait for room gets in as soon as there is some", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      yield* jobs.enqueue(Note, "a")
      const waiting = yield* Effect.forkChild(jobs.enqueue(Note, "b"))
      yield* settle
      assert.isUndefined(waiting.pollUnsafe())
      yield* jobs.handle(Note, Effect.succeed)
      const { id } = yield* Fiber.join(waiting)
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "b")
      const never = yield* Effect.flip(jobs.enqueueAll([JobPool.request(Note, "c"), JobPool.request(Note, "d")]))
      assert.strictEqual(never._tag, "PoolFull")
    }).pipe(Effect.provide(pool({ maxWaiting: 1, whenFull: "wait" }))),
  )
})

describe("the order of running", () => {
  it.effect("is priority, then first ready, first out; a delayed job holds up no ready one", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler, notes, times } = noting()
      yield* jobs.pause
      yield* jobs.handle(Note, handler)
      yield* jobs.enqueue(Note, "delayed", { priority: "critical", delay: "10 seconds" })
      yield* jobs.enqueue(Note, "low", { priority: "low" })
      yield* jobs.enqueue(Note, "normal 1")
      yield* jobs.enqueue(Note, "high", { priority: "high" })
      yield* jobs.enqueue(Note, "normal 2")
      yield* jobs.enqueue(Note, "past", { runAfter: -1000 })
      yield* jobs.resume
      yield* jobs.drain()
      assert.deepStrictEqual(notes, ["high", "normal 1", "normal 2", "past", "low"])
      yield* TestClock.adjust("10 seconds")
      yield* jobs.drain()
      assert.strictEqual(notes.at(-1), "delayed")
      assert.strictEqual(times.at(-1), 10_000)
    }).pipe(Effect.provide(pool({ concurrency: 1 }))),
  )

  it.effect("of `runAfter` and `delay` the later counts", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const a = yield* jobs.enqueue(Note, "a", { runAfter: new Date(5000), delay: "2 seconds" })
      const b = yield* jobs.enqueue(Note, "b", { runAfter: 5000, delay: "8 seconds" })
      assert.deepStrictEqual([(yield* record(a.id)).readyAt, (yield* record(b.id)).readyAt], [5000, 8000])
      const refused = yield* Effect.flip(jobs.enqueue(Note, "c", { delay: "Infinity" }))
      assert.strictEqual(refused._tag, "EngineFailed")
    }).pipe(Effect.provide(pool())),
  )

  it.effect(
    "never has more jobs running than the pool and each name allow, and a name at its bound holds up no other",
    () =>
      Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        const Other = Job.make("other", { payload: Schema.Void })
        const gate = yield* Deferred.make<void>()
        let [notes, others] = [0, 0]
        yield* jobs.handle(Note, (note) => (notes++, Effect.as(Deferred.await(gate), note)), { concurrency: 2 })
        yield* jobs.handle(Other, () => (others++, Deferred.await(gate)))
        for (const note of ["a", "b", "c", "d"]) yield* jobs.enqueue(Note, note, { priority: "critical" })
        for (let i = 0; i < 4; i++) yield* jobs.enqueue(Other, undefined)
        yield* settle
        assert.deepStrictEqual([notes, others], [2, 1])
        yield* Deferred.succeed(gate, undefined)
        yield* jobs.drain()
        assert.deepStrictEqual([notes, others], [4, 4])
      }).pipe(Effect.provide(pool({ concurrency: 3 }))),
  )

  it.effect("leaves jobs of a name that nobody handles waiting, where `counts` shows them", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Orphan = Job.make("orphan", { payload: Schema.Void })
      yield* jobs.enqueue(Orphan, undefined, { priority: "critical" })
      yield* jobs.enqueue(Note, "later", { delay: "1 hour" })
      yield* jobs.handle(Note, Effect.succeed)
      const { id } = yield* jobs.enqueue(Note, "a")
      yield* jobs.awaitResult(Note, id)
      assert.sameDeepMembers(
        [...(yield* jobs.counts)],
        [
          { name: name("orphan"), state: "waiting", count: 1 },
          { name: name("note"), state: "delayed", count: 1 },
          { name: name("note"), state: "succeeded", count: 1 },
        ],
      )
      assert.strictEqual(yield* jobs.size, 2)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("goes by the clock, however it is set", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler, notes } = noting()
      yield* jobs.handle(Note, handler)
      yield* TestClock.setTime(1_000_000)
      yield* jobs.enqueue(Note, "tomorrow", { delay: "1 day" })
      yield* TestClock.setTime(500_000)
      yield* jobs.enqueue(Note, "soon", { delay: "1 minute" })
      yield* TestClock.adjust("1 minute")
      yield* jobs.drain()
      assert.deepStrictEqual(notes, ["soon"])
      yield* TestClock.setTime(1_000_000 + 86_400_000)
      yield* jobs.drain({ delayed: true })
      assert.deepStrictEqual(notes, ["soon", "tomorrow"])
    }).pipe(Effect.provide(pool())),
  )
})

describe("unique keys", () => {
  it.effect("while a job lives, its key gives its id; afterwards another may have it", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const first = yield* jobs.enqueue(Note, "a", { uniqueKey: "k" })
      const second = yield* jobs.enqueue(Note, "b", { uniqueKey: "k" })
      assert.deepStrictEqual(second, { id: first.id, created: false, pending: false })
      const Other = Job.make("other", { payload: Schema.String })
      assert.isTrue((yield* jobs.enqueue(Other, "c", { uniqueKey: "k" })).created)
      yield* jobs.handle(Note, Effect.succeed)
      yield* jobs.awaitResult(Note, first.id)
      assert.isTrue((yield* jobs.enqueue(Note, "d", { uniqueKey: "k" })).created)
      const [one, two] = yield* jobs.enqueueAll([
        JobPool.request(Note, "e", { uniqueKey: "l" }),
        JobPool.request(Note, "f", { uniqueKey: "l" }),
      ])
      assert.strictEqual(one!.id, two!.id)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a dead job is not retried while another holds its key", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Once = Job.make("once", { payload: Schema.String, error: Refused, maxAttempts: 1 })
      yield* jobs.handle(Once, (why) => (why === "good" ? Effect.void : Effect.fail(new Refused({ why }))))
      const dead = yield* jobs.enqueue(Once, "bad", { uniqueKey: "k" })
      yield* Effect.flip(jobs.awaitResult(Once, dead.id))
      yield* jobs.pause
      const holder = yield* jobs.enqueue(Once, "good", { uniqueKey: "k" })
      const refused = yield* Effect.flip(jobs.retryDead(dead.id))
      assert.deepInclude(refused, { _tag: "UniqueKeyTaken", id: dead.id, holder: holder.id, uniqueKey: "k" })
      yield* jobs.resume
      yield* jobs.awaitResult(Once, holder.id)
      yield* jobs.retryDead(dead.id)
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Once, dead.id)))._tag, "Refused")
      assert.strictEqual((yield* record(dead.id)).failures.length, 1)
      assert.strictEqual((yield* Effect.flip(jobs.retryDead(holder.id)))._tag, "JobNotDead")
    }).pipe(Effect.provide(pool())),
  )
})

describe("cancelling", () => {
  it.effect("a job that waits or is delayed is cancelled at once and never runs", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler, notes } = noting()
      const waiting = yield* jobs.enqueue(Note, "a")
      const delayed = yield* jobs.enqueue(Note, "b", { delay: "1 second" })
      const answers = yield* Effect.all([jobs.cancel(waiting.id), jobs.cancel(delayed.id), jobs.cancel(waiting.id)])
      assert.deepStrictEqual(answers, ["cancelled", "cancelled", "settled"])
      yield* jobs.handle(Note, handler)
      yield* TestClock.adjust("2 seconds")
      yield* jobs.drain({ delayed: true })
      assert.deepStrictEqual(notes, [])
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Note, waiting.id)))._tag, "JobWasCancelled")
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a running job is interrupted, and its slot is free again", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      let finalized = false
      yield* jobs.handle(Note, (note) =>
        note === "stuck"
          ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => (finalized = true)))
          : Effect.succeed(note),
      )
      const stuck = yield* jobs.enqueue(Note, "stuck")
      yield* settle
      assert.strictEqual(yield* jobs.cancel(stuck.id), "requested")
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Note, stuck.id)))._tag, "JobWasCancelled")
      assert.isTrue(finalized)
      assert.deepStrictEqual((yield* record(stuck.id)).failures, [])
      const { id } = yield* jobs.enqueue(Note, "next")
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "next")
    }).pipe(Effect.provide(pool({ concurrency: 1 }))),
  )

  it.effect("a job whose handler can't be interrupted is cancelled when it ends, however it ends", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const gate = yield* Deferred.make<void>()
      yield* jobs.handle(Note, (note) =>
        Effect.uninterruptible(
          Effect.andThen(
            Deferred.await(gate),
            note === "good" ? Effect.succeed(note) : Effect.fail(new Refused({ why: note })),
          ),
        ),
      )
      const good = yield* jobs.enqueue(Note, "good")
      const bad = yield* jobs.enqueue(Note, "bad")
      yield* settle
      yield* jobs.cancel(good.id)
      yield* jobs.cancel(bad.id)
      assert.strictEqual((yield* record(bad.id)).state, "running")
      yield* Deferred.succeed(gate, undefined)
      yield* jobs.drain({ delayed: true })
      assert.deepStrictEqual(
        [(yield* record(good.id)).state, (yield* record(bad.id)).state],
        ["cancelled", "cancelled"],
      )
    }).pipe(Effect.provide(pool())),
  )
})

describe("what is kept", () => {
  it.effect("a result is kept as long as its job says; asking for it afterwards ends typed", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Brief = Job.make("brief", { payload: Schema.Void, keepResult: "1 minute" })
      yield* jobs.handle(Brief, () => Effect.void)
      const { id } = yield* jobs.enqueue(Brief, undefined)
      yield* jobs.awaitResult(Brief, id)
      yield* TestClock.adjust("59 seconds")
      yield* jobs.awaitResult(Brief, id)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Brief, id)))._tag, "JobUnknown")
      assert.isTrue(Option.isNone(yield* jobs.get(id)))
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a dead letter is listed until it is removed or its time is over", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Doomed = Job.make("doomed", { payload: Schema.Void, maxAttempts: 1, keepDead: "1 hour" })
      yield* jobs.handle(Doomed, () => Effect.die("broken"))
      const first = yield* jobs.enqueue(Doomed, undefined)
      const second = yield* jobs.enqueue(Doomed, undefined)
      const died = yield* Effect.flip(jobs.awaitResult(Doomed, first.id))
      assert.deepInclude(died, { _tag: "JobDied", id: first.id })
      yield* jobs.drain()
      const ids = Effect.map(jobs.deadLetters({ limit: 10 }), (letters) => letters.map(({ id }) => id))
      assert.sameMembers(yield* ids, [first.id, second.id])
      const [one] = yield* jobs.deadLetters({ limit: 1 })
      assert.lengthOf(yield* jobs.deadLetters({ limit: 10, after: one!.id }), 1)
      yield* jobs.removeDead(first.id)
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Doomed, first.id)))._tag, "JobUnknown")
      assert.deepStrictEqual(yield* ids, [second.id])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* ids, [])
      assert.strictEqual((yield* Effect.flip(jobs.removeDead(second.id)))._tag, "JobUnknown")
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a result is only read as that of its own job", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const Other = Job.make("other", { payload: Schema.String, success: Schema.String })
      const Newer = Job.make("note", { payload: Schema.String, success: Schema.Number })
      yield* jobs.handle(Note, Effect.succeed)
      const { id } = yield* jobs.enqueue(Note, "a")
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Other, id)))._tag, "ResultUnreadable")
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Newer, id)))._tag, "ResultUnreadable")
    }).pipe(Effect.provide(pool())),
  )
})

describe("handlers", () => {
  it.effect("a name is handled once at a time", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const scoped = Effect.scoped(Effect.asVoid(jobs.handle(Note, Effect.succeed)))
      yield* scoped
      yield* jobs.handle(Note, Effect.succeed)
      const twice = yield* Effect.exit(scoped)
      assert.isTrue(Exit.isFailure(twice))
      const { id } = yield* jobs.enqueue(Note, "a")
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "a")
    }).pipe(Effect.provide(pool())),
  )

  it.effect("know their job, their attempt, and whether it is the last; their progress is kept", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const seen: Array<unknown> = []
      const Twice = Job.make("twice", { payload: Schema.Void, maxAttempts: 2 })
      const gate = yield* Deferred.make<void>()
      yield* jobs.handle(Twice, (_, { attempt, enqueuedAt, id, isLastAttempt, progress }) => {
        seen.push([id, attempt, enqueuedAt, isLastAttempt])
        if (!isLastAttempt) return Effect.die("once more")
        return Effect.andThen(progress({ percent: 50 }), Deferred.await(gate))
      })
      const { id } = yield* jobs.enqueue(Twice, undefined)
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(seen, [
        [id, 1, 0, false],
        [id, 2, 0, true],
      ])
      assert.strictEqual((yield* record(id)).progress, '{"percent":50}')
      yield* Deferred.succeed(gate, undefined)
      yield* jobs.awaitResult(Twice, id)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("paused, none begins; resumed, all do", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler, notes } = noting()
      yield* jobs.handle(Note, handler)
      yield* jobs.pause
      yield* jobs.enqueue(Note, "a")
      yield* settle
      assert.deepStrictEqual(notes, [])
      yield* jobs.resume
      yield* jobs.drain()
      assert.deepStrictEqual(notes, ["a"])
    }).pipe(Effect.provide(pool())),
  )
})
