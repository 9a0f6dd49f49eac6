import { assert, describe, it } from "@effect/vitest"
import * as AgentEvents from "@throughline/core/AgentEvents"
import * as Envelope from "@throughline/core/Envelope"
import * as EventBridge from "@throughline/core/EventBridge"
import * as EventBus from "@throughline/core/EventBus"
import * as EventStore from "@throughline/core/EventStore"
import * as Job from "@throughline/core/Job"
import * as JobEngine from "@throughline/core/JobEngine"
import * as JobEvents from "@throughline/core/JobEvents"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as Cron from "effect/Cron"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { engine, Note, noting, pool, record, settle } from "./jobPoolWorld.ts"

/** Pools over one engine, one after the other or side by side. */
const over = Effect.map(
  JobEngine.JobEngine,
  (under) => (options?: JobPool.JobPoolOptions) =>
    JobPool.layer(options).pipe(Layer.provide(Layer.succeed(JobEngine.JobEngine, under))),
)

describe("shutting down", () => {
  it.effect("takes no more, lets what runs end in time, and gives the rest back uncharged", () =>
    Effect.gen(function* () {
      const life = yield* over
      const Slow = Job.make("slow", { payload: Schema.Int, success: Schema.Int })
      const ids = yield* Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        yield* jobs.handle(Slow, (seconds) => Effect.delay(Effect.succeed(seconds), seconds * 1000))
        const answers = yield* jobs.enqueueAll([5, 60, 1].map((seconds) => JobPool.request(Slow, seconds)))
        yield* settle
        const stopping = yield* Effect.forkChild(jobs.shutdown("10 seconds"))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* Fiber.join(stopping), { givenBack: 1 })
        const records = yield* Effect.forEach(answers, ({ id }) => record(id))
        assert.deepStrictEqual(
          records.map(({ crashes, failures, state }) => [state, failures.length, crashes]),
          [
            ["succeeded", 0, 0],
            ["waiting", 0, 0],
            ["waiting", 0, 0],
          ],
        )
        return answers.map(({ id }) => id)
      }).pipe(Effect.scoped, Effect.provide(life({ concurrency: 2 })))
      yield* Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        const attempts: Array<number> = []
        yield* jobs.handle(Slow, (seconds, { attempt }) => Effect.sync(() => (attempts.push(attempt), seconds)))
        for (const id of ids) yield* jobs.awaitResult(Slow, id)
        assert.deepStrictEqual(attempts, [1, 1])
      }).pipe(Effect.scoped, Effect.provide(life()))
    }).pipe(Effect.provide(engine())),
  )

  it.effect("keeps the retries that wait", () =>
    Effect.gen(function* () {
      const life = yield* over
      const Flaky = Job.make("flaky", { payload: Schema.Void, retry: Schedule.spaced("1 minute") })
      const id = yield* Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        yield* jobs.handle(Flaky, () => Effect.die("flaky"))
        const answer = yield* jobs.enqueue(Flaky, undefined)
        yield* settle
        return answer.id
      }).pipe(Effect.scoped, Effect.provide(life()))
      yield* Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        yield* jobs.handle(Flaky, (_, { attempt }) => Effect.sync(() => assert.strictEqual(attempt, 2)))
        yield* TestClock.adjust("1 minute")
        yield* jobs.awaitResult(Flaky, id)
      }).pipe(Effect.scoped, Effect.provide(life()))
    }).pipe(Effect.provide(engine())),
  )

  it.effect("the end of a handler's layer waits for its jobs as long as the grace time", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler, notes } = noting()
      const handled = yield* Effect.forkChild(
        Effect.scoped(
          Effect.andThen(
            jobs.handle(Note, (note) => Effect.delay(handler(note), note === "short" ? "2 seconds" : "1 hour")),
            settle,
          ),
        ),
      )
      const { id } = yield* jobs.enqueue(Note, "long")
      yield* jobs.enqueue(Note, "short")
      yield* settle
      yield* settle
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(notes, ["short"])
      assert.isUndefined(handled.pollUnsafe())
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(handled)
      assert.strictEqual((yield* record(id)).state, "waiting")
    }).pipe(Effect.provide(pool({ grace: "3 seconds" }))),
  )

  it.effect("a handler that can't be interrupted holds a shutdown up for a bounded time only", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      yield* jobs.handle(Note, () => Effect.uninterruptible(Effect.never))
      yield* jobs.enqueue(Note, "stuck")
      yield* settle
      const stopping = yield* Effect.forkChild(jobs.shutdown("1 second"))
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(stopping), { givenBack: 0 })
    }).pipe(Effect.provide(pool())),
  )

  it.effect("goes on when it is interrupted: no job runs once its layer is closed", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const log: Array<string> = []
      const life = yield* Effect.forkChild(
        Effect.gen(function* () {
          yield* Effect.acquireRelease(Effect.void, () => Effect.sync(() => log.push("closed")))
          yield* jobs.handle(Note, () =>
            Effect.onInterrupt(Effect.never, () => Effect.sync(() => log.push("given back"))),
          )
          yield* settle
          assert.isTrue(Option.isNone(yield* Effect.timeoutOption(jobs.shutdown("10 seconds"), "1 second")))
        }).pipe(Effect.scoped),
      )
      const { id } = yield* jobs.enqueue(Note, "a")
      yield* settle
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(log, [])
      yield* TestClock.adjust("9 seconds")
      yield* Fiber.join(life)
      assert.deepStrictEqual(log, ["given back", "closed"])
      yield* jobs.drain()
      yield* jobs.handle(Note, Effect.succeed)
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "a")
    }).pipe(Effect.provide(pool())),
  )

  it.effect("after it nothing is waited for, and a name may be handled anew", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler, notes } = noting()
      yield* jobs.handle(Note, () => Effect.never)
      const { id } = yield* jobs.enqueue(Note, "a")
      yield* settle
      assert.deepStrictEqual(yield* jobs.shutdown(0), { givenBack: 1 })
      yield* jobs.drain()
      yield* jobs.handle(Note, handler)
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "a")
      assert.deepStrictEqual(notes, ["a"])
    }).pipe(Effect.provide(pool())),
  )

  it.effect("a thousand pools leave no fiber waiting on the clock", () =>
    Effect.gen(function* () {
      const { handler, notes } = noting()
      for (let round = 0; round < 1000; round++) {
        yield* Effect.gen(function* () {
          const jobs = yield* JobPool.JobPool
          yield* jobs.handle(Note, handler)
          yield* jobs.enqueue(Note, "later", { delay: "1 hour" })
          const { id } = yield* jobs.enqueue(Note, "now")
          yield* jobs.awaitResult(Note, id)
        }).pipe(Effect.scoped, Effect.provide(pool()))
      }
      yield* TestClock.adjust("2 hours")
      assert.lengthOf(notes, 1000)
    }),
  )
})

