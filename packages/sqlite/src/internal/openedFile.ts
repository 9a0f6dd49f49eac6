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
  readonly stats: fs.BigIntStats
}

/** As `bigint`: some file systems have inodes beyond 2^53, of which numbers would make neighbours the same. */
const statsOf = (path: string): fs.BigIntStats | undefined => fs.statSync(path, { throwIfNoEntry: false, bigint: true })

const openedAt = (path: string): ReadonlyArray<Opened> => {
  const stats = statsOf(path)
  return stats === undefined ? [] : [{ path, stats }]
}

const problemOf = (opened: ReadonlyArray<Opened>): SqlError | undefined => {
  for (const { path, stats } of opened) {
    try {
      const now = statsOf(path)
      if (now?.ino === stats.ino && now.dev === stats.dev) continue
      return away(path, now === undefined ? "moved or removed" : "replaced", undefined)
    } catch (cause) {
      return unseen(cause, path)
    }
  }
  return undefined
}

const away = (path: string, what: string, cause: unknown): SqlError => {
  const message = `${path} was ${what} while it was open, so what is written could be lost: put it back, with its -wal and -shm, or open the store anew`
  return failure("UnknownError", message, cause, "look")
}

/** Why a path can't be asked where it leads: for this user, or for now, as on a network's disk that is away. */
const unseen = (cause: unknown, path: string): SqlError => {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined
  switch (code) {
    case "ELOOP":
      return away(path, `replaced by a link to nowhere (${code})`, cause)
    case "EACCES":
    case "EPERM": {
      const message = `${path} can't be looked at, so what is written could be lost: give this user its directories (${code})`
      return failure("AuthorizationError", message, cause, "look")
    }
    default: {
      const message = `${path} can't be looked at for now, so what is written could be lost: check its disk (${String(code ?? cause)})`
      return failure("ConnectionError", message, cause, "look")
    }
  }
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
