import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "examples/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/node_modules/**"],
    globalSetup: ["test/debianPackage.ts"],
    maxWorkers: 2,
    testTimeout: 60_000,
    reporters: ["default", "json"],
    // read by .ci/run
    outputFile: { json: "node_modules/.cache/tests.json" },
  },
})
