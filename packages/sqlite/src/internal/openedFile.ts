/**
 * A file that is open: SQLite goes on writing to it, whether or not its path still leads there.
 *
 * Files are told apart by device and inode, which costs 1.5 µs to ask. None is opened here: closing a second descriptor would
 * drop SQLite's locks.
 */
import type { SqlError } from "effect/sql/SqlError"
import * as fs from "node:fs"
import { failure } from "./sqliteError.ts"

export interface OpenedFile {
  /** Why what is committed now could be lost: the file or its log isn't in its place, or the file is damaged. */
  readonly writeProblem: () => SqlError | undefined
  /** Why the path isn't that of the open file, of its log and of what its connections share. */
  readonly placeProblem: () => SqlError | undefined
  /** Why nothing more is written, where a connection met damage. What is left of the file can be read. */
  readonly damage: () => SqlError | undefined
  readonly meetDamage: (error: SqlError) => void
}

interface Opened {
  readonly path: string
  readonly stats: fs.Stats
}

const statsOf = (path: string): fs.Stats | undefined => fs.statSync(path, { throwIfNoEntry: false })

const openedAt = (path: string): ReadonlyArray<Opened> => {
  const stats = statsOf(path)
  return stats === undefined ? [] : [{ path, stats }]
}

const problemOf = (opened: ReadonlyArray<Opened>): SqlError | undefined => {
  for (const { path, stats } of opened) {
    const now = statsOf(path)
    if (now?.ino === stats.ino && now.dev === stats.dev) continue
    const what = now === undefined ? "moved or removed" : "replaced"
    const message = `${path} was ${what} while it was open, so what is written could be lost: put it back, with its -wal and -shm, or open the store anew`
    return failure("UnknownError", message, undefined, "look")
  }
  return undefined
}

/** The files at a path, as a connection has just opened them. */
export const make = (path: string): OpenedFile => {
  // Where the path is a link, SQLite keeps the others beside what it leads to.
  const real = fs.realpathSync(path)
  const written = [path, `${real}-wal`].flatMap(openedAt)
  const all = [...written, ...openedAt(`${real}-shm`)]
  let damage: SqlError | undefined
  return {
    writeProblem: () => damage ?? problemOf(written),
    placeProblem: () => problemOf(all),
    damage: () => damage,
    meetDamage: (error) => {
      damage ??= error
    },
  }
}