describe("the results log", () => {
  it.effect("gives a reader, however slow, every job that settles, once and in order", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const { handler } = noting()
      yield* jobs.handle(Note, handler)
      const before = yield* jobs.enqueue(Note, "before")
      yield* jobs.awaitResult(Note, before.id)
      const started = yield* Deferred.make<void>()
      const reader = yield* jobs.completed().pipe(
        Stream.onStart(Deferred.succeed(started, undefined)),
        Stream.mapEffect((result) => Effect.as(settle, result)),
        Stream.take(1500),
        Stream.runCollect,
        Effect.forkChild,
      )
      yield* settle
      const answers = yield* jobs.enqueueAll(Array.from({ length: 1500 }, (_, n) => JobPool.request(Note, `${n}`)))
      const read = yield* Fiber.join(reader)
      assert.deepStrictEqual(
        read.map(({ id, outcome }) => [id, outcome]),
        answers.map(({ id }) => [id, "succeeded"]),
      )
      const rest = yield* jobs.completed({ after: read[699]!.cursor }).pipe(Stream.take(800), Stream.runCollect)
      assert.strictEqual(rest[0]!.id, read[700]!.id)
      const [oldest] = yield* jobs.completed({ after: "oldest" }).pipe(Stream.take(1), Stream.runCollect)
      assert.strictEqual(oldest!.id, before.id)
    }).pipe(Effect.provide(pool())),
  )

  it.effect("says what was trimmed, and from where the rest is read; other cursors are refused", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      yield* jobs.handle(Note, Effect.succeed)
      const read = yield* jobs.completed({ after: "oldest" }).pipe(Stream.take(1), Stream.runCollect, Effect.forkChild)
      const first = yield* jobs.enqueue(Note, "first")
      const [result] = yield* Fiber.join(read)
      yield* jobs.enqueueAll(Array.from({ length: 9 }, (_, n) => JobPool.request(Note, `${n}`)))
      yield* jobs.drain()
      const truncated = yield* Effect.flip(Stream.runDrain(jobs.completed({ after: result!.cursor })))
      if (truncated._tag !== "HistoryTruncated") return assert.fail(truncated._tag)
      const left = yield* jobs.completed({ after: truncated.oldest }).pipe(Stream.take(5), Stream.runCollect)
      assert.deepStrictEqual(
        left.map(({ result: json }) => json as string),
        ["4", "5", "6", "7", "8"].map((n) => `"${n}"`),
      )
      const again = yield* jobs.completed({ after: "oldest" }).pipe(Stream.take(1), Stream.runCollect)
      assert.strictEqual(again[0]!.id, left[0]!.id)
      assert.strictEqual((yield* Effect.flip(jobs.awaitResult(Note, first.id)))._tag, "JobUnknown")
      for (const after of ["7", "99-00000000", left[0]!.cursor.replace(/^\d+/, "99")]) {
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(jobs.completed({ after }))))._tag, "InvalidCursor")
      }
    }).pipe(Effect.provide(pool({ maxResults: 5 }))),
  )
})

