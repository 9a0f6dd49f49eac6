/**
 * Writes `LAWS.md`: each law, its promise and the layers that pass it, and the deliberate bugs the laws catch.
 *
 * All of it is read from the names and results of tests (`packages/testing/src/Law.ts` and `Mutant.ts` give them).
 *
 * - `node scripts/laws.ts` runs the laws and the mutants, and writes what passed.
 * - `node scripts/laws.ts --from FILE` takes the JSON report of a test run that is already there, such as
 *   `node_modules/.cache/tests.json`; it may be given more than once.
 * - `node scripts/laws.ts --check` runs no test: it fails if the laws, layers and mutants there are differ from those written.
 */
import { spawnSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { parseArgs } from "node:util"

/** A test by the names of its suite and its own. */
interface Test {
  readonly suite: string
  readonly name: string
}

interface Row {
  readonly promise: number
  readonly law: string
  readonly service: string
  readonly layers: Set<string>
}

const promises = [
  "Order",
  "Durable",
  "Once",
  "One end",
  "Store before live",
  "Whole",
  "The end arrives",
  "Apart",
  "No silent loss",
  "Terminals survive",
  "Scoped",
  "Nothing left behind",
  "Jobs",
]

const lawTests = " over .+ promise \\d+: |^Mutants of "

interface Report {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly status: string
    }>
  }>
}

/** The tests with a status in a JSON report. */
const testsIn = (path: string, status: string): ReadonlyArray<Test> =>
  (JSON.parse(readFileSync(path, "utf8")) as Report).testResults
    .flatMap((file) => file.assertionResults)
    .filter((test) => test.status === status)
    .map((test) => ({ suite: test.ancestorTitles.join(" "), name: test.title }))

const vitest = (pattern: string, stdio: "inherit" | "ignore"): string => {
  const path = "node_modules/.cache/laws.json"
  const reporters = ["--reporter=dot", "--reporter=json", `--outputFile.json=${path}`]
  const args = ["node_modules/vitest/vitest.mjs", "run", "-t", pattern, "--passWithNoTests", ...reporters]
  // What fails is left out of the table, and said.
  if (spawnSync(process.execPath, args, { stdio }).status !== 0) process.exitCode = 1
  return path
}

const run = (): ReadonlyArray<Test> => testsIn(vitest(lawTests, "inherit"), "passed")

/** All tests, by a run that skips every one: suites register theirs when they are called. */
const list = (): ReadonlyArray<Test> => testsIn(vitest("no test has this name", "ignore"), "skipped")

const rowsOf = (tests: ReadonlyArray<Test>): ReadonlyArray<Row> => {
  const rows = new Map<string, Row>()
  for (const { name, suite } of tests) {
    const over = /^(.+?) over (.+)$/.exec(suite)
    const law = /^promise (\d+): (.+)$/.exec(name)
    if (over === null || law === null) continue
    const [service = "", layer = ""] = over.slice(1)
    const key = `${service} ${name}`
    const row = rows.get(key) ?? { promise: Number(law[1]), law: law[2]!, service, layers: new Set<string>() }
    row.layers.add(layer)
    rows.set(key, row)
  }
  return [...rows.values()].toSorted(
    (left, right) => left.promise - right.promise || (left.service < right.service ? -1 : 1),
  )
}

const bugsOf = (tests: ReadonlyArray<Test>): ReadonlyArray<readonly [service: string, bug: string, law: string]> =>
  tests.flatMap(({ name, suite }) => {
    const service = /^Mutants of (.+)$/.exec(suite)
    const caught = /^(.+), caught by: (.+)$/.exec(name)
    return service === null || caught === null ? [] : [[service[1]!, caught[1]!, caught[2]!] as const]
  })

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`)
    .join("\n")

const pageOf = (tests: ReadonlyArray<Test>): string => {
  const laws = rowsOf(tests).map(({ law, layers, promise, service }) => [
    `${promise} ${promises[promise - 1]}`,
    law,
    service,
    [...layers].toSorted().join(", "),
  ])
  const bugs = bugsOf(tests).toSorted((left, right) => left.join().localeCompare(right.join()))
  return `# Laws

Each promise of Throughline is a law: a property over generated histories that runs unchanged on every layer that claims it.
This page is written by \`node scripts/laws.ts\` from the tests that passed; \`packages/testing\` is where the laws live, and
where a backend of your own is held to them with one line:

\`\`\`ts
import * as EventStore from "@throughline/core/EventStore"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"

EventStoreLaws.suite("memory", EventStore.layerMemory)
\`\`\`

A law that breaks prints the smallest history it found and what runs it again: \`THROUGHLINE_SEED\` (the same histories for
every law) or \`THROUGHLINE_REPLAY\` (that one case). \`THROUGHLINE_RUNS=10000\` raises the number of histories per law.

${table(["promise", "law", "of", "layers that pass"], laws)}

## Bugs these laws catch

Deliberate bugs, each put into a layer that works otherwise; a test shows that the law breaks on it.

${table(["in", "a layer that …", "is caught by"], bugs)}
`
}

const path = "LAWS.md"
const { values } = parseArgs({ options: { check: { type: "boolean" }, from: { type: "string", multiple: true } } })

if (values.check === true) {
  if (pageOf(list()) === readFileSync(path, "utf8")) console.log(`${path} is current`)
  else {
    console.error(`${path} doesn't say what the laws, their layers and the mutants are: run node scripts/laws.ts`)
    process.exitCode = 1
  }
} else {
  const tests = values.from?.flatMap((file) => testsIn(file, "passed")) ?? run()
  writeFileSync(path, pageOf(tests))
  console.log(`${path}: ${rowsOf(tests).length} laws, ${bugsOf(tests).length} bugs caught`)
}
