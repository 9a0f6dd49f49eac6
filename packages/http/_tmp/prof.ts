import * as Envelope from "@throughline/core/Envelope"
import { EventStore } from "@throughline/core/EventStore"
import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as Effect from "effect/Effect"
import { replayPieces } from "../src/internal/sseFrame.ts"
const main = Effect.gen(function* () {
  const store = yield* EventStore
  const runId = Envelope.RunId.make("r")
  for (let k = 0; k < 4; k++) {
    let after = 0,
      read = 0,
      enc = 0,
      n = 0
    while (true) {
      let t = performance.now()
      const page = yield* store.read({ runId, after, limit: 1000 })
      read += performance.now() - t
      if (page.envelopes.length === 0) break
      after = page.envelopes.at(-1)!.seq
      t = performance.now()
      const p = replayPieces(
        page.envelopes.map((envelope) => ({ _tag: "Event", envelope, cursor: `${envelope.seq}-abcdefgh` })),
      )
      for (let b = p.take(); b; b = p.take()) n += b.length
      enc += performance.now() - t
    }
    console.log({ read, enc, n })
  }
}).pipe(Effect.provide(SqliteThroughline.layer({ filename: "/tmp/h6/c.db" })))
await Effect.runPromise(main)
process.exit(0)