describe("recurring jobs", () => {
  it.effect("fire once for each time, however many processes run the schedule, in its time zone", () =>
    Effect.gen(function* () {
      const life = yield* over
      // 02:30 in New York is 07:30 UTC in winter.
      const cron = Cron.parseUnsafe("30 2 * * *", "America/New_York")
      const processes = yield* Effect.forEach([1, 2, 3], () =>
        Effect.gen(function* () {
          const jobs = yield* JobPool.JobPool
          yield* jobs.recurring("nightly", {
            job: Note,
            cron,
            payload: (at) => new Date(at.epochMilliseconds).toISOString(),
          })
          return jobs
        }).pipe(Effect.provide(life())),
      )
      yield* TestClock.adjust("3 days")
      const listed = yield* processes[0]!.list({ limit: 10 })
      assert.deepStrictEqual(
        listed.map(({ payload }) => payload),
        ["1970-01-01T07:30:00.000Z", "1970-01-02T07:30:00.000Z", "1970-01-03T07:30:00.000Z"].map((at) => `"${at}"`),
      )
    }).pipe(Effect.scoped, Effect.provide(engine())),
  )

  it.effect("times that nobody was there for are left out, or made up for once", () =>
    Effect.gen(function* () {
      const life = yield* over
      const cron = Cron.parseUnsafe("0 * * * *", "UTC")
      const started = (catchUp: boolean, wait: "90 minutes" | "5 minutes") =>
        Effect.gen(function* () {
          const jobs = yield* JobPool.JobPool
          yield* jobs.recurring("hourly", { job: Note, cron, payload: "tick", catchUp })
          yield* TestClock.adjust(wait)
          yield* settle
          return yield* jobs.size
        }).pipe(Effect.scoped, Effect.provide(life()))
      assert.strictEqual(yield* started(true, "5 minutes"), 0)
      assert.strictEqual(yield* started(false, "90 minutes"), 1)
      yield* TestClock.adjust("5 hours")
      assert.strictEqual(yield* started(false, "5 minutes"), 1)
      assert.strictEqual(yield* started(true, "5 minutes"), 2)
      assert.strictEqual(yield* started(true, "5 minutes"), 2)
    }).pipe(Effect.provide(engine())),
  )
})

/** What is logged as an error. */
const errors = (logged: Array<string>) =>
  Logger.layer([
    Logger.make(({ logLevel, message }) => {
      if (logLevel === "Error") logged.push(String(message))
    }),
  ])

