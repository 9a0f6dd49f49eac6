/**
 * Laws: the promises of Throughline as values that any layer can be held to.
 *
 * A law is a promise's number, a name, and a property over generated histories. Each generated case runs on a build of
 * the layer of its own, on a `TestClock` of its own, with `Random` and `SecureRandom` seeded from the case (the property
 * runner seeds neither). {@link suite} registers the laws of a service with vitest, one test per law:
 *
 * ```ts
 * import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
 * import * as EventStore from "@throughline/core/EventStore"
 *
 * EventStoreLaws.suite("memory", EventStore.layerMemory)
 * ```
 *
 * A law that breaks prints the smallest history found, what went wrong, and two ways to run it again:
 * `THROUGHLINE_SEED` (the same histories for every law) and `THROUGHLINE_REPLAY` (this one case; name the law with
 * `-t`). `THROUGHLINE_RUNS` raises the number of histories per law.
 *
 * The runner is `Arbitrary.checkEffect`, which `it.effect.prop` of `@effect/vitest` is made of: a law must also run
 * outside of a test (see `Mutant.ts`), count what its histories reach, and give a case that hangs a replay.
 */
import { describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"

/** The number of a promise in section 3 of the design. */
export type PromiseNumber = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13

/** What every case provides, seeded or virtual: the layer under test may ask for it, the property too. */
export type Services = SecureRandom.SecureRandom | Digest.Digest

/** A layer held to laws: as it is, or as a function of options where some laws need a configured one. */
export type Subject<R, Options> =
  | Layer.Layer<R, unknown, Services>
  | ((options?: Options) => Layer.Layer<R, unknown, Services>)

/** How a check runs. */
export interface Settings {
  /** Histories per law; at least what the law itself asks for. */
  readonly runs?: number | undefined
  /** The layer is slow: what the law itself asks for is what catches its mutants, and no more. */
  readonly slow?: boolean | undefined
  readonly seed?: number | undefined
  /** The text of `THROUGHLINE_REPLAY`: one case, and the way to its smallest form. */
  readonly replay?: string | undefined
  /** Candidates tried to make a failing history smaller; 300 by default. */
  readonly maxShrinks?: number | undefined
}

export interface Holds {
  readonly _tag: "Holds"
  readonly runs: number
  /** What the histories were generated from. */
  readonly seed: number
  /** How many histories reached what. */
  readonly reached: ReadonlyMap<string, number>
}

/**
 * `property`: a promise is broken. The others prove nothing about the promise: `defect` (the layer or the property died),
 * `hanging`, `unchecked` (the histories didn't reach what the law is for, or the replay was of another law).
 */
export type Fault = "property" | "defect" | "hanging" | "unchecked"

export interface Broken {
  readonly _tag: "Broken"
  readonly fault: Fault
  /** The smallest history found, what went wrong with it, and how to run it again. */
  readonly report: string
}

export type Verdict = Holds | Broken

/** A promise as a property; the type of its histories is its own. */
export interface Law<out R, out Options = never> {
  readonly promise: PromiseNumber
  readonly name: string
  /** Histories per check unless more are asked for. */
  readonly runs: number
  /** The same where the layer is slow. */
  readonly enough: number
  readonly check: (subject: Subject<R, Options>, settings?: Settings) => Effect.Effect<Verdict>
}

/** A property saw something that a law forbids. */
export class LawBroken extends Data.TaggedError("LawBroken")<{
  readonly message: string
  readonly fault?: Fault | undefined
}> {}

/** Breaks the law. */
export const broken = (message: string): Effect.Effect<never, LawBroken> => Effect.fail(new LawBroken({ message }))

/** Breaks the law unless the condition holds. */
export const holds = (condition: boolean, what: string | (() => string)): Effect.Effect<void, LawBroken> =>
  condition ? Effect.void : broken(typeof what === "string" ? what : what())

/**
 * Breaks the law unless both values have the same structure; a key that is absent differs from one that is `undefined`.
 *
 * Both are taken as immutable from then on.
 */
export const same = <A>(what: string, actual: A, expected: NoInfer<A>): Effect.Effect<void, LawBroken> =>
  Equal.equals(actual, expected)
    ? Effect.void
    : broken(`${what}\n  is:       ${Formatter.format(actual)}\n  should be: ${Formatter.format(expected)}`)

/** A case's way to say that its history reached what the law is for. */
export type Reach = (what: string) => void

/**
 * How many times its own number of histories a check may take to reach what it must: a share of random histories
 * varies, so falling short of it once says nothing yet.
 */
const patienceForReach = 4

/** Live milliseconds spent on making a failing history smaller. */
const shrinkFor = 20_000

const seedRange = 2 ** 31 - 1

// A smaller seed is no simpler, so it never shrinks.
const anySeed = Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: seedRange })), {
  shrink: () => [],
})

