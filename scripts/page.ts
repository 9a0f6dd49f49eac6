/**
 * Builds the page that `packages/http` ships, from `packages/http/page` and `packages/client`. With `--check` it only
 * fails where what is committed is not what the sources make.
 */
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, resolve } from "node:path"
import { rolldown } from "rolldown"

const folder = resolve("packages/http/page")
const prebuilt = `${folder}/prebuilt`

/** What is bundled is named, with its license, as that asks for. */
const license = `/*! With preact (MIT License, Copyright (c) 2015-present Jason Miller), ${
  JSON.parse(readFileSync(resolve("packages/http/node_modules/preact/package.json"), "utf8")).version
} */`

const bundle = await rolldown({
  input: `${folder}/src/main.tsx`,
  platform: "browser",
  tsconfig: `${folder}/tsconfig.json`,
  transform: { target: "es2022" },
})
const { output } = await bundle.generate({ format: "esm", minify: true, entryFileNames: "page.js", banner: license })
await bundle.close()

const files = new Map<string, string>()
for (const part of output) if (part.type === "chunk") files.set(part.fileName, part.code)
for (const path of globSync(`${folder}/static/*`)) files.set(basename(path), readFileSync(path, "utf8"))

const isCurrent =
  globSync(`${prebuilt}/*`).length === files.size &&
  files.entries().every(([name, text]) => {
    try {
      return readFileSync(`${prebuilt}/${name}`, "utf8") === text
    } catch {
      return false
    }
  })

if (!process.argv.includes("--check")) {
  rmSync(prebuilt, { recursive: true, force: true })
  mkdirSync(prebuilt)
  for (const [name, text] of files) writeFileSync(`${prebuilt}/${name}`, text)
} else if (!isCurrent) {
  console.log("packages/http/page/prebuilt is not what its sources make: node --run build:page")
  process.exitCode = 1
}
