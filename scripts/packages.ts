/**
 * Builds and packs every package as it would be published, and holds the tarballs against publint and
 * arethetypeswrong, each module of a package as an entry point of its own.
 *
 * The packing is pnpm's, which puts in `publishConfig` and real versions for `workspace:` and `catalog:`.
 */
import { execFileSync } from "node:child_process"
import { globSync, readFileSync, rmSync } from "node:fs"
import { basename, resolve } from "node:path"

const run = (command: string, ...args: ReadonlyArray<string>): void => {
  try {
    execFileSync(command, args, { encoding: "utf8", stdio: "pipe" })
  } catch (error) {
    process.exitCode = 1
    if (error instanceof Error && "stdout" in error) console.log(error.message, error.stdout)
  }
}

const packed = resolve(".packed")
// a module that was renamed would still be in dist under its old name
for (const old of [packed, ...globSync("packages/*/dist")]) rmSync(old, { recursive: true, force: true })
run("tsc", "-b")
run("pnpm", "--recursive", "--filter", "./packages/*", "pack", "--pack-destination", packed)

for (const folder of globSync("packages/*").toSorted()) {
  const { name, version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"))
  const tarball = `${packed}/${name.replace("@", "").replace("/", "-")}-${version}.tgz`
  const modules = globSync(`${folder}/src/*.ts`).map((path) => basename(path, ".ts"))
  run("publint", "--strict", tarball)
  run("attw", tarball, "--profile", "esm-only", "--no-definitely-typed", "--include-entrypoints", ...modules)
  console.log(`${name} ${version}: ${modules.length} modules`)
}
