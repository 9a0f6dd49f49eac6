/**
 * Records in the order of their ids.
 *
 * BullMQ keeps jobs by state and not by id, so the ids of every state that is asked for are read, in pages, and the first
 * ones after the given one are kept.
 */
import type { ListRequest } from "@throughline/core/JobEngine"
import type { EngineFailed } from "@throughline/core/JobError"
import { JobId, type JobRecord, type JobState } from "@throughline/core/JobRecord"
import type { Commands } from "@throughline/redis/IoRedis"
import { RedisFailed, Unexpected } from "@throughline/redis/RedisFailed"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as failures from "./failures.ts"
import { fieldOf, recordOf } from "./record.ts"
import type { Found, Scripts } from "./scripts.ts"

const isJobId = Schema.is(JobId)

const lists = ["active", "wait", "paused"]

/** Where BullMQ keeps the jobs of a state. */
const placesOf: Readonly<Record<JobState, ReadonlyArray<string>>> = {
  delayed: ["delayed"],
  waiting: ["prioritized", "wait", "paused", "delayed"],
  running: ["active"],
  succeeded: ["completed"],
  dead: ["failed"],
  cancelled: ["failed"],
}

/** Ids read in one command. */
const chunk = 1000

const Texts = Schema.Array(Schema.String)
const decodeTexts = Schema.decodeUnknownResult(Texts)
const decodeScan = Schema.decodeUnknownResult(Schema.Tuple([Schema.String, Texts]))

interface Named {
  readonly name: string
  readonly id: string
}

/** The smallest ids of those it is given, up to a number. */
class Smallest {
  readonly #limit: number
  readonly #names = new Map<string, string>()
  /** No id from this one on is among them. */
  #end: string | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  add(name: string, id: string): void {
    if (this.#end !== undefined && id >= this.#end) return
    this.#names.set(id, name)
    if (this.#names.size >= 2 * this.#limit + chunk) this.#cut()
  }

  #cut(): ReadonlyArray<string> {
    const ids = [...this.#names.keys()].toSorted((a, b) => (a < b ? -1 : 1))
    this.#end = ids[this.#limit] ?? this.#end
    for (const id of ids.splice(this.#limit)) this.#names.delete(id)
    return ids
  }

  take(): ReadonlyArray<Named> {
    return this.#cut().map((id) => ({ name: this.#names.get(id)!, id }))
  }
}

/** Whether the engine enqueued a job; other programs may add jobs to the queues too. */
export const isOurs = ([, id, , row]: Found): boolean => isJobId(id) && fieldOf(row, "tl") !== undefined

/** A record, or that it can't be read. */
export const readable = ([name, id, state, row]: Found): Effect.Effect<JobRecord, EngineFailed> => {
  const record = recordOf(name, id, state as JobState, row)
  return Result.isSuccess(record)
    ? Effect.succeed(record.success)
    : Effect.fail(failures.broken("read a job", `job ${id} of ${name}: ${record.failure}`))
}

const decoded = <A>(command: string, result: Result.Result<A, Schema.SchemaError>): Effect.Effect<A, RedisFailed> =>
  Result.isSuccess(result)
    ? Effect.succeed(result.success)
    : Effect.fail(new RedisFailed({ command, reason: new Unexpected({ problem: result.failure.message }) }))

export const make = (commands: Commands, scripts: Scripts, root: string, clock: Clock.Clock) => {
  const texts = (command: string, args: ReadonlyArray<string>) =>
    Effect.flatMap(commands.send(command, args), (reply) => decoded(command, decodeTexts(reply)))

  /** Hands over every id of one place. */
  const eachId = Effect.fnUntraced(function* (name: string, place: string, take: (id: string) => void) {
    const key = `${root}:${name}:${place}`
    if (lists.includes(place)) {
      for (let from = 0; ; from += chunk) {
        const ids = yield* texts("LRANGE", [key, String(from), String(from + chunk - 1)])
        for (const id of ids) take(id)
        if (ids.length < chunk) return
      }
    }
    let cursor = "0"
    do {
      const reply = yield* commands.send("ZSCAN", [key, cursor, "COUNT", String(chunk)])
      const [next, members] = yield* decoded("ZSCAN", decodeScan(reply))
      for (let index = 0; index < members.length; index += 2) take(members[index]!)
      cursor = next
    } while (cursor !== "0")
  })

  return Effect.fnUntraced(
    function* ({ after, limit, name, state }: ListRequest) {
      const names = name === undefined ? yield* texts("SMEMBERS", [`${root}::names`]) : [name]
      const states = state === undefined ? (Object.keys(placesOf) as Array<JobState>) : [state]
      const places = new Set(states.flatMap((asked) => placesOf[asked]))
      const listed: Array<JobRecord> = []
      let from: string | undefined = after
      // Some of those found are in another state (dead or cancelled), so there may be more to look for.
      for (;;) {
        const smallest = new Smallest(limit)
        for (const each of names) {
          for (const place of places) {
            yield* eachId(each, place, (id) => {
              if (from === undefined || id > from) smallest.add(each, id)
            })
          }
        }
        const jobs = smallest.take()
        if (jobs.length === 0) return listed
        const now = yield* clock.currentTimeMillis
        for (const found of yield* commands.run(scripts.read, { now, jobs })) {
          if ((state !== undefined && found[2] !== state) || !isOurs(found)) continue
          listed.push(yield* readable(found))
          if (listed.length === limit) return listed
        }
        if (jobs.length < limit) return listed
        from = jobs.at(-1)!.id
      }
    },
    Effect.catchIf(
      (error) => error._tag === "RedisFailed",
      (error) => Effect.fail(failures.engineFailed("list jobs")(error)),
    ),
  )
}
