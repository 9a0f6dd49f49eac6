import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { promisify } from "node:util"

const path = (relative: string) => new URL(relative, import.meta.url).pathname

it("docs/queues.md quotes what a slow reader under each policy prints", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [path("05-slow-reader.ts")])
  assert.include(readFileSync(path("../docs/queues.md"), "utf8"), stdout.trimEnd())
})
