/**
 * Pipes for the output of a child process.
 *
 * Node gives its children sockets for pipes. Most programs don't mind, but `/dev/stdout` and `/dev/stderr` can't be opened
 * on a socket (`ENXIO`), and writing to a closed one is another error than `SIGPIPE`. A child that is recorded should not
 * notice, so these are the system's own pipes, by way of a FIFO whose name is gone before it is used.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import { Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Readable } from "node:stream"
import { promisify } from "node:util"

export interface Pipe {
  /** What is written to the other end; ends when the last writer has closed it. */
  readonly readable: Readable
  /** The file descriptor to give away. */
  readonly writeEnd: number
  /** To be called once it has been given away, or nobody will see the end. */
  readonly closeWriteEnd: () => void
}

const open = (path: string): Pipe => {
  // Without a writer, and without waiting for one.
  const readEnd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  const writeEnd = fs.openSync(path, fs.constants.O_WRONLY)
  let isOpen = true
  return {
    readable: new Socket({ fd: readEnd, readable: true, writable: false }),
    writeEnd,
    closeWriteEnd: () => {
      if (isOpen) fs.closeSync(writeEnd)
      isOpen = false
    },
  }
}

const makeFifos = async (count: number): Promise<ReadonlyArray<Pipe>> => {
  const directory = await fs.promises.mkdtemp(join(tmpdir(), "throughline-"))
  try {
    const paths = Array.from({ length: count }, (_, index) => join(directory, String(index)))
    await promisify(execFile)("mkfifo", ["-m", "600", ...paths])
    return paths.map(open)
  } finally {
    await fs.promises.rm(directory, { recursive: true, force: true })
  }
}

/** Makes pipes that are gone with the scope; none where the system has no FIFOs, or no place for them. */
export const make = (count: number): Effect.Effect<ReadonlyArray<Pipe>, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => makeFifos(count).catch((): ReadonlyArray<Pipe> => [])),
    (pipes) =>
      Effect.sync(() => {
        for (const pipe of pipes) {
          pipe.closeWriteEnd()
          pipe.readable.destroy()
        }
      }),
  )
