/**
 * Mutants: deliberate bugs, each with the law that must catch it.
 *
 * A mutant is a working layer with one bug put in, usually a wrapper around the memory layer. {@link suite} checks that
 * the named law breaks on it; that it holds without the bug, its own suite shows. `LAWS.md` lists
 * the mutants by their test names.
 *
 * **Example** (An adapter that publishes nothing)
 *
 * ```ts
 * import * as EventStore from "@throughline/core/EventStore"
 * import * as StreamAdapter from "@throughline/core/StreamAdapter"
 * import * as Mutant from "@throughline/testing/Mutant"
 * import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * const silent = Layer.effect(
 *   StreamAdapter.StreamAdapter,
 *   Effect.map(StreamAdapter.StreamAdapter, (adapter) => ({ ...adapter, publish: () => Effect.void })),
 * ).pipe(Layer.provide(StreamAdapter.layerMemory))
 *
 * Mutant.suite("StreamAdapter", StreamAdapterLaws.laws, [
 *   {
 *     bug: "publishes nothing",
 *     law: StreamAdapterLaws.arrives.name,
 *     subject: Layer.merge(EventStore.layerMemory(), silent),
 *   },
 * ])
 * ```
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Law from "./Law.ts"

/** A layer with one bug, and the law that catches it. */
export interface Mutant<in R, in Options = never> {
  /** What the bug does, as a phrase: "forgets producers", "publishes before it appends". */
  readonly bug: string
  /** The name of the law that breaks. */
  readonly law: string
  readonly subject: Law.Subject<R, Options>
  /** What the law's report must say, where the bug could also be caught for another reason. */
  readonly says?: string | undefined
  /** Histories the law may need to find the bug; five times its own number by default. */
  readonly runs?: number | undefined
}

/**
 * Registers one vitest test per mutant, named `bug, caught by: law`, in a suite named `Mutants of service`. The test
 * passes if the law breaks by its property; a law that merely hangs or fails to build proves nothing.
 */
export const suite = <R, Options>(
  service: string,
  laws: ReadonlyArray<Law.Law<R, Options>>,
  mutants: ReadonlyArray<Mutant<R, Options>>,
): void => {
  describe(`Mutants of ${service}`, () => {
    for (const mutant of mutants) {
      it.live(
        `${mutant.bug}, caught by: ${mutant.law}`,
        Effect.fnUntraced(function* () {
          const law = laws.find(({ name }) => name === mutant.law)
          if (law === undefined) return yield* Law.broken(`there is no law "${mutant.law}"`)
          const { seed } = yield* Law.settings
          const verdict = yield* law.check(mutant.subject, { runs: mutant.runs ?? law.runs * 5, seed, maxShrinks: 0 })
          if (verdict._tag === "Holds") {
            return yield* Law.broken(
              `"${law.name}" holds over ${verdict.runs} histories although the layer ${mutant.bug}\nrun it again: THROUGHLINE_SEED=${verdict.seed}`,
            )
          }
          yield* Law.holds(verdict.fault === "property", `"${law.name}" fails by itself: ${verdict.report}`)
          yield* Law.holds(verdict.report.includes(mutant.says ?? ""), `"${law.name}" says: ${verdict.report}`)
        }),
        300_000,
      )
    }
  })
}
