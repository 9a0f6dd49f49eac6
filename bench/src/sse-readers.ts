/**
 * The process of all readers: sockets that look for the seq of each envelope in what they get, and for nothing else. They
 * read the bytes as they come, whatever the chunks of the response are: no server cuts a frame between two.
 */
import { once } from "node:events"
import { connect, type Socket } from "node:net"
import { answer, now } from "./sse-process.ts"

interface ReadOptions {
  readonly port: number
  readonly path: string
  readonly readers: number
  /** What a reader has got when it follows the stream live. */
  readonly ready: string
}

const seqMark = '"seq":'
const clockMark = '"text":"'
const frameEnd = "\n\n"

/** What every socket reads into; it is dealt with before the next one reads. */
const buffer = Buffer.allocUnsafeSlow(256 * 1024)

class Reader {
  /** The seq of the last envelope. */
  seq = 0
  isReady = false
  readonly socket: Socket
  readonly latencies: Array<number> = []
  /** What came after the last whole frame. */
  #rest = ""
  #onFrame: (() => void) | undefined = undefined
  readonly #ready: string
  readonly #onProgress: () => void
  readonly #onFailure: (error: Error) => void

  constructor(options: ReadOptions, onProgress: () => void, onFailure: (error: Error) => void) {
    this.#ready = options.ready
    this.#onProgress = onProgress
    this.#onFailure = onFailure
    this.socket = connect({
      host: "127.0.0.1",
      port: options.port,
      onread: {
        buffer,
        callback: (size) => {
          this.#take(buffer.toString("latin1", 0, size))
          return true
        },
      },
    })
    this.socket.on("error", onFailure)
    this.socket.write(
      `GET ${options.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nConnection: keep-alive\r\n\r\n`,
    )
  }

  /** From now on, the time that a frame has in its text is taken from the time it comes, and each frame is told of. */
  clock(onFrame: () => void): void {
    this.#onFrame = onFrame
  }

  #take(chunk: string): void {
    const text = this.#rest + chunk
    const end = text.lastIndexOf(frameEnd)
    if (end === -1) {
      this.#rest = text
      return
    }
    this.#rest = text.slice(end + frameEnd.length)
    if (!this.isReady) this.#begin(text)
    for (let at = text.indexOf(seqMark); at !== -1 && at < end; at = text.indexOf(seqMark, at + seqMark.length)) {
      const seq = Number.parseInt(text.slice(at + seqMark.length, at + seqMark.length + 10), 10)
      if (seq !== this.seq + 1) {
        this.#onFailure(new Error(`a reader got seq ${seq} after ${this.seq}`))
        return
      }
      this.seq = seq
      if (this.#onFrame !== undefined) {
        const clock = text.indexOf(clockMark, at) + clockMark.length
        this.latencies.push(now() - Number.parseFloat(text.slice(clock, clock + 24)))
        this.#onFrame()
      }
    }
    this.#onProgress()
  }

  #begin(text: string): void {
    if (this.seq === 0 && text.startsWith("HTTP/1.1") && !text.startsWith("HTTP/1.1 200")) {
      this.#onFailure(new Error(`a reader was answered ${text.slice(0, 200)}`))
    }
    this.isReady = text.includes(this.#ready)
  }
}

let readers: ReadonlyArray<Reader> = []
let failure: Error | undefined = undefined
let changed = (): void => {}
let told: Socket | undefined = undefined

/** Waits until it holds for every reader. */
const until = (holds: (reader: Reader) => boolean): Promise<void> =>
  new Promise((resolve, reject) => {
    let first = 0
    changed = () => {
      if (failure !== undefined) return reject(failure)
      // Each reader is looked at until it holds, not again.
      while (first < readers.length && holds(readers[first]!)) first++
      if (first === readers.length) resolve()
    }
    changed()
  })

const commands = {
  /** Begins to read, with readers beside those that there are. */
  open: async (options: ReadOptions) => {
    const opened = Array.from(
      { length: options.readers },
      () =>
        new Reader(
          options,
          () => changed(),
          (error) => {
            failure ??= error
            changed()
          },
        ),
    )
    readers = [...readers, ...opened]
  },
  /** Waits until every reader follows live. */
  ready: () => until((reader) => reader.isReady),
  /** Waits until every reader has so many envelopes, each once and in order. */
  received: (count: number) => until((reader) => reader.seq >= count),
  /** Takes times; tells whoever listens at the port that it may begin, and of each frame. */
  clock: async (port: number) => {
    const socket = connect(port, "127.0.0.1")
    await once(socket, "connect")
    socket.setNoDelay(true)
    told = socket
    for (const reader of readers) reader.clock(() => socket.write("."))
    socket.write(".")
  },
  /** Milliseconds from the time in a frame to its arrival. */
  latencies: async () => readers.flatMap(({ latencies }) => latencies),
  close: async () => {
    const last = readers.map(({ seq }) => seq)
    for (const { socket } of readers) {
      socket.removeAllListeners("error")
      socket.on("error", () => {})
      socket.destroy()
    }
    told?.destroy()
    told = undefined
    readers = []
    failure = undefined
    return { last: Math.min(...last), most: Math.max(...last) }
  },
}

export type ReaderCommands = typeof commands

answer(commands)
