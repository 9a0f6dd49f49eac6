import { fetchEventSource } from "@microsoft/fetch-event-source"
import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@throughline/core/Envelope"
import * as Throughline from "@throughline/core/Throughline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { EventSource } from "eventsource"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { createServer, connect, type Socket } from "node:net"
import { completed, delta, serve, started } from "../packages/http/test/serving.ts"

const runId = RunId.make("r1")
const path = `/runs/${runId}/events`

/** A way to the server that can be cut, and can lead to another one. */
const tunnel = (target: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      const way = { target, url: "", cut: () => {}, connections: 0 }
      const server = createServer((near) => {
        way.connections++
        const { target: to } = way
        const far = connect(to, "127.0.0.1")
        // A connection that is kept for another request ends with its server.
        near.on("data", () => {
          if (way.target !== to) near.destroy()
        })
        for (const [socket, other] of [
          [near, far],
          [far, near],
        ] as const) {
          sockets.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => {
            sockets.delete(socket)
            other.destroy()
          })
          socket.pipe(other)
        }
      }).listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      way.url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}${path}`
      way.cut = () => {
        for (const socket of sockets) socket.destroy()
      }
      return { way, server }
    }),
    ({ server, way }) =>
      Effect.promise(async () => {
        way.cut()
        server.close()
        await once(server, "close")
      }),
  ).pipe(Effect.map(({ way }) => way))

/** A reader of somebody else's. */
interface Reader {
  readonly seqs: Array<number>
  /** It has seen the end, and stays away. */
  readonly isDone: () => boolean
  readonly stop: () => void
}

const seqOf = (data: string): number => (JSON.parse(data) as { readonly seq: number }).seq

const eventSource = (url: string): Reader => {
  const seqs: Array<number> = []
  const source = new EventSource(url)
  source.addEventListener("message", ({ data }) => seqs.push(seqOf(data)))
  return { seqs, isDone: () => source.readyState === source.CLOSED, stop: () => source.close() }
}

/** It is written for browsers: what it takes from the window is there. */
Object.assign(globalThis, {
  window: globalThis,
  document: { hidden: false, addEventListener: () => {}, removeEventListener: () => {} },
})

const microsoft = (url: string): Reader => {
  const seqs: Array<number> = []
  const stop = new AbortController()
  let isDone = false
  void fetchEventSource(url, {
    signal: stop.signal,
    onopen: async ({ status }) => {
      assert.strictEqual(status, 200)
    },
    onmessage: ({ data, event }) => {
      if (event === "end") {
        isDone = true
        stop.abort()
      } else if (event === "") {
        // The retry field alone is dispatched as a message without data.
        if (data !== "") seqs.push(seqOf(data))
      }
    },
    // By default it takes a stream that closes for one that has ended.
    onclose: () => {
      throw new Error("closed before the end")
    },
  })
  return { seqs, isDone: () => isDone, stop: () => stop.abort() }
}

/** `curl`, started again with the last id for as long as the end hasn't come. */
class Curl implements Reader {
  readonly seqs: Array<number> = []
  readonly #url: string
  #child: ChildProcess | undefined
  #id: string | undefined
  #text = ""
  #isDone = false
  #isStopped = false

  constructor(url: string) {
    this.#url = url
    void this.#run()
  }

  async #run(): Promise<void> {
    while (!this.#isDone && !this.#isStopped) {
      const resume = this.#id === undefined ? [] : ["-H", `Last-Event-ID: ${this.#id}`]
      const args = ["-sN", "-H", "Accept: text/event-stream", ...resume, this.#url]
      this.#child = spawn("curl", args, { stdio: ["ignore", "pipe", "ignore"] })
      this.#text = ""
      this.#child.stdout!.setEncoding("utf8").on("data", (chunk: string) => this.#take(chunk))
      await once(this.#child, "close")
    }
  }

  #take(chunk: string): void {
    const frames = (this.#text + chunk).split("\n\n")
    this.#text = frames.pop()!
    for (const frame of frames) {
      const [, id, data] = /^id: (.*)\ndata: (.*)$/.exec(frame) ?? []
      if (data !== undefined) {
        this.#id = id
        this.seqs.push(seqOf(data))
      }
      if (frame.startsWith("event: end")) this.#isDone = true
    }
  }

  readonly isDone = (): boolean => this.#isDone

  readonly stop = (): void => {
    this.#isStopped = true
    this.#child?.kill("SIGKILL")
  }
}

const hasCurl = spawnSync("curl", ["--version"]).status === 0
if (!hasCurl) console.warn("curl is not on this machine: it is not tested that it resumes")

const readers = [
  { name: "eventsource", open: eventSource, isHere: true },
  { name: "@microsoft/fetch-event-source", open: microsoft, isHere: true },
  { name: "curl", open: (url: string): Reader => new Curl(url), isHere: hasCurl },
]

const until = Effect.fnUntraced(function* (what: () => string, condition: () => boolean) {
  const deadline = Date.now() + 60_000
  while (!condition()) {
    if (Date.now() > deadline) assert.fail(`not in time: ${what()}`)
    yield* Effect.sleep(5)
  }
})

const range = (to: number) => Array.from({ length: to }, (_, index) => index + 1)

describe.each(readers.filter(({ isHere }) => isHere))("$name", ({ open }) => {
  it.live(
    "resumes after cuts and on another server, each event once, and stays away after the end",
    () =>
      Effect.gen(function* () {
        const routes = { retry: 20, comeBackWithin: 50, heartbeat: 100 }
        const backend = Layer.succeedContext(yield* Layer.build(Throughline.layerMemory()))
        const first = yield* serve({ routes, backend })
        const second = yield* serve({ routes, backend })
        const way = yield* tunnel(first.port)
        yield* first.append(runId, [started, delta("é漢🚲")])
        const reader = yield* Effect.acquireRelease(
          Effect.sync(() => open(way.url)),
          ({ stop }) => Effect.sync(stop),
        )
        let written = 2
        const received = () =>
          until(
            () => `${reader.seqs.join()} of ${written}`,
            () => reader.seqs.length >= written,
          )
        yield* received()
        for (let round = 0; round < 4; round++) {
          const connections = way.connections
          way.cut()
          // While it is away, and when it is back.
          yield* first.append(runId, [delta(`away ${round}`)])
          yield* until(
            () => "another connection",
            () => way.connections > connections,
          )
          yield* first.append(runId, [delta(`back ${round}`), delta("and more")])
          written += 3
          yield* received()
        }
        way.target = second.port
        yield* first.streams.drain
        yield* second.append(runId, [delta("elsewhere")])
        written++
        yield* received()
        yield* second.append(runId, [completed])
        written++
        yield* received()
        yield* until(() => "its end", reader.isDone)
        assert.deepStrictEqual(reader.seqs, range(written))
        const connections = way.connections
        // Longer than it would take to come back.
        yield* Effect.sleep(200)
        assert.isAtMost(way.connections, connections)
        assert.strictEqual(yield* second.streams.open, 0)
      }),
    120_000,
  )
})
