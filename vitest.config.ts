import process from "node:process"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { LongestFirst } from "./test/longestFirst.ts"

// Inherited by vitest's workers and by the processes that tests start, a thousand of them: what they import is compiled
// once instead of at every start, which is half of what a start costs.
process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(new URL("node_modules/.cache/compiled", import.meta.url))

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "examples/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/node_modules/**"],
    globalSetup: ["test/debianPackage.ts"],
    // One more than the cores of the smallest machine: many files wait for processes and leases most of their time.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    testTimeout: 60_000,
    reporters: ["default", "json"],
    // read by .ci/run
    outputFile: { json: "node_modules/.cache/tests.json" },
  },
})
