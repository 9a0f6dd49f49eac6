/**
 * BullMQ's own classes on this engine's connection: the flow producer that adds jobs, and the worker and jobs that settle
 * claims. What they do to Redis goes through a backend that adds what is this engine's to BullMQ's arguments.
 */
import type { EnqueueRequest, Outcome } from "@throughline/core/JobEngine"
import { PoolFull } from "@throughline/core/JobError"
import { isLive, type JobRecord, type NewJob, priorityRank } from "@throughline/core/JobRecord"
import * as JobRules from "@throughline/core/JobRules"
import * as Schema from "effect/Schema"
import {
  FlowProducer,
  type IQueueBackend,
  type IRedisTransaction,
  Job,
  QueueKeys,
  type RedisClient,
  type RedisConnection,
  RedisQueueBackend,
  UnrecoverableError,
  Worker,
} from "bullmq"
import { describe, failuresText, keptTexts } from "./record.ts"
import { grouped } from "./grouped.ts"
import type { Scope } from "./scripts.ts"

/** What is stored of a claim. */
export type Settling = Outcome | { readonly _tag: "Cancelled" }

/** What the backend adds to the settling of one claim. */
interface Addition {
  readonly at: number
  readonly record: JobRecord
  readonly fields: Record<string, string | number>
  readonly log: ReadonlyArray<string | number>
}

/** A claim of a job that succeeded. */
interface Success {
  readonly record: JobRecord
  readonly token: string
  readonly at: number
}

type Args = Parameters<RedisQueueBackend["moveToFinished"]>[1]

const backoffType = "throughline"

/** The time of the next attempt of each failure that is being stored. */
const retryTimes = new WeakMap<Error, { readonly at: number; readonly now: number }>()

/**
 * When the job's own schedule wants the next attempt. The pool stepped it; BullMQ asks here. Both see one clock, so that
 * the delay ends when the record says.
 */
const backoffStrategy = async (_attempt: number, _type?: string, failure?: Error): Promise<number> => {
  const times = failure === undefined ? undefined : retryTimes.get(failure)
  return times === undefined ? 0 : Math.max(0, Math.ceil(times.at - times.now))
}

/** The backend of the queue of one name. */
class QueueBackend extends RedisQueueBackend {
  readonly additions = new Map<string, Addition>()
  readonly #succeed: (success: Success) => Promise<number>

  constructor(connection: RedisConnection, root: string, name: string, succeed: (success: Success) => Promise<number>) {
    const keys = new QueueKeys(root)
    const options = { connection: {}, prefix: root }
    super(connection, name, keys.getKeys(name), (type) => keys.toKey(name, type), options, undefined, false)
    this.#succeed = succeed
  }

  async #execute(command: string, args: ReadonlyArray<unknown>, jobId: string): Promise<unknown> {
    const answer: unknown = await this.execCommand(await this.queue.client, command, [...args])
    if (typeof answer === "number" && answer < 0) throw this.finishedErrors({ code: answer, jobId, command })
    return answer
  }

  #finished(addition: Addition, args: Args): Promise<unknown> {
    const { id } = addition.record
    return this.#execute("moveToFinished", [...args, ...addition.log], id)
  }

  override async moveToCompleted(...[job, , , token]: Parameters<RedisQueueBackend["moveToCompleted"]>) {
    const { at, record } = this.additions.get(job.id!)!
    const code = await this.#succeed({ record, token, at })
    if (code < 0) throw this.finishedErrors({ code, jobId: record.id, command: "moveToFinished", state: "active" })
    return { result: [], finishedOn: at }
  }

  override async moveToFailed(...parameters: Parameters<RedisQueueBackend["moveToFailed"]>) {
    const [job, failedReason, removeOnFail, token, , told] = parameters
    const addition = this.additions.get(job.id!)!
    const { at } = addition
    const fields = { ...told, ...addition.fields }
    const args = this.moveToFinishedArgs(
      job,
      failedReason,
      "failedReason",
      removeOnFail,
      "failed",
      token,
      at,
      false,
      fields,
    )
    await this.#finished(addition, args)
    return { result: [], finishedOn: at }
  }

  override async moveToDelayed(...parameters: Parameters<RedisQueueBackend["moveToDelayed"]>) {
    const [jobId, , delay, token, options] = parameters
    const { at, fields } = this.additions.get(jobId)!
    const told = { ...options, fetchNext: false, fieldsToUpdate: { ...options?.fieldsToUpdate, ...fields } }
    await this.#execute("moveToDelayed", this.moveToDelayedArgs(jobId, at, token ?? "0", delay, told), jobId)
  }

  override async retryJob(...[jobId, lifo, token, options]: Parameters<RedisQueueBackend["retryJob"]>) {
    const { fields } = this.additions.get(jobId)!
    const told = { ...options, fieldsToUpdate: { ...options?.fieldsToUpdate, ...fields } }
    await this.#execute("retryJob", this.retryJobArgs(jobId, lifo, token ?? "0", told), jobId)
  }

  /** Stores the handler's progress, as it is. */
  async tellProgress(jobId: string, progress: string): Promise<void> {
    const { events, meta } = this.queue.keys
    await this.#execute("updateProgress", [this.queue.toKey(jobId), events, meta, jobId, progress], jobId)
  }
}