describe("a schedule that can't fire", () => {
  it.effect("whose times never come says so in the log", () => {
    const logged: Array<string> = []
    return Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const cron = Cron.parseUnsafe("0 0 30 2 *", "UTC")
      for (const catchUp of [false, true]) {
        yield* jobs.recurring(`never ${catchUp}`, { job: Note, cron, payload: "tick", catchUp })
      }
      yield* settle
      for (const key of ["never false", "never true"]) {
        assert.include(logged.join("\n"), `the schedule ${key} fires no more`)
      }
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(pool(), errors(logged))))
  })

  it.effect("whose key is none says so in the log and enqueues nothing", () => {
    const logged: Array<string> = []
    return Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const cron = Cron.parseUnsafe("* * * * *", "UTC")
      for (const key of ["", "k".repeat(257), "\ud800"]) {
        yield* jobs.recurring(key, { job: Note, cron, payload: "tick" })
      }
      yield* jobs.recurring("k".repeat(256), { job: Note, cron, payload: "good" })
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(logged, 3)
      assert.deepStrictEqual(
        (yield* jobs.list({ limit: 10 })).map(({ payload }) => payload as string),
        ['"good"'],
      )
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(pool(), errors(logged))))
  })
})

const flaky = (_: void, { isLastAttempt, attempt, progress }: Job.JobContext) =>
  isLastAttempt || attempt === 2 ? Effect.as(progress("half"), 42) : Effect.die("flaky")

const eventsOf = (envelopes: ReadonlyArray<Envelope.EncodedEnvelope>) =>
  envelopes.map(({ event }) => Result.getOrThrow(JobEvents.vocabulary.decode(event)))

