import { describe, expect, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventStore from "@throughline/redis/RedisEventStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as RedisServer from "./RedisServer.ts"

const name = "runs"

/** A master with two replicas, watched by three Sentinels that take it for dead after 500 ms. */
const cluster = Effect.gen(function* () {
  const master = yield* RedisServer.make({ appendfsync: "everysec" })
  const replicas = yield* Effect.forEach([1, 2], () => RedisServer.make({ replicaOf: master }))
  const sentinels = yield* Effect.forEach([1, 2, 3], () =>
    RedisServer.make({
      sentinel: [
        `sentinel monitor ${name} 127.0.0.1 ${master.port} 2`,
        `sentinel down-after-milliseconds ${name} 500`,
        `sentinel failover-timeout ${name} 3000`,
      ],
    }),
  )
  return { master, replicas, sentinels }
})

const runId = Envelope.RunId.make("run")

const eventOf = (n: number): Envelope.EncodedEvent => ({
  eventId: Envelope.EventId.make(`0199c0de-0000-7000-8000-${String(n).padStart(12, "0")}`),
  kind: "Said",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  event: JSON.stringify({ n }) as Envelope.EventJson,
})

const sentinelClient = (port: number) =>
  Effect.map(Layer.build(IoRedis.layer({ url: `redis://127.0.0.1:${port}` })), (context) =>
    Context.get(context, IoRedis.IoRedis),
  )

describe("Redis Sentinel", () => {
  it.live(
    "appends go on over a failover, and with { replicas: 1 } nothing that was acknowledged is lost",
    () =>
      Effect.gen(function* () {
        const { master, sentinels } = yield* cluster
        const layer = RedisEventStore.layer({ durability: { replicas: 1, timeout: "500 millis" } }).pipe(
          Layer.provideMerge(
            IoRedis.layer({
              sentinel: { name, sentinels: sentinels.map(({ port }) => ({ host: "127.0.0.1", port })) },
              reconnect: Schedule.spaced("50 millis"),
            }),
          ),
          Layer.provide(Throughline.layerCrypto),
        )
        yield* Effect.gen(function* () {
          const store = yield* EventStore
          const redis = yield* IoRedis.IoRedis
          // A Sentinel promotes only a replica that it has come to know.
          const known = Effect.gen(function* () {
            const info = String(yield* redis.send("INFO", ["replication"]))
            if ((info.match(/state=online/g) ?? []).length < 2) return yield* Effect.fail("replicas are not linked")
            for (const { port } of sentinels) {
              const sentinel = yield* sentinelClient(port)
              const masters = (yield* sentinel.send("SENTINEL", ["MASTERS"])) as ReadonlyArray<ReadonlyArray<string>>
              const fields = masters[0]!
              const field = (key: string) => Number(fields[fields.indexOf(key) + 1])
              if (field("num-slaves") < 2 || field("num-other-sentinels") < 2) {
                return yield* Effect.fail("the Sentinels don't know each other")
              }
            }
            return undefined
          }).pipe(Effect.scoped)
          yield* known.pipe(Effect.retry(Schedule.spaced("100 millis")), Effect.timeout("20 seconds"))
          const acknowledged: Array<number> = []
          const events = 300
          const producing = yield* Effect.forkChild(
            Effect.gen(function* () {
              for (let number = 1; number <= events; number++) {
                const producer = { id: "writer", epoch: 1, number }
                const request = { runId, vocabulary: { name: "test", version: 1 }, events: [eventOf(number)], producer }
                // What trying again can't mend is a loss: a gap in the producer's numbers, another event in its place.
                yield* store.append(request).pipe(
                  Effect.retry({
                    while: (error) => "isRetryable" in error && error.isRetryable,
                    schedule: Schedule.spaced("20 millis"),
                  }),
                )
                acknowledged.push(number)
              }
            }),
          )
          yield* Effect.suspend(() => (acknowledged.length >= 50 ? Effect.void : Effect.fail("waiting"))).pipe(
            Effect.retry(Schedule.spaced("5 millis")),
            Effect.raceFirst(Effect.andThen(Fiber.join(producing), Effect.void)),
          )
          yield* master.kill()
          yield* Fiber.join(producing)
          const { envelopes } = yield* store
            .read({ runId, limit: 1000 })
            .pipe(Effect.retry(Schedule.spaced("20 millis")))
          expect(envelopes.map(({ event }) => event)).toEqual(acknowledged.map((n) => JSON.stringify({ n })))
          expect(redis.client.stream.remotePort).not.toBe(master.port)
        }).pipe(Effect.provide(layer))
      }).pipe(Effect.scoped),
    60_000,
  )
})
