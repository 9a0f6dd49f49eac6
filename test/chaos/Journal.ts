/**
 * Files of lines that a process writes and outlives its kill: what a producer was acknowledged, what a reader was given.
 *
 * A line is handed to the system before its writer goes on, so it survives `SIGKILL`, the only end that these processes
 * meet; no power is cut. A kill in the middle of a write leaves half a line, which the next writer takes away.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from "node:fs"

export interface Writer {
  readonly write: (lines: ReadonlyArray<string>) => void
}

const newline = 10

/** Opens a journal to go on with. */
export const open = (path: string): Writer => {
  const file = openSync(path, "a+")
  const content = readFileSync(path)
  ftruncateSync(file, content.lastIndexOf(newline) + 1)
  return {
    write: (lines) => {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""))
      for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at)
    },
  }
}

/** The whole lines of a journal; none where nobody has opened it yet. */
export const read = (path: string): ReadonlyArray<string> => tail(path)()

/** Reads a journal that somebody else writes: each call gives the whole lines that came since the last. */
export const tail = (path: string): (() => ReadonlyArray<string>) => {
  let at = 0
  return () => {
    let file: number
    try {
      file = openSync(path, "r")
    } catch {
      return []
    }
    try {
      const bytes = Buffer.alloc(Math.max(0, fstatSync(file).size - at))
      const length = readSync(file, bytes, 0, bytes.length, at)
      const end = bytes.subarray(0, length).lastIndexOf(newline) + 1
      at += end
      return end === 0 ? [] : bytes.toString("utf8", 0, end - 1).split("\n")
    } finally {
      closeSync(file)
    }
  }
}
