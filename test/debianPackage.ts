/**
 * Programs that tests need beside Node, installed as Debian's packages where the tests may do so: as root, where there is
 * `apt-get`.
 *
 * As vitest's global set-up it installs them all before the first test, so that no test's time is spent on it.
 */
import { execFile } from "node:child_process"
import process from "node:process"
import { promisify } from "node:util"

const execute = promisify(execFile)

/** A program: the names it may have on the path, and the packages it comes in. */
export interface Program {
  readonly names: ReadonlyArray<string>
  readonly packages: ReadonlyArray<string>
}

export const redisServer: Program = { names: ["redis-server"], packages: ["redis-server"] }

export const chromium: Program = {
  names: ["chromium", "chromium-browser", "google-chrome"],
  packages: ["chromium", "fonts-dejavu-core"],
}

const succeeds = (command: string, ...args: ReadonlyArray<string>): Promise<boolean> =>
  execute(command, args).then(
    () => true,
    () => false,
  )

const pathOf = async ({ names }: Program): Promise<string | undefined> => {
  for (const name of names) {
    const found = await execute("sh", ["-c", `command -v ${name}`]).catch(() => undefined)
    if (found !== undefined) return found.stdout.trim()
  }
  return undefined
}

const seconds = (count: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, count * 1000))

/** The path of a program, installed where it has to and may be. */
export const installed = async (program: Program): Promise<string | undefined> => {
  const path = await pathOf(program)
  if (path !== undefined || process.getuid?.() !== 0 || !(await succeeds("apt-get", "--version"))) return path
  // Another process may be installing, and apt's lists have a lock that it doesn't wait for.
  for (let tries = 0; tries < 10; tries++) {
    if (tries > 0) await seconds(6)
    await succeeds("apt-get", "-qq", "update")
    const wait = ["-o", "DPkg::Lock::Timeout=180"]
    await succeeds("apt-get", ...wait, "-qq", "-y", "--no-install-recommends", "install", ...program.packages)
    const found = await pathOf(program)
    if (found !== undefined) return found
  }
  return undefined
}

export default async (): Promise<void> => {
  if (process.env["REDIS_URL"] === undefined) await installed(redisServer)
  if (process.env["THROUGHLINE_CHROMIUM"] === undefined) await installed(chromium)
}
