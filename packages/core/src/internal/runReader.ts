/**
 * One reader of one run: replays pages of the store at its own pace until it meets the shared window, then follows it.
 *
 * The reader's whole memory is its place and the page or slice it delivers.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Cursor from "../Cursor.ts"
import type { EncodedEnvelope, Envelope, RunId } from "../Envelope.ts"
import type { Page, ReadError } from "../EventStore.ts"
import { CorruptRecord, VocabularyMismatch } from "../EventStoreError.ts"
import { type Event, type RunError, type RunItem, RunRemoved } from "../RunItem.ts"
import type { Vocabulary, VocabularyId } from "../Vocabulary.ts"
import type { RunFeed } from "./runFeed.ts"
import type { StoreAccess } from "./storeAccess.ts"

export interface ReaderOptions {
  readonly runId: RunId
  readonly after: Cursor.RunCursor | undefined
  readonly truncated: "fail" | "skip"
  /** What the run must be written in. */
  readonly vocabularyId: VocabularyId | undefined
  /** What events are decoded with; without it they are left as they are stored. */
  readonly vocabulary: Vocabulary<unknown> | undefined
  readonly pageEvents: number
}

/** What the readers of a hub share. */
export interface ReaderServices {
  readonly access: StoreAccess
  /** The feed of a run, kept as long as the scope is open. */
  readonly feed: (runId: RunId, scope: Scope.Scope) => Effect.Effect<RunFeed>
  readonly decoder: Decoder
}

type Item = RunItem<EncodedEnvelope | Envelope<unknown>>
type Encoded = Event<EncodedEnvelope>
type Chunk = [Item, ...Array<Item>]
export type Step = Pull.Pull<Chunk, RunError>

/** Events decoded once for all readers of a process that read the same slice with the same vocabulary. */
export class Decoder {
  #decoded = new WeakMap<ReadonlyArray<Encoded>, Map<Vocabulary<unknown>, Decoded>>()

  decode(vocabulary: Vocabulary<unknown>, items: ReadonlyArray<Encoded>): Decoded {
    let byVocabulary = this.#decoded.get(items)
    if (byVocabulary === undefined) {
      byVocabulary = new Map()
      this.#decoded.set(items, byVocabulary)
    }
    const known = byVocabulary.get(vocabulary)
    if (known !== undefined) return known
    const decoded = decodeItems(vocabulary, items)
    byVocabulary.set(vocabulary, decoded)
    return decoded
  }
}

interface Decoded {
  readonly items: ReadonlyArray<Event<Envelope<unknown>>>
  /** The record after `items` that could not be decoded. */
  readonly corrupt: CorruptRecord | undefined
}

const decodeItems = (vocabulary: Vocabulary<unknown>, items: ReadonlyArray<Encoded>): Decoded => {
  const decoded: Array<Event<Envelope<unknown>>> = []
  for (const { cursor, envelope } of items) {
    const event = vocabulary.decode(envelope.event)
    if (Result.isFailure(event)) {
      const { runId, seq } = envelope
      return { items: decoded, corrupt: new CorruptRecord({ runId, seq, problem: event.failure }) }
    }
    decoded.push({ _tag: "Event", envelope: { ...envelope, event: event.success }, cursor })
  }
  return { items: decoded, corrupt: undefined }
}

class RunReader {
  /** The last seq delivered. */
  #seq = 0
  /** The generation the reader is bound to, from its cursor or from the first thing it read. */
  #generation: string | undefined = undefined
  /** Whether anything was read yet: before, a cursor of another generation is the caller's, after, the run was removed. */
  #bound = false
  /** Whether the store has answered for this generation. */
  #answered = false
  /** The highest head a page told of. */
  #knownHead = 0
  #started = false
  #caughtUp = false
  #done = false
  #error: RunError | undefined = undefined
  #feed: RunFeed | undefined = undefined
  #failures = 0
  /** The feed's latest look when the feed and the reader were first seen to disagree about the run. */
  #disputedAt: number | undefined = undefined
  readonly #options: ReaderOptions
  readonly #services: ReaderServices
  readonly #scope: Scope.Scope

  constructor(options: ReaderOptions, services: ReaderServices, scope: Scope.Scope) {
    this.#options = options
    this.#services = services
    this.#scope = scope
  }

