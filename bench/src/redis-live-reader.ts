/**
 * A reader of `redis-live`, in a process of its own: `redis-live-reader.ts ours|bare PORT APPENDS`.
 *
 * Each message of the parent names a run to read. The answers are `ready`, and the milliseconds that each of its events
 * took: the monotonic clock is one for all processes of a machine.
 */
import * as Envelope from "@throughline/core/Envelope"
import { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import * as RedisThroughline from "@throughline/redis/RedisThroughline"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Redis } from "ioredis"

const [side, port, count] = process.argv.slice(2)
const appends = Number(count)

/** Milliseconds from the time in a text until now; both sides have it before the same mark. */
const taken = (text: string): number =>
  Number(process.hrtime.bigint()) / 1e6 - Number(/sent at ([\d.]+) ms/.exec(text)![1])

const answer = (message: "ready" | ReadonlyArray<number>): void => void process.send!(message)

const follow = Effect.fnUntraced(function* (runId: string) {
  const hub = yield* SubscriptionHub
  const times: Array<number> = []
  yield* Stream.runForEach(hub.run(Envelope.RunId.make(runId)), (item) =>
    Effect.sync(() => {
      if (item._tag === "CaughtUp" && times.length === 0) answer("ready")
      if (item._tag === "Event" && item.envelope.endsRun === undefined) times.push(taken(item.envelope.event))
    }),
  )
  answer(times)
})

const ours = Effect.gen(function* () {
  const fork = Effect.runForkWith(yield* Effect.context<SubscriptionHub>())
  process.on("message", (runId: string) => void fork(follow(runId)))
  return yield* Effect.never
}).pipe(Effect.provide(RedisThroughline.layer({ client: { url: `redis://127.0.0.1:${port}` } })))

const bare = (): void => {
  const client = new Redis(Number(port))
  let times: Array<number> = []
  client.on("message", (channel: string, text: string) => {
    times.push(taken(text))
    if (times.length < appends) return
    void client.unsubscribe(channel)
    answer(times)
    times = []
  })
  process.on("message", (channel: string) => void client.subscribe(channel).then(() => answer("ready")))
}

process.on("disconnect", () => process.exit())
if (side === "bare") bare()
else Effect.runFork(ours)