/** A queue that this process takes jobs from. */
export interface WorkedQueue {
  readonly backend: QueueBackend
  readonly worker: Worker
}

/** Takes what BullMQ would send. */
const recorder = (sent: Array<readonly [string, ReadonlyArray<unknown>]>) =>
  ({
    runCommand: (command: string, args: ReadonlyArray<unknown>) => {
      sent.push([command, args])
    },
    // The only method of a transaction that adding a job uses.
  }) as unknown as IRedisTransaction

const enqueueCommand = "throughline:enqueue"
const succeedCommand = "throughline:succeed"

const decodeAnswers = Schema.decodeUnknownSync(Schema.Array(Schema.Array(Schema.String)))
const decodeCodes = Schema.decodeUnknownSync(Schema.Array(Schema.Int))

/** Jobs that are enqueued, or settled, in one script at most; a larger batch goes alone. */
const largestGroup = 12

/** Arguments of one request and of one job. */
const perRequest = 4
const perJob = 11

/** One request as a flow producer's backend: its flow is one script, which accepts it whole or not at all. */
class Intake extends RedisQueueBackend {
  readonly #queues: Queues
  readonly #guard: ReadonlyArray<string>
  readonly #jobs: ReadonlyArray<NewJob>
  answer: ReadonlyArray<string> = []

  constructor(queues: Queues, guard: ReadonlyArray<string>, jobs: ReadonlyArray<NewJob>, now: number) {
    super(queues.connection, "", {}, () => "", { connection: {} }, undefined, false)
    this.#queues = queues
    this.#guard = guard
    this.#jobs = jobs
    this.#now = now
  }

  readonly #now: number

  override forQueue(name: string): IQueueBackend {
    return this.#queues.backendOf(name)
  }