  /** The next chunk: what can be delivered now, else what comes. */
  readonly pull: Step = Effect.suspend(() => this.#next())

  #next(): Step {
    if (this.#error !== undefined) return Effect.fail(this.#error)
    if (this.#done) return Cause.done()
    if (!this.#started) return this.#start()
    if (this.#feed === undefined) {
      return this.#seq < this.#knownHead
        ? this.#readPage()
        : Effect.flatMap(this.#services.feed(this.#options.runId, this.#scope), (feed) => {
            this.#feed = feed
            this.#failures = feed.failures
            return this.#next()
          })
    }
    return this.#follow(this.#feed)
  }

  #start(): Step {
    return Effect.flatMap(Cursor.runPlace(this.#options.after), (place) => {
      this.#seq = place.seq
      this.#generation = place.generation
      this.#started = true
      return this.#readPage()
    })
  }

  #follow(feed: RunFeed): Step {
    const { window } = feed
    const { version } = feed.signal
    const wait = () => feed.signal.changedThen(version, this.pull)
    if (feed.failures !== this.#failures) return Effect.fail(feed.failure!)
    if (feed.looked === 0) return wait()
    if (this.#generation !== undefined && this.#generation !== window.generation) {
      if (!this.#settled(feed)) return wait()
      return Effect.fail(new RunRemoved({ runId: this.#options.runId, generation: this.#generation }))
    }
    if (this.#seq > window.head) {
      // The reader saw more of the run than the live path did; if a new look doesn't either, the store lost it.
      return this.#settled(feed) ? this.#readPage() : wait()
    }
    this.#disputedAt = undefined
    if (this.#seq < window.base) return this.#readPage()
    if (this.#generation === undefined && window.generation !== undefined) {
      const mismatch = this.#bind(window.generation, window.vocabulary)
      if (mismatch !== undefined) return Effect.fail(mismatch)
    }
    if (this.#seq < window.head) return this.#deliver(window.after(this.#seq), window.head)
    if (this.#seq === window.head && window.ending !== undefined) return this.#finish()
    if (!this.#caughtUp && this.#seq >= this.#knownHead) return Effect.succeed([this.#catchUp()])
    return wait()
  }

  /**
   * Whether a disagreement between feed and reader stands: one of them may have looked at the store before the other,
   * which a look that starts from now on settles.
   */
  #settled(feed: RunFeed): boolean {
    if (this.#disputedAt === undefined) {
      this.#disputedAt = feed.looks
      feed.poked.notify()
      return false
    }
    if (feed.looked <= this.#disputedAt) return false
    this.#disputedAt = undefined
    return true
  }

  #bind(generation: string, vocabulary: VocabularyId | undefined): VocabularyMismatch | undefined {
    this.#generation = generation
    this.#bound = true
    this.#answered = true
    const given = this.#options.vocabularyId
    return given === undefined ||
      vocabulary === undefined ||
      (given.name === vocabulary.name && given.version === vocabulary.version)
      ? undefined
      : new VocabularyMismatch({ runId: this.#options.runId, stored: vocabulary, given })
  }

  #readPage(limit = this.#options.pageEvents): Step {
    const after = this.#generation === undefined ? this.#seq : Cursor.run(this.#seq, this.#generation)
    return Effect.matchEffect(this.#services.access.page(this.#options.runId, after, limit), {
      onSuccess: (page) => this.#deliverPage(page),
      onFailure: (error) => this.#recover(error),
    })
  }

  #recover(error: ReadError): Step {
    if (error._tag === "CorruptRecord" && error.seq > this.#seq + 1) {
      // What is before the record is whole and is delivered first.
      return this.#readPage(error.seq - 1 - this.#seq)
    }
    if (error._tag === "HistoryTruncated" && this.#options.truncated === "skip") {
      const item: Item = { _tag: "Truncated", from: this.#seq + 1, to: error.oldestSeq - 1 }
      this.#seq = error.oldestSeq - 1
      // What was trimmed was of this generation, so what follows must be.
      this.#generation = error.generation
      this.#answered = true
      // There is more to read for sure; it must not wait for the live path.
      this.#knownHead = Math.max(this.#knownHead, error.oldestSeq)
      return Effect.succeed([item])
    }
    if (error._tag === "CursorStale" && this.#answered) {
      return Effect.fail(new RunRemoved({ runId: error.runId, generation: error.cursorGeneration }))
    }
    return Effect.fail(error)
  }

  #deliverPage({ envelopes, head }: Page): Step {
    if (head.generation !== undefined && !this.#bound) {
      const mismatch = this.#bind(head.generation, head.vocabulary)
      if (mismatch !== undefined) return Effect.fail(mismatch)
    }
    this.#knownHead = head.lastSeq
    if (envelopes.length > 0) {
      const generation = head.generation!
      return this.#deliver(
        envelopes.map((envelope): Encoded => ({
          _tag: "Event",
          envelope,
          cursor: Cursor.run(envelope.seq, generation),
        })),
        Number.POSITIVE_INFINITY,
      )
    }
    if (head.status !== "running" && head.status !== "unknown") return this.#finish()
    return this.#next()
  }

  /** Delivers the events after the reader's place; `head` is where the reader has caught up. */
  #deliver(events: ReadonlyArray<Encoded>, head: number): Step {
    const { vocabulary } = this.#options
    let items: ReadonlyArray<Item> = events
    if (vocabulary !== undefined) {
      const decoded = this.#services.decoder.decode(vocabulary, events)
      items = decoded.items
      if (decoded.corrupt !== undefined) {
        this.#error = decoded.corrupt
        return items.length === 0 ? Effect.fail(decoded.corrupt) : Effect.succeed(items as Chunk)
      }
    }
    const last = events[events.length - 1]!.envelope
    this.#seq = last.seq
    if (last.endsRun !== undefined) this.#done = true
    if (this.#caughtUp || (!this.#done && this.#seq < Math.max(head, this.#knownHead))) {
      return Effect.succeed(items as Chunk)
    }
    return Effect.succeed(items.concat(this.#catchUp()) as ReadonlyArray<Item> as Chunk)
  }

  #catchUp(): Item {
    this.#caughtUp = true
    const head = this.#seq
    const generation = this.#generation
    return {
      _tag: "CaughtUp",
      head,
      ...(generation === undefined ? undefined : { cursor: Cursor.run(head, generation) }),
    }
  }

  #finish(): Step {
    this.#done = true
    return this.#caughtUp ? Cause.done() : Effect.succeed([this.#catchUp()])
  }
}

/** The pull of a new reader, which keeps the run's feed until the scope closes. */
export const make = (options: ReaderOptions, services: ReaderServices, scope: Scope.Scope): Step =>
  new RunReader(options, services, scope).pull
