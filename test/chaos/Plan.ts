/** What a suite is going to do, drawn from a seed: runs and who writes them how, and which faults come when. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type { Way } from "./TcpProxy.ts"

/** How much of everything. */
export interface Size {
  readonly producers: number
  readonly readers: number
  readonly runs: number
  /** Lines over all runs. */
  readonly lines: number
  /** Runs that a producer has open at once. */
  readonly openRuns: number
  /** Mean time between a run's appends, ms. */
  readonly pause: number
  readonly leaseMillis: number
  readonly graceMillis: number
  readonly watchdogMillis: number
  readonly redisKills: number
  readonly producerKills: number
  /** Producers that are stopped until a will has ended one of their runs, and then go on. */
  readonly producerStops: number
  readonly readerKills: number
  /** Faults of each way on the connections of one process. */
  readonly faultsPerWay: number
}

export const Run = Schema.Struct({
  runId: Schema.String,
  producer: Schema.Int,
  lines: Schema.Int,
  /** The bridge, or appends with a producer's identity. */
  by: Schema.Literals(["bridge", "store"]),
  /** If its producer is killed while it is open, the next one leaves it to its lease. */
  isLeft: Schema.Boolean,
})
export type Run = typeof Run.Type

/** For every run of the tests. */
export const short: Size = {
  producers: 2,
  readers: 3,
  runs: 24,
  lines: 4000,
  openRuns: 4,
  pause: 250,
  leaseMillis: 4000,
  graceMillis: 1500,
  watchdogMillis: 1000,
  redisKills: 2,
  producerKills: 2,
  producerStops: 1,
  readerKills: 2,
  faultsPerWay: 2,
}

/** What the library promises, at length. */
export const long: Size = {
  producers: 4,
  readers: 8,
  runs: 200,
  // A sixth of them is never written: their runs are left to their wills.
  lines: 125_000,
  openRuns: 10,
  pause: 150,
  leaseMillis: 8000,
  graceMillis: 3000,
  watchdogMillis: 3000,
  redisKills: 10,
  producerKills: 12,
  producerStops: 3,
  readerKills: 16,
  faultsPerWay: 8,
}

/** The session of a run: one for each producer; what it appends itself has none. */
export const sessionOf = ({ by, producer }: Run): string | undefined =>
  by === "bridge" ? `session-${producer}` : undefined

/** What the processes are told; a file. */
export const Told = Schema.Struct({
  seed: Schema.Int,
  runs: Schema.Array(Run),
  openRuns: Schema.Int,
  pause: Schema.Finite,
  leaseMillis: Schema.Int,
  graceMillis: Schema.Int,
  watchdogMillis: Schema.Int,
})
export type Told = typeof Told.Type

/** All sessions of a plan. */
export const sessionsOf = ({ runs }: Told): ReadonlyArray<string> => [
  ...new Set(runs.map(sessionOf).filter((session) => session !== undefined)),
]

/** Every other reader reads the sessions besides the runs. */
export const readsSessions = (reader: number): boolean => reader % 2 === 1

export type Fault =
  | { readonly _tag: "KillRedis"; readonly downMillis: number }
  /** With `lateMillis`, what it sent last is on its way for so long that the next one has begun. */
  | { readonly _tag: "KillProducer"; readonly index: number; readonly lateMillis: number | undefined }
  | { readonly _tag: "StopProducer"; readonly index: number }
  | { readonly _tag: "KillReader"; readonly index: number }
  | {
      readonly _tag: "Link"
      readonly of: "producer" | "reader"
      readonly index: number
      readonly way: Way
      readonly millis: number
    }

/** A fault, once so many events were acknowledged. */
export interface Due {
  readonly at: number
  readonly fault: Fault
}

export interface Plan {
  readonly size: Size
  readonly told: Told
  /** By `at`. */
  readonly faults: ReadonlyArray<Due>
}

export const ways: ReadonlyArray<Way> = ["cut", "halfOpen", "slow", "resetInAnswer", "late"]

const times = <A>(count: number, make: (index: number) => Effect.Effect<A>): Effect.Effect<Array<A>> =>
  Effect.forEach(Array.from({ length: count }).keys(), make)

const drawRuns = (size: Size) =>
  Effect.gen(function* () {
    const weights = yield* times(size.runs, () => Random.nextBetween(0.4, 1.6))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    let left = size.lines
    const runs: Array<Run> = []
    for (const [index, weight] of weights.entries()) {
      const lines = index === size.runs - 1 ? left : Math.min(left, Math.round((size.lines * weight) / total))
      left -= lines
      runs.push({
        runId: `run-${index}`,
        producer: index % size.producers,
        lines,
        // Both ways in each producer, whatever the number of producers.
        by: Math.floor(index / size.producers) % 2 === 0 ? "bridge" : "store",
        isLeft: (yield* Random.next) < 0.3,
      })
    }
    return runs
  })

const drawFaults = (size: Size) =>
  Effect.gen(function* () {
    const producer = Random.nextIntBetween(0, size.producers - 1)
    const reader = Random.nextIntBetween(0, size.readers - 1)
    const faults: Array<Fault> = [
      ...(yield* times(size.redisKills, () =>
        Effect.map(Random.nextIntBetween(0, 800), (downMillis): Fault => ({ _tag: "KillRedis", downMillis })),
      )),
      ...(yield* times(size.producerKills, (nth) =>
        Effect.gen(function* () {
          const lateMillis = yield* Random.nextIntBetween(200, 2000)
          const index = yield* producer
          return { _tag: "KillProducer", index, lateMillis: nth % 2 === 0 ? lateMillis : undefined } as const
        }),
      )),
      ...(yield* times(size.producerStops, () =>
        Effect.map(producer, (index): Fault => ({ _tag: "StopProducer", index })),
      )),
      ...(yield* times(size.readerKills, () => Effect.map(reader, (index): Fault => ({ _tag: "KillReader", index })))),
    ]
    for (const way of ways) {
      faults.push(
        ...(yield* times(size.faultsPerWay, (nth) =>
          Effect.gen(function* () {
            const of = nth % 2 === 0 ? "producer" : "reader"
            const index = yield* of === "producer" ? producer : reader
            return { _tag: "Link", of, index, way, millis: yield* Random.nextIntBetween(100, 2000) } as const
          }),
        )),
      )
    }
    const order = yield* Random.shuffle(faults)
    // Spread over the time in which there is work; what a run loses to its will is never acknowledged.
    const step = (size.lines * 0.75) / order.length
    return order.map((fault, index): Due => ({ at: Math.round(size.lines * 0.02 + step * index), fault }))
  })

/** The plan of a seed: the same every time. */
export const make = (size: Size, seed: number): Effect.Effect<Plan> =>
  Effect.gen(function* () {
    const { graceMillis, leaseMillis, openRuns, pause, watchdogMillis } = size
    const runs = yield* drawRuns(size)
    const faults = yield* drawFaults(size)
    return { size, told: { seed, runs, openRuns, pause, leaseMillis, graceMillis, watchdogMillis }, faults }
  }).pipe(Random.withSeed(seed))
