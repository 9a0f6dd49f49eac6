/**
 * Finds jobs that run twice at once, over processes: each run holds a file named for its job that says which process it is of.
 * A killed process leaves its files behind; they count for nothing.
 */
import type { Outcome } from "@throughline/core/JobEngine"
import * as Effect from "effect/Effect"
import { readFileSync, unlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const holderOf = (path: string): number | undefined => {
  try {
    return Number(readFileSync(path, "utf8"))
  } catch {
    return undefined
  }
}

/** Runs a job's handler as its only run, and tells where there is another. */
export const alone = (
  directory: string,
  id: string,
  handler: Effect.Effect<Outcome>,
  onTwice: (id: string) => void,
): Effect.Effect<Outcome> => {
  const path = join(directory, id)
  return Effect.acquireUseRelease(
    Effect.sync(() => {
      const holder = holderOf(path)
      if (holder !== undefined && isAlive(holder)) onTwice(id)
      writeFileSync(path, String(process.pid))
    }),
    () => handler,
    () => Effect.sync(() => unlinkSync(path)),
  )
}