  override async addFlow(
    entries: Parameters<RedisQueueBackend["addFlow"]>[0],
  ): ReturnType<RedisQueueBackend["addFlow"]> {
    const sent: Array<readonly [string, ReadonlyArray<unknown>]> = []
    const transaction = recorder(sent)
    for (const { jobData, jobId, parentKeyOpts, queueName } of entries) {
      const { keys } = this.#queues.backendOf(queueName)
      // BullMQ takes the time 0 for none.
      const timed = { ...jobData, timestamp: this.#now }
      await this.addJobToTransaction(transaction, timed, jobId, parentKeyOpts, keys)
    }
    const args: Array<unknown> = [...this.#guard, sent.length]
    for (const [index, [command, given]] of sent.entries()) {
      const job = this.#jobs[index]!
      const [packed, , options] = given.slice(-3)
      const [kept, more] = keptTexts(job)
      const { readyAt } = JobRules.accepted(job, this.#now)
      args.push(job.name, job.id, command.startsWith("addDelayedJob") ? "d" : "p", packed, job.payload, options)
      args.push(job.uniqueKey ?? "", kept, more, String(readyAt), priorityRank[job.priority])
    }
    this.answer = await this.#queues.enqueue(args)
    return []
  }
}

export interface Guard {
  readonly maxWaiting?: EnqueueRequest["maxWaiting"]
  readonly schedule?: string
  readonly at?: number
}

/** All queues of the prefix. */
export class Queues {
  readonly connection: RedisConnection
  readonly scope: Scope
  readonly #backends = new Map<string, QueueBackend>()

  /** Accepts one request, given as the script takes it. */
  readonly enqueue: (args: ReadonlyArray<unknown>) => Promise<ReadonlyArray<string>>
  readonly #succeed: (success: Success) => Promise<number>

  private constructor(connection: RedisConnection, client: RedisClient, scope: Scope) {
    this.connection = connection
    this.scope = scope
    const { maxResults, root } = scope
    const first = [`${root}::names`, root]
    this.enqueue = grouped(
      async (requests) => decodeAnswers(await client.runCommand(enqueueCommand, [...first, ...requests.flat()])),
      (args) => (args.length - perRequest) / perJob,
      largestGroup,
    )
    this.#succeed = grouped(
      async (successes) => {
        const args: Array<unknown> = [...first, maxResults]
        for (const { at, record, token } of successes) {
          const { failures, id, keepResult, maxAttempts, name, result } = record
          args.push(name, id, token, at, result, maxAttempts, failures.length, keepResult)
        }
        return decodeCodes(await client.runCommand(succeedCommand, args))
      },
      () => 1,
      largestGroup,
    )
  }

  static async make(
    connection: RedisConnection,
    scope: Scope,
    lua: { readonly enqueue: string; readonly succeed: string },
  ) {
    const client = await connection.client
    client.defineCommand(enqueueCommand, { numberOfKeys: 1, lua: lua.enqueue })
    client.defineCommand(succeedCommand, { numberOfKeys: 1, lua: lua.succeed })
    return new Queues(connection, client, scope)
  }

  /** The backend that adds to a queue. */
  backendOf(name: string): QueueBackend {
    let backend = this.#backends.get(name)
    if (backend === undefined) this.#backends.set(name, (backend = this.#backend(name)))
    return backend
  }

  #backend(name: string): QueueBackend {
    return new QueueBackend(this.connection, this.scope.root, name, this.#succeed)
  }

  /**
   * Adds jobs by `FlowProducer.addBulk`, in one step.
   *
   * Gives `+ID` for each that was stored and `=ID` for one that is in its place; `ticked` alone where the schedule's time is over.
   */
  async add(jobs: ReadonlyArray<NewJob>, guard: Guard, now: number): Promise<ReadonlyArray<string>> {
    const { at, maxWaiting, schedule } = guard
    const texts = [maxWaiting, schedule, at].map((value) => (value === undefined ? "" : String(value)))
    const intake = new Intake(this, texts, jobs, now)
    const producer = new FlowProducer({ connection: {}, prefix: this.scope.root }, () => intake)
    await producer.addBulk(
      jobs.map((job) => ({
        name: job.name,
        queueName: job.name,
        opts: {
          jobId: job.id,
          priority: priorityRank[job.priority],
          attempts: job.maxAttempts,
          backoff: { type: backoffType },
          timestamp: now,
          ...(job.runAt !== undefined && job.runAt > now ? { delay: Math.ceil(job.runAt - now) } : undefined),
          ...(job.uniqueKey === undefined ? undefined : { deduplication: { id: job.uniqueKey } }),
        },
      })),
    )
    const [first, ...answers] = intake.answer
    if (first === "ok") return answers
    if (first === "full") throw new PoolFull({ waiting: Number(answers[0]), maxWaiting: maxWaiting! })
    return ["ticked"]
  }

  /** A worker that runs nothing by itself: it is what BullMQ's jobs settle through. */
  work(name: string): WorkedQueue {
    // Of its own: workers listen to theirs for good.
    const backend = this.#backend(name)
    const options = { connection: {}, prefix: this.scope.root, autorun: false, settings: { backoffStrategy } }
    const worker = new Worker(name, null, options, () => backend)
    worker.on("error", () => {})
    return { backend, worker }
  }

  /**
   * Stores what became of a claim through BullMQ's job, and gives the record as it is then. Rejects with BullMQ's error
   * where the claim is lost (see `refusalOf`).
   */
  async settle(
    { backend, worker }: WorkedQueue,
    { job, token, traces }: { readonly job: JobRecord; readonly token: string; readonly traces: string | undefined },
    settling: Settling,
    now: number,
  ): Promise<JobRecord> {
    const record = JobRules.settled(job, settling, now)
    if (settling._tag === "GivenBack") {
      // As a processor does that throws BullMQ's `WaitingError` after it.
      await new Job(worker, job.name, null, {}, job.id).moveToWait(token)
      return record
    }
    const isSettled = !isLive(record.state)
    const keep = record.state === "dead" ? record.keepDead : record.keepResult
    const failure = settling._tag === "Dead" ? JSON.stringify(settling.failure) : ""
    const { maxResults, root } = this.scope
    const fields: Record<string, string | number> = {}
    if (record.failures.length > job.failures.length) fields["tl:failures"] = failuresText(record.failures)
    if (settling._tag === "Retry") fields["tl:readyAt"] = record.readyAt
    backend.additions.set(job.id, {
      at: now,
      record,
      fields,
      log: isSettled ? [root, job.name, record.state, record.failures.length, failure, keep, maxResults] : [],
    })
    // A retry is the pool's to decide, so BullMQ's own count never ends it.
    const attempts = settling._tag === "Retry" ? Number.MAX_SAFE_INTEGER : job.maxAttempts
    const settled = new Job(worker, job.name, null, { attempts, backoff: { type: backoffType } }, job.id)
    try {
      if (settling._tag === "Succeeded") await settled.moveToCompleted(null, token, false)
      else {
        if (traces !== undefined) settled.stacktrace = JSON.parse(traces) as Array<string>
        await settled.moveToFailed(errorOf(settling, now), token, false)
      }
    } finally {
      backend.additions.delete(job.id)
    }
    return record
  }
}

/** A failure as BullMQ takes it. */
const errorOf = (settling: Exclude<Settling, { readonly _tag: "Succeeded" | "GivenBack" }>, now: number): Error => {
  const reason = settling._tag === "Cancelled" ? "cancelled" : describe(settling.failure)
  if (settling._tag !== "Retry") {
    const error = new UnrecoverableError(reason)
    error.stack = reason
    return error
  }
  const error = new Error(reason)
  error.stack = reason
  retryTimes.set(error, { at: settling.at, now })
  return error
}