/** Secure random bytes that are neither: the same for the same seed. */
const layerSeededRandom = (seed: number): Layer.Layer<SecureRandom.SecureRandom> =>
  Layer.effect(
    SecureRandom.SecureRandom,
    Random.withSeed(
      Effect.gen(function* () {
        const random = yield* Random.Random
        return SecureRandom.make((size) => Uint8Array.from({ length: size }, () => random.nextIntUnsafe() & 0xff))
      }),
      `secure ${seed}`,
    ),
  )

const layerCase = (seed: number) => Layer.mergeAll(TestClock.layer(), layerSeededRandom(seed), Digest.layerWebCrypto)

const describeFailure = (failure: Arbitrary.PropertyFailure<LawBroken>): string =>
  failure._tag === "ReturnedFalse" ? "the property returned false" : failure.error.message

/** What became of a case that didn't pass; without a cause it was still running. */
const failureOf = (cause: Option.Option<Cause.Cause<unknown>>, hangsAfter: number): LawBroken => {
  if (Option.isNone(cause)) {
    return new LawBroken({ message: `the case was still running after ${hangsAfter} ms`, fault: "hanging" })
  }
  const error = Cause.findErrorOption(cause.value)
  if (Option.isSome(error) && error.value instanceof LawBroken) return error.value
  return new LawBroken({ message: Cause.pretty(cause.value), fault: Option.isSome(error) ? "property" : "defect" })
}

const reportOf = (
  law: { readonly promise: PromiseNumber; readonly name: string },
  result: Arbitrary.Falsified<{ readonly history: unknown; readonly seed: number }, LawBroken>,
  seed: number,
): string =>
  [
    `promise ${law.promise} is broken: ${law.name}`,
    `history (case ${result.runs}, made smaller in ${result.shrinks} steps):`,
    Formatter.format(result.shrunkInput.history, { space: 2 }),
    describeFailure(result.failure),
    `run it again: THROUGHLINE_SEED=${seed}`,
    `this case alone: THROUGHLINE_REPLAY='${result.replay}' with -t '${law.name}'`,
  ].join("\n")

/**
 * A law from a property.
 *
 * `history` generates the cases; `size` bounds how long generated arrays get. `options` configures the layer of a case,
 * where a suite's layer takes options. The property breaks the law by failing (see {@link same}, {@link holds}) or by
 * dying. `reaches` names what the histories must reach, each with a share of `runs`: the property calls `reach(name)`,
 * and a check goes on until that many histories did, failing where four times `runs` don't suffice.
 */
