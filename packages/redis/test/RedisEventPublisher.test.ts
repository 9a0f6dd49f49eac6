import { describe, expect, it } from "@effect/vitest"
import * as Envelope from "@throughline/core/Envelope"
import * as EventPublisher from "@throughline/core/EventPublisher"
import * as JobPool from "@throughline/core/JobPool"
import * as Throughline from "@throughline/core/Throughline"
import * as IoRedis from "@throughline/redis/IoRedis"
import * as RedisEventPublisher from "@throughline/redis/RedisEventPublisher"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RedisServer from "./RedisServer.ts"

const url = RedisServer.forFile()

const envelope = (seq: number): Envelope.EncodedEnvelope => ({
  eventId: Envelope.EventId.make(`00000000-0000-7000-8000-00000000000${seq}`),
  seq,
  runId: Envelope.RunId.make("run"),
  kind: "note",
  delivery: "normal",
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags: [],
  correlation: {},
  schemaVersion: 1,
  event: Envelope.EventJson.make('{"text":"é\\n"}'),
})

const connected = (keyPrefix: string) => Layer.unwrap(Effect.map(url, (at) => IoRedis.layer({ url: at, keyPrefix })))

describe("RedisEventPublisher", () => {
  it.live("an envelope that a job publishes is one entry of the stream, as it goes over every wire", () =>
    Effect.gen(function* () {
      const pool = yield* JobPool.JobPool
      const redis = yield* IoRedis.IoRedis
      for (const seq of [1, 2]) {
        const { id } = yield* pool.enqueue(EventPublisher.PublishEnvelope, envelope(seq))
        yield* pool.awaitResult(EventPublisher.PublishEnvelope, id)
      }
      const entries = (yield* redis.send("XRANGE", ["jobs:outbox", "-", "+"])) as ReadonlyArray<[string, Array<string>]>
      expect(entries.map(([, fields]) => fields)).toEqual(
        [1, 2].map((seq) => {
          const { eventId, runId } = envelope(seq)
          return ["eventId", eventId, "runId", runId, "seq", `${seq}`, "envelope", Envelope.toJson(envelope(seq))]
        }),
      )
    }).pipe(
      Effect.provide(
        EventPublisher.layerJob().pipe(
          Layer.provide(RedisEventPublisher.layer({ stream: "outbox" })),
          Layer.provideMerge(JobPool.layerMemory()),
          Layer.provideMerge(connected("jobs:")),
          Layer.provide(Throughline.layerCrypto),
        ),
      ),
    ),
  )

  it.live("a stream keeps about as many entries as it may", () =>
    Effect.gen(function* () {
      const publisher = yield* EventPublisher.EventPublisher
      const redis = yield* IoRedis.IoRedis
      yield* Effect.forEach(Array.from({ length: 1000 }), () => publisher.publish(envelope(1)), { discard: true })
      const length = Number(yield* redis.send("XLEN", ["kept:published"]))
      expect(length).toBeGreaterThanOrEqual(100)
      // Redis trims by whole nodes of a hundred entries.
      expect(length).toBeLessThan(400)
    }).pipe(Effect.provide(RedisEventPublisher.layer({ maxLength: 100 }).pipe(Layer.provideMerge(connected("kept:"))))),
  )

  it.live("what Redis will never take is for good, and a server that is away isn't", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const redis = Context.get(yield* IoRedis.make({ url: server.url, keyPrefix: "" }), IoRedis.IoRedis)
      const publisher = yield* Effect.provideService(RedisEventPublisher.make(), IoRedis.IoRedis, redis)
      yield* redis.send("SET", ["published", "not a stream"])
      expect(yield* Effect.flip(publisher.publish(envelope(1)))).toMatchObject({ isRetryable: false })
      yield* redis.send("CONFIG", ["SET", "maxmemory", "1"])
      expect(yield* Effect.flip(publisher.publish(envelope(1)))).toMatchObject({ isRetryable: true })
      yield* server.kill()
      expect(yield* Effect.flip(publisher.publish(envelope(1)))).toMatchObject({ isRetryable: true })
    }),
  )
})
