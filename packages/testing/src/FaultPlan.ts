/**
 * What goes wrong, as a value: small, serialisable, generated and shrunk like any other input of a property.
 *
 * A plan says how often each kind of fault happens and when whole outages are; its seed decides which calls and which
 * frames are hit. The same plan over the same calls does the same thing again, so that a printed plan replays a failure.
 */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Generator from "./Generator.ts"

const Percent = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 }))
const Millis = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Seed = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0x7fff_ffff }))

/** A time in which the store answers no call. Milliseconds, by Effect's `Clock`; `from` counts from the layer's build. */
export const StoreOutage = Schema.Struct({
  from: Millis,
  lasts: Millis,
  /** `refuse`: calls fail at once. `hang`: they fail when the outage is over. */
  mode: Schema.Literals(["refuse", "hang"]),
})
export type StoreOutage = typeof StoreOutage.Type

/**
 * What goes wrong with a store. Chances are percents of calls; they exclude each other and are taken in the order of the
 * fields.
 */
export const StorePlan = Schema.Struct({
  seed: Seed,
  /** The call fails (retryable), nothing was done. */
  fail: Percent,
  /** The work is done, then the call fails (retryable): its outcome is unknown to the caller. */
  failAfter: Percent,
  /** The work may be done or not, and no answer ever comes; the call ends only by interruption. */
  hang: Percent,
  /** The answer is right but late, by up to `lateMillis`; the work is done before or after the wait. */
  late: Percent,
  lateMillis: Millis,
  /** At most so many calls of one operation on one run fail or hang one after another; outages don't count. */
  inARow: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  outages: Schema.Array(StoreOutage),
})
export type StorePlan = typeof StorePlan.Type

/** A time in which nothing is live. Milliseconds, by Effect's `Clock`; `from` counts from the layer's build. */
export const AdapterOutage = Schema.Struct({
  from: Millis,
  lasts: Millis,
  /**
   * What open subscriptions see; new ones fail in all of them but `hang`, and publishing fails.
   * `gap`: nothing, then a `Gap` when the outage is over. `fail`: their streams fail at once. `silent`: nothing, not
   * even a `Gap`. `hang`: as `gap`, and new subscriptions and publishing wait for the outage to be over, then fail.
   */
  mode: Schema.Literals(["gap", "fail", "silent", "hang"]),
})
export type AdapterOutage = typeof AdapterOutage.Type

/**
 * What goes wrong with an adapter. Chances are percents of calls, or of frames as each subscriber gets them; those of one
 * line exclude each other and are taken in the order of the fields.
 */
export const AdapterPlan = Schema.Struct({
  seed: Seed,
  /** A publish fails and nothing goes out. */
  failPublish: Percent,
  /** A publish goes out, then fails. */
  failPublishAfter: Percent,
  /** A subscribe fails (retryable). */
  failSubscribe: Percent,
  /** A frame never arrives, and nothing tells. */
  lose: Percent,
  /** A frame arrives twice. */
  double: Percent,
  /** A frame arrives up to `delayMillis` late; frames after it don't wait for it. */
  delay: Percent,
  delayMillis: Millis,
  /** A frame changes places with the next one, or is `delayMillis` late where none comes. */
  reorder: Percent,
  outages: Schema.Array(AdapterOutage),
})
export type AdapterPlan = typeof AdapterPlan.Type

/** A store that works. */
export const calmStore: StorePlan = {
  seed: 0,
  fail: 0,
  failAfter: 0,
  hang: 0,
  late: 0,
  lateMillis: 0,
  inARow: 3,
  outages: [],
}

/** An adapter that works. */
export const calmAdapter: AdapterPlan = {
  seed: 0,
  failPublish: 0,
  failPublishAfter: 0,
  failSubscribe: 0,
  lose: 0,
  double: 0,
  delay: 0,
  delayMillis: 0,
  reorder: 0,
  outages: [],
}

const seed = Arbitrary.schema(Seed)

/** How far generated plans go. */
export interface ArbitraryOptions {
  /** When outages may begin, in ms after the layer was built; 20,000 by default. */
  readonly within?: number | undefined
  /** How long one outage may last, in ms; 5,000 by default. Keep it under the retry budget of what is tested. */
  readonly longest?: number | undefined
  /** Outages at least and at most; 0 and 2 by default. */
  readonly outages?: readonly [least: number, most: number] | undefined
  /** Whether calls may hang until they are interrupted; no by default: few callers promise to survive that. */
  readonly hang?: boolean | undefined
}

const outageOf = <const Mode extends string>(modes: ReadonlyArray<Mode>, options: ArbitraryOptions) =>
  Arbitrary.array(
    Arbitrary.all({
      from: Generator.int(0, options.within ?? 20_000),
      lasts: Generator.int(1, options.longest ?? 5_000),
      mode: Arbitrary.schema(Schema.Literals(modes)),
    }),
    { minLength: options.outages?.[0] ?? 0, maxLength: options.outages?.[1] ?? 2 },
  )

/** Plans of a store that is troubled but not gone. */
export const arbitraryStore = (options: ArbitraryOptions = {}): Arbitrary.Arbitrary<StorePlan> =>
  Arbitrary.all({
    seed,
    fail: Generator.int(0, 20),
    failAfter: Generator.int(0, 20),
    hang: options.hang === true ? Generator.int(0, 5) : Arbitrary.Constant(0),
    late: Generator.int(0, 30),
    lateMillis: Generator.int(0, 2_000),
    inARow: Generator.int(1, 3),
    outages: outageOf(["refuse", "hang"], options),
  })

/** Plans of an adapter that loses, doubles, delays and reorders, and is down at times. */
export const arbitraryAdapter = (options: ArbitraryOptions = {}): Arbitrary.Arbitrary<AdapterPlan> =>
  Arbitrary.all({
    seed,
    failPublish: Generator.int(0, 20),
    failPublishAfter: Generator.int(0, 10),
    failSubscribe: Generator.int(0, 40),
    lose: Generator.int(0, 50),
    double: Generator.int(0, 30),
    delay: Generator.int(0, 30),
    delayMillis: Generator.int(0, 3_000),
    reorder: Generator.int(0, 30),
    outages: outageOf(["gap", "fail", "silent", "hang"], options),
  })

/** Draws for one faulty layer: a generator of its own, so that nothing else that draws changes what the plan does. */
export const dice = Effect.fnUntraced(function* (of: number) {
  const random = yield* Random.withSeed(Random.Random, of)
  return {
    /** From 0 to under 100. */
    percent: Effect.map(Effect.provideService(Random.next, Random.Random, random), (value) => value * 100),
    /** From 0 to `maximum` in whole numbers. */
    upTo: (maximum: number) => Effect.provideService(Random.nextIntBetween(0, maximum), Random.Random, random),
  }
})
