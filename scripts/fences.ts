/**
 * Type-checks every `ts` fence of the docs: those in Markdown, and those in the doc comments of what is published.
 *
 * Each fence becomes a module of its own in `examples/fences/`, under the name of the file it stands in and at the same line,
 * so that an error's place is its place in the docs.
 */
import { execFileSync } from "node:child_process"
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"

interface Fence {
  readonly line: number
  readonly code: string
}

/** Only the doc comments of a source, without their stars, each line where it was. */
const docComments = (source: string): string => {
  let inside = false
  return source
    .split("\n")
    .map((line) => {
      const starts = /^\s*\/\*\*/.test(line)
      if (!inside && !starts) return ""
      inside = !line.includes("*/")
      return line.replace(/^\s*\/?\*+ ?/, "")
    })
    .join("\n")
}

const fencesOf = (markdown: string): ReadonlyArray<Fence> =>
  Array.from(markdown.matchAll(/^([ \t]*)```(?:ts|typescript)\b.*\n([^]*?)^\1```[ \t]*$/gm), (match) => ({
    line: markdown.slice(0, match.index).split("\n").length + 1,
    code: match[2] ?? "",
  }))

const out = "examples/fences"
rmSync(out, { recursive: true, force: true })

const docs = globSync(["**/*.md", "packages/*/src/**/*.ts"], {
  exclude: (path) => /(^|\/)(node_modules|dist|fences|\.git)$/.test(path),
})
let count = 0
for (const path of docs.toSorted()) {
  const text = readFileSync(path, "utf8")
  for (const fence of fencesOf(path.endsWith(".md") ? text : docComments(text))) {
    const module = `${out}/${path}.${fence.line}.ts`
    mkdirSync(dirname(module), { recursive: true })
    writeFileSync(module, "\n".repeat(fence.line - 1) + fence.code)
    count++
  }
}

if (count > 0) {
  try {
    execFileSync("tsc", ["-b", "tsconfig.fences.json"], { stdio: "inherit" })
  } catch {
    process.exitCode = 1
  }
}
console.log(`${count} fences checked`)