export const make = <A, R, Options = never>(spec: {
  readonly promise: PromiseNumber
  readonly name: string
  readonly history: Arbitrary.Arbitrary<A>
  readonly size?: number | undefined
  /** Histories per check, 100 by default. `fixed`: more than that never show more. */
  readonly runs?: number | undefined
  /**
   * Histories per check of a slow layer, where far fewer than `runs` will do: each mutant of the law was caught within so
   * many from each of 30 seeds.
   */
  readonly enough?: number | undefined
  readonly fixed?: boolean | undefined
  readonly options?: ((history: A) => Options) | undefined
  readonly reaches?: Readonly<Record<string, number>> | undefined
  /** Live milliseconds after which a case counts as hanging; 60,000 by default. */
  readonly hangsAfter?: number | undefined
  readonly property: (history: A, reach: Reach) => Effect.Effect<void, unknown, R | Services | Scope.Scope>
}): Law<Exclude<R, Services>, Options> => {
  const { name, promise } = spec
  const defaultRuns = spec.runs ?? 100
  const enough = spec.enough ?? defaultRuns
  const hangsAfter = spec.hangsAfter ?? 60_000
  const cases = Arbitrary.all({ history: spec.history, seed: anySeed })

  const check = Effect.fnUntraced(function* (
    subject: Subject<R, Options>,
    settings: Settings = {},
  ): Effect.fn.Return<Verdict> {
    if (spec.options !== undefined && typeof subject !== "function") {
      const report = `promise ${promise} was not checked: ${name}\nit configures the layer, so pass a function of options that gives the layer`
      return { _tag: "Broken", fault: "unchecked", report }
    }
    const asked = settings.slow === true ? enough : defaultRuns
    const runs = spec.fixed === true ? defaultRuns : Math.max(asked, settings.runs ?? 0)
    const seed = settings.seed ?? (yield* Random.nextIntBetween(0, seedRange))
    const reached = new Map<string, number>()
    let giveUpAt = Number.POSITIVE_INFINITY

    const property = Effect.fnUntraced(function* (input: { readonly history: A; readonly seed: number }) {
      if ((yield* Clock.currentTimeMillis) > giveUpAt) return true
      const here = new Set<string>()
      const configured = spec.options?.(input.history)
      const layer = typeof subject !== "function" ? subject : configured === undefined ? subject() : subject(configured)
      const ended = yield* Effect.suspend(() => spec.property(input.history, (what) => here.add(what))).pipe(
        Effect.scoped,
        Effect.provide(Layer.provideMerge(Layer.orDie(Layer.fresh(layer)), layerCase(input.seed)), { local: true }),
        Random.withSeed(input.seed),
        Effect.exit,
        Effect.timeoutOption(hangsAfter),
      )
      if (Option.isSome(ended) && ended.value._tag === "Success") {
        for (const what of here) reached.set(what, (reached.get(what) ?? 0) + 1)
        return true
      }
      const failure = failureOf(Option.map(ended, Exit.getCause).pipe(Option.flatten), hangsAfter)
      // A smaller history that hangs as well would take just as long to tell.
      const patience = failure.fault === "hanging" ? 0 : shrinkFor
      giveUpAt = Math.min(giveUpAt, (yield* Clock.currentTimeMillis) + patience)
      return yield* failure
    })

    const floors = Object.entries(spec.reaches ?? {}).map(([what, share]) => [what, Math.ceil(share * runs)] as const)
    const short = () => floors.find(([what, floor]) => (reached.get(what) ?? 0) < floor)
    let checked = 0
    do {
      const result = yield* Arbitrary.checkEffect(cases, property, {
        runs,
        seed: (seed + checked) % seedRange,
        size: spec.size ?? 30,
        maxShrinks: settings.maxShrinks ?? 300,
        ...(settings.replay === undefined ? undefined : { replay: settings.replay }),
      })
      if (result._tag === "Falsified") {
        const fault = result.failure._tag === "PropertyError" ? result.failure.error.fault : undefined
        return { _tag: "Broken", fault: fault ?? "property", report: reportOf(spec, result, seed) }
      }
      if (result._tag !== "Passed") {
        const why = Arbitrary.formatCheckFailure(result) ?? result._tag
        return { _tag: "Broken", fault: "unchecked", report: `promise ${promise} was not checked: ${name}\n${why}` }
      }
      checked += runs
    } while (settings.replay === undefined && short() !== undefined && checked < runs * patienceForReach)
    const missed = settings.replay === undefined ? short() : undefined
    if (missed !== undefined) {
      const [what, floor] = missed
      const report = `promise ${promise} was hardly checked: ${name}\n${reached.get(what) ?? 0} of ${checked} histories reached ${what}, fewer than ${floor}\nrun it again: THROUGHLINE_SEED=${seed}`
      return { _tag: "Broken", fault: "unchecked", report }
    }
    return { _tag: "Holds", runs: checked, seed, reached }
  })

  return {
    promise,
    name,
    runs: defaultRuns,
    enough,
    // What every case provides need not come from the subject.
    check: check as Law<Exclude<R, Services>, Options>["check"],
  }
}

/** The settings of this process: `THROUGHLINE_RUNS`, `THROUGHLINE_SEED` and `THROUGHLINE_REPLAY`. */
export const settings: Effect.Effect<Settings, Config.ConfigError> = Effect.gen(function* () {
  const runs = yield* Config.option(Config.Int("THROUGHLINE_RUNS"))
  const seed = yield* Config.option(Config.Int("THROUGHLINE_SEED"))
  const replay = yield* Config.option(Config.String("THROUGHLINE_REPLAY"))
  return {
    runs: Option.getOrUndefined(runs),
    seed: Option.getOrUndefined(seed),
    replay: Option.getOrUndefined(replay),
  }
})

/** How a suite runs. */
export interface SuiteOptions {
  /** Live milliseconds a law may take at its own number of histories; 300,000 by default. Rises with `THROUGHLINE_RUNS`. */
  readonly timeout?: number | undefined
  /** Only as many histories per law as catch its mutants, for a layer whose histories take long; `false` by default. */
  readonly slow?: boolean | undefined
}

/**
 * Registers one vitest test per law, named `promise N: law`, in a suite named `Service over name`; `LAWS.md` is made of
 * these names. Laws that need options are skipped on a layer that takes none.
 */
export const suite = <R, Options>(
  service: string,
  name: string,
  laws: ReadonlyArray<Law<R, Options>>,
  subject: Subject<R, Options>,
  options: SuiteOptions = {},
): void => {
  const current = { ...Effect.runSync(settings), slow: options.slow }
  describe(`${service} over ${name}`, () => {
    for (const law of laws) {
      const timeout = (options.timeout ?? 300_000) * Math.max(1, Math.ceil((current.runs ?? 0) / law.runs))
      it.live(
        `promise ${law.promise}: ${law.name}`,
        () =>
          Effect.flatMap(law.check(subject, current), (verdict) =>
            verdict._tag === "Holds" ? Effect.void : Effect.fail(new LawBroken({ message: verdict.report })),
          ),
        timeout,
      )
    }
  })
}