describe("what is told of a job", () => {
  const layer = JobPool.layerMemory().pipe(Layer.provideMerge(Throughline.layerMemory()))
  const Flaky = Job.make("flaky", {
    payload: Schema.Void,
    success: Schema.Int,
    retry: Schedule.spaced("1 second"),
  })
  it.effect("is told on the bus, under the job's id", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const bus = yield* EventBus.EventBus
      const live = yield* bus.subscribeAll()
      yield* jobs.handle(Flaky, flaky)
      const { id } = yield* jobs.enqueue(Flaky, undefined)
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* jobs.awaitResult(Flaky, id)
      const frames = yield* live.pipe(
        Stream.filter((item) => item._tag === "Frame"),
        Stream.take(7),
        Stream.runCollect,
      )
      assert.deepStrictEqual(
        frames.map(({ envelope }) => envelope.kind),
        ["JobEnqueued", "JobStarted", "JobFailed", "JobRetrying", "JobStarted", "JobProgress", "JobCompleted"],
      )
      assert.isTrue(frames.every(({ envelope }) => envelope.correlation["jobId"] === id))
      assert.deepStrictEqual(
        frames.map(({ envelope }) => envelope.seq),
        [1, 2, 3, 4, 5, 6, 7],
      )
      assert.deepStrictEqual(
        eventsOf(frames.map(({ envelope }) => envelope)).map((event) => ("attempt" in event ? event.attempt : 0)),
        [0, 1, 1, 2, 2, 2, 2],
      )
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("goes into the run of the caller's choice, which ends with the job", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const store = yield* EventStore.EventStore
      const runId = Envelope.RunId.make("mail-1")
      yield* jobs.handle(Flaky, flaky)
      const { id } = yield* jobs.enqueue(Flaky, undefined, {
        report: { runId, sessionId: Envelope.SessionId.make("chat") },
      })
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* jobs.awaitResult(Flaky, id)
      yield* settle
      const { envelopes, head } = yield* store.read({ runId, limit: 100 })
      assert.deepStrictEqual(
        envelopes.map(({ kind }) => kind),
        ["JobEnqueued", "JobStarted", "JobFailed", "JobRetrying", "JobStarted", "JobProgress", "JobCompleted"],
      )
      assert.strictEqual(head.status, "completed")
      assert.strictEqual(head.sessionId, "chat")
      assert.deepInclude(eventsOf(envelopes).at(-1), { _tag: "JobCompleted", result: 42 })
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("a dead job ends its run as failed, a cancelled one as cancelled; a run of several goes on", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const store = yield* EventStore.EventStore
      const Doomed = Job.make("doomed", { payload: Schema.Void, maxAttempts: 1 })
      const [dead, cancelled, shared] = ["dead", "cancelled", "shared"].map((text) => Envelope.RunId.make(text))
      yield* jobs.handle(Doomed, () => Effect.die("broken"))
      const doomed = yield* jobs.enqueue(Doomed, undefined, { report: { runId: dead! } })
      const waiting = yield* jobs.enqueue(Note, "a", { report: { runId: cancelled! } })
      const among = yield* jobs.enqueue(Doomed, undefined, { report: { runId: shared!, endsRun: false } })
      yield* Effect.flip(jobs.awaitResult(Doomed, doomed.id))
      yield* Effect.flip(jobs.awaitResult(Doomed, among.id))
      yield* jobs.cancel(waiting.id)
      yield* settle
      const heads = yield* Effect.forEach([dead!, cancelled!, shared!], store.head)
      assert.deepStrictEqual(
        heads.map(({ status }) => status),
        ["failed", "cancelled", "running"],
      )
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("a cancelled job ends its run even if nothing is kept of it", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const store = yield* EventStore.EventStore
      const Forgotten = Job.make("forgotten", { payload: Schema.Void, keepResult: 0 })
      const runId = Envelope.RunId.make("forgotten")
      const { id } = yield* jobs.enqueue(Forgotten, undefined, { delay: "1 hour", report: { runId } })
      assert.strictEqual(yield* jobs.cancel(id), "cancelled")
      yield* settle
      assert.isTrue(Option.isNone(yield* jobs.get(id)))
      assert.strictEqual((yield* store.head(runId)).status, "cancelled")
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("a dead job that is retried runs, but its run stays as it ended", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const store = yield* EventStore.EventStore
      const runId = Envelope.RunId.make("retried")
      const Mended = Job.make("mended", { payload: Schema.Void, maxAttempts: 1 })
      let broken = true
      yield* jobs.handle(Mended, () => (broken ? Effect.die("broken") : Effect.void))
      const { id } = yield* jobs.enqueue(Mended, undefined, { report: { runId } })
      yield* Effect.flip(jobs.awaitResult(Mended, id))
      yield* settle
      const ended = yield* store.head(runId)
      assert.strictEqual(ended.status, "failed")
      broken = false
      yield* jobs.retryDead(id)
      yield* jobs.awaitResult(Mended, id)
      yield* settle
      assert.deepStrictEqual(yield* store.head(runId), ended)
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("what is too large for an event is left out of it, so that the run ends all the same", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const store = yield* EventStore.EventStore
      const runId = Envelope.RunId.make("large")
      const large = "x".repeat(300_000)
      yield* jobs.handle(Note, (note, { progress }) => Effect.as(progress(note), note))
      const { id } = yield* jobs.enqueue(Note, large, { report: { runId } })
      assert.strictEqual(yield* jobs.awaitResult(Note, id), large)
      yield* settle
      assert.strictEqual((yield* store.head(runId)).status, "completed")
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("a run in another vocabulary is left alone, and the job runs all the same", () =>
    Effect.gen(function* () {
      const jobs = yield* JobPool.JobPool
      const store = yield* EventStore.EventStore
      const runId = Envelope.RunId.make("agent")
      const bridge = yield* EventBridge.EventBridge
      yield* bridge.record(AgentEvents.vocabulary, { runId }, Stream.make({ event: { _tag: "RunStarted" } as const }))
      yield* jobs.handle(Note, Effect.succeed)
      const { id } = yield* jobs.enqueue(Note, "a", { report: { runId } })
      assert.strictEqual(yield* jobs.awaitResult(Note, id), "a")
      yield* settle
      const { envelopes } = yield* store.read({ runId, limit: 10 })
      assert.isFalse(envelopes.some(({ kind }) => kind.startsWith("Job")))
    }).pipe(Effect.scoped, Effect.provide(layer)),
  )

  it.effect("the handler's span links to the one that enqueued the job", () =>
    Effect.gen(function* () {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        },
      })
      yield* Effect.gen(function* () {
        const jobs = yield* JobPool.JobPool
        yield* jobs.handle(Note, (note) => Effect.withSpan(Effect.succeed(note), "inside"))
        const { id } = yield* Effect.withSpan(jobs.enqueue(Note, "a"), "request")
        yield* jobs.awaitResult(Note, id)
      }).pipe(Effect.provide(pool()), Effect.provideService(Tracer.Tracer, tracer))
      const [request, job, inside] = ["request", "job note", "inside"].map((text) =>
        spans.find(({ name }) => name === text),
      )
      assert.strictEqual(job!.links[0]!.span.spanId, request!.spanId)
      assert.strictEqual(job!.links[0]!.span.traceId, request!.traceId)
      assert.notStrictEqual(job!.traceId, request!.traceId)
      assert.strictEqual(inside!.traceId, job!.traceId)
    }),
  )
})
