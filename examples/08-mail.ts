/**
 * Mail as jobs: what fails for a moment is tried again, later each time; what can never work goes straight to the dead letters,
 * where a person looks at it, mends it and has it run again.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Job, JobPool, Throughline } from "@throughline/core"
import { Console, Context, Effect, Layer, Ref, Schedule, Schema } from "effect"

class MailRefused extends Schema.TaggedError<MailRefused>()("MailRefused", {
  reason: Schema.String,
  isPermanent: Schema.Boolean,
}) {}

/** What the program that enqueues and the one that handles share. */
const SendMail = Job.make("send-mail", {
  payload: Schema.Struct({ to: Schema.String, subject: Schema.String }),
  success: Schema.Struct({ messageId: Schema.String }),
  error: MailRefused,
  retry: Schedule.exponential("50 millis").pipe(Job.fullJitter),
  maxAttempts: 5,
  timeout: "10 seconds",
  giveUp: ({ isPermanent }) => isPermanent,
})

class Mailer extends Context.Service<
  Mailer,
  {
    /** A second call with the same key sends nothing: a job runs at least once, so its effects must bear to be repeated. */
    readonly send: (to: string, key: string) => Effect.Effect<string, MailRefused>
    readonly open: (mailbox: string) => Effect.Effect<void>
  }
>()("examples/Mailer") {
  /** A server that is busy twice, and knows no `nobody@example.org`. */
  static readonly layer = Layer.effect(
    Mailer,
    Effect.gen(function* () {
      const calls = yield* Ref.make(0)
      const unknown = new Set(["nobody@example.org"])
      return Mailer.of({
        send: Effect.fnUntraced(function* (to, key) {
          if (unknown.has(to)) return yield* new MailRefused({ reason: `no mailbox ${to}`, isPermanent: true })
          const call = yield* Ref.updateAndGet(calls, (count) => count + 1)
          if (call < 3) return yield* new MailRefused({ reason: "busy", isPermanent: false })
          return `<${key}@mail.example.org>`
        }),
        open: (mailbox) => Effect.sync(() => unknown.delete(mailbox)),
      })
    }),
  )
}

const SendMailHandler = Job.toLayer(
  SendMail,
  Effect.fnUntraced(function* ({ subject, to }, { attempt, id }) {
    const mailer = yield* Mailer
    yield* Console.log(`attempt ${attempt} to send ${JSON.stringify(subject)}`)
    // The job's id is the same each time, whatever process runs it.
    return { messageId: yield* mailer.send(to, id) }
  }),
  { concurrency: 5 },
)

const program = Effect.gen(function* () {
  const pool = yield* JobPool.JobPool
  const mailer = yield* Mailer

  const welcome = yield* pool.enqueue(SendMail, { to: "ana@example.org", subject: "Welcome" })
  yield* pool.awaitResult(SendMail, welcome.id)
  yield* Console.log("Welcome was sent")

  const invoice = yield* pool.enqueue(
    SendMail,
    { to: "nobody@example.org", subject: "Your invoice" },
    { priority: "high", uniqueKey: "invoice 7" },
  )
  const refused = yield* Effect.flip(pool.awaitResult(SendMail, invoice.id))
  yield* Console.log(`Your invoice: ${refused._tag}`)

  for (const letter of yield* pool.deadLetters({ limit: 10 })) {
    const failure = letter.failures.at(-1)
    yield* Console.log(`dead after ${letter.failures.length} attempt: ${letter.payload} ${JSON.stringify(failure)}`)
    // Somebody has looked at it.
    yield* mailer.open("nobody@example.org")
    yield* pool.retryDead(letter.id)
  }
  yield* pool.awaitResult(SendMail, invoice.id)
  yield* Console.log("Your invoice was sent")
})

NodeRuntime.runMain(
  Effect.provide(
    program,
    SendMailHandler.pipe(
      Layer.provideMerge(Mailer.layer),
      Layer.provideMerge(JobPool.layerMemory()),
      Layer.provide(Throughline.layerCrypto),
    ),
  ),
)
