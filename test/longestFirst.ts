import { BaseSequencer, type TestSpecification } from "vitest/node"

/** The files that take ten seconds and more on two cores, longest first. */
const longest = [
  "packages/sqlite/test/file.laws.test.ts",
  "packages/sqlite/test/memory.laws.test.ts",
  "test/browser-resume.test.ts",
  "test/redis-cli.test.ts",
  "packages/redis/test/hubLaws.test.ts",
  "packages/bullmq/test/laws.test.ts",
  "packages/core/test/HubLaws.test.ts",
  "test/redis-chaos.test.ts",
  "test/sqlite-kill.test.ts",
  "packages/testing/test/adapterMutants.test.ts",
  "packages/sqlite/test/jobs.laws.test.ts",
  "test/http-kill.test.ts",
  "test/cli-tail.test.ts",
  "examples/examples.test.ts",
  "test/cli-record.test.ts",
  "packages/bullmq/test/faults.test.ts",
  "packages/redis/test/throughlineLaws.test.ts",
  "test/browser-page.test.ts",
  "packages/redis/test/laws.test.ts",
  "test/jobs-kill.test.ts",
  "packages/redis/test/busLaws.test.ts",
  "packages/http/test/http.laws.test.ts",
  "packages/testing/test/hubMutants.test.ts",
  "test/cli-jobs.test.ts",
]

const placeOf = ({ moduleId }: TestSpecification): number => {
  const place = longest.findIndex((name) => moduleId.endsWith(`/${name}`))
  return place === -1 ? longest.length : place
}

/**
 * Long files before all others, so that none is left to run alone at the end. Vitest does so by the times of the run
 * before, which a fresh clone hasn't: there it goes by the size of the files.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    // oxlint-disable-next-line unicorn/no-array-sort -- a sequencer's, not an array's
    const sorted = await super.sort(files)
    return sorted.toSorted((left, right) => placeOf(left) - placeOf(right))
  }
}
