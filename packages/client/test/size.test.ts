import { assert, it } from "@effect/vitest"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { rolldown } from "rolldown"

it("what a browser loads has less than 5 KiB, and comes alone", async () => {
  const build = await rolldown({ input: fileURLToPath(new URL("../src/index.ts", import.meta.url)) })
  const { output } = await build.generate({ minify: true })
  assert.deepStrictEqual(output[0].imports, [])
  assert.strictEqual(output.length, 1)
  assert.isBelow(gzipSync(output[0].code).length, 5 * 1024)
})
